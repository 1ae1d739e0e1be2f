package acceptance_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"defender-integration/acceptance/process"
	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// ownRun is the run of one fault on our side: a service on a disk, two streams that resume, and alerts that appear and change.
type ownRun struct {
	t       *testing.T
	house   *house
	began   time.Time // by the simulated side's clock
	client  *client.Client
	service *process.Process
	// every hears everything, one what concerns the first device.
	every, one *resumer
	// more are further ones of both kinds.
	more []*resumer

	number   int      // of changes
	alerts   []string // the ids of those that were added
	spent    int      // calls that Microsoft had got when the fault began
	mendedAt time.Time
}

// newOwnRun starts a run, and waits until the streams have heard something.
func newOwnRun(t *testing.T, h *house) *ownRun {
	t.Helper()
	o := &ownRun{t: t, house: h, began: h.microsoft.Now(), client: h.connect(t)}
	o.start()
	h.register(t, o.client, integrationv1.DeviceSource_KIND_MACHINES)
	o.every = h.resume(t, following(o.began))
	o.one = h.resume(t, following(o.began, &integrationv1.Actor{ActorId: "first", FqHostName: defendertest.SampleDevices()[0].DNSName}))
	o.load(20)
	o.settle()
	return o
}

// dataDir is where the service keeps its data.
func (o *ownRun) dataDir() string { return filepath.Join(o.house.dir, "data") }

// start starts the service. A poll reads back only a little, or it would make good what a defect loses.
func (o *ownRun) start() {
	o.t.Helper()
	o.service = o.house.serve(o.t, nil, "--poll-fast", "50ms", "--poll-slow", "50ms", "--poll-overlap", "200ms")
}

// load makes n steps: alerts appear, and those that were heard change. What was replaced before anybody could keep it, nobody can be
// expected to deliver.
func (o *ownRun) load(n int) {
	o.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range n {
		<-tick.C
		o.step()
	}
}

func (o *ownRun) step() {
	o.t.Helper()
	o.number++
	if o.number%3 == 0 {
		id := o.alerts[o.number/2%len(o.alerts)]
		revisions := o.house.tenant.Revisions(id)
		if o.every.hears(revisions[len(revisions)-1].Hash) {
			if _, err := o.house.tenant.Change(id, func(a *defendertest.Alert) { a.Title = fmt.Sprintf("Change %d", o.number) }); err != nil {
				o.t.Fatal(err)
			}
			return
		}
	}
	device := defendertest.SampleDevices()[o.number%2]
	a := o.house.tenant.AddAlert(defendertest.Alert{
		Title: fmt.Sprintf("Alert %d", o.number), Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: device}},
	})
	o.alerts = append(o.alerts, a.ID)
}

// resumers returns all streams.
func (o *ownRun) resumers() []*resumer { return append([]*resumer{o.every, o.one}, o.more...) }

// expected returns the revisions that belong into a stream, by the record of the simulated side.
func (o *ownRun) expected(r *resumer) []defendertest.Revision {
	all := o.house.tenant.Revisions()
	if len(r.request.GetActors()) == 0 {
		return all
	}
	var mine []defendertest.Revision
	for _, revision := range all {
		if bytes.Contains(revision.Raw, []byte(defendertest.SampleDevices()[0].DNSName)) {
			mine = append(mine, revision)
		}
	}
	return mine
}

// settle waits until each stream has heard everything that there is.
func (o *ownRun) settle() {
	o.t.Helper()
	for _, r := range o.resumers() {
		left := o.expected(r)
		least := len(left)
		r.until(o.t, "everything that there is", func(all []heard) bool {
			if len(all) < least {
				return false
			}
			left = slices.DeleteFunc(left, func(revision defendertest.Revision) bool { return r.hears(revision.Hash) })
			return len(left) == 0
		})
	}
}

// fault says that the fault begins.
func (o *ownRun) fault() { o.spent = len(o.house.microsoft.Calls(nil)) }

// mended says that the fault is over.
func (o *ownRun) mended() { o.mendedAt = time.Now() }

// recover waits until things are as before the fault: what appears now is heard, all else was, and no problem is told. It fills in
// the row's recovery and calls.
func (o *ownRun) recover(row *matrixRow) {
	o.t.Helper()
	o.load(6)
	o.settle()
	for _, r := range o.resumers() {
		r.until(o.t, "progress without a problem", func(all []heard) bool {
			for _, h := range slices.Backward(all) {
				if h.pairs != nil || h.problem != nil {
					return h.problem == nil
				}
			}
			return false
		})
	}
	row.Recovery, row.Calls = time.Since(o.mendedAt), len(o.house.microsoft.Calls(nil))-o.spent
	o.load(20)
	o.settle()
	// What would come a second time does so by a further poll.
	now := o.house.microsoft.Now()
	o.every.until(o.t, "a further poll", func(all []heard) bool {
		return slices.ContainsFunc(all[len(all)-1].pairs, func(p *integrationv1.Pair) bool { return p.GetThrough().AsTime().After(now) })
	})
}

// verify counts what was lost, what came twice, and which pairs were untrue, in both streams.
func (o *ownRun) verify(row *matrixRow) {
	o.t.Helper()
	for _, r := range o.resumers() {
		all, expected := r.all(), o.expected(r)
		counts := times(all, "")
		for _, revision := range expected {
			if counts[revision.Hash] == 0 {
				o.t.Errorf("revision %d of %s was lost; it was %s", revision.Number, revision.Key, history(revision))
				row.Lost++
			}
			delete(counts, revision.Hash)
		}
		for hash := range counts {
			o.t.Errorf("%x came, and Microsoft never held it for this stream", hash)
			row.Twice++
		}
		for _, identity := range identities(all) {
			for hash, n := range times(all, identity) {
				if n > 1 {
					o.t.Errorf("%x came %d times", hash, n)
					row.Twice++
				}
			}
		}
		row.UntruePairs += o.untruePairs(all, expected)
	}
}

// untruePairs counts the pairs that were told before everything that they vouch for was heard from the same journal.
func (o *ownRun) untruePairs(all []heard, expected []defendertest.Revision) (untrue int) {
	o.t.Helper()
	numbers := map[[sha256.Size]byte]int{}
	for _, revision := range expected {
		numbers[revision.Hash] = revision.Number
	}
	newest := map[string]int{} // by journal and alert
	told := map[string]bool{}
	for _, h := range all {
		if h.key != "" {
			name := h.at.journal + h.key
			newest[name] = max(newest[name], numbers[h.hash])
		}
		for _, pair := range h.pairs {
			name := h.at.journal + pair.String()
			if told[name] {
				continue
			}
			told[name] = true
			since, through := pair.GetSince().AsTime(), pair.GetThrough().AsTime()
			for _, revision := range expected {
				if revision.LastUpdate.Before(since) {
					continue
				}
				shown := !revision.VisibleAt.After(through) && (revision.Replaced.IsZero() || revision.Replaced.After(through))
				if shown && newest[h.at.journal+revision.Key] < revision.Number {
					o.t.Errorf("since %s through %s was told, and revision %d of %s was not heard", since, through, revision.Number, revision.Key)
					untrue++
				}
			}
		}
	}
	return untrue
}

// wantHealth waits until the service tells this of its readiness, and wants it to live.
func (o *ownRun) wantHealth(want healthv1.HealthCheckResponse_ServingStatus) {
	o.t.Helper()
	conn, err := dial(o.house.socket)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	health := healthv1.NewHealthClient(conn)
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	for _, name := range []string{"", integrationv1.IntegrationService_ServiceDesc.ServiceName} {
		watch, err := health.Watch(ctx, &healthv1.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
		if err != nil {
			o.t.Fatal(err)
		}
		for {
			answer, err := watch.Recv()
			if err != nil {
				o.t.Fatalf("waiting for %s of %q: %v", want, name, err)
			}
			if answer.GetStatus() == want {
				break
			}
		}
	}
	alive, err := health.Check(ctx, &healthv1.HealthCheckRequest{Service: server.LivenessService})
	if err != nil || alive.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		o.t.Errorf("liveness: %v, %v", alive, err)
	}
}
