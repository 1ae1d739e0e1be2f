package defendertest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const endpointPath = "/api/alerts"

// endpointToken gets a token with which Defender for Endpoint's alerts can be read.
func (w *world) endpointToken() string {
	w.t.Helper()
	w.app.SetRoles(RoleAlertRead, RoleMachineRead)
	return w.token(DefenderForEndpoint)
}

func TestEndpointAlertsHaveNoEvidenceUnlessAskedFor(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(richAlert())
	token := w.endpointToken()
	without, with := w.list(token, endpointPath).Value[0], w.list(token, "/api/v1.0/alerts", "$expand", "evidence").Value[0]
	if !strings.Contains(string(without), `"evidence":[]`) || !strings.Contains(string(with), `"entityType":"Process"`) {
		t.Errorf("without: %s\nwith: %s", without, with)
	}
	elements := w.tenant.Revisions("da1_1")[0].Elements(DefenderForEndpoint)
	if len(elements) != 1 || !bytes.Equal(elements[0], with) {
		t.Errorf("the record has %s", elements)
	}
}

func TestEndpointAlertsOrderAndFilter(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.endpointToken()
	w.addUnordered()
	w.tenant.AddAlert(Alert{ID: "other", ServiceSource: "microsoftDefenderForIdentity"})

	stamp := func(minutes int) string {
		return formatTime(fixedClock{}.Now().Add(time.Duration(minutes) * time.Minute))
	}
	tests := []struct {
		name    string
		options []string
		want    []string
	}{
		{"default is newest first", nil, []string{"c", "b1", "a", "d", "b2"}},
		{"top alone is the latest", []string{"$top", "2"}, []string{"c", "b1"}},
		{"ascending", []string{"$orderby", "lastUpdateTime asc"}, []string{"a", "b1", "b2", "c", "d"}},
		{"descending", []string{"$orderby", "lastUpdateTime desc"}, []string{"d", "c", "b2", "b1", "a"}},
		{"by creation", []string{"$orderby", "alertCreationTime asc"}, []string{"b2", "d", "a", "b1", "c"}},
		{"ge", []string{"$filter", "lastUpdateTime ge " + stamp(2), "$orderby", "lastUpdateTime asc"}, []string{"b1", "b2", "c", "d"}},
		{"gt", []string{"$filter", "lastUpdateTime gt " + stamp(2), "$orderby", "lastUpdateTime"}, []string{"c", "d"}},
		{"le", []string{"$filter", "lastUpdateTime le " + stamp(2), "$orderby", "lastUpdateTime"}, []string{"a", "b1", "b2"}},
		{"lt", []string{"$filter", "lastUpdateTime lt " + stamp(2), "$orderby", "lastUpdateTime"}, []string{"a"}},
		{"eq", []string{"$filter", "lastUpdateTime eq " + stamp(2), "$orderby", "lastUpdateTime"}, []string{"b1", "b2"}},
		{"an instant split by creation", []string{"$filter", "lastUpdateTime ge " + stamp(2) + " and lastUpdateTime le " + stamp(2) + " and alertCreationTime lt " + stamp(-3)}, []string{"b2"}},
		{"status", []string{"$filter", "status eq 'New'", "$orderby", "lastUpdateTime"}, []string{"a", "b2", "d"}},
		{"status of two words", []string{"$filter", "status eq 'InProgress'"}, []string{"b1"}},
		{"severity", []string{"$filter", "severity eq 'UnSpecified'"}, []string{"c"}},
		{"skip and top", []string{"$orderby", "lastUpdateTime", "$skip", "1", "$top", "2"}, []string{"b1", "b2"}},
		{"skip beyond the end", []string{"$skip", "100000"}, []string{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := w.list(token, endpointPath, test.options...).ids(t); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestEndpointAlertsRefusals(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.endpointToken()
	for _, query := range []string{
		"$top=0", "$top=10001", "$top=1e3", "$skip=-1", "$skip=1e5", "$orderby=title", "$orderby=lastUpdateTime%20up", "$expand=machine",
		"$select=id", "$count=true", "$top=1&$top=2", "$filter=lastUpdateDateTime%20ge%202026-11-20T10:00:00Z",
		"$filter=status%20eq%20'new'", "$filter=status%20ne%20'New'", "$filter=status%20eq%20'New'%20or%20status%20eq%20'Resolved'", "$filter=serviceSource%20eq%20'x'",
	} {
		got := w.get(token, endpointPath+"?"+query)
		if got.status != http.StatusBadRequest || !strings.HasPrefix(got.body, `{"error":{"code":"ODataError",`) {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	if got := w.get(token, endpointPath+"?$top=%zz"); got.status != http.StatusBadRequest || !strings.Contains(got.body, "BadRequest") {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.app.SetRoles(RoleMachineRead)
	checkError(t, w.get(w.token(DefenderForEndpoint), endpointPath), http.StatusForbidden, "Forbidden",
		"Missing application roles. API required roles: Alert.Read.All,Alert.ReadWrite.All, application roles: Machine.Read.All.")
	checkError(t, w.get("", endpointPath), http.StatusUnauthorized, "Unauthorized", "Missing authorization header.")
	checkError(t, w.get(w.token(Graph), endpointPath), http.StatusUnauthorized, "Unauthorized", "Invalid or expired authorization header.")
	w.app.SetRoles(RoleAlertReadWrite)
	checkError(t, w.get(w.token(DefenderForEndpoint), endpointPath), http.StatusOK, "", "")
}

func TestEndpointAlertsPaging(t *testing.T) {
	const n = 25
	w := newWorld(t, Options{EndpointAlerts: EndpointAlertsOptions{PageSize: 10}})
	token := w.endpointToken()
	w.addNumbered(n)
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("a%d", i))
	}
	options := []string{"$orderby", "lastUpdateTime asc", "$filter", "lastUpdateTime ge 2026-01-01T00:00:00Z", "$expand", "evidence"}
	page, pages := w.list(token, endpointPath, options...), 1
	ids := page.ids(t)
	for page.NextLink != "" && pages < n {
		if !strings.HasPrefix(page.NextLink, w.server.URL()+endpointPath+"?") || !strings.Contains(page.NextLink, "skip="+fmt.Sprint(10*pages)) {
			t.Errorf("next link %q", page.NextLink)
		}
		page = w.list(token, page.NextLink)
		ids = append(ids, page.ids(t)...)
		pages++
	}
	if !slices.Equal(ids, want) || pages != 3 {
		t.Errorf("%d linked pages: %v", pages, ids)
	}
	// With $top the answer is capped, and nothing links on.
	page = w.list(token, endpointPath, "$orderby", "lastUpdateTime asc", "$top", "7", "$skip", "5")
	if !slices.Equal(page.ids(t), want[5:12]) || page.NextLink != "" {
		t.Errorf("$top: %v %q", page.ids(t), page.NextLink)
	}
	// A row that changes between two pages shifts what follows: the second page lacks a10.
	if _, err := w.tenant.Change("a0", func(a *Alert) { a.LastUpdate = w.server.Now().Add(time.Hour) }); err != nil {
		t.Fatal(err)
	}
	shifted := w.list(token, endpointPath, "$orderby", "lastUpdateTime asc", "$skip", "10").ids(t)
	if shifted[0] != "a11" {
		t.Errorf("after a change: %v", shifted)
	}
}

func TestNoEndpointAlerts(t *testing.T) {
	w := newWorld(t, Options{})
	if got := w.list(w.endpointToken(), endpointPath); got.Value == nil || len(got.Value) != 0 {
		t.Errorf("%+v", got)
	}
	w = newWorld(t, Options{EndpointAlerts: EndpointAlertsOptions{EmptyIsNotFound: true}})
	token := w.endpointToken()
	checkError(t, w.get(token, endpointPath), http.StatusNotFound, "ResourceNotFound", "No alerts were found.")
	w.tenant.AddAlert(Alert{ID: "x"})
	checkError(t, w.get(token, endpointPath), http.StatusOK, "", "")
}

func TestEndpointAlertsAndMachinesAreCountedTogether(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Machines: []Rate{{3, time.Minute}}}})
	w.tenant.AddDevice(SampleDevices()[0])
	token := w.endpointToken()
	checkError(t, w.get(token, endpointPath), http.StatusOK, "", "")
	checkError(t, w.get(token, "/api/machines"), http.StatusOK, "", "")
	checkError(t, w.get(token, "/api/v1.0/alerts"), http.StatusOK, "", "")
	for _, path := range []string{"/api/machines", endpointPath} {
		if got := w.get(token, path); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "60" || !strings.Contains(got.body, "Destination+TenantID+AppID") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

func TestRawEndpointAlerts(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.endpointToken()
	raws := []string{
		`{"id":"r1","lastUpdateTime":"2026-11-20T10:00:00.1234567Z" , "severity":"UnSpecified","status":"New","x":"a\u0026b & é"}`,
		"{\"id\":\"r2\",\"lastUpdateTime\":\"2026-11-20T10:00:01Z\",\"bad\":\"\xff\"}",
		`not json`,
	}
	var keys []string
	for _, raw := range raws {
		keys = append(keys, w.tenant.AddRawEndpointAlert([]byte(raw)))
	}
	if keys[0] != "r1" || keys[1] != "r2" || keys[2] == "" {
		t.Errorf("keys %q", keys)
	}
	got := w.get(token, endpointPath, "$orderby", "lastUpdateTime asc", "$expand", "evidence")
	for i, raw := range raws {
		r := w.tenant.Revisions(keys[i])[0]
		if !strings.Contains(got.body, raw) || r.Served != 1 || string(r.Raw) != raw || len(r.Elements(Graph)) != 0 || len(r.Elements(SIEM)) != 0 {
			t.Errorf("not served as added: %s in %s\n%+v", raw, got.body, r)
		}
	}
	if got := w.list(token, endpointPath, "$filter", "severity eq 'UnSpecified' and status eq 'New'").ids(t); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("filtered: %v", got)
	}
	w.app.SetRoles(RoleSecurityAlertRead)
	if got := w.list(w.token(Graph), alertsPath); len(got.Value) != 0 {
		t.Errorf("Graph serves %s", got.Value)
	}
}

// TestRecordOfTwoReaders holds that the record counts whoever read a revision, over whichever API.
func TestRecordOfTwoReaders(t *testing.T) {
	w := newWorld(t, Options{})
	w.app.SetRoles(RoleSecurityAlertRead, RoleAlertRead)
	endpoint, graph := w.token(DefenderForEndpoint), w.token(Graph)
	w.tenant.AddAlert(Alert{ID: "x"})
	w.tenant.AddAlert(Alert{ID: "y", ServiceSource: "microsoftSentinel"})
	w.list(endpoint, endpointPath)
	if !w.tenant.ServedAll("x") || w.tenant.ServedAll("y") {
		t.Error("one API reads what it has, and no more")
	}
	w.list(graph, alertsPath)
	if x, y := w.tenant.Revisions("x")[0], w.tenant.Revisions("y")[0]; x.Served != 2 || y.Served != 1 ||
		!bytes.Equal(x.Elements(Graph)[0], x.Raw) || y.Elements(DefenderForEndpoint) != nil || y.Elements(SIEM) != nil {
		t.Errorf("%+v\n%+v", x, y)
	}
}
