package defendertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const huntingPath = "/v1.0/security/runHuntingQuery"

// lookUp is the look-up of devices with these clauses.
func lookUp(clauses ...string) string {
	return lookUpHead + strings.Join(clauses, " or ") + lookUpTail
}

// huntingToken gets a token with which advanced hunting can be used.
func (w *world) huntingToken() string {
	w.t.Helper()
	w.app.SetRoles(RoleThreatHuntingRead)
	return w.token(Graph)
}

// post sends a body as JSON.
func (w *world) post(token, path, body string) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	return w.do(r)
}

func (w *world) hunt(token, query string) reply {
	w.t.Helper()
	body, err := json.Marshal(map[string]string{"Query": query})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.post(token, huntingPath, string(body))
}

// hunted are the short names of the devices that a look-up finds.
func (w *world) hunted(token, query string) []string {
	w.t.Helper()
	got := w.hunt(token, query)
	if got.status != http.StatusOK {
		w.t.Fatalf("%s\n%d %s", query, got.status, got.body)
	}
	names := []string{}
	for _, row := range decode[struct{ Results []struct{ DeviceName string } }](w.t, got.body).Results {
		names = append(names, firstLabel(row.DeviceName))
	}
	return names
}

func TestHuntingPermissionProbe(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.huntingToken()
	for _, path := range []string{huntingPath, "/v1.0/security/microsoft.graph.security.runHuntingQuery", "/beta/security/runHuntingQuery"} {
		for _, body := range []string{`{"Query":"print ok = 1"}`, `{"query":"print ok = 1","timespan":"P1D"}`, `{"Query":"print ok = 1","Timespan":null}`} {
			got := w.post(token, path, body)
			want := `{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.security.huntingQueryResults","schema":[{"name":"ok","type":"Int64"}],"results":[{"ok":1}]}`
			if got.status != http.StatusOK || got.body != want {
				t.Errorf("%s %s: %d %s", path, body, got.status, got.body)
			}
		}
	}
	if calls := w.server.Calls(OnRoute(RouteHunting)); len(calls) != 9 || calls[0].Hunting != "print ok = 1" || calls[0].Elements != 1 {
		t.Errorf("%d calls, the first %+v", len(calls), calls[0])
	}
}

func TestHuntingRowOnTheWire(t *testing.T) {
	w := newWorld(t, Options{})
	device := SampleDevices()[0]
	device.Excluded, device.MergedInto = true, "abc"
	w.tenant.AddDevice(device)
	w.tenant.AddDevice(Device{DNSName: "tux", OSPlatform: "Linux", Version: "22.4", Health: "Inactive", Onboarding: "CanBeOnboarded", LastSeen: w.server.Now().Add(-25 * time.Hour), IPs: []string{"10.0.0.1"}})
	w.tenant.AddRawDevice("raw", []byte(`{"id":"raw"}`))
	got := w.hunt(w.huntingToken(), lookUp(`DeviceName in~ ("WS-ANNA-01.corp.contoso.test", "tux")`, `DeviceId in ("raw")`))
	now := w.server.Now()
	want := `"schema":[{"name":"DeviceId","type":"String"},{"name":"DeviceName","type":"String"},{"name":"AadDeviceId","type":"String"},{"name":"PublicIP","type":"String"},{"name":"OSPlatform","type":"String"},{"name":"OSVersion","type":"String"},{"name":"MachineGroup","type":"String"},{"name":"OnboardingStatus","type":"String"},{"name":"SensorHealthState","type":"String"},{"name":"IsExcluded","type":"SByte"},{"name":"MergedToDeviceId","type":"String"},{"name":"FirstSeen","type":"DateTime"},{"name":"LastSeen","type":"DateTime"},{"name":"IPAddresses","type":"Object"}],"results":[` +
		`{"DeviceId":"` + DeviceID(device.DNSName) + `","DeviceName":"ws-anna-01.corp.contoso.test","AadDeviceId":"5f6d1c2e-7a58-4c0b-9a41-0d6f5f1c1101","PublicIP":"198.51.100.7","OSPlatform":"Windows11","OSVersion":"10.0","MachineGroup":"Workstations","OnboardingStatus":"Onboarded","SensorHealthState":"Active","IsExcluded@odata.type":"#SByte","IsExcluded":1,"MergedToDeviceId":"abc","FirstSeen":"` + formatTime(now.Add(-30*24*time.Hour+time.Hour)) + `","LastSeen":"2026-11-20T09:00:00.1234567Z","IPAddresses@odata.type":"#Collection(String)","IPAddresses":["[{\"IPAddress\":\"10.20.4.11\",\"SubnetPrefix\":24,\"AddressType\":\"Private\"},{\"IPAddress\":\"fd00:20:4::11\",\"SubnetPrefix\":64,\"AddressType\":\"Private\"}]"]},` +
		`{"DeviceId":"` + DeviceID("tux") + `","DeviceName":"tux","AadDeviceId":"","PublicIP":"","OSPlatform":"Linux","OSVersion":"22.4","MachineGroup":"","OnboardingStatus":"Can be onboarded","SensorHealthState":"Inactive","IsExcluded":{},"MergedToDeviceId":"","FirstSeen":"` + formatTime(now.Add(-25*time.Hour-28*24*time.Hour-22*time.Hour)) + `","LastSeen":"2026-11-19T09:00:00.1234567Z","IPAddresses":{}}]}`
	if !strings.HasSuffix(got.body, want) {
		t.Errorf("%s\nwant\n%s", got.body, want)
	}
}

func TestHuntingClauses(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.huntingToken()
	for _, device := range SampleDevices() {
		w.tenant.AddDevice(device)
	}
	w.tenant.AddDevice(Device{DNSName: `odd "name" \ with 'all'`, IPs: []string{"2001:db8::1:2"}})
	w.tenant.AddDevice(Device{DNSName: "ÄPFEL-1.contoso.test"})
	w.tenant.AddDevice(Device{DNSName: "silent.contoso.test", LastSeen: w.server.Now().Add(-30 * 24 * time.Hour)})
	w.tenant.AddDevice(Device{DNSName: "quiet.contoso.test", LastSeen: w.server.Now().Add(-48 * time.Hour), IPs: []string{"10.99.0.1"}})
	addresses := func(list string) string {
		return "DeviceId in ((DeviceNetworkInfo | where Timestamp > ago(1d) | where IPAddresses has_any (" + list + ") | distinct DeviceId))"
	}
	anna := DeviceID("ws-anna-01.corp.contoso.test")
	tests := []struct {
		name  string
		where []string
		want  []string
	}{
		{"an id", []string{`DeviceId in ("` + anna + `")`}, []string{"ws-anna-01"}},
		{"ids have a case", []string{`DeviceId in ("` + strings.ToUpper(anna) + `")`}, nil},
		{"an id of Entra's", []string{`AadDeviceId in~ ("5F6D1C2E-7A58-4C0B-9A41-0D6F5F1C1102", "x")`}, []string{"ws-ben-02"}},
		{"full names", []string{`DeviceName in~ ("SRV-web-01.dmz.contoso.test", "ws-anna-01")`}, []string{"srv-web-01"}},
		{"short names", []string{`tolower(tostring(split(DeviceName, ".")[0])) in ("ws-anna-01", "lt-carla-07")`}, []string{"ws-anna-01", "lt-carla-07"}},
		{"short names in capitals", []string{`tolower(tostring(split(DeviceName, ".")[0])) in ("WS-ANNA-01")`}, nil},
		{"without case for ASCII alone", []string{`DeviceName in~ ("äpfel-1.contoso.test")`}, nil},
		{"with ASCII in another case", []string{`DeviceName in~ ("Äpfel-1.CONTOSO.test")`}, []string{"ÄPFEL-1"}},
		{"all letters in lower case", []string{`tolower(tostring(split(DeviceName, ".")[0])) in ("äpfel-1")`}, []string{"ÄPFEL-1"}},
		{"addresses", []string{addresses(`"10.20.4.11", "192.168.178.40"`)}, []string{"ws-anna-01", "lt-carla-07"}},
		{"a part of an address", []string{addresses(`"10.20.4.1"`)}, nil},
		{"terms of a longer address", []string{addresses(`"2001:db8::1"`)}, []string{`odd "name" \ with 'all'`}},
		{"an address in other letters", []string{addresses(`"FD00:20:4::11"`)}, []string{"ws-anna-01"}},
		{"addresses older than a day", []string{addresses(`"10.99.0.1"`)}, nil},
		{"older than a day", []string{`DeviceName in~ ("quiet.contoso.test")`}, []string{"quiet"}},
		{"silent for 30 days", []string{`DeviceName in~ ("silent.contoso.test")`}, nil},
		{"escapes", []string{`DeviceName in~ ("odd \"name\" \\ with \'all\'")`}, []string{`odd "name" \ with 'all'`}},
		{"several", []string{`DeviceId in ("` + anna + `")`, `DeviceName in~ ("lt-carla-07")`, addresses(`"10.20.4.11"`)}, []string{"ws-anna-01", "lt-carla-07"}},
		{"text of a query in a value", []string{`DeviceName in~ ("x\") or DeviceId in (\"` + anna + `")`}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := w.hunted(token, lookUp(test.where...)); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// Any one device is one that was seen in the last day, told by two columns.
func TestHuntingOneDevice(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.huntingToken()
	add := func(name string, age time.Duration) {
		w.tenant.AddDevice(Device{DNSName: name, LastSeen: w.server.Now().Add(-age)})
	}
	const schema = `{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.security.huntingQueryResults",` +
		`"schema":[{"name":"DeviceId","type":"String"},{"name":"DeviceName","type":"String"}],"results":[`
	add("quiet", 24*time.Hour)
	if got := w.hunt(token, oneDeviceQuery); got.status != http.StatusOK || got.body != schema+"]}" {
		t.Errorf("without a device of the last day: %d %s", got.status, got.body)
	}
	add("b", 24*time.Hour-time.Second)
	add("a", time.Hour)
	if got, want := w.hunt(token, oneDeviceQuery), schema+`{"DeviceId":"`+DeviceID("b")+`","DeviceName":"b"}]}`; got.status != http.StatusOK || got.body != want {
		t.Errorf("%d %s, want %s", got.status, got.body, want)
	}
	query, err := json.Marshal(oneDeviceQuery)
	if err != nil {
		t.Fatal(err)
	}
	got := w.post(token, huntingPath, fmt.Sprintf(`{"Query":%s,"Timespan":"PT2H"}`, query))
	if want := schema + `{"DeviceId":"` + DeviceID("a") + `","DeviceName":"a"}]}`; got.status != http.StatusOK || got.body != want {
		t.Errorf("of two hours: %d %s, want %s", got.status, got.body, want)
	}
	calls := w.server.Calls(OnRoute(RouteHunting))
	if len(calls) != 3 || calls[0].Elements != 0 || calls[1].Elements != 1 {
		t.Errorf("calls are %+v", calls)
	}
}

func TestHuntingRefusesBodies(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Hunting: []Rate{}}})
	token := w.huntingToken()
	const words = "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format."
	for _, body := range []string{"", "print ok = 1", `["print ok = 1"]`, `{"Query":1}`, `{"Query":null}`, `{"QUERY":"print ok = 1"}`, `{"Query":"print ok = 1","Top":"1"}`} {
		checkError(t, w.post(token, huntingPath, body), http.StatusBadRequest, "BadRequest", words)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL()+huntingPath, strings.NewReader(`{"Query":"print ok = 1"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	checkError(t, w.do(r), http.StatusBadRequest, "BadRequest", words)
	checkError(t, w.post(token, huntingPath, `{"Query":"print ok = 1","Timespan":"2026-11-20/2026-11-21"}`), http.StatusBadRequest, "BadRequest", "Invalid timespan '2026-11-20/2026-11-21'.")
	if got := w.hunt(token, strings.Repeat("x", maxRequestBody)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge body: %d", got.status)
	}
	if got := w.get(token, huntingPath); got.status != http.StatusBadRequest {
		t.Errorf("GET: %d %s", got.status, got.body)
	}
	w.app.SetRoles(RoleSecurityAlertRead)
	checkError(t, w.hunt(w.token(Graph), "print ok = 1"), http.StatusForbidden, "Forbidden",
		"Missing application roles. API required roles: ThreatHunting.Read.All, application roles: SecurityAlert.Read.All.")
}

func TestHuntingTimespan(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.huntingToken()
	w.tenant.AddDevice(Device{DNSName: "old", LastSeen: w.server.Now().Add(-48 * time.Hour)})
	w.tenant.AddDevice(Device{DNSName: "new", FirstSeen: w.server.Now().Add(-150 * time.Minute), LastSeen: w.server.Now().Add(-time.Minute)})
	query, err := json.Marshal(lookUp(`DeviceName in~ ("old", "new")`))
	if err != nil {
		t.Fatal(err)
	}
	first := func(timespan string) string {
		var found []string
		got := w.post(token, huntingPath, fmt.Sprintf(`{"query":%s,"timespan":%q}`, query, timespan))
		for _, row := range decode[struct {
			Results []struct {
				DeviceName string
				FirstSeen  time.Time
			}
		}](t, got.body).Results {
			found = append(found, fmt.Sprintf("%s %v", row.DeviceName, w.server.Now().Sub(row.FirstSeen)))
		}
		return strings.Join(found, ", ")
	}
	// A row of exactly the look-back's begin is not in it any more.
	for timespan, want := range map[string]string{
		"P90D": "old 719h0m0s, new 2h30m0s", "P3D": "old 71h0m0s, new 2h30m0s", "PT1H": "new 1m0s", "PT2H": "new 1h1m0s",
	} {
		if got := first(timespan); got != want {
			t.Errorf("%s: %s, want %s", timespan, got, want)
		}
	}
}

func TestHuntingLimits(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.huntingToken()
	for i := range 45 {
		if got := w.hunt(token, "print ok = 1"); got.status != http.StatusOK {
			t.Fatalf("call %d: %d %s", i, got.status, got.body)
		}
	}
	refused := func(got reply) {
		t.Helper()
		checkError(t, got, http.StatusTooManyRequests, "TooManyRequests", "You have exceeded the limit of 45 calls in 1m0s for the tenant.")
		if after := got.header.Get("Retry-After"); after != "" {
			t.Errorf("Retry-After: %q", after)
		}
	}
	refused(w.hunt(token, "print ok = 1"))
	// All applications of the tenant are counted together.
	other := w.tenant.AddApplication("other", "s", RoleThreatHuntingRead)
	form := tokenForm(Graph)
	form.Set("client_id", other.ID())
	form.Set("client_secret", "s")
	refused(w.hunt(decode[map[string]any](t, w.postToken(testTenantID, form).body)["access_token"].(string), "print ok = 1"))
	w.app.SetRoles(RoleSecurityAlertRead)
	checkError(t, w.get(w.token(Graph), alertsPath), http.StatusOK, "", "")
	w.server.AdvanceClock(time.Minute)
	checkError(t, w.hunt(token, "print ok = 1"), http.StatusOK, "", "")
}

func TestHuntingBounds(t *testing.T) {
	var ids []string
	fill := func(w *world) string {
		ids = nil
		for i := range 10 {
			ids = append(ids, strconv.Quote(w.tenant.AddDevice(Device{DNSName: fmt.Sprintf("d%d", i)}).ID))
		}
		return lookUp("DeviceId in (" + strings.Join(ids, ", ") + ")")
	}
	w := newWorld(t, Options{Hunting: HuntingOptions{MaxRows: 7}})
	query := fill(w)
	if got := w.hunted(w.huntingToken(), query); len(got) != 7 {
		t.Errorf("%d rows", len(got))
	}
	w = newWorld(t, Options{Hunting: HuntingOptions{MaxValues: 9, MaxBytes: 4096}})
	query, token := fill(w), w.huntingToken()
	checkError(t, w.hunt(token, query), http.StatusBadRequest, "BadRequest", huntingTooHeavy)
	checkError(t, w.hunt(token, lookUp("DeviceId in ("+strings.Join(ids[:9], ", ")+")")), http.StatusBadRequest, "BadRequest", huntingTooLarge)
	if got := w.hunted(token, lookUp("DeviceId in ("+strings.Join(ids[:3], ", ")+")")); len(got) != 3 {
		t.Errorf("%d rows", len(got))
	}
}
