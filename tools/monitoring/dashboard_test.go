package monitoring_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// dashboard is what of Grafana's dashboard is looked at.
type dashboard struct {
	SchemaVersion int    `json:"schemaVersion"`
	UID           string `json:"uid"`
	Title         string `json:"title"`
	Templating    struct {
		List []struct {
			Name, Type, Query string
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Title, Type, Description string
	GridPos                  struct{ H, W, X, Y int } `json:"gridPos"`
	Datasource               struct{ Type, UID string }
	Targets                  []struct{ Expr, LegendFormat, RefID string }
}

// TestDashboard checks that the dashboard is one that Grafana takes, asks only for metrics that there are, and lets its data source be
// chosen.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile(folder + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 39 || d.UID == "" || d.Title == "" {
		t.Errorf("schema version %d, uid %q, title %q", d.SchemaVersion, d.UID, d.Title)
	}
	variables := map[string]string{}
	known := metrics(t)
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
		if query, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			metric, label, _ := strings.Cut(strings.TrimSuffix(query, ")"), ",")
			wantKnown(t, "the variable "+v.Name, "sum by ("+label+") ("+replaced(metric)+")", known)
		}
	}
	if variables["datasource"] != "datasource" || variables["integration_id"] != "query" || variables["instance"] != "query" {
		t.Errorf("the variables are %v", variables)
	}
	ids, graphs := map[int]bool{}, 0
	for _, p := range d.Panels {
		where := "the panel " + p.Title
		if ids[p.ID] || p.Title == "" || p.GridPos.W <= 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: id %d, position %v", where, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		graphs++
		if p.Description == "" || p.Datasource.UID != "${datasource}" || p.Datasource.Type != "prometheus" || len(p.Targets) == 0 {
			t.Errorf("%s: description %q, data source %v, %d targets", where, p.Description, p.Datasource, len(p.Targets))
		}
		for _, target := range p.Targets {
			wantKnown(t, where, replaced(target.Expr), known)
		}
	}
	if graphs < 15 {
		t.Errorf("%d panels", graphs)
	}
}

// replaced puts values in the place of Grafana's variables.
func replaced(expression string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$integration_id", "contoso", "$instance", "a:1").Replace(expression)
}
