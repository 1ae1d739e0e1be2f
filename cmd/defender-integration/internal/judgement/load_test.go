package judgement_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// leastCases is how many cases there must be.
const leastCases = 100

// file is a file of cases.
type file struct {
	name  string
	cases []*oneCase
}

// oneCase is a case as it is played through each API.
type oneCase struct {
	name string
	ways []way
}

// way is a case as it is played through an API.
type way struct {
	api  integrationv1.Api
	spec *spec
}

// load reads all cases.
func load(t *testing.T) []*file {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*file
	for _, path := range paths {
		f, err := loadFile(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		files = append(files, f)
	}
	return files
}

// fields are the members of a mapping in YAML.
type fields = map[string]any

func loadFile(path string) (*file, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var written struct {
		About string
		// Usual is what the file's cases leave out.
		Usual fields
		Cases []fields
	}
	if err := decodeStrictly(content, &written); err != nil {
		return nil, err
	}
	f := &file{name: filepath.Base(path)}
	var wrong []error
	for _, one := range written.Cases {
		c, err := readCase(laidOver(written.Usual, one))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("case %q: %w", one["name"], err))
			continue
		}
		f.cases = append(f.cases, c)
	}
	return f, errors.Join(wrong...)
}

// decodeStrictly reads YAML, in which every member must be known.
func decodeStrictly(content []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	return d.Decode(into)
}

// readCase reads a case for each API. `differs` has what is other through one: it is laid over the rest.
func readCase(written fields) (*oneCase, error) {
	differs, _ := written["differs"].(fields)
	written = maps.Clone(written)
	delete(written, "differs")
	for name, other := range differs {
		if _, known := words[integrationv1.Api]()[name]; !known {
			return nil, fmt.Errorf("differs through %q, which is no API", name)
		}
		if because, _ := other.(fields)["because"].(string); because == "" {
			return nil, fmt.Errorf("differs through %s, and does not say why", name)
		}
	}
	c := &oneCase{}
	for _, api := range []integrationv1.Api{
		integrationv1.Api_API_GRAPH_SECURITY, integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, integrationv1.Api_API_SIEM,
	} {
		here := written
		if other, ok := differs[spell(api)].(fields); ok {
			other = maps.Clone(other)
			delete(other, "because")
			here = laidOver(here, other)
		}
		s, err := readSpec(here)
		if err != nil {
			return nil, err
		}
		c.name = s.Name
		if s.goesThrough(api) {
			if api == integrationv1.Api_API_SIEM {
				s.throughSIEM()
			}
			c.ways = append(c.ways, way{api, s})
		}
	}
	if len(c.ways) == 0 {
		return nil, errors.New("is played through no API")
	}
	return c, nil
}

// readSpec reads a case, of which each revision of an alert has all that the one before it has, but for what it says itself.
func readSpec(written fields) (*spec, error) {
	if alerts, ok := written["alerts"].([]any); ok {
		written = maps.Clone(written)
		written["alerts"] = withRevisions(alerts)
	}
	content, err := yaml.Marshal(written)
	if err != nil {
		return nil, err
	}
	s := &spec{}
	if err := decodeStrictly(content, s); err != nil {
		return nil, err
	}
	for _, a := range s.Alerts {
		for _, revision := range a.Then {
			// When it was raised does not change.
			revision.Created = &moment{a.created()}
		}
	}
	return s, s.check()
}

func withRevisions(alerts []any) []any {
	var whole []any
	for _, one := range alerts {
		alert, ok := one.(fields)
		if !ok {
			return alerts // Reading it says what is wrong.
		}
		alert = maps.Clone(alert)
		if then, ok := alert["then"].([]any); ok {
			before := maps.Clone(alert)
			delete(before, "then")
			delete(before, "visible")
			var revisions []any
			for _, changed := range then {
				change, _ := changed.(fields)
				before = laidOver(before, change)
				if added, ok := before["adds"].([]any); ok {
					have, _ := before["evidence"].([]any)
					before["evidence"] = slices.Concat(have, added)
					delete(before, "adds")
				}
				revisions = append(revisions, before)
			}
			alert["then"] = revisions
		}
		whole = append(whole, alert)
	}
	return whole
}

// laidOver returns a mapping with another one laid over it. A null takes a member away.
func laidOver(under, over fields) fields {
	made := maps.Clone(under)
	if made == nil {
		made = fields{}
	}
	for name, value := range over {
		below, isMap := made[name].(fields)
		above, overMap := value.(fields)
		switch {
		case value == nil:
			delete(made, name)
		case isMap && overMap:
			made[name] = laidOver(below, above)
		default:
			made[name] = value
		}
	}
	return made
}

// check says what is wrong with a case.
func (s *spec) check() error {
	if s.Name == "" {
		return errors.New("it has no name")
	}
	for name, reason := range laidOverTexts(s.Only, s.Except) {
		if _, known := words[integrationv1.Api]()[name]; !known || reason == "" {
			return fmt.Errorf("%q is no API, or there is no reason", name)
		}
	}
	for _, e := range s.Events {
		if e.Action == "" {
			return errors.New("an event has no action")
		}
		if !slices.Contains(eventTables(), cmp.Or(e.Table, defendertest.TableEvents)) {
			return fmt.Errorf("an event stands in %q, which is no table of events", e.Table)
		}
	}
	ids := map[string]bool{}
	for _, a := range s.actors() {
		ids[a.id()] = true
	}
	for _, wants := range s.allWants() {
		if len(wants) == 0 {
			return errors.New("it expects nothing")
		}
		for id, w := range wants {
			if w == nil || reflect.ValueOf(*w).IsZero() {
				return fmt.Errorf("it expects nothing of %q", id)
			}
			if !ids[id] {
				return fmt.Errorf("it expects something of %q, who is not in the request", id)
			}
		}
	}
	return s.checkAlerts()
}

// checkAlerts says what is wrong with a case's alerts.
func (s *spec) checkAlerts() error {
	ids := map[string]bool{}
	for _, a := range s.Alerts {
		if ids[a.id()] {
			return fmt.Errorf("two alerts are called %q", a.id())
		}
		ids[a.id()] = true
	}
	for _, wants := range s.allWants() {
		for _, w := range wants {
			for id, of := range w.Alerts {
				if !ids[id] {
					return fmt.Errorf("it expects something of the alert %q, which there is not", id)
				}
				if of == nil || reflect.ValueOf(*of).IsZero() {
					return fmt.Errorf("it expects nothing of the alert %q", id)
				}
			}
		}
	}
	return nil
}

func laidOverTexts(a, b map[string]string) map[string]string {
	made := maps.Clone(a)
	if made == nil {
		made = map[string]string{}
	}
	maps.Copy(made, b)
	return made
}

// wants is what must come of each Actor.
func (s *spec) wants() map[string]*want { return s.wantsOf(s.Expect, s.ExpectEach) }

// allWants is what must come of each Actor, stream by stream.
func (s *spec) allWants() []map[string]*want {
	all := []map[string]*want{s.wants()}
	for _, again := range s.Again {
		all = append(all, s.wantsOf(again.Expect, again.ExpectEach))
	}
	return all
}

func (s *spec) wantsOf(one *want, each map[string]*want) map[string]*want {
	if one == nil {
		return each
	}
	return map[string]*want{s.actors()[0].id(): one}
}

// goesThrough says whether a case is played through an API.
func (s *spec) goesThrough(api integrationv1.Api) bool {
	_, except := s.Except[spell(api)]
	_, only := s.Only[spell(api)]
	return !except && (only || len(s.Only) == 0)
}

// throughSIEM makes of what is expected what must come of it through SIEM, in every case: that it answers with nothing proves nothing,
// whatever the device source says.
func (s *spec) throughSIEM() {
	for _, wants := range s.allWants() {
		for _, w := range wants {
			if throughSIEM(&w.Verdict, &w.Reason) {
				w.Device, w.Says = "", nil
			}
			if w.Amended != nil {
				throughSIEM(&w.Amended.Verdict, &w.Amended.Reason)
			}
			if w.Judgeable != nil {
				w.Judgeable = new(bool)
			}
		}
	}
}

// throughSIEM changes a verdict that rests on absence, and says whether it did.
func throughSIEM(verdict *word[integrationv1.Verdict], reason *word[integrationv1.CannotJudgeReason]) bool {
	switch reason.value {
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE,
		integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS,
		integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE:
		return false
	}
	switch verdict.value {
	case integrationv1.Verdict_VERDICT_MISSED, integrationv1.Verdict_VERDICT_CANNOT_JUDGE:
		verdict.value = integrationv1.Verdict_VERDICT_CANNOT_JUDGE
		reason.value = integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE
		return true
	}
	return false
}
