package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenantID      = "11111111-2222-4333-8444-555555555555"
	clientID      = "66666666-7777-4888-9999-000000000000"
	plantedSecret = "planted~secret~value"
)

// world is a simulated Microsoft, and the settings of an integration that fit it.
type world struct {
	server *defendertest.Server
	tenant *defendertest.Tenant
	app    *defendertest.Application
	config Config
}

func newWorld(t *testing.T, options defendertest.Options) *world {
	t.Helper()
	server, err := defendertest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := &world{server: server, tenant: server.AddTenant(tenantID)}
	w.app = w.tenant.AddApplication(clientID, plantedSecret, "SecurityAlert.Read.All", "Machine.Read.All", "ThreatHunting.Read.All")
	protocol := integrationv1.Protocol_PROTOCOL_HTTP
	var trust *integrationv1.Trust
	if options.TLS {
		protocol = integrationv1.Protocol_PROTOCOL_HTTPS
		trust = &integrationv1.Trust{CaPem: string(server.CAPEM())}
	}
	allow, err := defender.NewAllowList([]string{fmt.Sprintf("%s:%d", server.Host(), server.Port())}, true)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := &integrationv1.Endpoint{Host: server.Host(), Port: int32(server.Port()), Protocol: protocol}
	w.config = Config{
		Integration: &integrationv1.Integration{
			IntegrationId: "contoso", TenantId: tenantID, Endpoint: endpoint,
			Authentication: &integrationv1.Authentication{
				ClientId: clientID, AuthorizationUrl: server.TokenURL(tenantID),
				Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{}},
			},
			DeviceSource: &integrationv1.DeviceSource{Endpoint: proto.CloneOf(endpoint)},
			Trust:        trust,
		},
		Secrets: &storev1.Secrets{ClientSecret: plantedSecret}, Allow: allow, Version: "test",
		Spend: func(context.Context, defender.Limit) error { return nil },
	}
	return w
}

func (w *world) connect(t *testing.T) *Connection {
	t.Helper()
	c, err := New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAlertsAndDevices(t *testing.T) {
	for _, overTLS := range []bool{false, true} {
		w := newWorld(t, defendertest.Options{TLS: overTLS, Machines: defendertest.MachinesOptions{PageSize: 2}})
		w.tenant.AddAlert(defendertest.Alert{ID: "one"})
		for i := range 5 {
			w.tenant.AddDevice(defendertest.Device{DNSName: fmt.Sprintf("ws-%d.contoso.test", i)})
		}
		c := w.connect(t)
		var alerts []string
		_, err := c.Alerts().ReadAlerts(t.Context(), time.Now().Add(-time.Hour), nil, func(e *defender.Element) error {
			alerts = append(alerts, e.Alert.GetId())
			return nil
		})
		if err != nil || strings.Join(alerts, " ") != "one" {
			t.Errorf("alerts are %q, error %v", alerts, err)
		}
		devices := 0
		_, err = c.Devices().ReadDevices(t.Context(), defender.Wanted{}, func(d *integrationv1.Device) error {
			if want := defendertest.DeviceID(d.GetDeviceDnsName()); d.GetMdeDeviceId() != want {
				t.Errorf("device is %v, want id %s", d, want)
			}
			devices++
			return nil
		})
		if err != nil || devices != 5 {
			t.Errorf("%d devices, error %v; want 5", devices, err)
		}
		if made := len(w.server.Calls(defendertest.OnRoute(defendertest.RouteToken))); made != 2 {
			t.Errorf("%d tokens were asked for, want one for each scope", made)
		}
	}
}

func TestRevokedTokenIsRenewedOnce(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	c := w.connect(t)
	read := func() error {
		_, err := c.Alerts().ReadAlerts(t.Context(), time.Now(), nil, func(*defender.Element) error { return nil })
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	w.app.RevokeTokens()
	if err := read(); err != nil {
		t.Fatal(err)
	}
	if made := len(w.server.Calls(defendertest.OnRoute(defendertest.RouteToken))); made != 2 {
		t.Errorf("%d tokens were asked for, want 2", made)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		words  string
	}{
		{"unknown cloud", func(c *Config) { c.Integration.Cloud = 99 }, "does not offer"},
		{"unknown device source", func(c *Config) { c.Integration.DeviceSource.Kind = 99 }, "does not go with"},
		{"no secret", func(c *Config) { c.Secrets = nil }, "secret is empty"},
		{"a host that is not allowed", func(c *Config) { c.Allow = defender.AllowList{} }, "does not allow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{})
			tt.change(&w.config)
			if _, err := New(w.config); err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error is %v, want it to say %q", err, tt.words)
			}
		})
	}
}

func TestNoDeviceSource(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.config.Integration.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}
	if devices := w.connect(t).Devices(); devices != nil {
		t.Errorf("devices are %v, want nil", devices)
	}
}

// Telemetry is asked with the tokens for alerts, over Microsoft Graph alone.
func TestTelemetry(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	attacked := w.tenant.PutEvent(defendertest.Event{
		DNSName: "ws-1.contoso.test", Action: "AsrLsassCredentialTheftBlocked", By: defendertest.EventProcess{CommandLine: "evil.exe --steal"},
	})
	answers, err := w.connect(t).Telemetry().FindTraces(t.Context(), []*defender.TelemetryQuestion{{
		Since: attacked.Time.Add(-time.Minute), Through: attacked.Time, DeviceIDs: []string{attacked.DeviceID},
		Traces: &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{CommandLine: `C:\evil.exe "--steal"`}}},
	}})
	if err != nil || len(answers) != 1 || len(answers[0].GetRows()) != 1 || !answers[0].GetRows()[0].GetBlocked() {
		t.Errorf("answers are %v, error %v", answers, err)
	}
	if made := len(w.server.Calls(defendertest.OnRoute(defendertest.RouteToken))); made != 1 {
		t.Errorf("%d tokens were asked for, want one", made)
	}
	for _, api := range []integrationv1.Api{integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, integrationv1.Api_API_SIEM} {
		w := newWorld(t, defendertest.Options{})
		w.config.Integration.Api = api
		if source := w.connect(t).Telemetry(); source != nil {
			t.Errorf("%s has the source of telemetry %v", api, source)
		}
	}
}

// short writes stages as "LINK TARGET RESULT" without prefixes; those that passed, and those that the settings leave out, are left out.
func short(stages []*integrationv1.ConnectivityStage) string {
	var lines []string
	for _, s := range stages {
		if s.GetResult() == passed || s.GetResult() == skipped && s.GetCause() == nil {
			continue
		}
		lines = append(lines, strings.Join([]string{
			strings.TrimPrefix(s.GetLink().String(), "LINK_"), strings.TrimPrefix(s.GetTarget().String(), "TARGET_"),
			strings.TrimPrefix(s.GetResult().String(), "RESULT_"),
		}, " "))
	}
	return strings.Join(lines, "; ")
}

func TestConnectivity(t *testing.T) {
	const (
		retiring = "LIFECYCLE DEVICE_SOURCE WARNED"
		noToken  = "TOKEN API FAILED; PERMISSIONS API SKIPPED; ALERTS API SKIPPED; TOKEN DEVICE_SOURCE SKIPPED; PERMISSIONS DEVICE_SOURCE SKIPPED; " +
			"DEVICES DEVICE_SOURCE SKIPPED; TELEMETRY API SKIPPED; CLOCK UNSPECIFIED SKIPPED; QUOTA UNSPECIFIED SKIPPED; "
	)
	tests := []struct {
		name   string
		change func(*world)
		want   string
		// words are among what the stages that did not pass say.
		words []string
	}{
		{"all well", func(*world) {}, retiring, []string{"MC1220762", "1 February 2027"}},
		{
			"wrong secret", func(w *world) { w.config.Secrets = &storev1.Secrets{ClientSecret: "wrong" + plantedSecret} },
			noToken + retiring, []string{"AADSTS7000215", "Value, not its Secret ID", "Not tried: TOKEN of the API failed", "the same cause"},
		},
		{"wrong tenant", func(w *world) {
			w.config.Integration.Authentication.AuthorizationUrl = w.server.TokenURL("99999999-0000-4000-8000-000000000000")
		}, noToken + retiring, []string{"AADSTS90002", "tenant"}},
		{
			"no role for alerts", func(w *world) { w.app.SetRoles("Machine.Read.All") },
			"PERMISSIONS API FAILED; ALERTS API SKIPPED; TELEMETRY API SKIPPED; CLOCK UNSPECIFIED SKIPPED; QUOTA UNSPECIFIED SKIPPED; " + retiring,
			[]string{"SecurityAlert.Read.All", "grant admin consent", "none at all"},
		},
		{
			"no role for devices", func(w *world) { w.app.SetRoles("SecurityAlert.Read.All", "ThreatHunting.Read.All") },
			"PERMISSIONS DEVICE_SOURCE FAILED; DEVICES DEVICE_SOURCE SKIPPED; " + retiring,
			[]string{"Machine.Read.All", "WindowsDefenderATP", "KIND_NONE"},
		},
		{
			"a role that can write", func(w *world) {
				w.app.SetRoles("SecurityAlert.ReadWrite.All", "Machine.Read.All", "ThreatHunting.Read.All")
			},
			"PERMISSIONS API WARNED; " + retiring, []string{"more than is needed"},
		},
		{
			"no role for telemetry", func(w *world) { w.app.SetRoles("SecurityAlert.Read.All", "Machine.Read.All") },
			"TELEMETRY API WARNED; " + retiring, []string{"ThreatHunting.Read.All", "grant admin consent", "rest on alerts alone"},
		},
		{
			"no table of telemetry", func(w *world) { w.tenant.RemoveTable(defendertest.TableNetworkEvents) },
			"TELEMETRY API WARNED; " + retiring, []string{"no table DeviceNetworkEvents; the others", "Plan 2"},
		},
		{
			"no tables of telemetry at all", func(w *world) {
				for _, table := range []string{defendertest.TableEvents, defendertest.TableProcessEvents, defendertest.TableFileEvents, defendertest.TableNetworkEvents} {
					w.tenant.RemoveTable(table)
				}
			},
			"TELEMETRY API WARNED; " + retiring, []string{"no table of events in this tenant", "rest on alerts alone"},
		},
		{"telemetry fails", func(w *world) {
			w.server.Inject(defendertest.Fault{Route: defendertest.RouteHunting, After: 1, Respond: defendertest.Respond(500, nil, `{}`)})
		}, "TELEMETRY API FAILED; " + retiring, []string{"advanced hunting failed (HTTP status 500)"}},
		{"telemetry is throttled", func(w *world) {
			w.server.Inject(defendertest.Fault{Route: defendertest.RouteHunting, Respond: defendertest.Throttle(429, "")})
		}, "TELEMETRY API FAILED; QUOTA UNSPECIFIED SKIPPED; " + retiring, []string{"less often"}},
		{
			"no device source", func(w *world) { w.config.Integration.DeviceSource.Kind = integrationv1.DeviceSource_KIND_NONE },
			"", []string{"cannot be judged"},
		},
		{"throttled", func(w *world) {
			w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Respond: defendertest.Respond(429, http.Header{"Retry-After": {"3"}}, `{}`)})
		}, "ALERTS API FAILED; TELEMETRY API SKIPPED; CLOCK UNSPECIFIED SKIPPED; QUOTA UNSPECIFIED SKIPPED; " + retiring, []string{"less often"}},
		{
			"clock a minute off", func(w *world) { w.server.SetClockOffset(time.Minute) },
			"CLOCK UNSPECIFIED WARNED; " + retiring, []string{"behind Microsoft's"},
		},
		{
			"clock an hour off", func(w *world) { w.server.SetClockOffset(-time.Hour) },
			"CLOCK UNSPECIFIED FAILED; " + retiring, []string{"ahead of Microsoft's"},
		},
		{
			"nothing there", func(w *world) { _ = w.server.Close() },
			"TCP AUTHORIZATION FAILED; TCP API SKIPPED; TOKEN API SKIPPED; PERMISSIONS API SKIPPED; ALERTS API SKIPPED; TCP DEVICE_SOURCE SKIPPED; " +
				"TOKEN DEVICE_SOURCE SKIPPED; PERMISSIONS DEVICE_SOURCE SKIPPED; DEVICES DEVICE_SOURCE SKIPPED; TELEMETRY API SKIPPED; CLOCK UNSPECIFIED SKIPPED; QUOTA UNSPECIFIED SKIPPED; " + retiring,
			[]string{"refuses the connection", "Not tried: TCP of the authorization host failed"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{})
			tt.change(w)
			stages := w.connect(t).Test(t.Context()).GetStages()
			if got := short(stages); got != tt.want {
				t.Errorf("stages are\n%s\nwant\n%s", got, tt.want)
			}
			text := ""
			for _, s := range stages {
				if s.GetSeen() == "" || (s.GetResult() == failed || s.GetResult() == warned && s.GetLink() != integrationv1.ConnectivityStage_LINK_PERMISSIONS) && (s.GetRemedy() == "" || s.GetReason() == 0) {
					t.Errorf("stage %v does not say what was seen, and what to do", s)
				}
				text += s.String()
				if s.GetResult() != passed {
					text += s.GetUpstreamCode() + s.GetSeen() + s.GetRemedy()
				}
			}
			for _, words := range tt.words {
				if !strings.Contains(text, words) {
					t.Errorf("the stages do not say %q:\n%s", words, text)
				}
			}
			if strings.Contains(text, plantedSecret) {
				t.Error("the secret is in the stages")
			}
		})
	}
}

func TestConnectivityOverTLS(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	if got := short(w.connect(t).Test(t.Context()).GetStages()); got != "LIFECYCLE DEVICE_SOURCE WARNED" {
		t.Errorf("stages are %s", got)
	}
	w.config.Integration.Trust = nil
	stages := w.connect(t).Test(t.Context()).GetStages()
	if got := short(stages); !strings.HasPrefix(got, "TLS AUTHORIZATION FAILED; TLS API SKIPPED; TOKEN API SKIPPED") {
		t.Errorf("stages are %s", got)
	}
	for _, s := range stages {
		if s.GetLink() == integrationv1.ConnectivityStage_LINK_TLS && s.GetResult() == failed && s.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED {
			t.Errorf("stage is %v", s)
		}
	}
}

func TestConnectivityCalledOff(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	w.server.Inject(defendertest.Fault{Route: defendertest.RouteToken, Times: -1, Respond: func(ctx context.Context, _ *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
		cancel(errors.New("gone"))
		<-ctx.Done()
		return nil
	}})
	for _, s := range w.connect(t).Test(ctx).GetStages() {
		if s.GetLink() == integrationv1.ConnectivityStage_LINK_TOKEN && s.GetTarget() == apiTarget && (s.GetResult() != failed || s.GetSeen() == "") {
			t.Errorf("stage is %v", s)
		}
	}
}
