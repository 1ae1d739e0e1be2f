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
		AlertID: id, Created: noon.Add(time.Minute), Activity: inWindow,
		Match: &integrationv1.ActorMatch{Outcome: &integrationv1.OutcomeAssessment{Outcome: outcome}},
	}
	for _, f := range change {
		f(&j)
	}
	return j
}

func doubtful(j *match.Judged) { j.Match.Ambiguous = true }

// sure makes an alert as surely about the attack as that, by the traces that were met.
func sure(confidence integrationv1.Confidence, met ...*integrationv1.TraceComparison) func(*match.Judged) {
	return func(j *match.Judged) {
		j.Match.Attribution = &integrationv1.Attribution{Confidence: confidence, Comparisons: met}
	}
}

// compared is what came of comparing a trace.
func compared(criterion integrationv1.TraceCriterion, value string, result integrationv1.TraceComparison_Result) *integrationv1.TraceComparison {
	return &integrationv1.TraceComparison{Criterion: criterion, TraceValue: value, DefenderValue: value, Result: result}
}

// atLeast asks for a confidence.
func atLeast(confidence integrationv1.Confidence) func(*match.Case) {
	return func(c *match.Case) { c.MinConfidence = confidence }
}

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
		{
			"the surest decides, whatever the others' outcomes",
			[]func(*match.Case){alerts(judged("a", prevented, sure(weak)), judged("b", detected, sure(strong)), judged("c", blocked))},
			vDetected, detected, "b", []string{"a", "b", "c"},
		},
		{
			"among those as sure the strongest outcome",
			[]func(*match.Case){alerts(judged("a", detected, sure(certain)), judged("b", blocked, sure(certain)), judged("c", prevented, sure(strong)))},
			vPrevented, blocked, "b", []string{"a", "b", "c"},
		},
		{
			"without an attribution it is by the device",
			[]func(*match.Case){alerts(judged("a", detected), judged("b", blocked, sure(deviceOnly)))}, vPrevented, blocked, "b", []string{"a", "b"},
		},
		{
			"what is not as sure as asked for does not count",
			[]func(*match.Case){alerts(judged("a", prevented, sure(weak)), judged("b", prevented), judged("c", detected, sure(strong))), atLeast(strong)},
			vDetected, detected, "c", []string{"c"},
		},
		{
			"the surest being late makes none that is in time late",
			[]func(*match.Case){alerts(judged("a", detected, sure(certain), late), judged("b", detected))}, vDetected, detected, "a", []string{"a", "b"},
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
			for _, a := range c.Alerts {
				if want := max(deviceOnly, a.Match.GetAttribution().GetConfidence()); a.AlertID == test.deciding && got.GetConfidence() != want {
					t.Errorf("confidence %v, want %v", got.GetConfidence(), want)
				}
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
		{
			"only a device of another name that has its address", func(c *match.Case) {
				c.Resolution = resolve(t, &integrationv1.Actor{HostName: "pc1", IpAddresses: []string{"10.0.0.5"}}, device(idA, "pc2", withAddresses("10.0.0.5")))
			},
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, "bears another name",
		},
		{"only an ambiguous alert", alerts(judged("a", prevented, doubtful)), integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, `by alert "a",`},
		{
			"only ambiguous alerts",
			alerts(judged("a", prevented, doubtful), judged("b", prevented, doubtful), judged("c", prevented, doubtful), judged("d", prevented, doubtful)),
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, `by the alerts "a", "b", "c" and 1 more,`,
		},
		{
			"an ambiguous alert that is sure enough",
			func(c *match.Case) { alerts(judged("a", prevented, doubtful, sure(strong)))(c); atLeast(strong)(c) },
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, `by alert "a",`,
		},
		{
			"an ambiguous alert that would not count either way",
			func(c *match.Case) { alerts(judged("a", prevented, doubtful, sure(weak)))(c); atLeast(strong)(c) },
			0, "is as surely about the attack as min_confidence asks (STRONG); 1 alert is less surely so.",
		},
		{
			"alerts that are not sure enough",
			func(c *match.Case) {
				alerts(judged("a", prevented, sure(weak)), judged("b", prevented), judged("c", prevented, with(preExisting)))(c)
				atLeast(certain)(c)
			}, 0, "min_confidence asks (CERTAIN); 2 alerts are less surely so.",
		},
		{
			"alerts that are not sure enough, and a device that was not there",
			func(c *match.Case) { alerts(judged("a", prevented))(c); atLeast(weak)(c); onlyDevice(notOnboarded)(c) },
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_NOT_ONBOARDED,
			"In the window, 1 alert is less surely about the attack than min_confidence asks (WEAK). Onboard it",
		},
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
	const (
		process  = integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS
		hash     = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH
		user     = integrationv1.TraceCriterion_TRACE_CRITERION_USER
		title    = integrationv1.TraceCriterion_TRACE_CRITERION_TITLE
		met      = integrationv1.TraceComparison_RESULT_MET
		notMet   = integrationv1.TraceComparison_RESULT_NOT_MET
		prologue = `Defender kept the attack from running, by alert "a", created at 2026-03-01T12:01:00Z. `
	)
	of := func(list ...match.Judged) match.Case {
		c := missedCase()
		c.Alerts = list
		return c
	}
	tests := []struct {
		c    match.Case
		want string
	}{
		{missed, `Of all alerts last updated since 2026-03-01T11:55:00Z, as read at 2026-03-01T14:00:00Z, none about this Actor has activity in the window from ` +
			`2026-03-01T12:00:00Z to 2026-03-01T13:00:00Z. At 2026-03-01T14:00:00Z the device source said that device "pc1.contoso.com" (` + idA +
			`) was onboarded and active; it last reported at 2026-03-01T10:00:00Z, 2h0m0s before the window began.`},
		{lateCase, `Defender detected the attack and cleaned up afterwards, by alert "b", created at 2026-03-01T15:00:00Z. No traces of the attack were ` +
			`given, and it is attributed by the device alone. Its outcome is the strongest of the 2 alerts that count. ` +
			`No alert that counts was created within 30m0s after the window's end at 2026-03-01T13:00:00Z. ` +
			`Collecting is not proven complete, so there may be more: Microsoft answered 403.`},
		{
			of(judged("a", prevented, sure(certain, compared(process, "4711", met), compared(hash, "ab", notMet), compared(user, `CONTOSO\ann`, met)))),
			prologue + `Of the attack it has the process "4711" and the user "CONTOSO\\ann": its attribution is CERTAIN.`,
		},
		{
			of(judged("a", prevented, sure(certain, compared(process, "1", met), compared(hash, "ab", met), compared(user, "ann", met), compared(title, "x", met)))),
			prologue + `Of the attack it has the process "1", the file hash "ab" and 2 more traces: its attribution is CERTAIN.`,
		},
		{
			of(judged("a", prevented, sure(deviceOnly, compared(process, "4711", notMet)))),
			prologue + `It has none of the attack's traces, and is attributed by the device alone.`,
		},
		{
			of(judged("a", prevented, sure(strong, compared(hash, "ab", met))), judged("b", detected), judged("c", detected)),
			prologue + `Of the attack it has the file hash "ab": its attribution is STRONG. Of the 3 alerts that count it is the most surely about the attack.`,
		},
		{
			of(judged("a", prevented, sure(strong, compared(hash, "ab", met))), judged("b", detected, sure(strong)), judged("c", detected)),
			prologue + `Of the attack it has the file hash "ab": its attribution is STRONG. Of the 3 alerts that count, 2 are the most surely about the attack, ` +
				`and its outcome is the strongest of theirs.`,
		},
		{
			of(judged("a", untold, sure(weak, compared(title, "x", met))), judged("b", prevented)),
			`Defender detected the attack; the evidence does not tell how it ended, by alert "a", created at 2026-03-01T12:01:00Z. Of the attack it has the title "x": ` +
				`its attribution is WEAK. Of the 2 alerts that count it is the most surely about the attack. One that is less surely about it has a stronger outcome.`,
		},
	}
	for _, test := range tests {
		if got := match.Judge(test.c).GetExplanation(); got != test.want {
			t.Errorf("explanation\n got %s\nwant %s", got, test.want)
		}
	}
}

// Whoever reads why it cannot be judged reads what to do about it, once, in whole sentences.
func TestCannotJudgeInWords(t *testing.T) {
	const prologue = "No alert counts, and it cannot be said that the attack was missed: "
	const silent = " See that the machine runs and reaches Defender's service, and what its page in the Defender portal says of its sensor. " +
		"Once it has reported, resume with the token of this event: the window is judged again."
	named := `device "pc1.contoso.com" (` + idA + `)`
	tests := []struct {
		name   string
		change func(*match.Case)
		want   string
	}{
		{"SIEM", func(c *match.Case) { c.Lookup.API = integrationv1.Api_API_SIEM }, "through the SIEM API an empty answer proves nothing, since Microsoft may have " +
			"switched it off. Register the tenant through GRAPH_SECURITY or DEFENDER_FOR_ENDPOINT: there a miss can be told."},
		{"no device source", func(c *match.Case) { c.Lookup.Kind = integrationv1.DeviceSource_KIND_NONE }, "the integration has no device source, so nothing " +
			"says that the device was there to be seen. Give it one: MACHINES needs the permission Machine.Read.All, HUNTING (with GRAPH_SECURITY) ThreatHunting.Read.All."},
		{"lookup failed", func(c *match.Case) {
			c.Lookup.Problem = &integrationv1.Problem{Message: "Microsoft answered 403.", Remedy: "Grant Machine.Read.All."}
			c.Lookup.Time = noon
		}, "the devices could not be looked up: Microsoft answered 403. What was looked up before, at 2026-03-01T12:00:00Z, tells nothing of the window. " +
			"Grant Machine.Read.All. Resume with the token of this event: the device is looked up again, and the window judged again."},
		{"pending", func(c *match.Case) { c.Lookup.Time = time.Time{} }, "the Actor's device has not been looked up since the window ended. " +
			"Resume with the token of this event: the device is looked up again, and the window judged again."},
		{"ambiguous", func(c *match.Case) {
			c.Resolution = resolve(t, &integrationv1.Actor{HostName: "pc1"}, device(idA, "pc1.a.com"), device(idB, "pc1.b.com"))
		}, `2 devices fit the Actor, and nothing tells which it is: device "pc1.a.com" (` + idA + `) and device "pc1.b.com" (` + idB +
			`). Ask anew with the Actor's mde_device_id, or with a name that no other device has.`},
		{"unknown", func(c *match.Case) { c.Resolution = resolve(t, &integrationv1.Actor{HostName: "pc1"}) }, "Defender knew no device that fits the Actor " +
			"at 2026-03-01T14:00:00Z. See in Defender's list of devices whether the machine is onboarded, and under which name; ask anew with that name, or with its mde_device_id."},
		{"not onboarded", onlyDevice(notOnboarded), named + " is not onboarded (onboarding status can be onboarded). " +
			"Onboard it to Defender for Endpoint: an attack after that can be judged."},
		{"first seen later", onlyDevice(func(d *integrationv1.Device) { d.FirstSeenTime = timestamppb.New(noon.Add(24 * time.Hour)) }), "Defender first saw " + named +
			" at 2026-03-02T12:00:00Z, after the window had begun. An attack from now on can be judged."},
		{"inactive", onlyDevice(inactive), "the sensor of " + named + " is not well (health status inactive)." + silent},
		{"silent", onlyDevice(seen(noon.Add(-48 * time.Hour))), named + " last reported at 2026-02-27T12:00:00Z, longer before the window's start at " +
			"2026-03-01T12:00:00Z than the device source's rhythm of 26h0m0s explains." + silent},
		{"incomplete", func(c *match.Case) {
			c.Proof = match.Proof{Incomplete: "Microsoft answered 403.", Remedy: "Grant SecurityAlert.Read.All.", Again: true}
		}, "collecting is not proven complete: Microsoft answered 403. Grant SecurityAlert.Read.All. " +
			"Resume with the token of this event: the window is judged again, after another closing read."},
		{"history gone", func(c *match.Case) {
			c.Proof = match.Proof{Incomplete: "The window begins too early.", Remedy: "Ask for windows inside the journal's retention."}
		}, "collecting is not proven complete: The window begins too early. Ask for windows inside the journal's retention."},
		{"incomplete without a remedy", func(c *match.Case) { c.Proof = match.Proof{Incomplete: "it failed", Again: true} }, "collecting is not proven " +
			"complete: it failed. Resume with the token of this event: the window is judged again, after another closing read."},
		{"no pair", func(c *match.Case) { c.Proof.Pair = nil }, "collecting is not proven complete: no closing read succeeded. " +
			"Resume with the token of this event: the window is judged again, after another closing read."},
		{"doubt", alerts(judged("a", prevented, doubtful)), `the Actor or another machine is meant by alert "a", and nothing tells which. ` +
			"Ask anew with the Actor's mde_device_id, or with a name that no other device has."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := missedCase()
			test.change(&c)
			if got := match.Judge(c).GetExplanation(); got != prologue+test.want {
				t.Errorf("explanation\n got %s\nwant %s", got, prologue+test.want)
			}
		})
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
		c.MinConfidence = integrationv1.Confidence(r.IntN(5))
		for i := range r.IntN(6) {
			j := judged(fmt.Sprint(i), integrationv1.Outcome(r.IntN(6)), with(integrationv1.Activity(1+r.IntN(4))),
				createdAt(noon.Add(time.Duration(r.IntN(3))*time.Minute)))
			j.Late, j.Match.Ambiguous = r.IntN(2) == 0, r.IntN(3) == 0
			sure(integrationv1.Confidence(r.IntN(5)))(&j)
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

// Of a match is kept what the verdict says, and nothing of the alert's own text: there may be very many.
func TestJudgedOf(t *testing.T) {
	comparison := func(criterion integrationv1.TraceCriterion, result integrationv1.TraceComparison_Result) *integrationv1.TraceComparison {
		return &integrationv1.TraceComparison{Criterion: criterion, Result: result, TraceValue: "trace", DefenderValue: "alert", EvidencePath: "/evidence/0"}
	}
	m := &integrationv1.ActorMatch{
		ActorId: "a", Counts: true, Matches: []*integrationv1.Match{{DefenderValue: "alert"}},
		Attribution: &integrationv1.Attribution{Confidence: strong, Explanation: "alert", Comparisons: []*integrationv1.TraceComparison{
			comparison(byProcess, notMet), comparison(byHash, isMet), comparison(byName, notMet), comparison(byUser, isMet),
		}},
		Outcome: &integrationv1.OutcomeAssessment{Outcome: blocked, Explanation: "alert", Contradictions: []string{"alert"}},
	}
	got := match.JudgedOf(&integrationv1.Alert{Id: "a", CreatedTime: stamp(noon)}, m, inWindow, true)
	if got.AlertID != "a" || !got.Created.Equal(noon) || got.Activity != inWindow || !got.Late {
		t.Errorf("judged %+v", got)
	}
	if strings.Contains(got.Match.String(), "alert") {
		t.Errorf("it keeps %v", got.Match)
	}
	whole := got
	whole.Match = m
	if got, want := match.Judge(match.Case{Alerts: []match.Judged{got}}), match.Judge(match.Case{Alerts: []match.Judged{whole}}); !proto.Equal(got, want) {
		t.Errorf("verdict\n got %v\nwant %v", got, want)
	}
}
