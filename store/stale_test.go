package store

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// shortened is a journal of five entries on a cluster, whose stream says that it ends with the third, as it does by a leader that lost touch
// and does not know yet. It returns its URL, the journal's identity, and what gives the entries back.
func shortened(t *testing.T) (url, identity string, giveBack func()) {
	t.Helper()
	url = startServer(t)
	s := openURL(t, url)
	j, checkpoint := writer(t, s, "uid")
	_, err := j.Append(t.Context(), entries(1, 5))
	must(t, err)
	save(t, j, 5)
	identity = checkpoint.GetIdentity()
	name := j.(*jetJournal).stream(identity)
	stream, err := s.js.Stream(t.Context(), name)
	must(t, err)
	var framed [][]byte
	for sequence := range uint64(5) {
		message, err := stream.GetMsg(t.Context(), sequence+1)
		must(t, err)
		framed = append(framed, message.Data)
	}
	// What is given back may be read before its writer is told that it is there, and with that the test may be over.
	ctx := context.WithoutCancel(t.Context())
	put := func(framed [][]byte) {
		for _, data := range framed {
			_, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: j.(*jetJournal).subject(identity), Data: data})
			must(t, err)
		}
	}
	must(t, s.js.DeleteStream(t.Context(), name))
	must(t, j.(*jetJournal).createStream(t.Context(), identity))
	put(framed[:3])
	return url, identity, func() { put(framed[3:]) }
}

// soon gives the entries back in a moment, and waits for that at the end of the test.
func soon(t *testing.T, giveBack func()) {
	t.Helper()
	done := make(chan struct{})
	time.AfterFunc(500*time.Millisecond, func() {
		defer close(done)
		giveBack()
	})
	t.Cleanup(func() { <-done })
}

// What a leader that lost touch does not have is not missing: the journal keeps its identity.
func TestALeaderThatLostTouchDamagesNothing(t *testing.T) {
	t.Parallel() // It waits most of the time.
	t.Run("recovering", func(t *testing.T) {
		url, identity, giveBack := shortened(t)
		j, err := openURL(t, url).Journal(t.Context(), "uid")
		must(t, err)
		soon(t, giveBack)
		checkpoint, err := j.Recover(t.Context())
		must(t, err)
		if checkpoint.GetIdentity() != identity || checkpoint.GetLastSequence() != 5 {
			t.Errorf("it was recovered as %v, want %s through 5", checkpoint, identity)
		}
		wantEntries(t, j, 1, 5, 1, 5)
	})
	t.Run("reading", func(t *testing.T) {
		url, identity, giveBack := shortened(t)
		j, err := openURL(t, url).Journal(t.Context(), "uid")
		must(t, err)
		soon(t, giveBack)
		wantEntries(t, j, 1, 5, 1, 5)
		if j.(*jetJournal).damage.in(identity) {
			t.Error("it counts as damaged")
		}
	})
}

// What a cluster lacks for longer than a leader may have lost touch is missing.
func TestWhatAClusterLacksForLongIsMissing(t *testing.T) {
	t.Parallel()
	url, identity, _ := shortened(t)
	s := openCluster(t, Options{URL: url, Logger: logger(t), staleLeader: 2 * time.Second})
	j, err := s.Journal(t.Context(), "uid")
	must(t, err)
	began := time.Now()
	checkpoint, err := j.Recover(t.Context())
	must(t, err)
	if checkpoint.GetIdentity() == identity || checkpoint.GetLastSequence() != 0 {
		t.Errorf("it was recovered as %v, and lacks two entries", checkpoint)
	}
	if waited := time.Since(began); waited < 2*time.Second {
		t.Errorf("it was given up after %s", waited)
	}
}
