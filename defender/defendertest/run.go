package defendertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"text/template"
	"time"
)

// RunOptions are the settings of [Run].
type RunOptions struct {
	// Addr is where the simulated Microsoft listens, host and port. Default: 127.0.0.1:0, a free port.
	Addr string
	// Service is where the service's gRPC API is, for the printed commands. Default: localhost:7443.
	Service string
	// ServiceFlags are grpcurl's flags to reach it. Default: -plaintext.
	ServiceFlags string
	// AlertEvery is how often a new alert is raised. Default: 5 seconds; none where it is negative.
	AlertEvery time.Duration
	// CAFile, where set, makes it speak HTTPS, and is the file that the certificate of its authority is written to, in PEM.
	CAFile string
	// Proxy, where set, is a forward proxy that is played beside it. It goes with CAFile: what is spoken to in clear is reached
	// without a proxy.
	Proxy *ProxyOptions
	// Ready, where set, is called with the server when it is up and before the commands are printed.
	Ready func(*Server)
}

// What the tenant of [Run] is known by.
const (
	RunTenantID = "c0ffee00-1111-4222-8333-444455556666"
	RunAppID    = "0a0b0c0d-1111-4222-8333-777788889999"
	RunSecret   = "simulated-secret"
)

// maxRunAlerts is how many alerts [Run] raises before it stops, so that it can be forgotten in a terminal: about 60 MB.
const maxRunAlerts = 10_000

// Run plays Microsoft until ctx ends: a tenant with one application and a handful of devices, on which it raises an alert every
// few seconds. It prints to w the commands to register the tenant with the service, to test the connection and to stream the
// alerts. It returns nil when ctx ends.
func Run(ctx context.Context, w io.Writer, options RunOptions) (err error) {
	options.Service = cmp.Or(options.Service, "localhost:7443")
	options.ServiceFlags = cmp.Or(options.ServiceFlags, "-plaintext")
	options.AlertEvery = cmp.Or(options.AlertEvery, 5*time.Second)
	s, err := New(Options{Addr: options.Addr, TLS: options.CAFile != ""})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if options.CAFile != "" {
		if err := os.WriteFile(options.CAFile, s.CAPEM(), 0o644); err != nil {
			return fmt.Errorf("write the authority's certificate: %w", err)
		}
	}
	var proxy *Proxy
	if options.Proxy != nil {
		if proxy, err = NewProxy(*options.Proxy); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, proxy.Close()) }()
	}
	tenant := s.AddTenant(RunTenantID, "contoso.test")
	tenant.AddApplication(RunAppID, RunSecret, RoleSecurityAlertRead, RoleMachineRead, RoleAlertRead, RoleThreatHuntingRead)
	report(tenant)
	if options.Ready != nil {
		options.Ready(s)
	}
	text, err := runText(s, proxy, options)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("print the commands: %w", err)
	}
	if options.AlertEvery < 0 {
		<-ctx.Done()
		return nil
	}
	return raise(ctx, w, tenant, options.AlertEvery)
}

// report makes every device send a full report, as real ones do about once a day.
func report(tenant *Tenant) {
	for _, device := range SampleDevices() {
		device.LastSeen = tenant.server.Now()
		tenant.AddDevice(device)
	}
}

// raise adds an alert at each interval until ctx ends, and tells each.
func raise(ctx context.Context, w io.Writer, tenant *Tenant, every time.Duration) error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	reported := tenant.server.Now()
	for range maxRunAlerts {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := tenant.server.Now()
		if now.Sub(reported) > time.Hour {
			report(tenant)
			reported = now
		}
		a := runAlert(rng, now)
		tenant.AddAlert(a)
		device := a.Evidence[0].(DeviceEvidence).Device
		if _, err := fmt.Fprintf(w, "%s  %-13s  %-50s  %s\n", now.Format(time.TimeOnly), a.Severity, a.Title, device.DNSName); err != nil {
			return fmt.Errorf("print an alert: %w", err)
		}
	}
	if _, err := fmt.Fprintf(w, "No more alerts: %d were raised.\n", maxRunAlerts); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	<-ctx.Done()
	return nil
}

// runAlert makes an alert about something that has just happened.
func runAlert(rng *rand.Rand, now time.Time) Alert {
	a := generateAlert(rng, Shape{Devices: SampleDevices()}, now)
	began := now.Add(-time.Second - time.Duration(rng.Int64N(int64(20*time.Second))))
	a.Created, a.FirstActivity, a.LastActivity = now, began, began.Add(500*time.Millisecond)
	for i, item := range a.Evidence {
		if p, ok := item.(ProcessEvidence); ok {
			p.Started = began
			a.Evidence[i] = p
		}
	}
	return a
}

// runTemplate is what Run prints first. Its commands are whole: they can be pasted into a shell.
const runTemplate = `Microsoft is SIMULATED here: nothing below reaches Microsoft, and every alert is made up.

  Simulated Entra, Graph, Defender for Endpoint and SIEM API   {{.URL}}
  Tenant {{.Tenant}}, application {{.App}}
  Devices {{.Devices}}

Start the service so that it may call the simulation:

  go run ./cmd/defender-integration serve {{if .CAFile}}--trusted-ca-file {{.CAFile}}{{else}}--allow-http{{end}} --allow-endpoint {{.Host}}:{{.Port}}
{{- if .ProxyAddr}} --allow-endpoint {{.ProxyAddr}}{{end}}

Register the tenant:

  grpcurl {{.Flags}} -d '{
    "integration": {
      "integration_id": "simulated",
      "display_name": "Simulated Microsoft",
      "tenant_id": "{{.Tenant}}",
      "endpoint": {"host": "{{.Host}}", "port": {{.Port}}, "protocol": "{{.Protocol}}"},
      "authentication": {
        "client_id": "{{.App}}",
        "client_secret": {"value": "{{.Secret}}"},
        "authorization_url": "{{.TokenURL}}"
      },
      "device_source": {
        "kind": "KIND_MACHINES",
        "endpoint": {"host": "{{.Host}}", "port": {{.Port}}, "protocol": "{{.Protocol}}"}
      },
{{- if .ProxyURL}}
      "proxy": {"url": "{{.ProxyURL}}"{{if .Username}}, "username": "{{.Username}}", "password": "{{.Password}}"{{end}}},
{{- end}}
      "polling": {"fast_interval": "2s"}
    }
  }' {{.Service}} defender.integration.v1.IntegrationService/RegisterIntegration

The same tenant's other APIs are simulated too. To read one of them, register once more, with an integration_id of its own and:

  "api": "API_DEFENDER_FOR_ENDPOINT"            Defender for Endpoint's own list of alerts
  "api": "API_SIEM", without "device_source"    the legacy SIEM API
  "kind": "KIND_HUNTING" in "device_source"     Graph's alerts as above, devices from advanced hunting

Test the connection:

  grpcurl {{.Flags}} -d '{"integration_id": "simulated"}' {{.Service}} defender.integration.v1.IntegrationService/TestConnectivity

Stream the alerts of one machine, until you stop it:

  grpcurl {{.Flags}} -d '{
    "integration_id": "simulated",
    "reference": "try-1",
    "actors": [{"actor_id": "anna", "host_name": "{{.Device}}"}]
  }' {{.Service}} defender.integration.v1.IntegrationService/StreamAlerts

Judge an attack that ran on two machines in the two minutes from now on, 30 seconds after they are over:

  grpcurl {{.Flags}} -d '{
    "integration_id": "simulated",
    "reference": "try-2",
    "actors": [
      {"actor_id": "anna", "host_name": "{{.Device}}"},
      {"actor_id": "stranger", "host_name": "ws-unknown-99"}
    ],
    "window": {"start_time": "{{.Start}}", "end_time": "{{.End}}"},
    "tolerance": "0s",
    "wait": "30s"
  }' {{.Service}} defender.integration.v1.IntegrationService/StreamAlerts
`

// runText fills in the template.
func runText(s *Server, proxy *Proxy, options RunOptions) (string, error) {
	var names []string
	for _, device := range SampleDevices() {
		names = append(names, firstLabel(device.DNSName))
	}
	now := s.Now().Truncate(time.Second)
	var text strings.Builder
	page, err := template.New("run").Parse(runTemplate)
	if err != nil {
		return "", fmt.Errorf("read the template of the commands: %w", err)
	}
	values := map[string]any{
		"Protocol": "PROTOCOL_HTTP", "CAFile": options.CAFile, "ProxyURL": "", "ProxyAddr": "",
		"URL": s.URL(), "Host": s.Host(), "Port": s.Port(), "TokenURL": s.TokenURL(RunTenantID),
		"Tenant": RunTenantID, "App": RunAppID, "Secret": RunSecret,
		"Devices": strings.Join(names, ", "), "Device": names[0],
		"Flags": options.ServiceFlags, "Service": options.Service,
		"Start": now.Format(time.RFC3339), "End": now.Add(2 * time.Minute).Format(time.RFC3339),
	}
	if options.CAFile != "" {
		values["Protocol"] = "PROTOCOL_HTTPS"
	}
	if proxy != nil {
		values["ProxyURL"], values["ProxyAddr"] = proxy.URL(), proxy.Addr()
		values["Username"], values["Password"] = options.Proxy.Username, options.Proxy.Password
	}
	if err := page.Execute(&text, values); err != nil {
		return "", fmt.Errorf("fill in the commands: %w", err)
	}
	if options.AlertEvery > 0 {
		fmt.Fprintf(&text, "\nA new alert every %s; Ctrl-C ends it.\n\n", options.AlertEvery)
	}
	return text.String(), nil
}
