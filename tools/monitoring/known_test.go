package monitoring_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// folder is where dashboard and rules are.
const folder = "../../deploy/monitoring/"

// heading and labelled find a metric of docs/metrics.md, and its type and labels.
var heading = regexp.MustCompile("(?m)^## `([a-z_]+)`\n\n([a-z]+), in [^;]+; labels: (.*)\\.$")

// metrics returns the labels of each metric that docs/metrics.md lists, which a test holds to the service; of a histogram also of its
// three series.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for _, found := range heading.FindAllStringSubmatch(string(page), -1) {
		// Prometheus gives each series the first two.
		names := []string{"instance", "job"}
		for _, name := range strings.Split(found[3], ", ") {
			if name != "none" {
				names = append(names, strings.Trim(name, "`"))
			}
		}
		known[found[1]] = names
		if found[2] == "histogram" {
			known[found[1]+"_sum"], known[found[1]+"_count"] = names, names
			known[found[1]+"_bucket"] = append(slices.Clone(names), "le")
		}
	}
	if len(known) < 20 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(known))
	}
	// gRPC's and the runtime's, as far as they are used.
	call := []string{"instance", "job", "grpc_type", "grpc_service", "grpc_method"}
	known["grpc_server_handled_total"] = append(slices.Clone(call), "grpc_code")
	known["grpc_server_handling_seconds_bucket"] = append(slices.Clone(call), "le")
	known["process_resident_memory_bytes"] = []string{"instance", "job"}
	known["process_cpu_seconds_total"] = []string{"instance", "job"}
	known["go_goroutines"] = []string{"instance", "job"}
	return known
}

// wantKnown checks that an expression parses, and that it names only metrics that there are, with labels that they have.
func wantKnown(t *testing.T, where, text string, known map[string][]string) {
	t.Helper()
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	all := map[string]bool{"le": true}
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		names, ok := known[selector.Name]
		if !ok {
			t.Errorf("%s: there is no metric %s", where, selector.Name)
		}
		for _, name := range names {
			all[name] = true
		}
		for _, m := range selector.LabelMatchers {
			if m.Name != labels.MetricName && ok && !slices.Contains(names, m.Name) {
				t.Errorf("%s: %s has no label %s", where, selector.Name, m.Name)
			}
		}
		return nil
	})
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		var grouped []string
		switch n := node.(type) {
		case *parser.AggregateExpr:
			grouped = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				grouped = append(n.VectorMatching.MatchingLabels, n.VectorMatching.Include...)
			}
		}
		for _, name := range grouped {
			if !all[name] {
				t.Errorf("%s: none of its metrics has the label %s", where, name)
			}
		}
		return nil
	})
}
