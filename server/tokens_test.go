package server_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/stream"
)

// streamHouse is the harness with real streams and collectors in fake time: all of the service but HTTP.
type streamHouse struct {
	*harness

	source *collectortest.Source
}

// newStreamHouse starts one with two integrations, contoso and fabrikam, which keep their journals for an hour.
func newStreamHouse(t *testing.T) *streamHouse {
	t.Helper()
	h := &streamHouse{harness: newHarness(t, harnessOptions{}), source: &collectortest.Source{}}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	settings := collector.DefaultSettings()
	settings.RetentionAge = time.Hour
	manager := collector.NewManager(collector.Options{
		Settings: settings, Store: h.store, Log: log,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			h.source.SetSpend(spend)
			return h.source, nil
		},
		DeviceKeys: func(*integrationv1.Device) []string { return nil },
	})
	streams := stream.New(ctx, stream.Options{Store: h.store, Collectors: manager, Log: log})
	h.streams.run = streams.Stream
	var running sync.WaitGroup
	running.Go(func() { _ = manager.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		streams.Wait()
	})
	h.register(t, contoso())
	h.register(t, contoso(func(i *integrationv1.Integration) { i.IntegrationId = "fabrikam" }))
	return h
}

// tokenRequest is the request whose tokens the table is about.
func tokenRequest() *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: "contoso", Reference: "job-1",
		Actors: []*integrationv1.Actor{{ActorId: "one", HostName: "ws-one"}, {ActorId: "two", HostName: "ws-two"}},
		Window: &integrationv1.Window{StartTime: timestamppb.Now(), EndTime: timestamppb.New(time.Now().Add(24 * time.Hour))},
		Wait:   durationpb.New(2 * time.Hour),
	}
}

// first opens a stream and returns its first event, or why it was refused.
func (h *streamHouse) first(t *testing.T, request *integrationv1.StreamAlertsRequest) (*integrationv1.StreamAlertsResponse, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	opened, err := h.client.StreamAlerts(ctx, request)
	if err != nil {
		cancel()
		return nil, err
	}
	event, err := opened.Recv()
	cancel()
	for end := err; end == nil; {
		_, end = opened.Recv()
	}
	return event, err
}

// reopened returns a token as its bytes are taken apart by whoever knows its form, and a function that puts it together.
func reopened(t *testing.T, text string) (token *storev1.ResumeToken, seal func(*storev1.ResumeToken) string) {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	token = &storev1.ResumeToken{}
	if err := proto.Unmarshal(data[:len(data)-4], token); err != nil {
		t.Fatal(err)
	}
	return token, func(token *storev1.ResumeToken) string {
		body, err := proto.Marshal(token)
		if err != nil {
			t.Fatal(err)
		}
		sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
		return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(body, sum))
	}
}

// Every way in which a resume token is refused: the code, the reason, the words, and what may be changed without that.
func TestResumeTokenRefusals(t *testing.T) {
	const (
		invalid = integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID
		foreign = integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN
		wrong   = integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
		// A position beyond the end is one that the journal lost.
		replaced = integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED
		works    = integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	)
	unknown := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "of a later version")
	// text changes the text of the token, token what is in it, request the request; each may be nil.
	tests := map[string]struct {
		text    func(string) string
		token   func(*storev1.ResumeToken)
		request func(*integrationv1.StreamAlertsRequest)
		reason  integrationv1.ErrorReason
		words   string
	}{
		"as it came":          {reason: works},
		"another reference":   {request: func(r *integrationv1.StreamAlertsRequest) { r.Reference = "job-2" }, reason: works},
		"with raw bytes":      {request: func(r *integrationv1.StreamAlertsRequest) { r.IncludeRaw = true }, reason: works},
		"Actors in disorder":  {request: func(r *integrationv1.StreamAlertsRequest) { slices.Reverse(r.GetActors()) }, reason: works},
		"a default written":   {request: func(r *integrationv1.StreamAlertsRequest) { r.OnTime = durationpb.New(30 * time.Minute) }, reason: works},
		"the journal's start": {token: func(r *storev1.ResumeToken) { r.Sequence, r.Ordinal = 0, math.MaxUint32 }, reason: works},
		"a field twice": {text: func(text string) string {
			token, _ := reopened(t, text)
			body, _ := proto.Marshal(token)
			body = append(append([]byte(nil), body...), body...) // What stands last holds, and is the same.
			return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))))
		}, reason: works},

		"too long":         {text: func(string) string { return strings.Repeat("A", 4097) }, reason: wrong, words: "resume_token"},
		"no token":         {text: func(string) string { return "give me all" }, reason: invalid, words: "it is not a resume token"},
		"too short":        {text: func(string) string { return "AAAA" }, reason: invalid, words: "it is not a resume token"},
		"one letter less":  {text: func(text string) string { return text[:len(text)-1] }, reason: invalid, words: "give the token of an event exactly as it came"},
		"another letter":   {text: func(text string) string { return "A" + text[1:] }, reason: invalid, words: "it is damaged"},
		"a later format":   {token: func(r *storev1.ResumeToken) { r.Format = 2 }, reason: invalid, words: "it is of another version of this service"},
		"no format":        {token: func(r *storev1.ResumeToken) { r.Format = 0 }, reason: invalid, words: "it is of another version of this service"},
		"an unknown field": {token: func(r *storev1.ResumeToken) { r.ProtoReflect().SetUnknown(unknown) }, reason: invalid, words: "another version"},
		"no position":      {token: func(r *storev1.ResumeToken) { r.Sequence, r.Ordinal = 0, 1 }, reason: invalid, words: "it is damaged"},
		"beyond the end":   {token: func(r *storev1.ResumeToken) { r.Sequence = 1000 }, reason: replaced, words: "the journal was replaced"},
		"far beyond it":    {token: func(r *storev1.ResumeToken) { r.Sequence = math.MaxUint64 }, reason: replaced, words: "the journal was replaced"},
		"begun beyond it":  {token: func(r *storev1.ResumeToken) { r.StartSequence = 1000 }, reason: replaced, words: "the journal was replaced"},
		"no start": {
			token:   func(r *storev1.ResumeToken) { r.StartTime = nil },
			request: func(r *integrationv1.StreamAlertsRequest) { r.Window = nil }, reason: invalid, words: "it is damaged",
		},

		"another integration": {request: func(r *integrationv1.StreamAlertsRequest) { r.IntegrationId = "fabrikam" }, reason: foreign, words: "differs in integration_id"},
		"an Actor less":       {request: func(r *integrationv1.StreamAlertsRequest) { r.Actors = r.GetActors()[1:] }, reason: foreign, words: "differs in actors"},
		"every device":        {request: func(r *integrationv1.StreamAlertsRequest) { r.Actors = nil }, reason: foreign, words: "differs in actors"},
		"an Actor's name":     {request: func(r *integrationv1.StreamAlertsRequest) { r.Actors[0].HostName = "ws-three" }, reason: foreign, words: "differs in actors"},
		"an Actor's field of a later version": {request: func(r *integrationv1.StreamAlertsRequest) {
			r.GetActors()[0].ProtoReflect().SetUnknown(unknown)
		}, reason: foreign, words: "differs in actors"},
		"another start": {request: func(r *integrationv1.StreamAlertsRequest) { r.Window.StartTime.Seconds++ }, reason: foreign, words: "differs in window"},
		"no end":        {request: func(r *integrationv1.StreamAlertsRequest) { r.Window.EndTime = nil }, reason: foreign, words: "differs in window"},
		"another wait":  {request: func(r *integrationv1.StreamAlertsRequest) { r.Wait = nil }, reason: foreign, words: "differs in wait, tolerance, on_time or min_confidence"},
		"another tolerance": {request: func(r *integrationv1.StreamAlertsRequest) { r.Tolerance = durationpb.New(time.Second) },
			reason: foreign, words: "differs in wait, tolerance, on_time or min_confidence"},
		"another on_time": {request: func(r *integrationv1.StreamAlertsRequest) { r.OnTime = durationpb.New(time.Second) },
			reason: foreign, words: "differs in wait, tolerance, on_time or min_confidence"},
	}
	synctest.Test(t, func(t *testing.T) {
		h := newStreamHouse(t)
		time.Sleep(20 * time.Minute) // A journal with an entry: the pair of a re-read.
		original := tokenRequest()
		event, err := h.first(t, original)
		if err != nil {
			t.Fatal(err)
		}
		for name, test := range tests {
			request := proto.CloneOf(original)
			text := event.GetResumeToken()
			if test.token != nil {
				token, seal := reopened(t, text)
				test.token(token)
				if test.request != nil {
					token.Binding = nil // It is looked at before.
				}
				text = seal(token)
			}
			if test.text != nil {
				text = test.text(text)
			}
			if test.request != nil {
				test.request(request)
			}
			request.ResumeToken = text
			got, err := h.first(t, request)
			if test.reason == works {
				if err != nil || got.GetReference() != request.GetReference() {
					t.Errorf("%s: %v, %v", name, got, err)
				}
				continue
			}
			t.Log(name)
			code := codes.InvalidArgument
			if test.reason == replaced {
				code = codes.OutOfRange
			}
			info := wantFailure(t, err, code, test.reason, test.words)
			if test.reason == foreign && !strings.HasSuffix(test.words, " "+info.GetMetadata()["differs"]) && info.GetMetadata()["differs"] != "wait, tolerance, on_time or min_confidence" {
				t.Errorf("%s: metadata %v", name, info.GetMetadata())
			}
		}
	})
}

// A token below what is kept, and one of a journal that is no more, are refused with the oldest token that works, and it does.
func TestResumeTokensThatOutlivedTheirJournal(t *testing.T) {
	for name, test := range map[string]struct {
		lose   func(t *testing.T, h *streamHouse)
		reason integrationv1.ErrorReason
		words  string
	}{
		"trimmed": {
			lose:   func(*testing.T, *streamHouse) { time.Sleep(5 * time.Hour) },
			reason: integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED, words: "no longer kept",
		},
		"damaged": {
			lose: func(t *testing.T, h *streamHouse) {
				record, _, err := h.store.Record(t.Context(), "contoso")
				if err != nil {
					t.Fatal(err)
				}
				h.store.Damage(record.GetUid(), 1)
				// Who reads the entry finds the damage, and is told to come again.
				reader, err := h.client.StreamAlerts(t.Context(), &integrationv1.StreamAlertsRequest{
					IntegrationId: "contoso", Window: &integrationv1.Window{StartTime: timestamppb.New(time.Unix(946_684_800, 0))},
				})
				for err == nil {
					_, err = reader.Recv()
				}
				wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE)
				wantRetry(t, err)
				time.Sleep(10 * time.Minute)
			},
			reason: integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED, words: "the journal was replaced",
		},
		"registered again": {
			lose: func(t *testing.T, h *streamHouse) {
				if _, err := h.client.DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso"}); err != nil {
					t.Fatal(err)
				}
				h.register(t, contoso())
				time.Sleep(time.Minute)
			},
			reason: integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED, words: "the journal was replaced",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newStreamHouse(t)
				time.Sleep(20 * time.Minute)
				request := tokenRequest()
				event, err := h.first(t, request)
				if err != nil {
					t.Fatal(err)
				}
				test.lose(t, h)
				request.ResumeToken = event.GetResumeToken()
				_, err = h.first(t, request)
				info := wantFailure(t, err, codes.OutOfRange, test.reason, test.words, "resume with the oldest token that works")
				request.ResumeToken = info.GetMetadata()["oldest_resume_token"]
				if got, err := h.first(t, request); err != nil {
					t.Errorf("the oldest token that works: %v, %v", got, err)
				}
			})
		})
	}
}

// A stream whose integration is deleted ends with NOT_FOUND and the reason; a bounded one that was completed ends with OK.
func TestStreamEndsOverTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStreamHouse(t)
		bounded := tokenRequest()
		bounded.Window.EndTime, bounded.Wait = timestamppb.New(time.Now().Add(time.Minute)), durationpb.New(time.Minute)
		completes, err := h.client.StreamAlerts(t.Context(), bounded)
		if err != nil {
			t.Fatal(err)
		}
		var last *integrationv1.StreamAlertsResponse
		for {
			event, err := completes.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = event
		}
		if last.GetCompleted().GetPair() == nil {
			t.Errorf("the last event is %v", last)
		}
		follows, err := h.client.StreamAlerts(t.Context(), &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := follows.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.client.DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso"}); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = follows.Recv()
		}
		wantFailure(t, err, codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, `"contoso"`)
	})
}
