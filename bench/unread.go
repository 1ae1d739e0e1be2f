package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// What streams of which half are left unread are measured with.
const (
	// unreadBacklog is how many alerts there are before the streams begin: 600 KB, more than a stream that is not read lets through.
	unreadBacklog = 100
	// unreadTrickle is how often one more comes, for every stream.
	unreadTrickle = 5 * time.Second
	// unreadPhase is how long each phase is watched, and how long the service lets a stream be unread: so long, all that is stuck
	// stays stuck. The connections are closed as long again after that.
	unreadPhase = 15 * time.Second
	// unreadConnections is how many connections the streams are spread over.
	unreadConnections = 10
)

// phase is what was measured while some time passed.
type phase struct {
	name     string
	service  usage
	received int
	// median and late are how long after the service had seen an alert it arrived: of a half and of 99 % of all.
	median, late time.Duration
}

// unread is what was measured of streams of which half are not read.
type unread struct {
	streams int
	phases  []phase
	// reasons says how often a stream that was not read ended with which reason, as the client learnt when it read at last.
	reasons map[integrationv1.ErrorReason]int
}

// crowd are the streams of one measurement.
type crowd struct {
	*setting
	ctx   context.Context //nolint:containedctx // It is the life of the streams.
	group *errgroup.Group
	conns []*grpc.ClientConn

	mu        sync.Mutex
	latencies []time.Duration
	// behind is how many streams have not received all of the backlog.
	behind   int
	caughtUp chan struct{}
}

// leavingUnread measures streams of which half are not read.
func leavingUnread(ctx context.Context, program string, o options) (r unread, err error) {
	s, err := set(ctx, program, unreadBacklog, o, more{
		play:  []string{"-trickle", unreadTrickle.String()},
		serve: []string{"--unread-limit", unreadPhase.String(), "--poll-fast", "2s"},
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, groupCtx := errgroup.WithContext(ctx)
	c := &crowd{setting: s, ctx: groupCtx, group: group, behind: o.unread, caughtUp: make(chan struct{})}
	r = unread{streams: o.unread, reasons: map[integrationv1.ErrorReason]int{}}
	err = c.measure(&r)
	cancel()
	if ended := group.Wait(); ended != nil {
		err = ended
	}
	for _, conn := range c.conns {
		err = errors.Join(err, conn.Close())
	}
	return r, err
}

// connect makes one more connection, for as long as there are streams. Their windows have the size that gRPC begins with: one that
// grows takes megabytes of a stream that nobody reads, and the service sees nothing of it.
func (c *crowd) connect() (*grpc.ClientConn, error) {
	conn, err := c.dial(grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(16<<20))
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// measure goes through the phases.
func (c *crowd) measure(r *unread) error {
	if err := c.stream(c.ctx, false, new(count).first); err != nil {
		return err
	}
	if err := c.watch(r, "before, one stream", 0); err != nil {
		return err
	}
	half := r.streams / 2
	leave, stop := context.WithCancel(c.ctx)
	defer stop()
	for i := range unreadConnections {
		conn, err := c.connect()
		if err != nil {
			return err
		}
		ctx, n := c.ctx, share(r.streams-half, i/2)
		if i%2 == 0 {
			ctx, n = leave, share(half, i/2)
		}
		for range n {
			c.group.Go(func() error { return c.read(ctx, conn) })
		}
	}
	select {
	case <-c.caughtUp:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	// What came while they caught up is late for that reason.
	if err := c.watch(&unread{}, "", unreadPhase); err != nil {
		return err
	}
	if err := c.watch(r, "all read", unreadPhase); err != nil {
		return err
	}
	stop()
	stuck, err := c.leave(half)
	if err != nil {
		return err
	}
	if err := c.watch(r, "half are stuck", unreadPhase); err != nil {
		return err
	}
	// Until they were ended, their connections closed, and Go has given memory back.
	if err := c.watch(r, "those were ended", 3*unreadPhase); err != nil {
		return err
	}
	for _, stream := range stuck {
		for err = nil; err == nil; {
			_, err = stream.Recv()
		}
		r.reasons[client.Reason(err)]++
	}
	return nil
}

// share returns how many of n streams go over one of half of the connections.
func share(n, i int) int {
	const connections = unreadConnections / 2
	return n/connections + min(1, max(0, n%connections-i))
}

// first says that nothing is to be received after the backlog.
func (c *count) first(event *client.Event) bool {
	if c.ids == nil {
		c.ids = map[string]bool{}
	}
	c.add(event)
	return len(c.ids) < unreadBacklog
}

func (c *crowd) request() *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: integrationID, Reference: "bench",
		Window: &integrationv1.Window{StartTime: timestamppb.New(c.registered.Add(-time.Hour))},
	}
}

// read receives a stream until ctx ends, which is no error; anything else that ends it is.
func (c *crowd) read(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := integrationv1.NewIntegrationServiceClient(conn).StreamAlerts(ctx, c.request(), grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	seen := count{ids: map[string]bool{}}
	for {
		event, err := stream.Recv()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // It was to end.
		}
		if err != nil {
			return fmt.Errorf("a stream that is read ended: %w", err)
		}
		if !seen.add(&client.Event{StreamAlertsResponse: event}) {
			continue
		}
		if seen.repeated > 0 {
			return fmt.Errorf("alert %s came twice", event.GetAlert().GetAlert().GetId())
		}
		c.received(time.Since(event.GetAlert().GetSeenTime().AsTime()), len(seen.ids))
	}
}

// received takes down that a stream received its nth alert.
func (c *crowd) received(after time.Duration, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latencies = append(c.latencies, after)
	if n == unreadBacklog {
		if c.behind--; c.behind == 0 {
			close(c.caughtUp)
		}
	}
}

// leave opens streams from the beginning, over connections of their own, and does not read them.
func (c *crowd) leave(n int) ([]grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse], error) {
	var streams []grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse]
	for i := range unreadConnections / 2 {
		conn, err := c.connect()
		if err != nil {
			return nil, err
		}
		for range share(n, i) {
			stream, err := integrationv1.NewIntegrationServiceClient(conn).StreamAlerts(c.ctx, c.request(), grpc.WaitForReady(true))
			if err != nil {
				return nil, err
			}
			streams = append(streams, stream)
		}
	}
	return streams, nil
}

// watch measures while a time passes.
func (c *crowd) watch(r *unread, name string, d time.Duration) error {
	c.mu.Lock()
	c.latencies = nil
	c.mu.Unlock()
	select {
	case <-time.After(d):
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := phase{name: name}
	p.received, p.median, p.late = percentiles(c.latencies)
	var err error
	p.service, err = c.service.usage()
	r.phases = append(r.phases, p)
	return err
}

// percentiles sorts times, and returns how many there are, and how long a half and 99 % of them are at most.
func percentiles(times []time.Duration) (n int, median, late time.Duration) {
	if len(times) == 0 {
		return 0, 0, 0
	}
	slices.Sort(times)
	return len(times), times[len(times)/2], times[len(times)*99/100]
}

func (r unread) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d streams, of which %d stop reading; an alert every %s to each\n", r.streams, r.streams/2, unreadTrickle)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "phase\tmemory, MB\tpeak, MB\talerts received\tmedian ms\t99 % ms\tagainst all reading")
	var all phase
	for _, p := range r.phases {
		if p.name == "all read" {
			all = p
		}
		ratio := "-"
		if all.late > 0 && p.late > 0 {
			ratio = fmt.Sprintf("%.2f, %.2f", p.median.Seconds()/all.median.Seconds(), p.late.Seconds()/all.late.Seconds())
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%d\t%.1f\t%.1f\t%s\n", p.name, mb(p.service.resident), mb(p.service.peak), p.received,
			p.median.Seconds()*1000, p.late.Seconds()*1000, ratio)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for reason, n := range r.reasons {
		fmt.Fprintf(w, "%d of those that stopped ended with %s\n", n, reason)
	}
	return nil
}
