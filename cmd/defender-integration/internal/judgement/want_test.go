package judgement_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// want is what must come of an Actor. What it leaves out may be anything, with one exception: a verdict without a reason must have
// none.
type want struct {
	// Verdict and what follows are those of the `completed` event.
	Verdict    word[integrationv1.Verdict]
	Reason     word[integrationv1.CannotJudgeReason]
	Outcome    word[integrationv1.Outcome]
	Confidence word[integrationv1.Confidence]
	Deciding   string   // the deciding alert
	Counting   []string // the alerts that count, in any order
	Device     string   // the device that a verdict without an alert rests on
	Says       []string // what the verdict's words have
	Amended    *amendedWant
	Latency    *latencyWant
	NearMisses []nearMissWant `yaml:"near_misses"`
	Uncounted  map[string]int64
	Telemetry  *telemetryWant

	// Matching is how many alerts match an Actor of the stream, CountingAlerts how many of them count.
	Matching       *int64
	CountingAlerts *int64 `yaml:"counting_alerts"`

	// Knowledge and what follows are those of the last `actors` event; Candidates are all devices that fit, the preferred one first.
	Knowledge  word[integrationv1.ActorState_Knowledge]
	Judgeable  *bool
	Candidates []string
	ShownBy    string   `yaml:"shown_by"`
	OpenAlerts []string `yaml:"open_alerts"`

	// FirstKnowledge and FirstReason are those of the first `actors` event, before anything was looked up.
	FirstKnowledge word[integrationv1.ActorState_Knowledge] `yaml:"first_knowledge"`
	FirstReason    word[integrationv1.CannotJudgeReason]    `yaml:"first_reason"`

	// Alerts are the alerts as the stream sent them last.
	Alerts map[string]*alertWant
}

// amendedWant is what a verdict was before.
type amendedWant struct {
	No      bool // it is no other than before
	Verdict word[integrationv1.Verdict]
	Reason  word[integrationv1.CannotJudgeReason]
	Outcome word[integrationv1.Outcome]
}

// latencyWant is how long an alert took.
type latencyWant struct {
	Created *span // from its activity
	Visible *span // from its creation, but for a poll's interval
}

// nearMissWant is an alert that does not count, and why.
type nearMissWant struct {
	Alert       string
	Criterion   word[integrationv1.CountingCriterion]
	Wanted, Has string // what the values have
}

// alertWant is what must be said of an alert.
type alertWant struct {
	// Unsent says that the stream sends nothing of it.
	Unsent bool
	// Kind and what follows are those of the event.
	Kind       word[integrationv1.AlertEvent_Kind]
	Activity   word[integrationv1.Activity]
	ByCreation *bool `yaml:"by_creation"`
	Late       *bool
	Arrived    *bool `yaml:"arrived_late"`
	NoLonger   *bool `yaml:"no_longer_matches"`
	Changed    []string
	// Outcomes are the outcomes of all its events, in their order; AlertOutcome is that of the alert as a whole.
	Outcomes     []word[integrationv1.Outcome]
	AlertOutcome word[integrationv1.Outcome] `yaml:"alert_outcome"`

	// Matches and what follows say how it matches the Actor.
	Matches   []word[integrationv1.MatchCriterion]
	Ambiguous *bool
	Counts    *bool
	Unmatched bool // it is sent, and does not match the Actor

	// Outcome and what follows are of the attack on the Actor.
	Outcome       word[integrationv1.Outcome]
	Rests         string   // what its deciding evidence's JSON has
	Says          []string // what the outcome's words have
	Contradicts   []string // what the contradictions have, each
	Confidence    word[integrationv1.Confidence]
	Met           []word[integrationv1.TraceCriterion]
	NotMet        []word[integrationv1.TraceCriterion] `yaml:"not_met"`
	NotComparable []word[integrationv1.TraceCriterion] `yaml:"not_comparable"`
	Traced        []word[integrationv1.TraceCriterion] // all that were compared
}

// findings gathers what is other than it must be.
type findings []string

func (f *findings) add(what string, got, want any) {
	*f = append(*f, fmt.Sprintf("%s: expected %v, got %v", what, want, got))
}

// same notes where two values differ.
func same[T comparable](f *findings, what string, got, want T) {
	if got != want {
		f.add(what, got, want)
	}
}

// sameWord notes where an enumeration's value is not the word's, unless there is no word.
func sameWord[E interface {
	comparable
	protoEnum
}](f *findings, what string, got E, want word[E],
) {
	if want.set() && got != want.value {
		f.add(what, spell(got), want)
	}
}

// sameList notes where lists differ, whatever their order.
func sameList(f *findings, what string, got, want []string) {
	if want == nil {
		return
	}
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		f.add(what, got, want)
	}
}

// has notes what a text has not.
func has(f *findings, what, text string, parts ...string) {
	for _, part := range parts {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(part)) {
			f.add(what, fmt.Sprintf("%q", text), fmt.Sprintf("something with %q", part))
		}
	}
}

// check compares what came of an Actor with what must.
func (w *want) check(p *played, actor string) (f findings) {
	w.checkVerdict(&f, p, actor)
	w.checkState(&f, p, actor)
	for _, id := range slices.Sorted(maps.Keys(w.Alerts)) {
		f = append(f, w.Alerts[id].check(p, actor, id)...)
	}
	return f
}

func (w *want) checkVerdict(f *findings, p *played, actor string) {
	got := p.verdict(actor)
	if got == nil {
		*f = append(*f, "there is no verdict for it")
		return
	}
	sameWord(f, "verdict", got.GetVerdict(), w.Verdict)
	if w.Verdict.set() || w.Reason.set() {
		same(f, "reason", spell(got.GetCannotJudgeReason()), w.Reason.String())
	}
	sameWord(f, "outcome", got.GetOutcome(), w.Outcome)
	sameWord(f, "confidence", got.GetConfidence(), w.Confidence)
	if w.Deciding != "" {
		same(f, "deciding alert", p.alertOf(got.GetDecidingAlertId()), w.Deciding)
	}
	sameList(f, "alerts that count", p.alertsOf(got.GetCountingAlertIds()), w.Counting)
	if w.Device != "" {
		same(f, "device", got.GetDevice().GetMdeDeviceId(), deviceID(w.Device))
	}
	has(f, "the verdict's words", got.GetExplanation(), w.Says...)
	if w.Matching != nil {
		same(f, "alerts that match", p.completed.GetAlerts(), *w.Matching)
	}
	if w.CountingAlerts != nil {
		same(f, "alerts that count for someone", p.completed.GetCountingAlerts(), *w.CountingAlerts)
	}
	w.Amended.check(f, got)
	w.Latency.check(f, got)
	w.Telemetry.check(f, got)
	w.checkNearMisses(f, p, got)
}

func (w *amendedWant) check(f *findings, got *integrationv1.ActorVerdict) {
	if w == nil {
		return
	}
	if w.No {
		if a := got.GetAmendment(); a != nil {
			f.add("amendment", spell(a.GetVerdict()), "none")
		}
		return
	}
	if got.GetAmendment() == nil {
		f.add("amendment", "none", w.Verdict)
		return
	}
	sameWord(f, "verdict before", got.GetAmendment().GetVerdict(), w.Verdict)
	sameWord(f, "reason before", got.GetAmendment().GetCannotJudgeReason(), w.Reason)
	sameWord(f, "outcome before", got.GetAmendment().GetOutcome(), w.Outcome)
	if got.GetAmendment().GetExplanation() == "" {
		f.add("the amendment's words", "none", "some")
	}
}

func (w *latencyWant) check(f *findings, got *integrationv1.ActorVerdict) {
	if w == nil {
		return
	}
	if w.Created != nil {
		same(f, "from activity to creation", got.GetLatencies().GetActivityToCreated().AsDuration(), w.Created.Duration)
	}
	if w.Visible != nil {
		took := got.GetLatencies().GetCreatedToVisible().AsDuration()
		if over := took - w.Visible.Duration; over < 0 || over > pollInterval+time.Second {
			f.add("from creation to visible", took, w.Visible.Duration)
		}
	}
}

func (w *want) checkNearMisses(f *findings, p *played, got *integrationv1.ActorVerdict) {
	if w.NearMisses != nil {
		var ids, wanted []string
		for _, miss := range got.GetNearMisses() {
			ids = append(ids, p.alertOf(miss.GetAlertId()))
		}
		for _, miss := range w.NearMisses {
			wanted = append(wanted, miss.Alert)
		}
		if !slices.Equal(ids, wanted) {
			f.add("near misses", ids, wanted)
			return
		}
		for i, miss := range w.NearMisses {
			is := got.GetNearMisses()[i]
			what := fmt.Sprintf("near miss %q", miss.Alert)
			sameWord(f, what, is.GetCriterion(), miss.Criterion)
			has(f, what+": wanted value", is.GetWantedValue(), miss.Wanted)
			has(f, what+": its value", is.GetAlertValue(), miss.Has)
			if is.GetExplanation() == "" {
				f.add(what+": words", "none", "some")
			}
		}
	}
	if w.Uncounted != nil {
		var list, wanted []string
		for _, one := range got.GetUncounted() {
			list = append(list, fmt.Sprint(spell(one.GetCriterion()), " ", one.GetAlerts()))
		}
		for criterion, n := range w.Uncounted {
			wanted = append(wanted, fmt.Sprint(criterion, " ", n))
		}
		sameList(f, "alerts that do not count beyond those", list, wanted)
	}
}

func (w *want) checkState(f *findings, p *played, actor string) {
	first, got := stateIn(p.actors[0], actor), stateIn(p.actors[len(p.actors)-1], actor)
	sameWord(f, "knowledge at first", first.GetKnowledge(), w.FirstKnowledge)
	sameWord(f, "reason at first", first.GetCannotJudgeReason(), w.FirstReason)
	sameWord(f, "knowledge", got.GetKnowledge(), w.Knowledge)
	if w.Judgeable != nil {
		same(f, "judgeable", got.GetJudgeable(), *w.Judgeable)
	}
	if w.Candidates != nil {
		var ids, wanted []string
		for _, d := range got.GetDevices() {
			ids = append(ids, d.GetDevice().GetMdeDeviceId())
		}
		for _, d := range w.Candidates {
			wanted = append(wanted, deviceID(d))
		}
		if !slices.Equal(ids, wanted) {
			f.add("devices that fit", ids, wanted)
		}
	}
	if w.ShownBy != "" {
		var by []string
		for _, d := range got.GetDevices() {
			by = append(by, p.alertOf(d.GetShownByAlertId()))
		}
		if !slices.Contains(by, w.ShownBy) {
			f.add("alerts that show the device", by, w.ShownBy)
		}
	}
	if w.OpenAlerts != nil {
		var ids []string
		for _, a := range got.GetOpenAlerts() {
			ids = append(ids, p.alertOf(a.GetAlertId()))
		}
		sameList(f, "open alerts", ids, w.OpenAlerts)
	}
}
