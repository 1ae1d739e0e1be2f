package stream

import (
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Every verdict goes into a token and comes out of it, and nothing else is taken for one.
func TestVerdictsInTokens(t *testing.T) {
	packs := map[byte]bool{}
	check := func(v *integrationv1.ActorVerdict) {
		packed := packVerdicts([]*integrationv1.ActorVerdict{v})
		got, ok := unpackVerdict(packed[0])
		if !ok || got != (given{v.GetVerdict(), v.GetOutcome(), v.GetCannotJudgeReason()}) {
			t.Errorf("%v came back as %v, %v", v, got, ok)
		}
		packs[packed[0]] = true
	}
	for verdict := range integrationv1.Verdict_name {
		switch v := integrationv1.Verdict(verdict); v {
		case integrationv1.Verdict_VERDICT_UNSPECIFIED:
		case integrationv1.Verdict_VERDICT_CANNOT_JUDGE:
			for reason := range integrationv1.CannotJudgeReason_name {
				check(&integrationv1.ActorVerdict{Verdict: v, CannotJudgeReason: integrationv1.CannotJudgeReason(reason)})
			}
		default:
			for outcome := range integrationv1.Outcome_name {
				check(&integrationv1.ActorVerdict{Verdict: v, Outcome: integrationv1.Outcome(outcome)})
			}
		}
	}
	for packed := range 256 {
		if _, ok := unpackVerdict(byte(packed)); ok != packs[byte(packed)] {
			t.Errorf("%d is taken for a verdict: %v", packed, ok)
		}
	}
}
