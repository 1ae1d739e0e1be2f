package monitoring_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// ruleFile is a file of alerting rules.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert       string
	Expr        string
	For         model.Duration
	Labels      map[string]string
	Annotations map[string]string
}

// testFile is a file of tests in promtool's form, as far as it is used here.
type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []ruleTest
}

type ruleTest struct {
	Name          string
	Interval      model.Duration
	InputSeries   []inputSeries `yaml:"input_series"`
	AlertRuleTest []alertTest   `yaml:"alert_rule_test"`
}

type inputSeries struct{ Series, Values string }

type alertTest struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string
	ExpAlerts []firing `yaml:"exp_alerts"`
}

// firing is an alert that fires.
type firing struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

// load reads a file, in which nothing may stand that is not known.
func load(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(folder + name)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// rules returns the rules by name.
func rules(t *testing.T) map[string]rule {
	t.Helper()
	var file ruleFile
	load(t, "alerts.yaml", &file)
	all := map[string]rule{}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if _, twice := all[r.Alert]; twice || r.Alert == "" {
				t.Errorf("there are two rules %q, or it has no name", r.Alert)
			}
			all[r.Alert] = r
		}
	}
	return all
}

// TestRules checks that each rule asks for metrics that there are, says how urgent it is and what to do, and has a test in which it fires
// and one in which it does not.
func TestRules(t *testing.T) {
	known := metrics(t)
	var tests testFile
	load(t, "alerts_test.yaml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				silent[a.Alertname] = true
			}
		}
	}
	for name, r := range rules(t) {
		wantKnown(t, name, r.Expr, known)
		severity := r.Labels["severity"]
		if severity != "page" && severity != "ticket" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: severity %q, annotations %v", name, severity, r.Annotations)
		}
		if !fires[name] || !silent[name] {
			t.Errorf("%s: there must be a test in which it fires and one in which it does not", name)
		}
	}
}

// TestAlerts runs the tests of the rules, as promtool does.
func TestAlerts(t *testing.T) {
	var file testFile
	load(t, "alerts_test.yaml", &file)
	all := rules(t)
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			series := newSeries(t, test)
			for _, a := range test.AlertRuleTest {
				r, ok := all[a.Alertname]
				if !ok {
					t.Errorf("there is no rule %s", a.Alertname)
					continue
				}
				got := series.fire(t, r, time.Duration(file.EvaluationInterval), time.Duration(a.EvalTime))
				if want := texts(a.ExpAlerts); !slices.Equal(texts(got), want) {
					t.Errorf("%s after %s:\n%s\nwant\n%s", a.Alertname, a.EvalTime, strings.Join(texts(got), "\n"), strings.Join(want, "\n"))
				}
			}
		})
	}
}

// texts returns alerts as text, sorted.
func texts(alerts []firing) []string {
	all := make([]string, len(alerts))
	for i, a := range alerts {
		pairs := func(m map[string]string) string {
			var text strings.Builder
			for _, key := range slices.Sorted(maps.Keys(m)) {
				fmt.Fprintf(&text, "%s=%q ", key, m[key])
			}
			return text.String()
		}
		all[i] = pairs(a.Labels) + pairs(a.Annotations)
	}
	slices.Sort(all)
	return all
}
