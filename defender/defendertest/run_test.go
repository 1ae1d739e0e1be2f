package defendertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// lockedText is what Run printed so far.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startRun runs Run until the test ends, and returns its server and what it prints.
func startRun(t *testing.T, options RunOptions) (*Server, *lockedText) {
	t.Helper()
	ready, ended := make(chan *Server, 1), make(chan error, 1)
	options.Ready = func(s *Server) { ready <- s }
	printed := &lockedText{}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- Run(ctx, printed, options) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case s := <-ready:
		return s, printed
	case err := <-ended:
		ended <- err
		t.Fatal("Run ended at once")
		return nil, nil
	}
}

func TestRunPrintsCommandsOfTheRealContract(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	text, err := runText(s, nil, RunOptions{Service: "unix:///run/x.sock", ServiceFlags: "-plaintext -unix", AlertEvery: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "Microsoft is SIMULATED") {
		t.Error("it does not say that Microsoft is simulated")
	}
	if want := fmt.Sprintf("--allow-http --allow-endpoint 127.0.0.1:%d\n", s.Port()); !strings.Contains(text, want) {
		t.Errorf("no %q in:\n%s", want, text)
	}

	commands := regexp.MustCompile(`(?s)grpcurl -plaintext -unix -d '([^']*)' unix:///run/x.sock defender\.integration\.v1\.IntegrationService/(\w+)\n`).FindAllStringSubmatch(text, -1)
	var methods []string
	for _, command := range commands {
		methods = append(methods, command[2])
		var request proto.Message
		switch command[2] {
		case "RegisterIntegration":
			request = &integrationv1.RegisterIntegrationRequest{}
		case "TestConnectivity":
			request = &integrationv1.TestConnectivityRequest{}
		case "StreamAlerts":
			request = &integrationv1.StreamAlertsRequest{}
		default:
			t.Fatalf("unexpected method %s", command[2])
		}
		if err := protojson.Unmarshal([]byte(command[1]), request); err != nil {
			t.Errorf("%s: %v", command[2], err)
			continue
		}
		if err := protovalidate.Validate(request); err != nil {
			t.Errorf("%s: %v", command[2], err)
		}
		if register, ok := request.(*integrationv1.RegisterIntegrationRequest); ok {
			got := register.GetIntegration()
			if int(got.GetEndpoint().GetPort()) != s.Port() || int(got.GetDeviceSource().GetEndpoint().GetPort()) != s.Port() ||
				got.GetAuthentication().GetAuthorizationUrl() != s.TokenURL(RunTenantID) || got.GetAuthentication().GetClientSecret().GetValue() != RunSecret {
				t.Errorf("registers %v", got)
			}
		}
	}
	for _, other := range []string{`"api": "API_DEFENDER_FOR_ENDPOINT"`, `"api": "API_SIEM"`, `"kind": "KIND_HUNTING"`} {
		if !strings.Contains(text, other) {
			t.Errorf("it does not say how to register with %s", other)
		}
	}
	for _, member := range []string{`{"api": "API_DEFENDER_FOR_ENDPOINT"}`, `{"api": "API_SIEM"}`, `{"deviceSource": {"kind": "KIND_HUNTING"}}`} {
		if err := protojson.Unmarshal([]byte(member), &integrationv1.Integration{}); err != nil {
			t.Errorf("%s: %v", member, err)
		}
	}
	if got := strings.Join(methods, " "); got != "RegisterIntegration TestConnectivity StreamAlerts StreamAlerts" {
		t.Errorf("commands: %s\n%s", got, text)
	}
}

func TestRunServesDevicesAndFreshAlerts(t *testing.T) {
	s, printed := startRun(t, RunOptions{AlertEvery: time.Millisecond})
	w := &world{t: t, server: s, client: s.Client()}
	defer w.client.CloseIdleConnections()
	form := tokenForm(Graph)
	form.Set("client_id", RunAppID)
	form.Set("client_secret", RunSecret)
	token := decode[map[string]any](t, w.postToken(RunTenantID, form).body)["access_token"].(string)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(s.tenant(RunTenantID).Revisions()) < 3 {
		select {
		case <-ctx.Done():
			t.Fatalf("no alerts; printed:\n%s", printed)
		case <-time.After(time.Millisecond):
		}
	}
	if got := w.list(token, alertsPath); len(got.Value) < 3 {
		t.Errorf("%d alerts", len(got.Value))
	}
	form.Set("scope", string(DefenderForEndpoint)+"/.default")
	token = decode[map[string]any](t, w.postToken(RunTenantID, form).body)["access_token"].(string)
	if got := w.list(token, "/api/machines"); len(got.Value) != len(SampleDevices()) {
		t.Errorf("%d machines", len(got.Value))
	}
	if got := w.list(token, endpointPath); len(got.Value) < 3 {
		t.Errorf("%d alerts over Defender for Endpoint", len(got.Value))
	}
	form.Set("scope", string(SIEM)+"/.default")
	token = decode[map[string]any](t, w.postToken(RunTenantID, form).body)["access_token"].(string)
	if got := w.detections(token); len(got) < 3 {
		t.Errorf("%d detections", len(got))
	}
	form.Set("scope", string(Graph)+"/.default")
	token = decode[map[string]any](t, w.postToken(RunTenantID, form).body)["access_token"].(string)
	if got := w.hunted(token, oneDeviceQuery); len(got) != 1 {
		t.Errorf("%d devices over hunting", len(got))
	}
	for _, r := range s.tenant(RunTenantID).Revisions() {
		if age := s.Now().Sub(r.LastUpdate); age < 0 || age > time.Minute {
			t.Errorf("an alert was last updated %v ago", age)
		}
	}
	// Each alert is told before the next one is raised.
	revisions := s.tenant(RunTenantID).Revisions()
	told := printed.String()
	for _, r := range revisions[:len(revisions)-1] {
		alert := decode[struct {
			Title    string
			Severity string
			Evidence []struct{ DeviceDNSName string }
		}](t, string(r.Raw))
		line := fmt.Sprintf("  %-13s  %-50s  %s\n", alert.Severity, alert.Title, alert.Evidence[0].DeviceDNSName)
		if !strings.Contains(told, line) {
			t.Fatalf("the alert of %q is not told:\n%s", line, told)
		}
	}
}

func TestRunWithoutAlerts(t *testing.T) {
	s, printed := startRun(t, RunOptions{AlertEvery: -1})
	if n := len(s.tenant(RunTenantID).Revisions()); n != 0 || strings.Contains(printed.String(), "A new alert every") {
		t.Errorf("%d alerts; printed:\n%s", n, printed)
	}
}

func TestRunFailsWhereItCannotListenOrPrint(t *testing.T) {
	if err := Run(t.Context(), io.Discard, RunOptions{Addr: "127.0.0.1:http:no"}); err == nil {
		t.Error("it listened")
	}
	broken, cause := io.Pipe()
	_ = cause.CloseWithError(errors.New("closed"))
	_ = broken.CloseWithError(errors.New("no reader"))
	if err := Run(t.Context(), cause, RunOptions{}); err == nil {
		t.Error("it printed")
	}
}

// Over HTTPS and through a proxy, the printed commands name both.
func TestRunThroughAProxy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	s, printed := startRun(t, RunOptions{CAFile: file, AlertEvery: -1, Proxy: &ProxyOptions{Username: "we", Password: "pass"}})
	written, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(written, s.CAPEM()) {
		t.Errorf("the file has %q, error %v", written, err)
	}
	for deadline := time.Now().Add(time.Minute); printed.String() == "" && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for _, want := range []string{
		"serve --trusted-ca-file " + file, "PROTOCOL_HTTPS", `"proxy": {"url": "http://127.0.0.1:`, `"username": "we", "password": "pass"}`,
	} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("it does not print %q:\n%s", want, printed.String())
		}
	}
	if err := Run(t.Context(), io.Discard, RunOptions{CAFile: filepath.Join(file, "below")}); err == nil {
		t.Error("a file that cannot be written is no error")
	}
}
