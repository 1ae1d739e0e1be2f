package demo

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

var update = flag.Bool("update", false, "write the golden files")

// attribution is one of everything.
func attribution() *integrationv1.Attribution {
	compared := func(criterion integrationv1.TraceCriterion, result integrationv1.TraceComparison_Result, wanted, has string) *integrationv1.TraceComparison {
		return &integrationv1.TraceComparison{Criterion: criterion, Result: result, TraceValue: wanted, DefenderValue: has}
	}
	return &integrationv1.Attribution{
		Confidence: integrationv1.Confidence_CONFIDENCE_STRONG,
		Comparisons: []*integrationv1.TraceComparison{
			compared(integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS, integrationv1.TraceComparison_RESULT_NOT_MET, "6004", "6005"),
			compared(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH, integrationv1.TraceComparison_RESULT_MET,
				"3c1f5ad0c61a0a04b7e4a3a3c5e1d79e30b2f8aa3c1f5ad0", "3c1f5ad0c61a0a04b7e4a3a3c5e1d79e30b2f8aa3c1f5ad0"),
			compared(integrationv1.TraceCriterion_TRACE_CRITERION_USER, integrationv1.TraceComparison_RESULT_NOT_COMPARABLE, "ben", ""),
		},
	}
}

// noon is when the campaign of these tests begins.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// at is a time after noon.
func at(seconds float64) *timestamppb.Timestamp {
	return timestamppb.New(noon().Add(time.Duration(seconds * float64(time.Second))))
}

// narrate prints one of everything.
func narrate(n *narrator) bool {
	s := campaign(noon())
	named := func(id string) *attack {
		return &s.attacks[slices.IndexFunc(s.attacks, func(a attack) bool { return a.actor.GetActorId() == id })]
	}
	ben, kiosk, hugo := named("ben"), named("kiosk"), named("hugo")
	seconds := 0.0
	n.now = func() time.Time {
		seconds += 0.5
		return at(seconds).AsTime()
	}
	n.registered(&integrationv1.Integration{
		IntegrationId: "demo", TenantId: "contoso.test", Api: integrationv1.Api_API_GRAPH_SECURITY,
		DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES},
	})
	stage := func(result integrationv1.ConnectivityStage_Result) *integrationv1.ConnectivityStage {
		return &integrationv1.ConnectivityStage{
			Link: integrationv1.ConnectivityStage_LINK_PERMISSIONS, Target: integrationv1.ConnectivityStage_TARGET_API, Result: result,
			Took: durationpb.New(1500 * time.Microsecond), Seen: "The token has none of the roles that are needed.",
			Remedy: "Grant SecurityAlert.Read.All, and have an administrator consent to it.",
		}
	}
	n.tested(&integrationv1.TestConnectivityResponse{
		Technology: "Microsoft Defender for Endpoint",
		Test: &integrationv1.ConnectivityTest{
			Health: integrationv1.ConnectivityTest_HEALTH_UNHEALTHY, Summary: "One role is missing.",
			Stages: []*integrationv1.ConnectivityStage{
				stage(integrationv1.ConnectivityStage_RESULT_PASSED), stage(integrationv1.ConnectivityStage_RESULT_WARNED),
				stage(integrationv1.ConnectivityStage_RESULT_FAILED), stage(integrationv1.ConnectivityStage_RESULT_SKIPPED),
				{Link: integrationv1.ConnectivityStage_LINK_CLOCK},
			},
		},
	})
	n.campaign(&s, noon())
	n.attack(ben, s.window)
	n.defender("ben", ben.steps[0].told)
	device := &integrationv1.Device{
		DeviceDnsName: "ws-ben-02.corp.contoso.test", HealthStatus: integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE, LastSeenTime: at(-3600),
	}
	matches := []*integrationv1.Match{
		{Criterion: integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE, DefenderValue: "0123"},
		{Criterion: integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME, DefenderValue: "ws-ben-02.corp.contoso.test"},
	}
	n.actors(ben, &integrationv1.ActorsEvent{Actors: []*integrationv1.ActorState{{Knowledge: integrationv1.ActorState_KNOWLEDGE_PENDING}}})
	n.actors(ben, &integrationv1.ActorsEvent{Actors: []*integrationv1.ActorState{{
		Knowledge: integrationv1.ActorState_KNOWLEDGE_KNOWN, Judgeable: true,
		Devices: []*integrationv1.ActorDevice{{Device: device, Matches: matches[1:], Preferred: true}}, OpenAlertCount: 1,
		OpenAlerts: []*integrationv1.OpenAlert{{Title: "Of last week", Status: integrationv1.AlertStatus_ALERT_STATUS_IN_PROGRESS}},
	}}})
	n.actors(kiosk, &integrationv1.ActorsEvent{Actors: []*integrationv1.ActorState{{Knowledge: integrationv1.ActorState_KNOWLEDGE_UNKNOWN}}})
	ambiguous := &integrationv1.ActorsEvent{Actors: []*integrationv1.ActorState{{
		Knowledge: integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS, Devices: []*integrationv1.ActorDevice{{Device: device}, {Device: device}},
	}}}
	n.actors(kiosk, ambiguous)
	n.actors(kiosk, ambiguous) // Nothing is other: it is not told again.
	n.actors(kiosk, &integrationv1.ActorsEvent{Actors: []*integrationv1.ActorState{{
		Knowledge: integrationv1.ActorState_KNOWLEDGE_NO_DEVICE_SOURCE,
		Devices:   []*integrationv1.ActorDevice{{Device: device, ShownByAlertId: "da2_1"}},
	}}})
	n.cut(ben, "AbCdEfGhIjKl")
	n.resumed(ben)
	alert := &integrationv1.AlertEvent{
		Kind: integrationv1.AlertEvent_KIND_UPDATED, Activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, Late: true,
		Alert: &integrationv1.Alert{
			Id: "da1_1", Title: "Suspicious scheduled task", CreatedTime: at(5.5), LastUpdateTime: at(7),
			Status: integrationv1.AlertStatus_ALERT_STATUS_RESOLVED,
		},
		Outcome: &integrationv1.OutcomeAssessment{
			Outcome: integrationv1.Outcome_OUTCOME_REMEDIATED, Explanation: "Defender cleaned it up afterwards.",
			Contradictions: []string{"The title says that it was blocked."},
		},
		Actors:        []*integrationv1.ActorMatch{{ActorId: "ben", Matches: matches, Counts: true, Attribution: attribution()}},
		ChangedFields: &fieldmaskpb.FieldMask{Paths: []string{"last_update_time", "evidence"}},
		Previous: &integrationv1.PreviousRevision{
			Status: integrationv1.AlertStatus_ALERT_STATUS_IN_PROGRESS, Outcome: integrationv1.Outcome_OUTCOME_DETECTED,
			Activity: integrationv1.Activity_ACTIVITY_PRE_EXISTING,
		},
		AddedEvidence: []string{"/evidence/2"}, ArrivedLate: true,
	}
	n.alert(ben, alert)
	n.alert(ben, &integrationv1.AlertEvent{
		Kind: integrationv1.AlertEvent_KIND_NEW, Activity: integrationv1.Activity_ACTIVITY_PRE_EXISTING,
		Alert: &integrationv1.Alert{Title: "Of yesterday"}, Outcome: &integrationv1.OutcomeAssessment{Outcome: integrationv1.Outcome_OUTCOME_UNKNOWN},
	})
	n.alert(ben, &integrationv1.AlertEvent{
		Kind: integrationv1.AlertEvent_KIND_UPDATED, Activity: integrationv1.Activity_ACTIVITY_REACTIVATED, NoLongerMatches: true,
		Alert: &integrationv1.Alert{Title: "Re-used"}, ChangedFields: &fieldmaskpb.FieldMask{Paths: []string{"title"}},
	})
	n.alert(ben, &integrationv1.AlertEvent{
		Kind: integrationv1.AlertEvent_KIND_NEW, Activity: integrationv1.Activity_ACTIVITY_AFTER_WINDOW,
		Alert: &integrationv1.Alert{Title: "Of tomorrow"},
		Actors: []*integrationv1.ActorMatch{{
			Matches: matches[1:], Ambiguous: true,
			Attribution: &integrationv1.Attribution{Confidence: integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY},
		}},
	})
	progress := func(phase integrationv1.ProgressEvent_Phase, problem *integrationv1.Problem) {
		n.progress(ben, &integrationv1.ProgressEvent{
			Phase: phase, Problem: problem, ClosingDueTime: at(14),
			Pairs: []*integrationv1.Pair{{Depth: integrationv1.Pair_DEPTH_POLL, Through: at(6)}},
		})
	}
	progress(integrationv1.ProgressEvent_PHASE_FOLLOWING, nil)
	progress(integrationv1.ProgressEvent_PHASE_WAITING, nil)
	progress(integrationv1.ProgressEvent_PHASE_WAITING, nil) // Nothing is other: it is not told again.
	progress(integrationv1.ProgressEvent_PHASE_CLOSING, nil)
	progress(integrationv1.ProgressEvent_PHASE_CLOSING, &integrationv1.Problem{Message: "Microsoft answered 503.", Remedy: "It is tried again."})
	progress(integrationv1.ProgressEvent_PHASE_HUNTING, nil)
	progress(integrationv1.ProgressEvent_PHASE_PAUSED, nil)
	n.gap(ben, &integrationv1.GapEvent{Explanation: "The journal was trimmed."})

	pair := &integrationv1.Pair{Depth: integrationv1.Pair_DEPTH_CLOSING, Since: at(3), Through: at(15), Elements: 1}
	remediated := &result{attack: ben, began: noon().Add(4 * time.Second), resumed: true, completed: &integrationv1.CompletedEvent{
		Proof: &integrationv1.CompletedEvent_Pair{Pair: pair},
		Verdicts: []*integrationv1.ActorVerdict{{
			ActorId: "ben", Verdict: integrationv1.Verdict_VERDICT_DETECTED, Outcome: integrationv1.Outcome_OUTCOME_REMEDIATED,
			DecidingAlertId: "da1_1", Explanation: "Defender detected the attack and cleaned up afterwards.",
			Confidence: integrationv1.Confidence_CONFIDENCE_STRONG,
			Latencies: &integrationv1.Latencies{
				ActivityToCreated: durationpb.New(1100 * time.Millisecond), CreatedToVisible: durationpb.New(24 * time.Hour), VisibleToDelivered: durationpb.New(0),
			},
			NearMisses: []*integrationv1.NearMiss{
				{Title: "Of yesterday", Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY, WantedValue: "12:00:04", AlertValue: "11:00:00", Explanation: "It ended before."},
				{Title: "Of no time", Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY, WantedValue: "12:00:04", Explanation: "It tells none."},
				{Title: "Of nobody", Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE, WantedValue: "ws-ben-02"},
			},
			Uncounted: []*integrationv1.Uncounted{
				{Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_UNAMBIGUOUS, Alerts: 2},
				{Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE, Alerts: 7},
			},
		}},
	}}
	first := &integrationv1.AlertEvent{Alert: &integrationv1.Alert{Id: "da1_1", LastUpdateTime: at(5.5)}}
	remediated.take(first)
	remediated.take(alert)
	n.completed(remediated)
	amended := &result{attack: hugo, first: &integrationv1.ActorVerdict{Verdict: integrationv1.Verdict_VERDICT_MISSED}, completed: &integrationv1.CompletedEvent{
		Proof: &integrationv1.CompletedEvent_Pair{Pair: pair},
		Verdicts: []*integrationv1.ActorVerdict{{
			ActorId: "hugo", Verdict: integrationv1.Verdict_VERDICT_MISSED, Explanation: "None about this Actor.",
			Amendment: &integrationv1.Amendment{
				Verdict: integrationv1.Verdict_VERDICT_DETECTED, Outcome: integrationv1.Outcome_OUTCOME_REMEDIATED, Explanation: "AMENDED from DETECTED: the alert no longer matches.",
			},
		}},
	}}
	n.again(hugo, "AbCdEfGhIjKl")
	n.completed(amended)
	wrong := &result{attack: kiosk, completed: &integrationv1.CompletedEvent{
		Proof: &integrationv1.CompletedEvent_FailedClosing{FailedClosing: &integrationv1.Problem{Message: "Microsoft answered 503.", Remedy: "Try again."}},
		Verdicts: []*integrationv1.ActorVerdict{{
			ActorId: "kiosk", Verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE, Explanation: "Collecting is not proven complete.",
			CannotJudgeReason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE,
		}},
	}}
	wrong.take(first)
	wrong.take(first)
	n.completed(wrong)
	row := &integrationv1.TelemetryRow{
		Table: "DeviceEvents", ActionType: "AsrOfficeChildProcessBlocked", Control: "attack surface reduction", Blocked: true, EventTime: at(5.5),
		Criterion:  integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
		TraceValue: "process id 3120, created at noon", DefenderValue: "process id 3120, created a moment later",
	}
	blocked := &result{attack: named("jana"), began: noon().Add(4 * time.Second), completed: &integrationv1.CompletedEvent{
		Proof: &integrationv1.CompletedEvent_Pair{Pair: pair},
		Verdicts: []*integrationv1.ActorVerdict{{
			ActorId: "jana", Verdict: integrationv1.Verdict_VERDICT_PREVENTED, Outcome: integrationv1.Outcome_OUTCOME_BLOCKED,
			Confidence:  integrationv1.Confidence_CONFIDENCE_CERTAIN,
			Explanation: `Defender blocked the attack by attack surface reduction: telemetry of DeviceEvents has "AsrOfficeChildProcessBlocked".`,
			Telemetry:   &integrationv1.Telemetry{AskedTime: at(16), Rows: []*integrationv1.TelemetryRow{row}, MoreRows: 2},
		}},
	}}
	n.completed(blocked)
	asked := &result{attack: named("carla"), completed: &integrationv1.CompletedEvent{
		Proof: &integrationv1.CompletedEvent_Pair{Pair: pair},
		Verdicts: []*integrationv1.ActorVerdict{{
			ActorId: "carla", Verdict: integrationv1.Verdict_VERDICT_MISSED, Explanation: "Telemetry was asked at 12:00:16 and holds nothing, which is no proof.",
			Telemetry: &integrationv1.Telemetry{AskedTime: at(16)},
		}},
	}}
	n.completed(asked)
	unasked := &result{attack: named("noah"), completed: &integrationv1.CompletedEvent{Verdicts: []*integrationv1.ActorVerdict{{
		ActorId: "noah", Verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE, CannotJudgeReason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT,
		Telemetry: &integrationv1.Telemetry{AskedTime: at(16), Problem: &integrationv1.Problem{Message: "It may not hunt."}},
	}}}}
	good := n.results([]*result{remediated, amended, wrong, blocked, asked, unasked})
	n.comparison([]outcomes{
		{Way{API: integrationv1.Api_API_GRAPH_SECURITY}, []*result{remediated, amended, wrong}},
		{Way{API: integrationv1.Api_API_SIEM}, []*result{remediated, remediated, remediated}},
	})
	n.fresh("an alert about ben")
	n.stopping()
	return good
}

func TestNarrator(t *testing.T) {
	for _, test := range []struct {
		name    string
		colours bool
	}{{"plain", false}, {"colours", true}} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			n := newNarrator(&out, test.colours)
			if narrate(n) {
				t.Error("a result that is not as scripted counts as one that is")
			}
			if n.err != nil {
				t.Error(n.err)
			}
			golden := filepath.Join("testdata", test.name+".golden")
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("it prints\n%s\nwant\n%s", out.String(), want)
			}
			if !test.colours && !strings.Contains(out.String(), gapTold) {
				t.Errorf("it does not tell of a gap with %q", gapTold)
			}
			for line := range strings.Lines(out.String()) {
				if columns := len([]rune(strings.TrimSuffix(line, "\n"))); !test.colours && columns > width {
					t.Errorf("%d columns: %s", columns, line)
				}
			}
		})
	}
}

// brokenPipe fails.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

var errBroken = errors.New("nobody reads")

func TestNarratorKeepsTheErrorOfPrinting(t *testing.T) {
	n := newNarrator(brokenPipe{}, false)
	narrate(n)
	if !errors.Is(n.err, errBroken) {
		t.Errorf("error %v, want %v", n.err, errBroken)
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one two  three", []string{"one two", "three"}},
		{"unbreakable a", []string{"unbreakable", "a"}},
		{"a unbreakable", []string{"a", "unbreakable"}},
		{"äöü äöü ä", []string{"äöü äöü", "ä"}},
	} {
		if got := wrap(test.text, 7); strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
