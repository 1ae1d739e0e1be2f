package acceptance_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// resumer is a stream of the Director's that resumes by package client, whatever happens to the service: where its token is refused,
// with the oldest that works, which is told apart by that refusal. It keeps what it hears, in order.
type resumer struct {
	request *integrationv1.StreamAlertsRequest

	mu      sync.Mutex
	heard   []heard
	hashes  map[[sha256.Size]byte]bool // of the alerts among them
	changed chan struct{}              // closed and made anew with each
	ended   error
}

// heard is something that a resumer heard: an event, or why it was sent away for good.
type heard struct {
	when time.Time
	at   place             // of an event
	hash [sha256.Size]byte // of an alert's bytes
	key  string            // an alert's id; else ""
	// pairs and problem are a progress event's.
	pairs   []*integrationv1.Pair
	problem *integrationv1.Problem
	gap     bool
	// reason is why the stream was ended otherwise than to come again.
	reason integrationv1.ErrorReason
}

// resume starts a resumer, which ends with the test.
func (h *house) resume(t *testing.T, request *integrationv1.StreamAlertsRequest) *resumer {
	t.Helper()
	return resumeBy(t, h.connect(t), request)
}

// resumeBy starts a resumer by a client.
func resumeBy(t *testing.T, c *client.Client, request *integrationv1.StreamAlertsRequest) *resumer {
	t.Helper()
	r := &resumer{request: request, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := r.run(ctx, c)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = err
		r.wake()
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// run reads until ctx ends, or something that no resuming mends.
func (r *resumer) run(ctx context.Context, c *client.Client) error {
	token := ""
	for {
		request := r.request
		request.ResumeToken = token
		stream := c.Alerts(request)
		err := r.read(ctx, stream)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.note(heard{reason: client.Reason(err)})
		token = stream.Acknowledged()
		refused, isRefused := errors.AsType[*client.TokenError](err)
		switch {
		case isRefused && refused.OldestToken != "":
			token = refused.OldestToken
		case client.Reason(err) == integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND:
			// It is registered again, if it was lost.
			if err := r.untilRegistered(ctx, c); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// untilRegistered waits until the integration is there.
func (r *resumer) untilRegistered(ctx context.Context, c *client.Client) error {
	for {
		_, err := c.Service().GetIntegration(ctx, &integrationv1.GetIntegrationRequest{IntegrationId: r.request.GetIntegrationId()})
		if err == nil || client.Reason(err) != integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read hears one stream, and acknowledges each event.
func (r *resumer) read(ctx context.Context, stream *client.Stream) error {
	for event, err := range stream.Events(ctx) {
		if err != nil {
			return err
		}
		at, err := placeOf(event.GetResumeToken())
		if err != nil {
			return err
		}
		h := heard{at: at, gap: event.GetGap() != nil, pairs: event.GetProgress().GetPairs(), problem: event.GetProgress().GetProblem()}
		if alert := event.GetAlert(); alert != nil {
			h.hash, h.key = sha256.Sum256(alert.GetRaw()), alert.GetAlert().GetId()
		}
		r.note(h)
		event.Ack()
	}
	return nil
}

func (r *resumer) note(h heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.when = time.Now()
	r.heard = append(r.heard, h)
	if h.key != "" {
		if r.hashes == nil {
			r.hashes = map[[sha256.Size]byte]bool{}
		}
		r.hashes[h.hash] = true
	}
	r.wake()
}

// hears says whether a revision was heard.
func (r *resumer) hears(hash [sha256.Size]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hashes[hash]
}

// wake needs the lock.
func (r *resumer) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// all returns what was heard so far.
func (r *resumer) all() []heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

// until waits until what was heard fulfils a condition.
func (r *resumer) until(t *testing.T, what string, fulfilled func([]heard) bool) {
	t.Helper()
	limit := time.After(2 * patience)
	for {
		r.mu.Lock()
		all, changed, ended := slices.Clip(r.heard), r.changed, r.ended
		r.mu.Unlock()
		if fulfilled(all) {
			return
		}
		if ended != nil {
			t.Fatalf("waiting for %s: the stream ended: %v", what, ended)
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("waiting for %s: of %d things heard none is it", what, len(all))
		}
	}
}

// identities returns the journals that were heard, in order.
func identities(all []heard) []string {
	var names []string
	for _, h := range all {
		if h.at.journal != "" && !slices.Contains(names, h.at.journal) {
			names = append(names, h.at.journal)
		}
	}
	return names
}

// times counts how often each revision was heard in a journal; in all where none is named.
func times(all []heard, journal string) map[[sha256.Size]byte]int {
	counts := map[[sha256.Size]byte]int{}
	for _, h := range all {
		if h.key != "" && (journal == "" || h.at.journal == journal) {
			counts[h.hash]++
		}
	}
	return counts
}

// reasons returns why the stream was ended, in order.
func reasons(all []heard) []integrationv1.ErrorReason {
	var list []integrationv1.ErrorReason
	for _, h := range all {
		if h.reason != integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED || h.at.journal == "" {
			list = append(list, h.reason)
		}
	}
	return list
}
