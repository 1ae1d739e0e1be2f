package acceptance_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"defender-integration/acceptance/process"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
	"defender-integration/store"
)

// sealedIDs are the integrations whose secrets are sealed while the key is changed.
var sealedIDs = []string{"contoso", "fabrikam", "tailspin"}

// TestRotateKeyIsKilled kills `rotate-key` at each of its steps in turn, once for each: before the new key is in the file, before it
// seals, before each record and the mark are sealed with it, and before the old one is dropped. Whatever is left opens every secret, and
// the next call goes on from there.
func TestRotateKeyIsKilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, service(t))
	h.registerSealed(t)
	keyFile := filepath.Join(h.dir, "data", "sealing.key")
	before, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	h.wantSealed(t, keyFile)

	var killed []string
	for step := 0; ; step++ {
		l := startAnnouncing(t, func(files []*os.File) *process.Process {
			return process.Start(t, process.Command{
				Path: announcing(t), Args: []string{"rotate-key", "--data-dir", filepath.Join(h.dir, "data")}, Files: files,
			})
		})
		point := l.untilSecond(t, step == 0)
		l.Kill()
		h.wantSealed(t, keyFile)
		if point == "" {
			if l.Err() != nil || !strings.Contains(l.Stdout(), "1 old keys were dropped") {
				t.Fatalf("the last call ended with %v:\n%s", l.Err(), l.Output())
			}
			break
		}
		killed = append(killed, point)
	}
	t.Logf("it was killed before %v", killed)
	// The new key, that it seals, each record, the mark, and that the old one is dropped.
	if want := 2 + len(sealedIDs) + 1 + 1; len(killed) != want {
		t.Errorf("it was killed %d times, want %d", len(killed), want)
	}
	after, err := os.ReadFile(keyFile)
	if err != nil || string(after) == string(before) || strings.Count(string(after), `"keyId"`) != 1 {
		t.Errorf("the key file has %d bytes, and had %d, %v", len(after), len(before), err)
	}
	if left, err := filepath.Glob(filepath.Join(h.dir, "data", ".key-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	// The old key opens nothing any more, and says so.
	if err := os.WriteFile(keyFile, before, 0o600); err != nil {
		t.Fatal(err)
	}
	server := h.serve(t, nil)
	server.WaitFor(t, "a word about the key", func(output string) bool {
		return strings.Contains(output, "the sealing key is another than the one the secrets were sealed with")
	})
	<-server.Done()
	if err := os.WriteFile(keyFile, after, 0o600); err != nil {
		t.Fatal(err)
	}
	// While a server runs on the data, the key is not changed.
	server = h.serve(t, nil)
	listening(t, server, "unix")
	refused := process.Start(t, process.Command{Path: h.program, Args: []string{"rotate-key", "--data-dir", filepath.Join(h.dir, "data")}})
	refused.WaitFor(t, "the refusal", func(output string) bool { return strings.Contains(output, "is in use by process") })
	<-refused.Done()
	if refused.Err() == nil {
		t.Error("the key was changed below a server")
	}
	server.Stop(t)
}

// untilSecond lets the program pass its first point and waits until it is at the second, or, where first is set, at the first. It returns
// the point, or nothing where the program ended before.
func (l *life) untilSecond(t *testing.T, first bool) string {
	t.Helper()
	for passed := first; ; passed = true {
		select {
		case point := <-l.points:
			if point != announce.Key && point != announce.Reseal {
				t.Fatalf("it is at the point %q", point)
			}
			if passed {
				return point
			}
			l.passed()
		case <-l.Done():
			return ""
		case <-time.After(patience):
			t.Fatalf("it comes to no point, and does not end:\n%s", l.Output())
		}
	}
}

// registerSealed registers integrations with a secret each, which are paused, and stops the service.
func (h *house) registerSealed(t *testing.T) {
	t.Helper()
	server := h.serve(t, nil)
	c := h.connect(t)
	for _, id := range sealedIDs {
		_, err := c.Service().RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: &integrationv1.Integration{
			IntegrationId: id, TenantId: defendertest.RunTenantID, Paused: true,
			Authentication: &integrationv1.Authentication{
				ClientId:   defendertest.RunAppID,
				Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: "secret of " + id}},
			},
		}}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
	}
	server.Stop(t)
}

// wantSealed checks that the key file opens every secret, and that each is what it was.
func (h *house) wantSealed(t *testing.T, keyFile string) {
	t.Helper()
	sealer, err := store.OpenSealer(keyFile, false)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := store.OpenJetStream(t.Context(), store.Options{Dir: filepath.Join(h.dir, "data"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	}()
	if unopened, err := sealer.CheckKey(t.Context(), opened); err != nil || len(unopened) > 0 {
		t.Fatalf("%v are not opened, %v", unopened, err)
	}
	records, err := opened.Records(t.Context(), "", len(sealedIDs)+1)
	if err != nil || len(records) != len(sealedIDs) {
		t.Fatalf("there are %d records, %v", len(records), err)
	}
	for _, found := range records {
		id := found.Record.GetIntegration().GetIntegrationId()
		secrets, err := sealer.Open(found.Record.GetSealedSecrets(), found.Record.GetUid())
		if err != nil || secrets.GetClientSecret() != fmt.Sprint("secret of ", id) {
			t.Fatalf("the secret of %s: %v", id, err)
		}
	}
}
