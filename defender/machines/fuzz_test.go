package machines

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/page"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// simulatedPage returns the simulated Microsoft's list of its sample machines, as it was served.
func simulatedPage(tb testing.TB) []byte {
	tb.Helper()
	const tenantID, clientID, secret = "11111111-2222-4333-8444-555555555555", "66666666-7777-4888-9999-000000000000", "planted~secret"
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	tenant := server.AddTenant(tenantID)
	tenant.AddApplication(clientID, secret, defendertest.RoleMachineRead)
	for _, device := range defendertest.SampleDevices() {
		tenant.AddDevice(device)
	}
	client := server.Client()
	defer client.CloseIdleConnections()
	body := func(request *http.Request) []byte {
		response, err := client.Do(request)
		if err != nil {
			tb.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			tb.Fatalf("status %d, error %v: %s", response.StatusCode, err, text)
		}
		return text
	}

	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret},
		"scope": {string(defendertest.DefenderForEndpoint) + "/.default"},
	}
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, server.TokenURL(tenantID), strings.NewReader(form.Encode()))
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body(request), &token); err != nil {
		tb.Fatal(err)
	}
	if request, err = http.NewRequestWithContext(tb.Context(), http.MethodGet, server.URL()+"/api/machines", http.NoBody); err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token.Token)
	return body(request)
}

// FuzzMachines holds that whatever a page is, it is read or refused, and that what is read is a device's: with an id, and with
// addresses that are a machine's.
func FuzzMachines(f *testing.F) {
	fixture, _ := machinesIn(f, "testdata/machines.json")
	f.Add(fixture)
	f.Add(simulatedPage(f))
	f.Add([]byte(`{"value":[{"id":7,"ipAddresses":{"ipAddress":"127.0.0.1"},"lastIpAddress":"::ffff:127.0.0.1"},{"id":"a","id":"b"},[],null]}`))
	f.Add([]byte(`{"value":[{"id":"\ud800","firstSeen":"0001-01-01T00:00:00","lastIpAddress":"fe80::1%eth0","ipAddresses":[[{"ipAddress":"1.2.3.4"}]]}]}`))
	// Nothing is called: the page is what an answer would hold.
	source := newSourceOver(&http.Transport{}, &url.URL{Scheme: "https", Host: "machines.contoso.test"}, "")
	f.Fuzz(func(t *testing.T, body []byte) {
		var devices []*integrationv1.Device
		r := reading{source: source, fields: fields(), yield: func(device *integrationv1.Device) error {
			devices = append(devices, device)
			return nil
		}}
		read, err := page.Read(bytes.NewReader(body), r.element)
		for _, device := range devices {
			if device.GetMdeDeviceId() == "" {
				t.Errorf("%v has no id", device)
			}
			for i, text := range device.GetIpAddresses() {
				address, err := netip.ParseAddr(text)
				if err != nil || address.Unmap().IsLoopback() || address.Unmap().IsUnspecified() || slices.Contains(device.GetIpAddresses()[:i], text) {
					t.Errorf("%q is among the addresses %q", text, device.GetIpAddresses())
				}
			}
			if _, err := proto.Marshal(device); err != nil {
				t.Errorf("%v cannot be stored: %v", device, err)
			}
		}
		if err == nil && (read.Elements != int(r.result.Elements) || len(devices) > read.Elements) {
			t.Errorf("%d elements, counted as %d, gave %d devices", read.Elements, r.result.Elements, len(devices))
		}
		if err == nil && !json.Valid(body) && !bytes.ContainsRune(body, '\uFFFD') && bytes.Equal(body, bytes.ToValidUTF8(body, nil)) {
			t.Errorf("%q is no JSON, and was read", body)
		}
	})
}
