package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server/stream"
	"defender-integration/store"
)

const integrationID = "contoso"

// house is a whole service but for gRPC and HTTP, in fake time.
type house struct {
	t       *testing.T
	store   *store.Memory
	source  *collectortest.Source
	manager *collector.Manager
	streams *stream.Streams
	stop    func()
}

// newHouse starts a house in the test's bubble, with one integration.
func newHouse(t *testing.T, settings collector.Settings) *house {
	t.Helper()
	h := &house{t: t, store: store.NewMemory(), source: &collectortest.Source{}}
	h.register("uid-1")
	h.start(settings)
	return h
}

func (h *house) register(uid string) {
	h.t.Helper()
	_, err := h.store.CreateRecord(h.t.Context(), &storev1.Record{
		Format: 1, Uid: uid,
		Integration: &integrationv1.Integration{
			IntegrationId:  integrationID,
			TenantId:       "contoso.test",
			Authentication: &integrationv1.Authentication{ClientId: "app"},
			DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES},
			CreateTime:     timestamppb.Now(),
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// start starts what a process runs; crash ends it as a kill would, but for the goroutines.
func (h *house) start(settings collector.Settings) {
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	h.manager = collector.NewManager(collector.Options{
		Settings: settings,
		Store:    h.store,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			h.source.SetSpend(spend)
			return h.source, nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string {
			var keys []string
			for _, k := range match.DeviceKeys(d) {
				keys = append(keys, k.String())
			}
			return keys
		},
		Wanted: func(keys []string) defender.Wanted {
			var w defender.Wanted
			for _, key := range keys {
				if name, ok := strings.CutPrefix(key, match.FullNamePrefix+":"); ok {
					w.FullNames = append(w.FullNames, name)
				}
			}
			return w
		},
		Log: log,
	})
	h.streams = stream.New(ctx, stream.Options{Store: h.store, Collectors: h.manager, Log: log})
	var running sync.WaitGroup
	running.Go(func() { _ = h.manager.Run(ctx) })
	h.stop = func() {
		cancel()
		running.Wait()
		h.streams.Wait()
	}
}

// call is a stream that a test has open.
type call struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu     sync.Mutex
	events []*integrationv1.StreamAlertsResponse
}

// open opens a stream.
func (h *house) open(request *integrationv1.StreamAlertsRequest) *call {
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = h.streams.Stream(ctx, request, func(r *integrationv1.StreamAlertsResponse) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, r)
			return nil
		})
	}()
	return c
}

// close ends a stream and returns its events.
func (c *call) close() []*integrationv1.StreamAlertsResponse {
	c.cancel()
	<-c.done
	return c.events
}

// seen returns the events that came so far.
func (c *call) seen() []*integrationv1.StreamAlertsResponse {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*integrationv1.StreamAlertsResponse(nil), c.events...)
}

// journalled returns the events that rest on the journal, in words that can be compared.
func journalled(events []*integrationv1.StreamAlertsResponse) []string {
	var list []string
	for _, e := range events {
		switch {
		case e.GetAlert() != nil:
			a := e.GetAlert()
			list = append(list, fmt.Sprintf("%s %s %s", a.GetKind(), a.GetAlert().GetId(), a.GetAlert().GetTitle()))
		case e.GetCompleted() != nil:
			for _, v := range e.GetCompleted().GetVerdicts() {
				list = append(list, fmt.Sprintf("%s %s", v.GetActorId(), v.GetVerdict()))
			}
		}
	}
	return list
}

func actorNamed(id, host string) *integrationv1.Actor {
	return &integrationv1.Actor{ActorId: id, HostName: host}
}

// boundedRequest asks for a window that begins now and lasts a minute, with a wait of two.
func boundedRequest(actors ...*integrationv1.Actor) *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: integrationID, Reference: "job-1", Actors: actors,
		Window: &integrationv1.Window{StartTime: timestamppb.Now(), EndTime: timestamppb.New(time.Now().Add(time.Minute))},
		Wait:   durationpb.New(2 * time.Minute),
	}
}

// resumed returns the request with a token.
func resumed(request *integrationv1.StreamAlertsRequest, token string) *integrationv1.StreamAlertsRequest {
	r := proto.CloneOf(request)
	r.ResumeToken = token
	return r
}
