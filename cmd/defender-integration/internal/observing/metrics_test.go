package observing_test

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// get asks one of the service's listeners for a page.
func get(t *testing.T, address net.Addr, path string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

// scraped is what a scrape of the metrics got.
type scraped struct {
	text     []byte
	families map[string]*dto.MetricFamily
}

// scrape asks for the metrics as Prometheus does.
func (h *house) scrape() scraped {
	h.t.Helper()
	status, text := get(h.t, h.service.MetricsAddress(), "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if status != http.StatusOK || err != nil {
		h.t.Fatal(status, err)
	}
	return scraped{text, families}
}

// scrapeQuiet scrapes when no event is just being sent: streams are told of every poll.
func (h *house) scrapeQuiet() scraped {
	h.t.Helper()
	var pages scraped
	until(h.t, "nothing to wait for a caller", func() bool {
		pages = h.scrape()
		return sum(pages.families["defender_integration_outbox_bytes"]) == 0
	})
	return pages
}

// ours says whether a metric is the service's own: those of Go, of the process and of gRPC are their libraries'.
func ours(name string) bool { return strings.HasPrefix(name, "defender_integration_") }

// wantMetrics checks names, units and labels as Prometheus wants them, and that no label can have values without bound.
func wantMetrics(t *testing.T, pages scraped) {
	t.Helper()
	problems, err := promlint.New(bytes.NewReader(pages.text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if ours(p.Metric) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	bounded := []string{
		"depth", "event", "integration_id", "kind", "limit", "method", "operation", "period", "phase", "reason", "scope", "state", "target",
		"verdict", "version",
	}
	for name, family := range pages.families {
		if !ours(name) {
			continue
		}
		for _, label := range labelsOf(family) {
			if !slices.Contains(bounded, label) {
				t.Errorf("%s: the label %s is not known to be bounded", name, label)
			}
		}
	}
	for name, want := range map[string]float64{
		"defender_integration_ready": 1, "defender_integration_panics_total": 0, "defender_integration_outbox_bytes": 0,
		"defender_integration_streams": 1, "defender_integration_state": 1, "defender_integration_journals_replaced_total": 0,
	} {
		if got := sum(pages.families[name]); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// sum adds a family's values up.
func sum(family *dto.MetricFamily) float64 {
	total := 0.0
	for _, m := range family.GetMetric() {
		total += m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return total
}

// labelsOf returns the names of a family's labels, sorted.
func labelsOf(family *dto.MetricFamily) []string {
	labels := map[string]bool{}
	for _, m := range family.GetMetric() {
		for _, label := range m.GetLabel() {
			labels[label.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(labels))
}

// wantForgotten checks that nothing is told of an integration that is no more.
func (h *house) wantForgotten(t *testing.T) {
	var left string
	until(t, "the metrics to forget the integration", func() bool {
		left = ""
		for line := range strings.SplitSeq(string(h.scrape().text), "\n") {
			if strings.Contains(line, `integration_id="contoso"`) {
				left = line
			}
		}
		return left == ""
	})
}

// wantProfiles checks that profiles are served, without the command line, which may have a proxy's password.
func (h *house) wantProfiles(t *testing.T) {
	for path, want := range map[string]int{
		"/debug/pprof/": http.StatusOK, "/debug/pprof/goroutine?debug=1": http.StatusOK, "/debug/pprof/heap": http.StatusOK,
		"/debug/pprof/cmdline": http.StatusNotFound, "/metrics": http.StatusNotFound,
	} {
		if status, body := get(t, h.service.AdminAddress(), path); status != want || len(body) == 0 {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	if status, _ := get(t, h.service.MetricsAddress(), "/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles on the metrics' address: status %d", status)
	}
}
