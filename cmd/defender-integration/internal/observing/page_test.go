package observing_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// pagePath is the page that lists the metrics.
const pagePath = "../../../../docs/metrics.md"

const pageHead = `# Metrics

What the service tells Prometheus at ` + "`--metrics-address`" + ` (` + "`http://127.0.0.1:9464/metrics`" + ` by default), from a running service: ` + "`make metrics`" + `
writes this page, and a test fails where it is not what the service says. [observing.md](observing.md) says what to look at and what to be
woken by; [deploy/monitoring](../deploy/monitoring/README.md) has a dashboard and alerting rules.

- What has the label ` + "`integration_id`" + ` is told of each integration that is registered, and forgotten with it.
- Times are seconds since 1970, so that an age is ` + "`time() - …`" + `; those of Microsoft's clock say so. One that is not there yet is left out.
- ` + "`reason`" + ` is an ErrorReason of [errors.proto](../proto/defender/integration/v1/errors.proto), which says what each means, in lower case and
  without ` + "`ERROR_REASON_`" + `.
- Beside these there are those of gRPC (` + "`grpc_server_…`" + `: calls by method and code, and how long they took), of the Go runtime (` + "`go_…`" + `) and
  of the process (` + "`process_…`" + `), as everywhere.
`

// wantPage checks that the page lists the metrics as they are.
func wantPage(t *testing.T, pages scraped) {
	t.Helper()
	want := pageHead
	for _, name := range slices.Sorted(maps.Keys(pages.families)) {
		if ours(name) {
			want += section(t, pages.families[name])
		}
	}
	for name := range advice {
		if pages.families[name] == nil {
			t.Errorf("there is no metric %s, or the day makes none", name)
		}
	}
	if *update {
		if err := os.WriteFile(pagePath, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/metrics.md does not tell the metrics as they are: run make metrics, and look at what it changed")
	}
}

// section tells of one metric.
func section(t *testing.T, family *dto.MetricFamily) string {
	t.Helper()
	name := family.GetName()
	what := advice[name]
	if what == "" {
		t.Errorf("%s: say in advice_test.go what to do when it is odd", name)
	}
	labels := "none"
	if names := labelsOf(family); len(names) > 0 {
		labels = "`" + strings.Join(names, "`, `") + "`"
	}
	return fmt.Sprintf("\n## `%s`\n\n%s, in %s; labels: %s.\n\n%s\n\n*When it is odd:* %s\n",
		name, strings.ToLower(family.GetType().String()), unitOf(family), labels, family.GetHelp(), what)
}

// unitOf returns what a metric counts in.
func unitOf(family *dto.MetricFamily) string {
	name := strings.TrimSuffix(family.GetName(), "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"):
		return "seconds since 1970"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	}
	return "numbers"
}
