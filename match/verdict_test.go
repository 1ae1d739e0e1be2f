package match_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// missedCase is a case in which all is well and no alert counts.
func missedCase() match.Case {
	d := device(idA, "pc1.contoso.com", seen(noon.Add(-2*time.Hour)))
	return match.Case{
		ActorID:    "actor",
		Resolution: match.Resolve(match.NewActor(&integrationv1.Actor{HostName: "pc1"}), []*integrationv1.Device{d}),
		Lookup:     match.Lookup{Kind: integrationv1.DeviceSource_KIND_MACHINES, Time: noon.Add(2 * time.Hour), Rhythm: 26 * time.Hour},
		Proof: match.Proof{Pair: &integrationv1.Pair{
			Depth: integrationv1.Pair_DEPTH_CLOSING, Since: stamp(noon.Add(-tolerance)), Through: stamp(noon.Add(2 * time.Hour)),
		}},
		Window: window, Tolerance: tolerance, OnTime: 30 * time.Minute,
	}
}

// onlyDevice makes a device the only one that fits.
func onlyDevice(change ...func(*integrationv1.Device)) func(*match.Case) {
	return func(c *match.Case) {
		c.Resolution = match.Resolve(match.NewActor(&integrationv1.Actor{HostName: "pc1"}),
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", change...)})
	}
}

func judged(id string, outcome integrationv1.Outcome, change ...func(*match.Judged)) match.Judged {
	j := match.Judged{
		AlertID: id, Created: noon.Add(time.Minute), Match: &integrationv1.ActorMatch{}, Activity: inWindow,
		Outcome: &integrationv1.OutcomeAssessment{Outcome: outcome},
	}
	for _, f := range change {
		f(&j)
	}
	return j
}

func doubtful(j *match.Judged) { j.Match = &integrationv1.ActorMatch{Ambiguous: true} }

func late(j *match.Judged) { j.Late = true; j.Created = noon.Add(3 * time.Hour) }

func with(activity integrationv1.Activity) func(*match.Judged) {
	return func(j *match.Judged) { j.Activity = activity }
}

func createdAt(t time.Time) func(*match.Judged) { return func(j *match.Judged) { j.Created = t } }

func alerts(list ...match.Judged) func(*match.Case) { return func(c *match.Case) { c.Alerts = list } }

func noProof(c *match.Case) { c.Proof = match.Proof{Incomplete: "Microsoft answered 403"} }

func problem(c *match.Case) {
	c.Lookup.Problem = &integrationv1.Problem{Message: "Microsoft answered 503"}
}

func TestJudgeByAlerts(t *testing.T) {
	const (
		vPrevented = integrationv1.Verdict_VERDICT_PREVENTED
		vDetected  = integrationv1.Verdict_VERDICT_DETECTED
		vLate      = integrationv1.Verdict_VERDICT_DETECTED_LATE
	)
	tests := []struct {
		name     string
		change   []func(*match.Case)
		verdict  integrationv1.Verdict
		outcome  integrationv1.Outcome
		deciding string
		counting []string
	}{
		{"prevented", []func(*match.Case){alerts(judged("a", prevented))}, vPrevented, prevented, "a", []string{"a"}},
		{"blocked is prevented, and says so", []func(*match.Case){alerts(judged("a", blocked))}, vPrevented, blocked, "a", []string{"a"}},
		{"remediated is detected", []func(*match.Case){alerts(judged("a", remediated))}, vDetected, remediated, "a", []string{"a"}},
		{"detected", []func(*match.Case){alerts(judged("a", detected))}, vDetected, detected, "a", []string{"a"}},
		{"an unknown outcome is detected", []func(*match.Case){alerts(judged("a", untold))}, vDetected, untold, "a", []string{"a"}},
		{"an outcome that is not set is unknown", []func(*match.Case){alerts(judged("a", 0), judged("b", detected))}, vDetected, detected, "b", []string{"a", "b"}},
		{
			"the strongest outcome decides, and the others count",
			[]func(*match.Case){alerts(judged("a", detected), judged("b", blocked), judged("c", untold))}, vPrevented, blocked, "b", []string{"a", "b", "c"},
		},
		{
			"among equals the one created first",
			[]func(*match.Case){alerts(judged("a", blocked, createdAt(time.Time{})), judged("b", blocked), judged("c", blocked, createdAt(noon)))},
			vPrevented, blocked, "c", []string{"a", "b", "c"},
		},
		{"re-used alerts count", []func(*match.Case){alerts(judged("a", detected, with(reactivated)))}, vDetected, detected, "a", []string{"a"}},
		{
			"what lies before or after the window and what is ambiguous does not count",
			[]func(*match.Case){alerts(judged("a", prevented, with(preExisting)), judged("b", prevented, with(afterWindow)), judged("c", prevented, doubtful), judged("d", detected))},
			vDetected, detected, "d", []string{"d"},
		},
		{"all late", []func(*match.Case){alerts(judged("a", detected, late), judged("b", remediated, late))}, vLate, remediated, "b", []string{"a", "b"}},
		{"one in time", []func(*match.Case){alerts(judged("a", detected), judged("b", remediated, late))}, vDetected, remediated, "b", []string{"a", "b"}},
		{"late prevention is prevention", []func(*match.Case){alerts(judged("a", prevented, late))}, vPrevented, prevented, "a", []string{"a"}},
		{"what was seen is judged without proof", []func(*match.Case){alerts(judged("a", detected)), noProof}, vDetected, detected, "a", []string{"a"}},
		{
			"what was seen is judged without a device",
			[]func(*match.Case){alerts(judged("a", detected)), func(c *match.Case) { c.Resolution = match.Resolution{} }}, vDetected, detected, "a", []string{"a"},
		},
		{"the last revision of an alert counts", []func(*match.Case){alerts(judged("a", prevented), judged("b", detected), judged("a", detected))}, vDetected, detected, "a", []string{"b", "a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := missedCase()
			for _, f := range test.change {
				f(&c)
			}
			got := match.Judge(c)
			if got.GetVerdict() != test.verdict || got.GetOutcome() != test.outcome || got.GetDecidingAlertId() != test.deciding ||
				!slices.Equal(got.GetCountingAlertIds(), test.counting) {
				t.Errorf("verdict %v", got)
			}
			if got.GetActorId() != "actor" || got.GetExplanation() == "" || got.GetCannotJudgeReason() != 0 || got.GetDevice() != nil {
				t.Errorf("verdict %v", got)
			}
		})
	}
}

func TestJudgeWithoutACountingAlert(t *testing.T) {
	tests := []struct {
		name   string
		change func(*match.Case)
		want   integrationv1.CannotJudgeReason // UNSPECIFIED: MISSED.
		words  string
	}{
		{"missed", func(*match.Case) {}, 0, "last reported at 2026-03-01T10:00:00Z, 2h0m0s before the window began"},
		{
			"alerts outside of the window change nothing",
			alerts(judged("a", prevented, with(preExisting)), judged("b", prevented, with(afterWindow)), judged("c", prevented, with(preExisting), doubtful)), 0, "",
		},
		{"the device reported in the window", onlyDevice(seen(noon.Add(time.Minute))), 0, "in the window"},
		{"the device reported after the window", onlyDevice(seen(noon.Add(2 * time.Hour))), 0, "after the window"},
		{"the device reported just no longer before than the rhythm explains", onlyDevice(seen(noon.Add(-26 * time.Hour))), 0, "26h0m0s before the window began"},
		{"a moment longer", onlyDevice(seen(noon.Add(-26*time.Hour - 1))), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT, "rhythm of 26h0m0s"},
		{"no last report", onlyDevice(func(d *integrationv1.Device) { d.LastSeenTime = nil }), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT, "no last report"},
		{"a sensor that is not well", onlyDevice(inactive), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT, "health status inactive"},
		{"not onboarded", onlyDevice(notOnboarded), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_NOT_ONBOARDED, "can be onboarded"},
		{
			"first seen after the window",
			onlyDevice(func(d *integrationv1.Device) { d.FirstSeenTime = timestamppb.New(noon.Add(24 * time.Hour)) }),
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_NOT_ONBOARDED, "first saw",
		},
		{
			"a health that is not known is not active",
			onlyDevice(func(d *integrationv1.Device) { d.HealthStatus = 0 }), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT, "not set",
		},
		{"no device", func(c *match.Case) { c.Resolution = resolve(t, &integrationv1.Actor{HostName: "pc1"}) }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN, "no device"},
		{
			"several devices",
			func(c *match.Case) {
				c.Resolution = resolve(t, &integrationv1.Actor{HostName: "pc1"}, device(idA, "pc1.a.com"), device(idB, "pc1.b.com"))
			},
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, "2 devices",
		},
		{"only an ambiguous alert", alerts(judged("a", prevented, doubtful)), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, "1 alert,"},
		{"no device source", func(c *match.Case) { c.Lookup.Kind = integrationv1.DeviceSource_KIND_NONE }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE, "no device source"},
		{"not looked up yet", func(c *match.Case) { c.Lookup.Time = time.Time{} }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_PENDING, "not been looked up since the window ended"},
		{
			"never looked up, since it failed",
			func(c *match.Case) { problem(c); c.Lookup.Time = time.Time{} }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED, "Microsoft answered 503",
		},
		{
			"looked up before the window's end, and failed since",
			func(c *match.Case) { problem(c); c.Lookup.Time = window.End.Add(-1) }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED, "Microsoft answered 503",
		},
		{"looked up after the window's end, and failed since", problem, 0, ""},
		{"no proof", noProof, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "Microsoft answered 403"},
		{"no pair", func(c *match.Case) { c.Proof.Pair = nil }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "no closing read"},
		{
			"a pair and a gap",
			func(c *match.Case) { c.Proof.Incomplete = "history is gone" }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "history is gone",
		},
		{
			"a pair that begins too late",
			func(c *match.Case) { c.Proof.Pair.Since = stamp(noon.Add(-tolerance + 1)) }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "covers only",
		},
		{
			"a pair that was read before the window's end",
			func(c *match.Case) { c.Proof.Pair.Through = stamp(window.End.Add(-1)) }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "covers only",
		},
		{"an open window", func(c *match.Case) { c.Window.End = time.Time{} }, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "open"},
		{
			"without proof, that is the reason, whatever else is wrong",
			func(c *match.Case) {
				noProof(c)
				alerts(judged("a", prevented, doubtful))(c)
				c.Lookup.Kind = integrationv1.DeviceSource_KIND_NONE
			},
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE, "",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := missedCase()
			test.change(&c)
			got := match.Judge(c)
			want := integrationv1.Verdict_VERDICT_CANNOT_JUDGE
			if test.want == 0 {
				want = integrationv1.Verdict_VERDICT_MISSED
			}
			if got.GetVerdict() != want || got.GetCannotJudgeReason() != test.want {
				t.Errorf("%v (%v), want %v (%v)", got.GetVerdict(), got.GetCannotJudgeReason(), want, test.want)
			}
			if !strings.Contains(got.GetExplanation(), test.words) || got.GetExplanation() == "" {
				t.Errorf("explanation %q lacks %q", got.GetExplanation(), test.words)
			}
			if got.GetOutcome() != 0 || got.GetDecidingAlertId() != "" || len(got.GetCountingAlertIds()) != 0 || got.GetActorId() != "actor" {
				t.Errorf("verdict %v", got)
			}
			if !proto.Equal(got.GetDevice(), c.Resolution.Preferred) {
				t.Errorf("device %v, want %v", got.GetDevice(), c.Resolution.Preferred)
			}
		})
	}
}

func TestVerdictInWords(t *testing.T) {
	missed := missedCase()
	lateCase := missedCase()
	lateCase.Alerts = []match.Judged{judged("a", detected, late), judged("b", remediated, late)}
	noProof(&lateCase)
	tests := []struct {
		c    match.Case
		want string
	}{
		{missed, `Of all alerts last updated since 2026-03-01T11:55:00Z, as read at 2026-03-01T14:00:00Z, none about this Actor has activity in the window from ` +
			`2026-03-01T12:00:00Z to 2026-03-01T13:00:00Z. At 2026-03-01T14:00:00Z the device source said that device "pc1.contoso.com" (` + idA +
			`) was onboarded and active; it last reported at 2026-03-01T10:00:00Z, 2h0m0s before the window began.`},
		{lateCase, `Defender detected the attack and cleaned up afterwards, by alert "b", created at 2026-03-01T15:00:00Z. Its outcome is the strongest of the 2 ` +
			`alerts that count. No alert that counts was created within 30m0s after the window's end at 2026-03-01T13:00:00Z. ` +
			`Collecting is not proven complete, so there may be more: Microsoft answered 403.`},
	}
	for _, test := range tests {
		if got := match.Judge(test.c).GetExplanation(); got != test.want {
			t.Errorf("explanation\n got %s\nwant %s", got, test.want)
		}
	}
}

func TestVerdictListsAtMostAHundredAlerts(t *testing.T) {
	c := missedCase()
	for i := range 150 {
		c.Alerts = append(c.Alerts, judged(fmt.Sprint(i), detected))
	}
	c.Alerts = append(c.Alerts, judged("last", prevented))
	got := match.Judge(c)
	if len(got.GetCountingAlertIds()) != 100 || got.GetCountingAlertIds()[99] != "99" || got.GetDecidingAlertId() != "last" {
		t.Errorf("%d ids, deciding %q", len(got.GetCountingAlertIds()), got.GetDecidingAlertId())
	}
}

// TestVerdictDoesNotDependOnOrder shuffles random alerts.
func TestVerdictDoesNotDependOnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		c := missedCase()
		for i := range r.IntN(6) {
			j := judged(fmt.Sprint(i), integrationv1.Outcome(r.IntN(6)), with(integrationv1.Activity(1+r.IntN(4))),
				createdAt(noon.Add(time.Duration(r.IntN(3))*time.Minute)))
			j.Late, j.Match.Ambiguous = r.IntN(2) == 0, r.IntN(3) == 0
			c.Alerts = append(c.Alerts, j)
		}
		want := match.Judge(c)
		c.Alerts = shuffled(r, append(slices.Clone(c.Alerts), c.Alerts...))
		got := match.Judge(c)
		slices.Sort(got.GetCountingAlertIds())
		if !proto.Equal(got, want) {
			t.Fatalf("%v\nshuffled\n%v", want, got)
		}
	}
}

func TestJudgedOf(t *testing.T) {
	m, outcome := &integrationv1.ActorMatch{}, &integrationv1.OutcomeAssessment{}
	got := match.JudgedOf(&integrationv1.Alert{Id: "a", CreatedTime: stamp(noon)}, m, inWindow, outcome, true)
	if got.AlertID != "a" || !got.Created.Equal(noon) || got.Match != m || got.Activity != inWindow || got.Outcome != outcome || !got.Late {
		t.Errorf("judged %+v", got)
	}
}
