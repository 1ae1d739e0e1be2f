package machines

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type tokens struct{}

func (tokens) Token(context.Context) (string, error)         { return "t", nil }
func (tokens) Renew(context.Context, string) (string, error) { return "u", nil }

// newTestSource returns a source that reads from a handler.
func newTestSource(t *testing.T, version string, handler http.HandlerFunc) *Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return newSourceOver(transport, base, version)
}

// newSourceOver returns a source that calls base through a transport.
func newSourceOver(transport *http.Transport, base *url.URL, version string) *Source {
	return NewSource(rest.NewClient(rest.Config{
		Name: "The list of machines", Base: base, HTTP: rest.NewHTTPClient(transport), Tokens: tokens{}, UserAgent: "test",
		Spend: func(context.Context, defender.Limit) error { return nil }, Limit: defender.LimitEndpoint,
		Permissions: defender.Endpoints()[0].GetDeviceSources()[0].GetPermissions(),
	}), version)
}

func readAll(t *testing.T, source *Source) ([]*integrationv1.Device, defender.Read, error) {
	t.Helper()
	var devices []*integrationv1.Device
	read, err := source.ReadDevices(t.Context(), defender.Wanted{}, func(d *integrationv1.Device) error {
		devices = append(devices, d)
		return nil
	})
	return devices, read, err
}

func TestDevice(t *testing.T) {
	const raw = `{"id":"0a1b2c3d4e5f60718293a4b5c6d7e8f901234567","aadDeviceId":"aaaaaaaa-1111-4111-8111-000000000004",
		"computerDnsName":"WS-01.contoso.test","firstSeen":"2025-01-02T03:04:05.1234567Z","lastSeen":"2026-11-20T10:00:00","osPlatform":"Windows11",
		"osVersion":null,"version":"24H2","osBuild":26100,"healthStatus":"NoSensorDataImpairedCommunication","onboardingStatus":"onboarded",
		"rbacGroupId":75,"rbacGroupName":"Workstations","lastIpAddress":"192.0.2.10","mergedIntoMachineId":"ffff","isPotentialDuplication":true,
		"isExcluded":"true","machineTags":["x"],"ipAddresses":[{"ipAddress":"192.0.2.10","macAddress":null},{"ipAddress":"127.0.0.1"},
		{"ipAddress":"::1"},{"ipAddress":""},{"ipAddress":"0.0.0.0"},{"ipAddress":"::ffff:127.0.0.1"},{"ipAddress":"2001:db8::10"},{"ipAddress":null},{},7]}`
	source := newTestSource(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/machines" || r.URL.RawQuery != "" {
			t.Errorf("called %s, want /api/machines without options", r.URL)
		}
		_, _ = fmt.Fprintf(w, `{"value":[%s, {"computerDnsName":"without an id"}, 7, {"id":"b","onboardingStatus":"Sideways","healthStatus":null}]}`, raw)
	})
	devices, read, err := readAll(t, source)
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) *timestamppb.Timestamp {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return timestamppb.New(parsed)
	}
	want := []*integrationv1.Device{
		{
			MdeDeviceId: "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", EntraDeviceId: "aaaaaaaa-1111-4111-8111-000000000004",
			DeviceDnsName: "WS-01.contoso.test", IpAddresses: []string{"192.0.2.10", "2001:db8::10"},
			HealthStatus:     integrationv1.HealthStatus_HEALTH_STATUS_NO_SENSOR_DATA_IMPAIRED_COMMUNICATION,
			OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_ONBOARDED,
			FirstSeenTime:    at("2025-01-02T03:04:05.1234567Z"), LastSeenTime: at("2026-11-20T10:00:00Z"),
			OsPlatform: "Windows11", OsVersion: "24H2", RbacGroupName: "Workstations", MergedIntoDeviceId: "ffff",
			PotentialDuplicate: true, Excluded: true,
		},
		{MdeDeviceId: "b", OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_UNRECOGNIZED},
	}
	if len(devices) != len(want) || !proto.Equal(devices[0], want[0]) || !proto.Equal(devices[1], want[1]) {
		t.Errorf("devices are %v, want %v", devices, want)
	}
	if read.Elements != 4 || read.Calls != 1 || read.Through.IsZero() || read.Asked.IsZero() {
		t.Errorf("read is %+v", read)
	}
}

func TestPages(t *testing.T) {
	source := newTestSource(t, "v1.0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1.0/machines" {
			t.Errorf("called %s", r.URL)
		}
		switch r.URL.Query().Get("$skip") {
		case "":
			_, _ = fmt.Fprintf(w, `{"value":[{"id":"a"},{"id":"b"}],"@odata.nextLink":"http://%s/api/v1.0/machines?$skip=2"}`, r.Host)
		case "2":
			_, _ = fmt.Fprint(w, `{"@odata.nextLink":"/api/v1.0/machines?$skip=4","value":[{"id":"c"}]}`)
		default:
			_, _ = fmt.Fprint(w, `{"value":[],"@odata.nextLink":null}`)
		}
	})
	devices, read, err := readAll(t, source)
	if err != nil || len(devices) != 3 || read.Calls != 3 {
		t.Errorf("%d devices in %d calls, error %v; want 3 in 3", len(devices), read.Calls, err)
	}
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		reason integrationv1.ErrorReason
		words  string
	}{
		{"404 from elsewhere", 404, `<html>`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, "not found"},
		{"missing role", 403, `{"error":{"code":"Forbidden"}}`, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, "Machine.Read.All"},
		{"no value", 200, `{}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "no `value`"},
		{"cut", 200, `{"value":[{"id":"a"},{"id`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, "broke off"},
		{"circle", 200, `{"value":[],"@odata.nextLink":"/api/machines"}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "circle"},
		{"elsewhere", 200, `{"value":[],"@odata.nextLink":"https://evil.test/api/machines"}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "evil.test"},
		{"bad link", 200, `{"value":[],"@odata.nextLink":"http://a b/"}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "no address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := newTestSource(t, "", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = fmt.Fprint(w, tt.body)
			})
			_, _, err := readAll(t, source)
			var e *defender.Error
			if !errors.As(err, &e) || e.Problem.GetReason() != tt.reason || !strings.Contains(e.Problem.GetMessage(), tt.words) || e.Problem.GetRemedy() == "" {
				t.Errorf("error is %v, want %s that says %q", err, tt.reason, tt.words)
			}
		})
	}
}

// Microsoft says that there are no recent machines with a 404, which is a whole read of none.
func TestNone(t *testing.T) {
	source := newTestSource(t, "", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"error":{"code":"ResourceNotFound","message":"No machines","target":"x"}}`)
	})
	devices, read, err := readAll(t, source)
	if err != nil || len(devices) != 0 || read.Elements != 0 || read.Calls != 1 || read.WantedOnly {
		t.Errorf("%d devices, read %+v, error %v; want a whole read of none", len(devices), read, err)
	}
	if p, err := source.Probe(t.Context()); p.Elements != 0 || err != nil {
		t.Errorf("probe says %d, %v", p.Elements, err)
	}
	// Behind devices it is a page that is missing.
	source = newTestSource(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"error":{"code":"ResourceNotFound"}}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"value":[{"id":"a"}],"@odata.nextLink":"/api/machines?$skip=1"}`)
	})
	if _, _, err := readAll(t, source); err == nil {
		t.Error("a list whose second page is missing is taken for whole")
	}
}

// One name can be that of several devices: merged, onboarded again, or others. All are given, with what tells them apart.
func TestSeveralOfOneName(t *testing.T) {
	body, _ := machinesIn(t, "testdata/machines.json")
	source := newTestSource(t, "", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	devices, _, err := readAll(t, source)
	if err != nil || len(devices) != 3 {
		t.Fatalf("%d devices, error %v; want 3", len(devices), err)
	}
	now, before, other := devices[0], devices[1], devices[2]
	if now.GetDeviceDnsName() != before.GetDeviceDnsName() || now.GetEntraDeviceId() != before.GetEntraDeviceId() {
		t.Errorf("%v and %v are not of one machine", now, before)
	}
	if before.GetMergedIntoDeviceId() != now.GetMdeDeviceId() || !before.GetPotentialDuplicate() || !before.GetExcluded() {
		t.Errorf("%v was merged into %s, excluded, and taken for a duplicate", before, now.GetMdeDeviceId())
	}
	if now.GetMergedIntoDeviceId() != "" || now.GetPotentialDuplicate() || now.GetExcluded() {
		t.Errorf("%v was none of that", now)
	}
	if other.GetOnboardingStatus() != integrationv1.OnboardingStatus_ONBOARDING_STATUS_CAN_BE_ONBOARDED || other.GetEntraDeviceId() != "" {
		t.Errorf("%v is not onboarded, and not joined", other)
	}
}

func TestYieldsError(t *testing.T) {
	stop := errors.New("stop")
	source := newTestSource(t, "", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"value":[{"id":"a"}]}`) })
	if _, err := source.ReadDevices(t.Context(), defender.Wanted{}, func(*integrationv1.Device) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error is %v, want yield's", err)
	}
	if p, err := source.Probe(t.Context()); p.Elements != 1 || p.Date.IsZero() || p.Received.IsZero() || p.RoundTrip <= 0 || err != nil {
		t.Errorf("probe says %+v, %v", p, err)
	}
}
