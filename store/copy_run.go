package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// copying is one run of Copy.
type copying struct {
	source, target *JetStream
	told           func(journal, of int, entries uint64)
	journals       []copiedJournal
	report         CopyReport
}

// copiedJournal is a journal, as its checkpoint has it.
type copiedJournal struct {
	uid      string
	saved    saved
	revision uint64
}

// on returns the journal in one of the two stores.
func (c copiedJournal) on(s *JetStream) *jetJournal {
	return &jetJournal{store: s, uid: c.uid, view: newView(c.saved, c.revision)}
}

// identity returns the journal's identity.
func (c copiedJournal) identity() string { return c.saved.checkpoint.GetIdentity() }

// survey learns what is to be copied.
func (c *copying) survey(ctx context.Context) error {
	s := c.source
	if err := s.checkCopied(ctx); err != nil {
		return err
	}
	for _, name := range durable() {
		stream, err := s.js.Stream(ctx, "KV_"+s.options.Prefix+"-"+name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("it holds no bucket of %s with the prefix %q of --nats-prefix", name, s.options.Prefix)
		}
		if err != nil {
			return s.explain(err)
		}
		info := stream.CachedInfo()
		if err := checkStreamFormat(info.Config); err != nil {
			return err
		}
		if info.State.Consumers > 0 {
			return fmt.Errorf("a server runs on it, or was killed a moment ago: it watches the bucket of %s; stop all servers and try again", name)
		}
	}
	checkpoints, err := s.js.KeyValue(ctx, s.options.Prefix+"-checkpoints")
	if err != nil {
		return unavailable(err)
	}
	s.checkpoints = checkpoints
	uids, err := keysOf(ctx, s.js, checkpoints)
	if err != nil {
		return unavailable(err)
	}
	for _, uid := range uids {
		saved, revision, err := s.checkpoint(ctx, uid)
		if errors.Is(err, ErrNotFound) {
			continue // Only the mark of its deletion is there.
		}
		if err != nil {
			return fmt.Errorf("journal %s: %w; start a server on the store, which begins a damaged journal anew, and stop it", uid, err)
		}
		c.journals = append(c.journals, copiedJournal{uid: uid, saved: saved, revision: revision})
	}
	return nil
}

// run copies everything and compares it.
func (c *copying) run(ctx context.Context) error {
	for i, journal := range c.journals {
		entries, err := c.journal(ctx, journal)
		if err != nil {
			return fmt.Errorf("journal %s: %w", journal.uid, err)
		}
		c.told(i+1, len(c.journals), entries)
		c.report.Journals++
		c.report.Entries += entries
	}
	for _, name := range durable() {
		if err := c.bucket(ctx, name); err != nil {
			return fmt.Errorf("the bucket of %s: %w", name, err)
		}
	}
	return nil
}

// journal copies a journal, and compares all of its entries. It returns how many there are.
func (c *copying) journal(ctx context.Context, journal copiedJournal) (uint64, error) {
	from, to := journal.on(c.source), journal.on(c.target)
	stats, entries, err := from.stats(ctx, journal.identity())
	if errors.Is(err, jetstream.ErrStreamNotFound) && journal.saved.checkpoint.GetLastSequence() == 0 {
		return 0, nil // It was about to be made.
	}
	if err != nil {
		return 0, unavailable(err)
	}
	if stats.Last < journal.saved.checkpoint.GetLastSequence() || entries != stats.Last+1-stats.First {
		return 0, fmt.Errorf("%w; start a server on the store to copy from, which begins it anew, and stop it", ErrDamaged)
	}
	if most := c.target.options.JournalMaxBytes; most > 0 && stats.Bytes > uint64(most) {
		return 0, fmt.Errorf("it takes %d bytes, and --nats-max-bytes lets a journal take %d", stats.Bytes, most)
	}
	c.report.Bytes += stats.Bytes
	if err := transfer(ctx, c.source, c.target, from.stream(journal.identity()), c.target.options.JournalMaxBytes); err != nil {
		return 0, err
	}
	return entries, compareJournals(ctx, from, to, journal.identity(), stats, entries)
}

// bucket copies a bucket, and compares all that it holds.
func (c *copying) bucket(ctx context.Context, name string) error {
	stream := "KV_" + c.source.options.Prefix + "-" + name
	if err := transfer(ctx, c.source, c.target, stream, min(c.target.options.JournalMaxBytes, bucketMaxBytes)); err != nil {
		return err
	}
	count, err := compareBuckets(ctx, c.source, c.target, stream)
	if strings.HasSuffix(stream, "-records") {
		c.report.Integrations = count
	}
	return err
}
