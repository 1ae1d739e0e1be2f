package acceptance_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"defender-integration/acceptance/process"
	storev1 "defender-integration/gen/defender/integration/store/v1"
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
	s := newSealed(t)
	before, err := os.ReadFile(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.want(t)

	var killed []string
	for step := 0; ; step++ {
		l := s.rotate(t)
		point := l.untilSecond(t, step == 0)
		l.Kill()
		s.want(t)
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
	after, err := os.ReadFile(s.keyFile)
	if err != nil || string(after) == string(before) || strings.Count(string(after), `"keyId"`) != 1 {
		t.Errorf("the key file has %d bytes, and had %d, %v", len(after), len(before), err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".sealing.key*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	// While another process has the data, the key is not changed.
	opened := s.open(t)
	// The old key opens nothing any more.
	old := filepath.Join(t.TempDir(), "old.key")
	if err := os.WriteFile(old, before, 0o600); err != nil {
		t.Fatal(err)
	}
	sealer, err := store.OpenSealer(old, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.CheckKey(t.Context(), opened); !errors.Is(err, store.ErrKey) {
		t.Errorf("with the old key: %v", err)
	}
	refused := s.rotate(t)
	refused.WaitFor(t, "the refusal", func(output string) bool { return strings.Contains(output, "is in use by process") })
	<-refused.Done()
	if refused.Err() == nil {
		t.Error("the key was changed below another process")
	}
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(s.keyFile); err != nil || !bytes.Equal(now, after) {
		t.Errorf("the key file is another, %v", err)
	}
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

// sealedData is a data directory with integrations whose secrets are sealed.
type sealedData struct{ dir, keyFile string }

func newSealed(t *testing.T) sealedData {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := sealedData{dir: dir, keyFile: filepath.Join(dir, "sealing.key")}
	opened := s.open(t)
	sealer, err := store.OpenSealer(s.keyFile, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range sealedIDs {
		sealed, err := sealer.Seal(&storev1.Secrets{ClientSecret: "secret of " + id}, "uid-"+id)
		if err != nil {
			t.Fatal(err)
		}
		_, err = opened.CreateRecord(t.Context(), &storev1.Record{
			Format: 1, Uid: "uid-" + id, SealedSecrets: sealed, Integration: &integrationv1.Integration{IntegrationId: id},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The mark of the key is made.
	if unopened, err := sealer.CheckKey(t.Context(), opened); err != nil || len(unopened) > 0 {
		t.Fatalf("%v are not opened, %v", unopened, err)
	}
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// rotate starts `rotate-key`.
func (s sealedData) rotate(t *testing.T) *life {
	t.Helper()
	return startAnnouncing(t, func(files []*os.File) *process.Process {
		return process.Start(t, process.Command{Path: announcing(t), Args: []string{"rotate-key", "--data-dir", s.dir}, Files: files})
	})
}

func (s sealedData) open(t *testing.T) *store.JetStream {
	t.Helper()
	opened, err := store.OpenJetStream(t.Context(), store.Options{Dir: s.dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// want checks that the key file opens every secret, and that each is what it was.
func (s sealedData) want(t *testing.T) {
	t.Helper()
	sealer, err := store.OpenSealer(s.keyFile, false)
	if err != nil {
		t.Fatal(err)
	}
	opened := s.open(t)
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
