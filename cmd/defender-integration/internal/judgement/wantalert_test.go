package judgement_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

type protoEnum = protoreflect.Enum

// check compares what was sent of an alert with what must be said of it. Through SIEM an alert is several detections, each an alert of
// its own: one of them must hold it all.
func (w *alertWant) check(p *played, actor, id string) findings {
	events := p.events(id)
	if w.Unsent {
		if len(events) > 0 {
			return findings{fmt.Sprintf("alert %q: it is sent", id)}
		}
		return nil
	}
	if len(events) == 0 {
		return findings{fmt.Sprintf("alert %q: it is not sent", id)}
	}
	var least findings
	for i, key := range slices.Sorted(maps.Keys(events)) {
		var f findings
		w.checkEvents(&f, events[key], actor)
		if i == 0 || len(f) < len(least) {
			least = f
		}
	}
	for i := range least {
		least[i] = fmt.Sprintf("alert %q: %s", id, least[i])
	}
	return least
}

func (w *alertWant) checkEvents(f *findings, events []*integrationv1.AlertEvent, actor string) {
	last := events[len(events)-1]
	sameWord(f, "kind", last.GetKind(), w.Kind)
	sameWord(f, "activity", last.GetActivity(), w.Activity)
	sameWord(f, "outcome of the alert as a whole", last.GetOutcome().GetOutcome(), w.AlertOutcome)
	for what, flag := range map[string]struct {
		got  bool
		want *bool
	}{
		"activity by creation": {last.GetActivityByCreation(), w.ByCreation}, "late": {last.GetLate(), w.Late},
		"arrived late": {last.GetArrivedLate(), w.Arrived}, "no longer matches": {last.GetNoLongerMatches(), w.NoLonger},
	} {
		if flag.want != nil {
			same(f, what, flag.got, *flag.want)
		}
	}
	if w.Changed != nil {
		sameList(f, "changed fields", last.GetChangedFields().GetPaths(), w.Changed)
	}
	if w.Outcomes != nil {
		var got []string
		for _, e := range events {
			got = append(got, spell(outcomeFor(e, actor).GetOutcome()))
		}
		if wanted := texts(w.Outcomes); !slices.Equal(got, wanted) {
			f.add("outcomes of its revisions", got, wanted)
		}
	}
	w.checkMatch(f, last, actor)
	w.checkOutcome(f, last, actor)
}

// matchFor is how an alert matched an Actor, nil where it did not.
func matchFor(e *integrationv1.AlertEvent, actor string) *integrationv1.ActorMatch {
	for _, m := range e.GetActors() {
		if m.GetActorId() == actor {
			return m
		}
	}
	return nil
}

// outcomeFor is the outcome for an Actor.
func outcomeFor(e *integrationv1.AlertEvent, actor string) *integrationv1.OutcomeAssessment {
	if o := matchFor(e, actor).GetOutcome(); o != nil {
		return o
	}
	return e.GetOutcome()
}

func (w *alertWant) checkMatch(f *findings, e *integrationv1.AlertEvent, actor string) {
	m := matchFor(e, actor)
	if w.Unmatched {
		if m != nil {
			f.add("match", m, "none")
		}
		return
	}
	if w.Matches != nil {
		var got []string
		for _, one := range m.GetMatches() {
			got = append(got, spell(one.GetCriterion()))
		}
		sameList(f, "matches by", got, texts(w.Matches))
	}
	if w.Ambiguous != nil {
		same(f, "ambiguous", m.GetAmbiguous(), *w.Ambiguous)
	}
	if w.Counts != nil {
		same(f, "counts", m.GetCounts(), *w.Counts)
	}
	sameWord(f, "confidence", m.GetAttribution().GetConfidence(), w.Confidence)
	found := map[integrationv1.TraceComparison_Result][]string{}
	var all []string
	for _, c := range m.GetAttribution().GetComparisons() {
		found[c.GetResult()] = append(found[c.GetResult()], spell(c.GetCriterion()))
		all = append(all, spell(c.GetCriterion()))
		if c.GetResult() == integrationv1.TraceComparison_RESULT_MET {
			checkPointer(f, e, c)
		}
	}
	sameList(f, "criteria met", found[integrationv1.TraceComparison_RESULT_MET], texts(w.Met))
	sameList(f, "criteria not met", found[integrationv1.TraceComparison_RESULT_NOT_MET], texts(w.NotMet))
	sameList(f, "criteria not comparable", found[integrationv1.TraceComparison_RESULT_NOT_COMPARABLE], texts(w.NotComparable))
	sameList(f, "criteria compared", all, texts(w.Traced))
}

// checkPointer notes where a comparison points to nothing in the element as it was served.
func checkPointer(f *findings, e *integrationv1.AlertEvent, c *integrationv1.TraceComparison) {
	if _, found := resolve(e.GetRaw(), c.GetEvidencePath()); !found || c.GetEvidencePath() == "" {
		f.add("where "+spell(c.GetCriterion())+" stands", fmt.Sprintf("%q", c.GetEvidencePath()), "a JSON Pointer into "+string(e.GetRaw()))
	}
}

func (w *alertWant) checkOutcome(f *findings, e *integrationv1.AlertEvent, actor string) {
	got := outcomeFor(e, actor)
	sameWord(f, "outcome", got.GetOutcome(), w.Outcome)
	has(f, "the outcome's words", got.GetExplanation(), w.Says...)
	if w.Rests != "" {
		element, _ := resolve(e.GetRaw(), got.GetEvidencePath())
		has(f, "the deciding evidence at "+strconv.Quote(got.GetEvidencePath()), element, w.Rests)
	}
	if w.Contradicts != nil {
		if len(got.GetContradictions()) != len(w.Contradicts) {
			f.add("contradictions", got.GetContradictions(), w.Contradicts)
		}
		has(f, "contradictions", strings.Join(got.GetContradictions(), " "), w.Contradicts...)
	}
}

// resolve returns what a JSON Pointer points to, in JSON.
func resolve(raw []byte, pointer string) (string, bool) {
	var value any
	if pointer == "" || json.Unmarshal(raw, &value) != nil {
		return "", false
	}
	for _, part := range strings.Split(pointer, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := value.(type) {
		case map[string]any:
			inner, found := v[part]
			if !found {
				return "", false
			}
			value = inner
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return "", false
			}
			value = v[i]
		default:
			return "", false
		}
	}
	text, err := json.Marshal(value)
	return string(text), err == nil
}

// texts writes words; nil stays nil.
func texts[E protoEnum](list []word[E]) []string {
	if list == nil {
		return nil
	}
	written := []string{}
	for _, w := range list {
		written = append(written, w.String())
	}
	return written
}
