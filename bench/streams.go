package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	// streamsPerConnection is below the 4,096 that one connection carries.
	streamsPerConnection = 1000
	// streamsSettle is how long the service has to come to rest after the last stream was opened, and Go to give memory back.
	streamsSettle = 30 * time.Second
)

// streams is what was measured of many streams on which nothing happens.
type streams struct {
	n int
	// opened is how long it took until each had begun, and openedCPU what the service used of the processor.
	opened, openedCPU time.Duration
	// before and after are what the service had used without streams, and with them at rest.
	before, after usage
	// idle is how long they were left alone, and idleCPU what the service used meanwhile.
	idle, idleCPU time.Duration
	// drained is how long it took from SIGTERM to the end of the process, drainedOf how many streams ended with a reason and a time to
	// come again.
	drained   time.Duration
	drainedOf int
}

// manyStreams opens n streams, leaves them alone for a while, and tells the service to end.
func manyStreams(ctx context.Context, program string, n int, o options) (r streams, err error) {
	s, err := set(ctx, program, loadAlerts, o, more{serve: []string{"--log-level", "warn"}})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r = streams{n: n, idle: o.idle}
	seen := count{ids: map[string]bool{}}
	if err := s.stream(ctx, false, func(event *client.Event) bool {
		seen.add(event)
		return len(seen.ids) < loadAlerts
	}); err != nil {
		return r, err
	}
	if r.before, err = s.service.usage(); err != nil {
		return r, err
	}
	began := time.Now()
	ends, err := s.openStreams(ctx, n)
	if err != nil {
		return r, err
	}
	r.opened = time.Since(began)
	opened, err := s.service.usage()
	if err != nil {
		return r, err
	}
	r.openedCPU = opened.cpu - r.before.cpu
	if err := pause(ctx, streamsSettle); err != nil {
		return r, err
	}
	if r.after, err = s.service.usage(); err != nil {
		return r, err
	}
	if err := pause(ctx, r.idle); err != nil {
		return r, err
	}
	later, err := s.service.usage()
	if err != nil {
		return r, err
	}
	r.idleCPU = later.cpu - r.after.cpu

	began = time.Now()
	service := s.service
	s.service = nil
	if err := service.stop(); err != nil {
		return r, err
	}
	r.drained = time.Since(began)
	for _, end := range ends() {
		if client.Reason(end) == integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING && saysWhen(end) {
			r.drainedOf++
		}
	}
	return r, nil
}

// openStreams opens n streams, each for an Actor, and returns when each has had its first events. ends waits for their ends.
func (s *setting) openStreams(ctx context.Context, n int) (ends func() []error, err error) {
	devices := defendertest.SampleDevices()
	errs := make([]error, n)
	// So many at once, or the last would have to wait longer for the store than it may.
	var begun errgroup.Group
	begun.SetLimit(100)
	var running sync.WaitGroup
	var service integrationv1.IntegrationServiceClient
	for i := range n {
		if i%streamsPerConnection == 0 {
			// It is closed with this process.
			conn, err := s.dial()
			if err != nil {
				return nil, err
			}
			service = integrationv1.NewIntegrationServiceClient(conn)
		}
		through, first := service, make(chan error, 1)
		begun.Go(func() error { return <-first })
		running.Go(func() {
			errs[i] = follow(ctx, through, &integrationv1.StreamAlertsRequest{
				IntegrationId: integrationID, Reference: fmt.Sprint("stream ", i),
				Actors: []*integrationv1.Actor{{ActorId: "actor", FqHostName: devices[i%len(devices)].DNSName}},
			}, first)
		})
	}
	return func() []error {
		running.Wait()
		return errs
	}, begun.Wait()
}

// follow receives a stream and returns why it ended. It tells first when `actors` and `progress` have come, or why they did not.
func follow(
	ctx context.Context, service integrationv1.IntegrationServiceClient, request *integrationv1.StreamAlertsRequest, first chan<- error,
) error {
	call, err := service.StreamAlerts(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		first <- err
		return err
	}
	for began := false; ; {
		event, err := call.Recv()
		if !began && (err != nil || event.GetProgress() != nil) {
			first <- err
			began = true
		}
		if err != nil {
			return err
		}
	}
}

// saysWhen says whether a failed call carries when to come again.
func saysWhen(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok && info.GetRetryDelay().AsDuration() > 0 {
			return true
		}
	}
	return false
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// temporary makes a folder; remove removes it.
func temporary() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", "bench")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

func (r streams) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d streams, each for an Actor, on which nothing happens\n", r.n)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "seconds until all had begun\t%.2f\n", r.opened.Seconds())
	fmt.Fprintf(t, "CPU of the service for that, ms a stream\t%.3f\n", milliseconds(r.openedCPU)/float64(r.n))
	fmt.Fprintf(t, "memory without streams, MB\t%.0f\n", mb(r.before.resident))
	fmt.Fprintf(t, "memory with them, MB\t%.0f\n", mb(r.after.resident))
	fmt.Fprintf(t, "peak memory, MB\t%.0f\n", mb(r.after.peak))
	fmt.Fprintf(t, "memory of each, KiB\t%.1f\n", float64(r.after.resident-r.before.resident)/1024/float64(r.n))
	if r.idle > 0 {
		fmt.Fprintf(t, "CPU of the service while idle, %% of one core\t%.1f\n", 100*r.idleCPU.Seconds()/r.idle.Seconds())
	}
	fmt.Fprintf(t, "seconds from SIGTERM to its end\t%.2f\n", r.drained.Seconds())
	fmt.Fprintf(t, "streams that were told why, and when to come again\t%d\n", r.drainedOf)
	return t.Flush()
}
