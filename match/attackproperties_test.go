package match_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// results returns what came of each criterion.
func results(a *integrationv1.Attribution) map[integrationv1.TraceCriterion]integrationv1.TraceComparison_Result {
	out := map[integrationv1.TraceCriterion]integrationv1.TraceComparison_Result{}
	for _, c := range a.GetComparisons() {
		out[c.GetCriterion()] = c.GetResult()
	}
	return out
}

func sameResults(x, y *integrationv1.Attribution) bool {
	mine, others := results(x), results(y)
	for criterion, result := range mine {
		if others[criterion] != result {
			return false
		}
	}
	return len(mine) == len(others) && x.GetConfidence() == y.GetConfidence()
}

// TestAttackDoesNotDependOnOrderCaseOrRepetition shuffles and repeats evidence and traces of random attacks. Each piece of evidence says
// when it was added, a repeated one at the same time: without that, Microsoft's order tells.
func TestAttackDoesNotDependOnOrderCaseOrRepetition(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(7, 8))}
	confidences := map[integrationv1.Confidence]int{}
	outcomes := map[integrationv1.Outcome]int{}
	for range 2500 {
		traces, alert := g.traces(), g.attack()
		want := attackOn(t, traces, alert)
		other := proto.CloneOf(alert)
		other.Evidence = shuffled(g.Rand, append(other.GetEvidence(), other.GetEvidence()...))
		other.MitreTechniques = shuffled(g.Rand, append(other.GetMitreTechniques(), other.GetMitreTechniques()...))
		for _, got := range []*integrationv1.ActorMatch{attackOn(t, g.inUpperCase(traces), alert), attackOn(t, g.inUpperCase(traces), other)} {
			if !sameResults(got.GetAttribution(), want.GetAttribution()) {
				t.Fatalf("traces %v\nalert %v\nattribution %v\notherwise %v", traces, alert, want.GetAttribution(), got.GetAttribution())
			}
		}
		// A piece without an identity is a thing of its own each time, which changes nothing about the weakest.
		if got := attackOn(t, traces, other); got.GetOutcome().GetOutcome() != want.GetOutcome().GetOutcome() {
			t.Fatalf("traces %v\nalert %v\noutcome %v\notherwise %v", traces, alert, want.GetOutcome(), got.GetOutcome())
		}
		confidences[want.GetAttribution().GetConfidence()]++
		outcomes[want.GetOutcome().GetOutcome()]++
	}
	for _, confidence := range []integrationv1.Confidence{deviceOnly, weak, strong, certain} {
		if confidences[confidence] < 50 {
			t.Errorf("only %d of the random attacks are %v: the test shows too little", confidences[confidence], confidence)
		}
	}
	for _, outcome := range []integrationv1.Outcome{prevented, blocked, remediated, detected, untold} {
		if outcomes[outcome] < 50 {
			t.Errorf("only %d of the random attacks are %v: the test shows too little", outcomes[outcome], outcome)
		}
	}
}

// TestConfidenceIsMonotone: what more the traces say, or the alert tells of the Actor's device, never makes an alert less surely about
// the attack, and what was met stays met.
func TestConfidenceIsMonotone(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(9, 10))}
	raised := 0
	for range 2500 {
		traces, alert := g.traces(), g.attack()
		before := attackOn(t, traces, alert).GetAttribution()
		moreTraces := proto.CloneOf(traces)
		proto.Merge(moreTraces, g.traces())
		moreEvidence := proto.CloneOf(alert)
		moreEvidence.Evidence = slices.Insert(moreEvidence.GetEvidence(), g.IntN(len(moreEvidence.GetEvidence())), g.attackEvidence(9))
		for _, after := range []*integrationv1.Attribution{
			attackOn(t, moreTraces, alert).GetAttribution(), attackOn(t, traces, moreEvidence).GetAttribution(),
		} {
			if after.GetConfidence() < before.GetConfidence() {
				t.Fatalf("traces %v\nalert %v\nfrom %v\nto %v", traces, alert, before, after)
			}
			for criterion, result := range results(before) {
				if result == isMet && results(after)[criterion] != isMet {
					t.Fatalf("%v is met no longer: traces %v\nalert %v\nfrom %v\nto %v", criterion, traces, alert, before, after)
				}
			}
			if after.GetConfidence() > before.GetConfidence() {
				raised++
			}
		}
	}
	if raised < 250 {
		t.Errorf("only %d were raised: the test shows too little", raised)
	}
}

// TestAddedEvidenceLowersAnOutcomeOnlyByTheRules adds a piece of evidence to random attacks. It makes the outcome weaker by two rules
// alone, which OutcomeOf documents: the piece tells a weaker outcome itself, which is then the one; or by its verdict a file or process
// counts as malicious that tells a weaker outcome.
func TestAddedEvidenceLowersAnOutcomeOnlyByTheRules(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(11, 12))}
	lowered, kept, byVerdict := 0, 0, 0
	for range 5000 {
		traces, alert := g.traces(), g.attack()
		piece := g.toldAgain(alert)
		piece.CreatedTime = at(time.Duration(g.IntN(9)) * time.Minute)
		told := match.OutcomeOf(alertOf(piece)).GetOutcome()
		withPiece := func(piece *integrationv1.Evidence) *integrationv1.Alert {
			more := proto.CloneOf(alert)
			more.Evidence = append(more.GetEvidence(), piece)
			return more
		}
		innocent := proto.CloneOf(piece)
		innocent.Verdict = 0
		for _, outcomeOf := range []func(*integrationv1.Alert) integrationv1.Outcome{
			func(a *integrationv1.Alert) integrationv1.Outcome { return match.OutcomeOf(a).GetOutcome() },
			func(a *integrationv1.Alert) integrationv1.Outcome {
				return attackOn(t, traces, a).GetOutcome().GetOutcome()
			},
		} {
			// The enumeration lists them from the strongest.
			before, after, without := outcomeOf(alert), outcomeOf(withPiece(piece)), outcomeOf(withPiece(innocent))
			switch {
			case after <= before:
				kept++
			case told != untold && told > before && after == told:
				lowered++
			case after != without:
				byVerdict++
			default:
				t.Fatalf("traces %v\nalert %v\nadded %v, which tells %v\nfrom %v to %v", traces, alert, piece, told, before, after)
			}
			if without > before && (told == untold || told <= before || without != told) {
				t.Fatalf("traces %v\nalert %v\nadded %v without a verdict, which tells %v\nfrom %v to %v", traces, alert, innocent, told, before, without)
			}
		}
	}
	if lowered < 500 || kept < 500 || byVerdict < 5 {
		t.Errorf("%d lowered, %d by the verdict, %d not: the test shows too little", lowered, byVerdict, kept)
	}
}

// FuzzAttack: whatever stands in an alert and in the traces, matching does not panic, says the same again, and says nothing that is not in
// the contract.
func FuzzAttack(f *testing.F) {
	f.Add(uint64(1), "cmd /c x", `CONTOSO\alex`, `C:\Temp\evil.exe`, "An attack was blocked", int64(4711), int64(0))
	f.Add(uint64(2), `"`, "@", "\\\xff", "not\x00 prevented", int64(-1), int64(-1<<62))
	f.Fuzz(func(t *testing.T, seed uint64, line, account, path, title string, id, seconds int64) {
		g := generator{rand.New(rand.NewPCG(seed, seed))}
		traces, alert := g.traces(), g.attack()
		created := at(0)
		created.Seconds = seconds
		traces.Processes = append(traces.Processes, &integrationv1.ProcessTrace{
			ProcessId: id, ProcessCreationTime: created, CommandLine: line, ImageFile: &integrationv1.FileTrace{FilePath: path, Sha256: account},
		}, nil)
		traces.Files = append(traces.Files, nil)
		traces.Users, traces.ExpectedTitles = append(traces.Users, account), append(traces.ExpectedTitles, title)
		alert.Title += title
		alert.Evidence = append(alert.Evidence, nil, &integrationv1.Evidence{}, ofProcess(nil), ofFile(nil), ofUser(nil), ofProcess(&integrationv1.ProcessEvidence{
			ProcessId: id, ProcessCreationTime: created, ProcessCommandLine: path + line, MdeDeviceId: account,
			ImageFile: &integrationv1.FileDetails{FilePath: path, FileName: line}, UserAccount: &integrationv1.UserAccount{AccountName: account, DomainName: path},
		}))
		if seed%4 == 0 {
			alert.Siem = &integrationv1.SiemDetection{FileHash: account}
		}
		got := attackOn(t, traces, alert)
		if again := attackOn(t, proto.CloneOf(traces), proto.CloneOf(alert)); !proto.Equal(got, again) {
			t.Fatalf("traces %v\nalert %v\nmatches %v\nand again %v", traces, alert, got, again)
		}
		last := byProcess - 1
		for _, c := range got.GetAttribution().GetComparisons() {
			if c.GetCriterion() <= last || c.GetResult() == 0 || len(c.GetTraceValue()) > 512 || len(c.GetDefenderValue()) > 512 || c.GetTraceValue() == "" {
				t.Fatalf("comparison %v behind %v", c, last)
			}
			last = c.GetCriterion()
		}
		if got.GetAttribution().GetConfidence() < deviceOnly || got.GetAttribution().GetExplanation() == "" ||
			got.GetOutcome().GetOutcome() < prevented || got.GetOutcome().GetOutcome() > untold || got.GetOutcome().GetExplanation() == "" {
			t.Fatalf("match %v", got)
		}
	})
}
