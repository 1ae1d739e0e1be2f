package defendertest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// addNumbered adds n alerts named a0, a1 …, a minute apart.
func (w *world) addNumbered(n int) {
	for i := range n {
		w.tenant.AddAlert(Alert{ID: "a" + strconv.Itoa(i), LastUpdate: fixedClock{}.Now().Add(time.Duration(i) * time.Minute)})
	}
}

// addUnordered adds five alerts out of order, so that every insertion into the order is tried. Their minutes of last update are in
// their names' order; b1 and b2 share one.
func (w *world) addUnordered() {
	at := func(minutes int) time.Time { return fixedClock{}.Now().Add(time.Duration(minutes) * time.Minute) }
	add := func(id string, updated, created int, status, severity string) {
		w.tenant.AddAlert(Alert{ID: id, LastUpdate: at(updated), Created: at(created), Status: status, Severity: severity})
	}
	add("c", 3, -1, "resolved", "unknown")
	add("a", 1, -3, "new", "high")
	add("d", 4, -4, "new", "low")
	add("b1", 2, -2, "inProgress", "informational")
	add("b2", 2, -5, "new", "high")
}

func TestRawBytesAreServedAsAdded(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	raws := []string{
		`{"id":"r1","lastUpdateDateTime":"2026-11-20T10:00:00.1234567Z" , "x":"a\u0026b & \u00e9 é","evidence":{"not":"a list"}}`,
		"{\"id\":\"r2\",\"lastUpdateDateTime\":\"2026-11-20T10:00:01Z\",\"bad\":\"\xff\"}",
		`{"lastUpdateDateTime":"never"}`,
	}
	for _, raw := range raws {
		w.tenant.AddRaw([]byte(raw))
	}
	got := w.get(token, alertsPath, "$orderby", "lastUpdateDateTime asc")
	for _, raw := range raws {
		if !strings.Contains(got.body, raw) {
			t.Errorf("not served as added: %s\nin %s", raw, got.body)
		}
	}
	for _, r := range w.tenant.Revisions() {
		if r.Served != 1 || !strings.Contains(got.body, string(r.Raw)) {
			t.Errorf("record of %s: served %d", r.Key, r.Served)
		}
	}
}

func TestOrderAndFilter(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	w.addUnordered()

	stamp := func(minutes int) string {
		return formatTime(fixedClock{}.Now().Add(time.Duration(minutes) * time.Minute))
	}
	tests := []struct {
		name    string
		options []string
		want    []string
	}{
		{"default is newest first", nil, []string{"c", "b1", "a", "d", "b2"}},
		{"ascending", []string{"$orderby", "lastUpdateDateTime asc"}, []string{"a", "b1", "b2", "c", "d"}},
		{"ascending by default", []string{"$orderby", "lastUpdateDateTime"}, []string{"a", "b1", "b2", "c", "d"}},
		{"descending", []string{"$orderby", "lastUpdateDateTime desc"}, []string{"d", "c", "b2", "b1", "a"}},
		{"by creation", []string{"$orderby", "createdDateTime asc"}, []string{"b2", "d", "a", "b1", "c"}},
		{"ge", []string{"$filter", "lastUpdateDateTime ge " + stamp(2), "$orderby", "lastUpdateDateTime"}, []string{"b1", "b2", "c", "d"}},
		{"gt", []string{"$filter", "lastUpdateDateTime gt " + stamp(2), "$orderby", "lastUpdateDateTime"}, []string{"c", "d"}},
		{"le", []string{"$filter", "lastUpdateDateTime le " + stamp(2), "$orderby", "lastUpdateDateTime"}, []string{"a", "b1", "b2"}},
		{"lt", []string{"$filter", "lastUpdateDateTime lt " + stamp(2), "$orderby", "lastUpdateDateTime"}, []string{"a"}},
		{"eq", []string{"$filter", "lastUpdateDateTime eq " + stamp(2), "$orderby", "lastUpdateDateTime"}, []string{"b1", "b2"}},
		{"an instant split by creation", []string{"$filter", "lastUpdateDateTime ge " + stamp(2) + " and lastUpdateDateTime le " + stamp(2) + " and createdDateTime ge " + stamp(-3)}, []string{"b1"}},
		{"status", []string{"$filter", "status eq 'new'", "$orderby", "lastUpdateDateTime"}, []string{"a", "b2", "d"}},
		{"service source", []string{"$filter", "serviceSource eq 'microsoftSentinel'"}, []string{}},
		{"skip and top", []string{"$orderby", "lastUpdateDateTime", "$skip", "1", "$top", "2"}, []string{"b1", "b2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := w.list(token, alertsPath, test.options...).ids(t); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	if got := w.list(token, alertsPath, "$count", "true", "$top", "1", "$filter", "status eq 'new'"); got.Count == nil || *got.Count != 3 {
		t.Errorf("count: %v", got.Count)
	}
}

func TestAlertsRefusals(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	tests := []struct {
		option, value, code, message string
	}{
		{"$skip", "501", "", "$skip=501 cannot exceed 500"},
		{"$skip", "-1", "BadRequest", ""},
		{"$skip", "6e2", "BadRequest", ""},
		{"$top", "0", "BadRequest", ""},
		{"$top", "x", "BadRequest", ""},
		{"$count", "yes", "BadRequest", ""},
		{"$orderby", "title asc", "BadRequest", ""},
		{"$orderby", "lastUpdateDateTime up", "BadRequest", ""},
		{"$filter", "title eq 'x'", "BadRequest", "Invalid filter clause: could not find a property named 'title'"},
		{"$expand", "evidence", "BadRequest", "The query specified in the URI is not valid. Query option '$expand' is not allowed."},
		{"$skiptoken", "nonsense", "BadRequest", "The query specified in the URI is not valid. Query option 'SkipToken' is not allowed. To allow it, set the 'AllowedQueryOptions' property on EnableQueryAttribute or QueryValidationSettings."},
	}
	for _, test := range tests {
		t.Run(test.option+"="+test.value, func(t *testing.T) {
			got := w.get(token, alertsPath, test.option, test.value)
			if test.message != "" {
				checkError(t, got, http.StatusBadRequest, test.code, test.message)
			} else if got.status != http.StatusBadRequest {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	if got := w.get(token, alertsPath+"?$top=1&$top=2"); got.status != http.StatusBadRequest {
		t.Errorf("an option given twice: %d", got.status)
	}
}

func TestTopIsClampedAndHasNoNextLink(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	w.addNumbered(1100)
	got := w.list(token, alertsPath, "$top", "5000", "$orderby", "lastUpdateDateTime asc")
	if len(got.Value) != 1000 || got.NextLink != "" {
		t.Errorf("%d elements, next link %q", len(got.Value), got.NextLink)
	}
}

func TestNextLinks(t *testing.T) {
	const n = 25
	tests := []struct {
		name    string
		graph   GraphOptions
		options []string
		pages   int
		desc    bool
	}{
		{"without top", GraphOptions{PageSize: 10}, []string{"$orderby", "lastUpdateDateTime asc"}, 3, false},
		{"with top where links are on", GraphOptions{NextLinks: true}, []string{"$orderby", "lastUpdateDateTime asc", "$top", "5"}, 5, false},
		{"default order", GraphOptions{PageSize: 10}, nil, 3, true},
		{"with a filter", GraphOptions{PageSize: 10}, []string{"$orderby", "createdDateTime asc", "$filter", "lastUpdateDateTime ge 2026-01-01T00:00:00Z"}, 3, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Options{Graph: test.graph})
			token := w.token(Graph)
			w.addNumbered(n)
			var ids []string
			page, pages := w.list(token, alertsPath, test.options...), 1
			ids = append(ids, page.ids(t)...)
			for page.NextLink != "" && pages < n {
				page = w.list(token, page.NextLink)
				ids = append(ids, page.ids(t)...)
				pages++
			}
			var want []string
			for i := range n {
				want = append(want, fmt.Sprintf("a%d", i))
			}
			if test.desc {
				slices.Reverse(want)
			}
			if !slices.Equal(ids, want) || pages != test.pages {
				t.Errorf("%d pages of %v", pages, ids)
			}
		})
	}
}

func TestPreferDecidesOnLaterMembers(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	w.tenant.AddAlert(Alert{
		ID: "p", ServiceSource: "microsoftSentinel", DetectionSource: "nrtAlerts", Title: "microsoftSentinel active",
		Evidence: []Evidence{
			ProcessEvidence{EvidenceBase: EvidenceBase{RemediationStatus: "active"}, CommandLine: `say "active"`},
			UserEvidence{EvidenceBase: EvidenceBase{RemediationStatus: "prevented"}},
		},
	})
	raw := string(w.tenant.Revisions("p")[0].Raw)
	with := w.get(token, alertsPath)
	if !strings.Contains(with.body, raw) || with.header.Get("Preference-Applied") != preferUnknownMembers {
		t.Errorf("with the preference: %s", with.body)
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL()+alertsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	without := w.do(r)
	want := raw
	for _, member := range []string{`"serviceSource":"microsoftSentinel"`, `"detectionSource":"nrtAlerts"`, `"remediationStatus":"active"`} {
		name, _, _ := strings.Cut(member, ":")
		want = strings.Replace(want, member, name+`:"unknownFutureValue"`, 1)
	}
	if !strings.Contains(without.body, want) {
		t.Errorf("without the preference:\n%s\nwant\n%s", without.body, want)
	}
}

func TestHideLaterMembersKeepsTheRest(t *testing.T) {
	tests := []struct{ raw, want string }{
		{`{"a":1}`, `{"a":1}`},
		{` { "serviceSource" : "microsoftSentinel" , "b":[ "microsoftSentinel",{"remediationStatus":"running"}] } `, ` { "serviceSource" : "unknownFutureValue" , "b":[ "microsoftSentinel",{"remediationStatus":"unknownFutureValue"}] } `},
		{`{"serviceSource":["microsoftSentinel"],"remediationStatus":{"x":"active"}}`, `{"serviceSource":["microsoftSentinel"],"remediationStatus":{"x":"active"}}`},
		{`{"remediationStatus":"active","broken":`, `{"remediationStatus":"unknownFutureValue","broken":`},
		{`{"remediationStatus":null,"x":"active"}`, `{"remediationStatus":null,"x":"active"}`},
		{`not json`, `not json`},
	}
	for _, test := range tests {
		if got := string(hideLaterMembers([]byte(test.raw))); got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.raw, got, test.want)
		}
	}
}

func TestDateIsTheServersClock(t *testing.T) {
	w := newWorld(t, Options{})
	w.server.SetClockOffset(-90 * time.Minute)
	got := w.get(w.token(Graph), alertsPath)
	if date := got.header.Get("Date"); date != "Fri, 20 Nov 2026 08:30:00 GMT" {
		t.Errorf("Date: %q", date)
	}
}
