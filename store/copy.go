package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errCopying is why a store that a copy was to fill is not opened.
var errCopying = errors.New("a copy into this store was not finished, so it is not whole: run the same copy again, which begins it anew")

// durable returns the buckets that outlive every server, in the order in which they are copied. What lapses by itself is not among them.
func durable() []string { return []string{"tests", "ledgers", "records", "checkpoints"} }

// CopyReport tells what was copied.
type CopyReport struct {
	// Integrations is how many are registered, Journals how many journals there are.
	Integrations, Journals int
	// Entries is how many entries all journals have, Bytes what they take.
	Entries, Bytes uint64
}

// Copy copies a store into another, which must hold nothing: a data directory into a cluster, or back. Sequences, revisions and the
// journals' identities stay, so that etags and resume tokens go on working. It uses the engine's own snapshots, and then compares every
// entry and value of both sides. No server may run on either. Secrets stay sealed: the key is no part of a store.
//
// A copy that ended early leaves a mark, by which the other store is opened by no server; the next copy into it begins anew. Told is called
// with each journal that was copied, counted from 1.
func Copy(ctx context.Context, from, to Options, told func(journal, of int, entries uint64)) (report CopyReport, err error) {
	source, err := openSide(ctx, from, true)
	if err != nil {
		return CopyReport{}, fmt.Errorf("the store to copy from: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	// What is written into a directory is made durable as a whole: entry by entry it would take many times as long.
	to.syncLater = true
	target, err := openSide(ctx, to, false)
	if err != nil {
		return CopyReport{}, fmt.Errorf("the store to copy to: %w", err)
	}
	c := &copying{source: source, target: target, told: told}
	if err := c.into(ctx); err != nil {
		return CopyReport{}, errors.Join(err, target.Close())
	}
	if err := target.Close(); err != nil {
		return CopyReport{}, fmt.Errorf("close the store to copy to: %w", err)
	}
	return c.report, finish(ctx, to)
}

// into copies everything into a store that has nothing.
func (c *copying) into(ctx context.Context) error {
	if err := c.survey(ctx); err != nil {
		return fmt.Errorf("the store to copy from: %w", err)
	}
	if err := c.target.clear(ctx); err != nil {
		return fmt.Errorf("the store to copy to: %w", err)
	}
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("%w; what is there by now is of no use: the next copy begins anew", err)
	}
	return nil
}

// finish makes a copy that is whole durable, and then takes its mark away.
func finish(ctx context.Context, to Options) (err error) {
	if to.URL == "" {
		if err := syncTree(to.Dir); err != nil {
			return fmt.Errorf("make the copy durable: %w", err)
		}
	}
	to.syncLater = false
	target, err := openSide(ctx, to, true)
	if err != nil {
		return fmt.Errorf("the store to copy to: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	return target.explain(target.js.DeleteStream(ctx, target.mark()))
}

// openSide reaches one side of a copy, without making anything in it.
func openSide(ctx context.Context, options Options, filled bool) (*JetStream, error) {
	s, err := newJetStream(options)
	if err != nil {
		return nil, err
	}
	if options.URL == "" && filled {
		if _, err := os.Stat(filepath.Join(options.Dir, "jetstream")); err != nil {
			return nil, fmt.Errorf("it holds no data: %w", err)
		}
	}
	if err := s.reach(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if options.URL == "" {
		return s, nil
	}
	if err := checkCopies(s.conn.ConnectedServerVersion()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for _, subject := range []string{"$JS.SNAPSHOT.ACK.check.check", "$JS.SNAPSHOT.RESTORE.check.check"} {
		err := s.conn.PublishMsg(nats.NewMsg(subject))
		denied := false
		if err == nil {
			denied, err = s.denied(subject)
		}
		if denied {
			err = fmt.Errorf("%w: there is no right to publish to %s: let the user publish to $JS.SNAPSHOT.> while it copies", ErrSetup, subject)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// reach starts the server in this process, where none is named, and connects.
func (s *JetStream) reach(ctx context.Context) error {
	if s.options.URL != "" {
		options, err := s.clusterOptions()
		if err != nil {
			return err
		}
		return s.dial(ctx, options...)
	}
	var err error
	if s.embedded, s.room, err = startEmbedded(s.options, s.logger); err != nil {
		return err
	}
	// There is no other server to try, and a machine that is busy may give neither side any time for seconds.
	return s.dial(ctx, nats.InProcessServer(s.embedded), nats.Timeout(s.options.Timeout))
}

// mark returns the name of the stream that says that a copy into the store is under way.
func (s *JetStream) mark() string { return s.options.Prefix + "-copying" }

// checkCopied returns an error where a copy into the store was not finished.
func (s *JetStream) checkCopied(ctx context.Context) error {
	_, err := s.js.Stream(ctx, s.mark())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err == nil {
		return errCopying
	}
	return err
}

// held returns the names of the store's streams, but for the mark.
func (s *JetStream) held(ctx context.Context) ([]string, error) {
	var held []string
	for _, subject := range []string{"$KV.>", s.options.Prefix + ".journal.*.*"} {
		names := s.js.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
		for name := range names.Name() {
			// Another installation may have a prefix that begins like this one: no bucket of ours has a hyphen in what follows.
			rest, bucket := strings.CutPrefix(name, "KV_"+s.options.Prefix+"-")
			if strings.HasPrefix(name, s.options.Prefix+"-journal-") || bucket && !strings.Contains(rest, "-") {
				held = append(held, name)
			}
		}
		if err := names.Err(); err != nil {
			return nil, unavailable(err)
		}
	}
	slices.Sort(held)
	return held, nil
}

// clear makes the store one that a copy fills: it returns an error where it holds anything, but for what a copy left that was not
// finished, which it deletes.
func (s *JetStream) clear(ctx context.Context) error {
	held, err := s.held(ctx)
	if err != nil {
		return err
	}
	begun := s.checkCopied(ctx)
	switch {
	case begun == nil && len(held) > 0:
		return fmt.Errorf("it holds something already, and is left as it is: %s; name an empty one, or delete these streams",
			strings.Join(held, " "))
	case begun != nil && !errors.Is(begun, errCopying):
		return unavailable(begun)
	}
	for _, name := range held {
		if err := s.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return unavailable(err)
		}
	}
	_, err = s.js.CreateOrUpdateStream(ctx, s.placed(jetstream.StreamConfig{
		Name: s.mark(), Subjects: []string{s.options.Prefix + ".copying"}, MaxMsgs: 1,
		Description: "A copy into this store is under way, or was not finished.",
	}, min(s.options.JournalMaxBytes, bucketMaxBytes)))
	return s.explain(err)
}
