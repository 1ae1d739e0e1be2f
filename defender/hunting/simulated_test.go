package hunting

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	tenantID = "11111111-2222-4333-8444-555555555555"
	clientID = "66666666-7777-4888-9999-000000000000"
	secret   = "planted~secret"
)

// entra asks the simulated Entra for a token each time.
type entra struct {
	server *defendertest.Server
	client *http.Client
}

func (e entra) Token(ctx context.Context) (string, error) { return e.Renew(ctx, "") }

func (e entra) Renew(ctx context.Context, _ string) (string, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret}, "scope": {"https://graph.microsoft.com/.default"},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.server.TokenURL(tenantID), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := e.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	err = json.NewDecoder(response.Body).Decode(&answer)
	return answer.Token, err
}

// simulatedAnswer returns an answer of the simulated Microsoft to a look-up of its sample devices, as it was served.
func simulatedAnswer(tb testing.TB) []byte {
	tb.Helper()
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() })
	tenant := server.AddTenant(tenantID)
	tenant.AddApplication(clientID, secret, defendertest.RoleThreatHuntingRead)
	var wanted defender.Wanted
	for _, device := range defendertest.SampleDevices() {
		wanted.DeviceIDs = append(wanted.DeviceIDs, tenant.AddDevice(device).ID)
	}
	client := server.Client()
	tb.Cleanup(client.CloseIdleConnections)
	token, err := entra{server, client}.Token(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"Query": lookUp(valuesOf(wanted))})
	if err != nil {
		tb.Fatal(err)
	}
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, server.URL()+"/v1.0/security/runHuntingQuery", bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		tb.Fatalf("status %d, error %v: %s", response.StatusCode, err, answer)
	}
	return answer
}

// newSimulation returns a simulated tenant whose application has the roles, and a source that reads from it.
func newSimulation(t *testing.T, options defendertest.HuntingOptions, roles ...string) (*defendertest.Tenant, *Source) {
	t.Helper()
	_, tenant, source := newSimulationOf(t, defendertest.Options{Hunting: options}, roles...)
	return tenant, source
}

// newSimulationOf is newSimulation with more options, and returns the server as well.
func newSimulationOf(t *testing.T, options defendertest.Options, roles ...string) (*defendertest.Server, *defendertest.Tenant, *Source) {
	t.Helper()
	server, err := defendertest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	tenant := server.AddTenant(tenantID)
	tenant.AddApplication(clientID, secret, roles...)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := rest.NewHTTPClient(transport)
	base, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	hunting := defender.DeviceSourceOf(defender.Endpoints()[0], integrationv1.DeviceSource_KIND_HUNTING)
	return server, tenant, NewSource(rest.NewClient(rest.Config{
		Name: "Advanced hunting", Base: base, HTTP: client, Tokens: entra{server, client}, UserAgent: "test",
		Spend: func(context.Context, defender.Limit) error { return nil }, Limit: defender.LimitHunting, Permissions: hunting.GetPermissions(),
	}), "v1.0")
}

// Each way of looking for a device finds those that it should, and no other.
func TestSimulatedLookUp(t *testing.T) {
	tenant, source := newSimulation(t, defendertest.HuntingOptions{}, "ThreatHunting.Read.All")
	now := time.Now()
	add := func(name, entraID, mergedInto string, seen time.Duration, addresses ...string) string {
		return tenant.AddDevice(defendertest.Device{
			DNSName: name, EntraID: entraID, MergedInto: mergedInto, IPs: addresses, LastSeen: now.Add(-seen),
		}).ID
	}
	one := add("WS-01.contoso.test", "AAAAAAAA-1111-4111-8111-000000000001", "", time.Hour, "10.0.0.1", "2001:db8::1")
	two := add("ws-01.fabrikam.test", "", "", time.Hour, "10.0.0.10")
	short := add("ws-01", "", "", 48*time.Hour, "10.0.0.2")
	foreign := add("Büro-1.contoso.test", "", "", time.Hour)
	odd := add(`x") or true //`, "", "", time.Hour)
	end := add("end.contoso.test", "", "", time.Hour)
	middle := add("middle.contoso.test", "", end, 24*time.Hour)
	begin := add("begin.contoso.test", "", middle, 24*time.Hour)
	silent := add("silent.contoso.test", "", "", 31*24*time.Hour, "10.0.0.3")

	tests := []struct {
		name   string
		wanted defender.Wanted
		want   []string
	}{
		{"device id", defender.Wanted{DeviceIDs: []string{strings.ToUpper(one)}}, []string{one}},
		{"Entra id", defender.Wanted{EntraIDs: []string{"aaaaaaaa-1111-4111-8111-000000000001"}}, []string{one}},
		{"full name", defender.Wanted{FullNames: []string{"ws-01.CONTOSO.test"}}, []string{one}},
		{"short name", defender.Wanted{ShortNames: []string{"WS-01"}}, []string{short}},
		{"label", defender.Wanted{Labels: []string{"ws-01"}}, []string{one, two, short}},
		{"foreign name", defender.Wanted{FullNames: []string{"BÜRO-1.contoso.test"}}, []string{foreign}},
		{"a name like a query", defender.Wanted{ShortNames: []string{`x") or true //`}}, []string{odd}},
		{"address", defender.Wanted{Addresses: []string{"10.0.0.1"}}, []string{one}},
		{"address of IPv6", defender.Wanted{Addresses: []string{"2001:DB8:0::1"}}, []string{one}},
		{"address that was told too long ago", defender.Wanted{Addresses: []string{"10.0.0.2"}}, nil},
		{"merged", defender.Wanted{FullNames: []string{"begin.contoso.test"}}, []string{begin, middle, end}},
		{"silent for more than 30 days", defender.Wanted{DeviceIDs: []string{silent}}, nil},
		{"several", defender.Wanted{DeviceIDs: []string{one}, FullNames: []string{"ws-01.fabrikam.test"}, Addresses: []string{"10.0.0.1"}}, []string{one, two}},
	}
	for _, tt := range tests {
		var ids []string
		_, err := source.ReadDevices(t.Context(), tt.wanted, func(d *integrationv1.Device) error {
			ids = append(ids, d.GetMdeDeviceId())
			if d.GetLastSeenTime() == nil || d.GetFirstSeenTime() != nil {
				t.Errorf("%s: %v was seen first 90 days ago, and lately", tt.name, d)
			}
			return nil
		})
		slices.Sort(ids)
		slices.Sort(tt.want)
		if err != nil || !slices.Equal(ids, tt.want) {
			t.Errorf("%s: devices are %q, error %v; want %q", tt.name, ids, err, tt.want)
		}
	}
	if probed, err := source.Probe(t.Context()); err != nil || probed.Elements != 1 {
		t.Errorf("probed %+v, error %v", probed, err)
	}
	if err := source.Permission(t.Context()); err != nil {
		t.Error(err)
	}
}

// What Microsoft finds too much is read in parts, each device once.
func TestSimulatedNarrowing(t *testing.T) {
	tenant, source := newSimulation(t, defendertest.HuntingOptions{MaxValues: 2}, "ThreatHunting.Read.All")
	names := texts(8)
	for _, name := range names {
		tenant.AddDevice(defendertest.Device{DNSName: name})
	}
	var found []string
	read, err := source.ReadDevices(t.Context(), defender.Wanted{FullNames: names}, func(d *integrationv1.Device) error {
		found = append(found, d.GetDeviceDnsName())
		return nil
	})
	slices.Sort(found)
	if err != nil || !slices.Equal(found, names) || read.Elements != 8 || read.Calls != 7 {
		t.Errorf("devices are %q, read %+v, error %v; want eight in seven calls", found, read, err)
	}
}

// The probe is of the last day: where no device was seen in it, the answer is empty and good.
func TestSimulatedProbe(t *testing.T) {
	tenant, source := newSimulation(t, defendertest.HuntingOptions{}, "ThreatHunting.Read.All")
	tenant.AddDevice(defendertest.Device{DNSName: "quiet.contoso.test", LastSeen: time.Now().Add(-25 * time.Hour)})
	if probed, err := source.Probe(t.Context()); err != nil || probed.Elements != 0 || probed.Date.IsZero() {
		t.Errorf("without a device of the last day: probed %+v, error %v", probed, err)
	}
	for _, name := range []string{"ws-01.contoso.test", "ws-02.contoso.test"} {
		tenant.AddDevice(defendertest.Device{DNSName: name})
	}
	if probed, err := source.Probe(t.Context()); err != nil || probed.Elements != 1 {
		t.Errorf("with two devices of the last day: probed %+v, error %v", probed, err)
	}
}

func TestSimulatedPermission(t *testing.T) {
	_, source := newSimulation(t, defendertest.HuntingOptions{}, "SecurityAlert.Read.All")
	wantReason(t, source.Permission(t.Context()), integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, "ThreatHunting.Read.All")
}
