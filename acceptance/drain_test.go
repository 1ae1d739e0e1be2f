package acceptance_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"defender-integration/acceptance/process"
	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// drainStreams is how many streams there are when the service is told to end; ACCEPTANCE_STREAMS sets it.
func drainStreams(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ACCEPTANCE_STREAMS")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ACCEPTANCE_STREAMS is %q and must be a number of streams", text)
	}
	return n
}

// TestDrain tells the service to end (SIGTERM) while it has many streams and alerts appear and change. Each stream gets what was sent to
// it and then a status that says that it may come again, and when; the process ends in time; and all that resume with their last tokens
// have everything once, by the record of the simulated side.
func TestDrain(t *testing.T) {
	t.Parallel()
	d := &drainRun{t: t, house: newHouse(t, service(t)), streams: make([]*drainedStream, drainStreams(t))}
	d.start()
	d.house.register(t, d.house.connect(t), integrationv1.DeviceSource_KIND_MACHINES)
	began := d.house.microsoft.Now()
	for i := range d.streams {
		d.streams[i] = newDrainedStream(began, i)
	}
	ends := d.open()
	d.load(40)
	d.settle()

	rest := d.loading()
	took := d.drain()
	d.wantDraining(ends())
	rest()
	d.load(20)

	d.start()
	ends = d.open()
	d.load(40)
	d.settle()
	d.furtherPolls()
	d.load(len(drainedDevices()))
	d.settle()
	d.service.Stop(t)
	d.wantDraining(ends())
	d.verify()
	t.Logf("%d streams, %d revisions: the service ended %s after SIGTERM, with %d revisions more than the streams had heard",
		len(d.streams), len(d.house.tenant.Revisions()), took.Round(time.Millisecond), d.behind)
}

// drainRun is one run of it.
type drainRun struct {
	t       *testing.T
	house   *house
	service *process.Process
	streams []*drainedStream

	number  int
	alerts  []string // that may be changed: each stream that they concern has heard them
	fresh   []string // the others
	behind  int      // how many revisions the first stream had not heard when the service ended
	loadErr error
}

// drainedDevices are the devices that the alerts are about, one after the other.
func drainedDevices() []defendertest.Device { return defendertest.SampleDevices()[:4] }

// drainedStream is a stream and all that it heard, over all its calls. Of each five one hears everything, the others what concerns one device.
type drainedStream struct {
	resumer

	name  string // of its device; "" for every device
	token string // the last
}

func newDrainedStream(began time.Time, i int) *drainedStream {
	s := &drainedStream{resumer: resumer{request: following(began), changed: make(chan struct{})}}
	if i%5 > 0 {
		s.name = drainedDevices()[i%5-1].DNSName
		s.request.Actors = []*integrationv1.Actor{{ActorId: "actor", FqHostName: s.name}}
	}
	s.request.Reference = fmt.Sprint("stream ", i)
	return s
}

// start starts the service. A poll reads back only a little, or it would make good what a defect loses.
func (d *drainRun) start() {
	d.t.Helper()
	d.service = d.house.serve(d.t, nil, "--poll-fast", "100ms", "--poll-slow", "100ms", "--poll-overlap", "500ms")
}

// open begins or resumes all streams, over a connection for each fifty, and returns what waits for their ends. They end with the test.
func (d *drainRun) open() (ends func() []error) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	errs := make([]error, len(d.streams))
	var running sync.WaitGroup
	d.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	var service integrationv1.IntegrationServiceClient
	for i, s := range d.streams {
		if i%50 == 0 {
			conn, err := dial(d.house.socket)
			if err != nil {
				d.t.Fatal(err)
			}
			d.t.Cleanup(func() { _ = conn.Close() })
			service = integrationv1.NewIntegrationServiceClient(conn)
		}
		through := service
		running.Go(func() { errs[i] = s.read(ctx, through) })
	}
	return func() []error {
		running.Wait()
		return errs
	}
}

// read makes one call, from the last token on, and returns why it ended.
func (s *drainedStream) read(ctx context.Context, service integrationv1.IntegrationServiceClient) error {
	s.request.ResumeToken = s.token
	call, err := service.StreamAlerts(ctx, s.request, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		event, err := call.Recv()
		if err != nil {
			return err
		}
		at, err := placeOf(event.GetResumeToken())
		if err != nil {
			return err
		}
		h := heard{at: at, gap: event.GetGap() != nil}
		if alert := event.GetAlert(); alert != nil {
			h.hash, h.key = sha256.Sum256(alert.GetRaw()), alert.GetAlert().GetId()
		}
		s.token = event.GetResumeToken()
		s.note(h)
	}
}

// step adds an alert, and now and then changes one that all have heard. No other: what is replaced before it was read, nobody can be
// expected to deliver.
func (d *drainRun) step() error {
	d.number++
	if d.number%4 == 0 && len(d.alerts) > 0 {
		id := d.alerts[0]
		d.alerts = d.alerts[1:]
		_, err := d.house.tenant.Change(id, func(a *defendertest.Alert) { a.Title = fmt.Sprint("Change ", d.number) })
		return err
	}
	devices := drainedDevices()
	a := d.house.tenant.AddAlert(defendertest.Alert{
		Title:    fmt.Sprint("Alert ", d.number),
		Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: devices[d.number%len(devices)]}},
	})
	d.fresh = append(d.fresh, a.ID)
	return nil
}

// load makes n steps.
func (d *drainRun) load(n int) {
	d.t.Helper()
	for range n {
		if err := d.step(); err != nil {
			d.t.Fatal(err)
		}
	}
}

// loading makes steps until what it returns is called.
func (d *drainRun) loading() (rest func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for d.loadErr == nil {
			select {
			case <-tick.C:
				d.loadErr = d.step()
			case <-stop:
				return
			}
		}
	}()
	return func() {
		d.t.Helper()
		close(stop)
		<-done
		if d.loadErr != nil {
			d.t.Fatal(d.loadErr)
		}
	}
}

// drain lets some of the load come to the streams, tells the service to end, and returns how long it took until it had.
func (d *drainRun) drain() time.Duration {
	d.t.Helper()
	first := d.streams[0]
	before := len(times(first.all(), ""))
	first.until(d.t, "some of the load", func(all []heard) bool { return len(times(all, "")) >= before+5 })
	began := time.Now()
	d.service.Interrupt(syscall.SIGTERM)
	select {
	case <-d.service.Done():
	case <-time.After(2 * drainTime):
		d.t.Fatal("the service does not end")
	}
	took := time.Since(began)
	if d.service.Err() != nil || took > drainTime {
		d.t.Errorf("after %s the service ended with %v", took, d.service.Err())
	}
	d.behind = len(d.house.tenant.Revisions()) - len(times(first.all(), ""))
	return took
}

// wantDraining wants each stream to have a token, and to have ended with a status that says that it may come again, and when.
func (d *drainRun) wantDraining(ends []error) {
	d.t.Helper()
	for i, err := range ends {
		var retry time.Duration
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				retry = info.GetRetryDelay().AsDuration()
			}
		}
		reason := client.Reason(err)
		if status.Code(err) != codes.Unavailable || reason != integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING || retry <= 0 {
			d.t.Errorf("stream %d ended with %v, to come again after %s", i, err, retry)
		}
		if d.streams[i].token == "" {
			d.t.Errorf("stream %d has no token", i)
		}
	}
}

// settle waits until each stream has heard all that concerns it.
func (d *drainRun) settle() {
	d.t.Helper()
	expected := d.expected()
	for i, s := range d.streams {
		s.until(d.t, fmt.Sprintf("all that concerns stream %d", i), func(all []heard) bool {
			counts := times(all, "")
			for _, revision := range expected[s.name] {
				if counts[revision.Hash] == 0 {
					return false
				}
			}
			return true
		})
	}
	d.alerts, d.fresh = append(d.alerts, d.fresh...), nil
}

// furtherPolls waits until the service has polled some more times: what would come a second time comes by then.
func (d *drainRun) furtherPolls() {
	d.t.Helper()
	now := d.house.microsoft.Now()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	_, err := d.house.microsoft.WaitCalls(ctx, 3, func(c defendertest.Call) bool {
		return c.Route == defendertest.RouteAlerts && c.Time.After(now) && c.Done
	})
	if err != nil {
		d.t.Fatalf("waiting for further polls: %v", err)
	}
}

// expected returns the revisions that belong into streams, by their device's name and the record of the simulated side.
func (d *drainRun) expected() map[string][]defendertest.Revision {
	all := d.house.tenant.Revisions()
	expected := map[string][]defendertest.Revision{"": all}
	for _, device := range drainedDevices() {
		for _, revision := range all {
			if bytes.Contains(revision.Raw, []byte(device.DNSName)) {
				expected[device.DNSName] = append(expected[device.DNSName], revision)
			}
		}
	}
	return expected
}

// verify wants each stream to have heard each revision once, in the journal's order, and nothing else.
func (d *drainRun) verify() {
	d.t.Helper()
	expected := d.expected()
	for i, s := range d.streams {
		all, counts := s.all(), times(s.all(), "")
		for _, revision := range expected[s.name] {
			if n := counts[revision.Hash]; n != 1 {
				d.t.Errorf("stream %d heard revision %d of %s %d times; it was %s", i, revision.Number, revision.Key, n, history(revision))
			}
			delete(counts, revision.Hash)
		}
		if len(counts) > 0 {
			d.t.Errorf("stream %d heard %d revisions that Microsoft never held for it", i, len(counts))
		}
		var last place
		for _, h := range all {
			if h.gap || h.key != "" && last.journal != "" && !h.at.follows(last) {
				d.t.Errorf("stream %d heard %+v after %+v", i, h, last)
			}
			if h.key != "" {
				last = h.at
			}
		}
	}
}
