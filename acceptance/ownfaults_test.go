package acceptance_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// ownFault is a fault on our side.
type ownFault struct {
	fault, where, told string
	// run makes a run, plays the fault and its end, and fills in the row's recovery and calls.
	run func(t *testing.T, h *house, row *matrixRow) *ownRun
}

// What is told.
const (
	toldNothing  = "nothing: streams resume"
	toldProblem  = "progress and status: STORE_UNAVAILABLE; readiness fails, liveness does not"
	toldReplaced = "tokens refused: JOURNAL_REPLACED; a new identity, pairs anew, all delivered again"
)

func ownFaults() []ownFault {
	return []ownFault{
		{"SIGKILL", "at random, five times", toldNothing, killAtRandom},
		{"SIGTERM", "under load", "streams end: SERVER_DRAINING with RetryInfo; exit status 0", terminate},
		{"disk full", "below the store's reserve", toldProblem, fullDisk(40 << 20)},
		{"disk full", "to the last byte", toldProblem, fullDisk(0)},
		{"disk read-only", "under the running service", toldProblem + "; a start is refused", readOnlyRunning},
		{"disk read-only", "at start", "a start is refused", readOnlyAtStart},
		{"journal damaged", "a bit of its last block flipped", toldReplaced, damaged(func(content []byte) []byte {
			content[len(content)-30] ^= 1
			return content
		})},
		{"journal damaged", "its last block cut", toldReplaced, damaged(func(content []byte) []byte { return content[:len(content)/2] })},
		{"journal lost", "its streams, of the data directory", toldReplaced, lostStreams},
		{"data directory lost", "all of it", "streams end: INTEGRATION_NOT_FOUND; once it is registered again " + toldReplaced, lostData},
	}
}

// TestOwnFaults plays each fault on our side over real processes and real disks, with streams that resume, and compares what they got
// with the simulated side's own record. Each is a row of docs/faults.md.
func TestOwnFaults(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range ownFaults() {
		names = append(names, matrixRow{Fault: f.fault, Where: f.where}.name())
	}
	m := newMatrix("ours", names)
	var running sync.WaitGroup
	for _, f := range ownFaults() {
		row := matrixRow{Fault: f.fault, Where: f.where, Told: f.told}
		// All at once: most of their time they wait.
		running.Go(func() {
			t.Run(row.name(), func(t *testing.T) {
				o := f.run(t, newHouse(t, service(t)), &row)
				o.verify(&row)
				m.add(t, row)
				t.Logf("%d revisions, recovered in %s with %d calls", len(o.expected(o.every)), row.Recovery, row.Calls)
			})
		})
	}
	running.Wait()
	m.settle(t)
}

// killAtRandom kills the service five times under load.
func killAtRandom(t *testing.T, h *house, row *matrixRow) *ownRun {
	t.Helper()
	o := newOwnRun(t, h)
	o.fault()
	for range 5 {
		o.load(1 + rand.IntN(30))
		o.service.Kill()
		o.load(5)
		o.start()
	}
	o.mended()
	o.recover(row)
	o.wantNothingTold()
	return o
}

// wantNothingTold wants streams that were never sent away for good, in one journal, without a gap.
func (o *ownRun) wantNothingTold() {
	o.t.Helper()
	for _, r := range []*resumer{o.every, o.one} {
		all := r.all()
		gap := slices.ContainsFunc(all, func(h heard) bool { return h.gap })
		if len(identities(all)) != 1 || len(reasons(all)) != 0 || gap {
			o.t.Errorf("heard of the journals %v, refusals %v, a gap: %t", identities(all), reasons(all), gap)
		}
	}
}

// drainTime is how long calls have to end once the service is told to stop, by default.
const drainTime = 15 * time.Second

// terminate asks the service to end while streams run.
func terminate(t *testing.T, h *house, row *matrixRow) *ownRun {
	t.Helper()
	o := newOwnRun(t, h)
	call, err := o.client.Service().StreamAlerts(t.Context(), following(o.began))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); err != nil {
		t.Fatal(err)
	}
	o.load(10)
	o.fault()
	began := time.Now()
	o.service.Interrupt(syscall.SIGTERM)
	for err == nil {
		_, err = call.Recv()
	}
	var retry time.Duration
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			retry = info.GetRetryDelay().AsDuration()
		}
	}
	if status.Code(err) != codes.Unavailable || client.Reason(err) != integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING || retry <= 0 {
		t.Errorf("the stream ended with %v, to come again after %s", err, retry)
	}
	select {
	case <-o.service.Done():
	case <-time.After(patience):
		t.Fatal("the service does not end")
	}
	if took := time.Since(began); o.service.Err() != nil || took > drainTime {
		t.Errorf("after %s it ended with %v", took, o.service.Err())
	}
	o.load(5)
	o.start()
	o.mended()
	o.recover(row)
	o.wantNothingTold()
	return o
}

// fullDisk has somebody else fill the disk under load until so many bytes are left.
func fullDisk(left int64) func(*testing.T, *house, *matrixRow) *ownRun {
	return func(t *testing.T, h *house, row *matrixRow) *ownRun {
		t.Helper()
		disk := h.smallDisk(t)
		o := newOwnRun(t, h)
		o.wantHealth(healthv1.HealthCheckResponse_SERVING)
		o.fault()
		empty := fillUp(t, disk, left)
		o.load(30)
		o.wantStoreUnavailable()
		empty()
		o.mended()
		o.recover(row)
		o.wantHealth(healthv1.HealthCheckResponse_SERVING)
		o.wantNothingTold()
		return o
	}
}

// wantStoreUnavailable wants that streams and operators are told that the store takes nothing, and that what it has is read.
func (o *ownRun) wantStoreUnavailable() {
	o.t.Helper()
	for _, r := range []*resumer{o.every, o.one} {
		r.until(o.t, "a problem", func(all []heard) bool {
			return slices.ContainsFunc(all, func(h heard) bool { return h.problem != nil })
		})
		for _, h := range r.all() {
			if reason := h.problem.GetReason(); h.problem != nil && reason != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
				o.t.Errorf("the problem %v is told", h.problem)
			}
		}
	}
	o.wantHealth(healthv1.HealthCheckResponse_NOT_SERVING)

	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	got, err := o.client.Service().GetIntegration(ctx, &integrationv1.GetIntegrationRequest{IntegrationId: integrationID})
	if s := got.GetIntegration().GetStatus(); err != nil || s.GetState() != integrationv1.IntegrationStatus_STATE_FAILING ||
		s.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
		o.t.Errorf("the integration: %v, %v", got.GetIntegration().GetStatus(), err)
	}
	list, err := o.client.Service().ListIntegrations(ctx, &integrationv1.ListIntegrationsRequest{})
	if err != nil || len(list.GetIntegrations()) != 1 {
		o.t.Errorf("the integrations: %v, %v", list, err)
	}
	// A new stream hears all that was delivered before.
	before := times(o.every.all(), "")
	again := o.house.collect(o.t, following(o.began), func(c *collected) bool { return len(c.alerts) >= len(before) })
	if len(again.times) != len(before) {
		o.t.Errorf("of %d alerts that were delivered, %d are replayed", len(before), len(again.times))
	}
}

// readOnlyRunning makes the disk one that can only be read, as the kernel does after an error. The operator ends the service, repairs
// the disk and starts it again.
func readOnlyRunning(t *testing.T, h *house, row *matrixRow) *ownRun {
	t.Helper()
	disk, again := h.imageDisk(t)
	o := newOwnRun(t, h)
	o.fault()
	remount(t, disk, "abort")
	o.load(10)
	o.wantStoreUnavailable()
	o.service.Stop(t)
	o.wantRefusedStart()
	again()
	o.start()
	o.mended()
	o.recover(row)
	o.wantNothingTold()
	return o
}

// readOnlyAtStart makes the disk one that can only be read while the service is down.
func readOnlyAtStart(t *testing.T, h *house, row *matrixRow) *ownRun {
	t.Helper()
	disk := h.smallDisk(t)
	o := newOwnRun(t, h)
	o.fault()
	o.service.Stop(t)
	remount(t, disk, "ro")
	o.load(5)
	o.wantRefusedStart()
	remount(t, disk, "rw")
	o.start()
	o.mended()
	o.recover(row)
	o.wantNothingTold()
	return o
}

// wantRefusedStart wants the service to say why it does not start.
func (o *ownRun) wantRefusedStart() {
	o.t.Helper()
	o.start()
	select {
	case <-o.service.Done():
	case <-time.After(patience):
		o.t.Fatal("the service started")
	}
	if out := o.service.Output(); o.service.Err() == nil || !strings.Contains(out, "cannot start") || !strings.Contains(out, "read-only file system") {
		o.t.Errorf("the service ended with %v and wrote:\n%s", o.service.Err(), out)
	}
}

// damaged damages the last block of the journal while the service is down.
func damaged(damage func([]byte) []byte) func(*testing.T, *house, *matrixRow) *ownRun {
	return func(t *testing.T, h *house, row *matrixRow) *ownRun {
		t.Helper()
		o := newOwnRun(t, h)
		o.fault()
		o.service.Stop(t)
		damageFile(t, lastBlock(t, o.dataDir()), damage)
		o.start()
		o.wantReplaced(row, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED)
		return o
	}
}

// lostStreams loses the journals, and nothing else of the data directory.
func lostStreams(t *testing.T, h *house, row *matrixRow) *ownRun {
	t.Helper()
	o := newOwnRun(t, h)
	o.fault()
	o.service.Kill()
	found, err := filepath.Glob(filepath.Join(o.dataDir(), "jetstream", "$G", "streams", "defender-journal-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the journals are %v: %v", found, err)
	}
	if err := os.RemoveAll(found[0]); err != nil {
		t.Fatal(err)
	}
	o.start()
	o.wantReplaced(row, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED)
	return o
}

// lostData loses all that the service keeps. The operator registers the integration again.
func lostData(t *testing.T, h *house, row *matrixRow) *ownRun {
	t.Helper()
	o := newOwnRun(t, h)
	o.fault()
	o.service.Kill()
	if err := os.RemoveAll(o.dataDir()); err != nil {
		t.Fatal(err)
	}
	o.start()
	for _, r := range []*resumer{o.every, o.one} {
		r.until(t, "the end", func(all []heard) bool { return len(reasons(all)) > 0 })
	}
	o.house.register(t, o.client, integrationv1.DeviceSource_KIND_MACHINES)
	o.wantReplaced(row, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED)
	return o
}

// wantReplaced wants each stream to be sent away for these reasons and no other, and then to hear all that Microsoft has, once, from
// another journal.
func (o *ownRun) wantReplaced(row *matrixRow, want ...integrationv1.ErrorReason) {
	o.t.Helper()
	o.mended()
	for _, r := range []*resumer{o.every, o.one} {
		before := identities(r.all())[0]
		expected := o.expected(r)
		r.until(o.t, "all that Microsoft has, from another journal", func(all []heard) bool {
			names := identities(all)
			counts := times(all, names[len(names)-1])
			for _, revision := range expected {
				if revision.Replaced.IsZero() && counts[revision.Hash] == 0 {
					return false
				}
			}
			return names[len(names)-1] != before
		})
	}
	o.recover(row)
	for _, r := range []*resumer{o.every, o.one} {
		all := r.all()
		gap := slices.ContainsFunc(all, func(h heard) bool { return h.gap })
		if !slices.Equal(reasons(all), want) || len(identities(all)) != 2 || gap {
			o.t.Errorf("heard of the journals %v, refusals %v, a gap: %t", identities(all), reasons(all), gap)
		}
	}
}
