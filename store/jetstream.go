package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// Options say where a JetStream store keeps its data.
type Options struct {
	// Dir is the data directory of the server in this process. It is made with mode 0700 and locked. It is not used with URL.
	Dir string
	// MaxBytes is how many bytes the store may take in Dir; 0: three quarters of what the disk has for it at the start. Entries
	// are refused beyond it, checkpoints and records still fit. It is not used with URL: a cluster has limits of its own.
	MaxBytes int64
	// URL names an existing NATS server or cluster (a comma between several), which takes the place of the server in this process.
	URL string
	// Access says how the cluster is reached and trusted.
	Access Access
	// Replicas is how many servers of a cluster keep each entry; 0: one.
	Replicas int
	// PlacementCluster and PlacementTags say which servers of a cluster keep entries, by their own cluster's name and by their tags;
	// empty: any.
	PlacementCluster string
	PlacementTags    []string
	// JournalMaxBytes bounds what each journal may take on a cluster, in bytes; 0: only the cluster's own limits do.
	JournalMaxBytes int64
	// Prefix begins the names of streams, buckets and subjects, so that several installations can share a cluster: letters,
	// digits, - and _. Empty: "defender".
	Prefix string
	// Timeout bounds each call of the engine, and connecting to the one in this process; 0: 10 seconds, which is longer than a
	// cluster takes to choose another leader.
	Timeout time.Duration
	// Logger gets what the server in this process warns of; nil: it is dropped.
	Logger *slog.Logger
	// Metrics is where the metrics of the server in this process are registered; nil: nowhere.
	Metrics prometheus.Registerer

	// syncLater leaves it to whoever writes to make the data directory durable at the end.
	syncLater bool
	// staleLeader is that of the constant, where a test wants another.
	staleLeader time.Duration
}

// maxReading is how many records are read at one time. Each stream that begins reads one, and after a restart thousands begin at once: the
// engine answers in turn, so that all else that is asked of it, readiness too, would wait behind them, and the last of them for longer than
// it may. Who waits for room waits no longer than readingPatience: an engine that does not answer is told.
const (
	maxReading      = 32
	readingPatience = 30 * time.Second
)

// JetStream is the store on NATS JetStream.
//
// A journal is a stream, named by the journal's uid and identity, so that what an old writer sends to a journal that was renewed
// or deleted has nowhere to go. Its checkpoint is in a bucket, outside the stream. Records, ledgers and tests have a bucket each.
type JetStream struct {
	options  Options
	logger   *slog.Logger
	embedded *embedded // nil on a cluster
	room     *room     // nil on a cluster
	conn     *nats.Conn
	js       jetstream.JetStream

	records, ledgers, tests, checkpoints jetstream.KeyValue

	notesMu sync.Mutex
	notes   jetstream.KeyValue // nil until it is first used

	// closing ends the watches, tasks waits for them.
	closing context.Context //nolint:containedctx // It is the life of the store, which Close ends.
	close   context.CancelFunc
	tasks   sync.WaitGroup

	recent *recent
	// reading has room for as many records as may be read at one time.
	reading chan struct{}
	// framers has framers for Append, to be used again for whichever journal.
	framers sync.Pool

	mu       sync.Mutex
	journals map[string]*jetJournal
	closed   bool
}

var _ Store = (*JetStream)(nil)

// OpenJetStream opens the store, and makes what is missing. A data directory that another process uses is refused with what is
// known of that process.
func OpenJetStream(ctx context.Context, options Options) (*JetStream, error) {
	s, err := newJetStream(options)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), s.Close())
	}
	return s, nil
}

// newJetStream checks the options and fills in what they leave out.
func newJetStream(options Options) (*JetStream, error) {
	options.Prefix = cmp.Or(options.Prefix, "defender")
	options.Timeout = cmp.Or(options.Timeout, 10*time.Second)
	options.Replicas = cmp.Or(options.Replicas, 1)
	if err := checkUID(options.Prefix); err != nil {
		return nil, fmt.Errorf("the prefix: %w", err)
	}
	s := &JetStream{
		options:  options,
		logger:   cmp.Or(options.Logger, slog.New(slog.DiscardHandler)),
		recent:   newRecent(),
		reading:  make(chan struct{}, maxReading),
		journals: make(map[string]*jetJournal),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	return s, nil
}

// open reaches the server and makes what is missing.
func (s *JetStream) open(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.register(); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if s.embedded != nil {
		s.tasks.Go(s.keep)
	}
	return nil
}

// prepare makes the buckets and starts to watch the checkpoints.
func (s *JetStream) prepare(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.checkCopied(ctx)
	if err != nil {
		return unavailable(err)
	}
	for name, bucket := range map[string]*jetstream.KeyValue{
		"records": &s.records, "ledgers": &s.ledgers, "tests": &s.tests, "checkpoints": &s.checkpoints,
	} {
		if *bucket, err = s.bucket(ctx, s.options.Prefix+"-"+name); err != nil {
			return fmt.Errorf("the bucket of %s: %w", name, s.explain(err))
		}
	}
	return s.explain(s.watchCheckpoints())
}

// dial connects, and sees that a cluster can be used.
func (s *JetStream) dial(ctx context.Context, to ...nats.Option) (err error) {
	s.conn, err = nats.Connect(s.options.URL, append(to,
		nats.Name("defender-integration"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		// What cannot be sent now must fail now: sent later, it would be a late write.
		nats.ReconnectBufSize(-1),
	)...)
	if err != nil {
		return s.explain(err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return unavailable(err)
	}
	if s.options.URL == "" {
		return nil
	}
	return s.check(ctx)
}

// bucket opens a bucket, and makes it where there is none.
func (s *JetStream) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	return s.openBucket(ctx, name, s.bucketConfig(name))
}

// openBucket opens a bucket whose stream is made so.
func (s *JetStream) openBucket(ctx context.Context, name string, config jetstream.StreamConfig) (jetstream.KeyValue, error) {
	if err := s.ensureStream(ctx, config); err != nil {
		return nil, err
	}
	return s.js.KeyValue(ctx, name)
}

// bound returns a context for one call of the engine.
func (s *JetStream) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.options.Timeout)
}

// Ready implements Store.
func (s *JetStream) Ready(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if _, err := s.checkpoints.Status(ctx); err != nil {
		return unavailable(err)
	}
	if s.embedded != nil {
		if err := errors.Join(s.embedded.well(), s.room.takes()); err != nil {
			return err
		}
	}
	return s.fits(ctx, MaxEntrySize)
}

// Close implements Store.
func (s *JetStream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, journal := range s.journals {
		journal.end(errClosed)
	}
	s.mu.Unlock()

	s.close()
	s.tasks.Wait()
	if s.conn != nil {
		s.conn.Close()
	}
	if s.embedded != nil {
		return s.embedded.close()
	}
	return nil
}

// errDisconnected is what a store returns while its server does not run, or its cluster cannot be reached.
var errDisconnected = fmt.Errorf("%w: there is no connection to its server", ErrUnavailable)

// unavailable wraps an error of the engine that is not one that callers branch on. A context that the caller ended stays its own,
// and so does what a later version wrote.
func unavailable(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, ErrUnavailable), errors.Is(err, ErrVersion), errors.Is(err, errCopying):
		return err
	case errors.Is(err, nats.ErrConnectionClosed):
		return errClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return errDisconnected
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
