package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// given is a verdict as a token carries it: what it was, without what it rested on.
type given struct {
	verdict integrationv1.Verdict
	outcome integrationv1.Outcome
	reason  integrationv1.CannotJudgeReason
}

// A token has one byte for a verdict: below cannotJudge sixteen verdicts with eight outcomes each, from there on why it cannot be judged.
const (
	outcomes    = 8
	cannotJudge = 128
)

// byActorID returns the ids of a request's Actors in the order in which a token has their verdicts: the order of the request does not bind.
func byActorID(request *integrationv1.StreamAlertsRequest) []string {
	ids := make([]string, 0, len(request.GetActors()))
	for _, a := range request.GetActors() {
		ids = append(ids, a.GetActorId())
	}
	slices.Sort(ids)
	return ids
}

// packVerdicts makes of verdicts what a token carries of them.
func packVerdicts(verdicts []*integrationv1.ActorVerdict) []byte {
	sorted := slices.SortedFunc(slices.Values(verdicts), func(a, b *integrationv1.ActorVerdict) int {
		return strings.Compare(a.GetActorId(), b.GetActorId())
	})
	packed := make([]byte, len(sorted))
	for i, v := range sorted {
		if v.GetVerdict() == integrationv1.Verdict_VERDICT_CANNOT_JUDGE {
			packed[i] = cannotJudge + byte(v.GetCannotJudgeReason())
		} else {
			packed[i] = byte(v.GetVerdict())*outcomes + byte(v.GetOutcome())
		}
	}
	return packed
}

// unpackVerdict reads a token's verdict; false where it is none.
func unpackVerdict(packed byte) (given, bool) {
	g := given{verdict: integrationv1.Verdict(packed / outcomes), outcome: integrationv1.Outcome(packed % outcomes)}
	if packed >= cannotJudge {
		g = given{verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE, reason: integrationv1.CannotJudgeReason(packed - cannotJudge)}
	}
	_, verdict := integrationv1.Verdict_name[int32(g.verdict)]
	_, outcome := integrationv1.Outcome_name[int32(g.outcome)]
	_, reason := integrationv1.CannotJudgeReason_name[int32(g.reason)]
	cannot := g.verdict == integrationv1.Verdict_VERDICT_CANNOT_JUDGE
	return g, verdict && outcome && reason && g.verdict != integrationv1.Verdict_VERDICT_UNSPECIFIED && cannot == (packed >= cannotJudge)
}

// givenBefore returns the verdicts that the completed before gave, by Actor; none where there was none.
func (s *session) givenBefore() map[string]given {
	packed := s.token.GetVerdicts()
	if len(packed) == 0 {
		return nil
	}
	verdicts := map[string]given{}
	for i, id := range byActorID(s.request) {
		verdicts[id], _ = unpackVerdict(packed[i])
	}
	return verdicts
}

// amend says of each verdict that is another than the one given before what that was, and why it changed. revisions has the last
// revision of each alert that was judged, by its key.
func (s *session) amend(ctx context.Context, verdicts []*integrationv1.ActorVerdict, revisions map[string]uint64) error {
	before := s.givenBefore()
	if before == nil {
		return nil
	}
	judged, err := s.judgedBefore(ctx)
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		was := before[v.GetActorId()]
		if was.verdict == v.GetVerdict() && was.outcome == v.GetOutcome() {
			continue
		}
		var deciding *storev1.Revision
		if v.GetDecidingAlertId() != "" {
			p, err := s.feed.entry(ctx, revisions[v.GetDecidingAlertId()])
			if err != nil && !errors.Is(err, store.ErrTrimmed) {
				return err
			}
			deciding = p.Entry.GetRevision()
		}
		v.Amendment = &integrationv1.Amendment{
			Verdict: was.verdict, Outcome: was.outcome, CannotJudgeReason: was.reason,
			Explanation: fmt.Sprintf("AMENDED from %s: %s.", was, whyAmended(v, was, deciding, revisions[v.GetDecidingAlertId()] > s.token.GetJudgedSequence(), judged)),
		}
	}
	return nil
}

// judgedBefore returns when the entry was made by which the stream was completed before; zero where it is no longer there.
func (s *session) judgedBefore(ctx context.Context) (time.Time, error) {
	if s.token.GetJudgedSequence() == 0 {
		return time.Time{}, nil
	}
	p, err := s.feed.entry(ctx, s.token.GetJudgedSequence())
	if errors.Is(err, store.ErrTrimmed) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return p.Entry.GetEntryTime().AsTime(), nil
}

// whyAmended says in words why a verdict is another than before. deciding is the last revision of the alert that decides, where one does
// that is still there, and since says that it came after the verdict before, which was given at judged.
func whyAmended(v *integrationv1.ActorVerdict, was given, deciding *storev1.Revision, since bool, judged time.Time) string {
	switch {
	case v.GetDecidingAlertId() == "" && (v.GetVerdict() == integrationv1.Verdict_VERDICT_PREVENTED || v.GetVerdict() == integrationv1.Verdict_VERDICT_LOGGED):
		return "telemetry, asked at " + v.GetTelemetry().GetAskedTime().AsTime().UTC().Format(time.RFC3339) + ", holds traces of the attack"
	case deciding != nil && since && !judged.IsZero() && deciding.GetFirstSeenTime().AsTime().After(judged):
		return fmt.Sprintf("alert %q decides, which was first read at %s, after the verdict before", v.GetDecidingAlertId(),
			deciding.GetFirstSeenTime().AsTime().UTC().Format(time.RFC3339))
	case deciding != nil && since:
		return fmt.Sprintf("alert %q decides, whose last revision was read at %s, after the verdict before", v.GetDecidingAlertId(),
			deciding.GetSeenTime().AsTime().UTC().Format(time.RFC3339))
	case v.GetDecidingAlertId() != "":
		return fmt.Sprintf("alert %q decides: another alert, or what is known of the Actor's device, has changed since", v.GetDecidingAlertId())
	case was.verdict == integrationv1.Verdict_VERDICT_CANNOT_JUDGE:
		return "why it could not be judged before holds no longer"
	case was.verdict == integrationv1.Verdict_VERDICT_LOGGED:
		return "the row of telemetry that decided before counts no longer: " + whyNoRow(v.GetTelemetry())
	case was.outcome == integrationv1.Outcome_OUTCOME_BLOCKED && v.GetTelemetry() != nil:
		// The token does not tell which it was.
		return "the alert, or the row of telemetry, that decided before counts no longer: " + whyNoRow(v.GetTelemetry())
	case was.outcome != integrationv1.Outcome_OUTCOME_UNSPECIFIED:
		return "the alert that decided before counts no longer"
	default:
		return "of the device source, or of collecting, other things are known than before"
	}
}

// whyNoRow says in words why no row of telemetry decides now.
func whyNoRow(telemetry *integrationv1.Telemetry) string {
	switch {
	case telemetry == nil:
		return "telemetry was not to be asked"
	case telemetry.GetProblem() != nil:
		return "telemetry could not be asked, or not wholly"
	default:
		return "telemetry holds it no more"
	}
}

// String tells a verdict, with the outcome or the reason that belongs to it.
func (g given) String() string {
	text := strings.TrimPrefix(g.verdict.String(), "VERDICT_")
	switch {
	case g.reason != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED:
		text += " (" + strings.TrimPrefix(g.reason.String(), "CANNOT_JUDGE_REASON_") + ")"
	case g.outcome != integrationv1.Outcome_OUTCOME_UNSPECIFIED:
		text += " (" + strings.TrimPrefix(g.outcome.String(), "OUTCOME_") + ")"
	}
	return text
}
