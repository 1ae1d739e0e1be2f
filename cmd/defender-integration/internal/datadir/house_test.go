package datadir_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// The names inside a version's folder.
const (
	dataFolder    = "data"
	keyFile       = "sealing.key"
	streamsFolder = "streams"
)

// copied returns a copy of a version's data directory, with the modes that git does not keep.
func copied(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), dataFolder)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(version, dataFolder))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, keyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openStore opens the real engine on a data directory. The caller closes it.
func openStore(t *testing.T, dir string) *store.JetStream {
	t.Helper()
	s, err := store.OpenJetStream(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// house is the streams over a data directory, with their collectors. Nothing is asked of Microsoft: the integrations are paused.
type house struct {
	streams *stream.Streams
	close   func()
}

func openHouse(t *testing.T, dir string) *house {
	t.Helper()
	s := openStore(t, dir)
	settings := collector.DefaultSettings()
	// What is kept is as old as the fixture.
	settings.RetentionAge = 200 * 365 * 24 * time.Hour
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	manager := collector.NewManager(collector.Options{
		Settings: settings, Store: s, Log: log,
		Connect: func(*storev1.Record, defender.SpendFunc) (collector.Source, error) {
			return &collectortest.Source{}, nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string { return keyTexts(match.DeviceKeys(d)) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	h := &house{streams: stream.New(ctx, stream.Options{Store: s, Collectors: manager, Log: log})}
	var running sync.WaitGroup
	running.Go(func() { _ = manager.Run(ctx) })
	h.close = func() {
		cancel()
		running.Wait()
		h.streams.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	return h
}

func keyTexts(keys []match.Key) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = k.String()
	}
	return list
}

// read returns what a stream sends of the journal: through its end, or until it tells that it is paused and so has sent all. first is
// its first event.
func (h *house) read(t *testing.T, request *integrationv1.StreamAlertsRequest) (first *integrationv1.StreamAlertsResponse, events []*integrationv1.StreamAlertsResponse) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := h.streams.Stream(ctx, request, func(e *integrationv1.StreamAlertsResponse) error {
		if first == nil {
			first = e
		}
		switch {
		case e.GetAlert() != nil, e.GetCompleted() != nil:
			events = append(events, e)
		case e.GetProgress().GetPhase() == integrationv1.ProgressEvent_PHASE_PAUSED:
			return errCaughtUp
		}
		return nil
	})
	if err != nil && !errors.Is(err, errCaughtUp) {
		t.Fatal(err)
	}
	return first, events
}

// errCaughtUp ends a stream that has sent all that the journal has.
var errCaughtUp = errors.New("all was sent")
