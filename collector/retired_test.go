package collector_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// change gives the integration another version of its record.
func (b *bench) change(f func(*integrationv1.Integration)) {
	b.t.Helper()
	record, revision, err := b.store.Record(b.t.Context(), "contoso")
	if err != nil {
		b.t.Fatal(err)
	}
	record = proto.CloneOf(record)
	f(record.GetIntegration())
	if _, err := b.store.UpdateRecord(b.t.Context(), record, revision); err != nil {
		b.t.Fatal(err)
	}
}

// A refusal that looks like the end of an API is told once and not tried again; streams that wait for a closing read are told at
// once, and pausing and resuming tries anew.
func TestRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.TakeDevicesAway()
		c := b.collector()
		member, _, err := c.Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(time.Minute)
		b.source.Fail(&defender.Error{Permanent: true, Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, Message: "It is no longer offered.", Remedy: "Use another.",
		}})
		time.Sleep(time.Minute)
		reads := len(b.source.Reads())
		time.Sleep(24 * time.Hour)
		if made := len(b.source.Reads()) - reads; made != 0 {
			t.Errorf("%d reads were tried of a retired API", made)
		}
		status := c.Status()
		if status.GetState() != integrationv1.IntegrationStatus_STATE_RETIRED || status.GetNextPollTime() != nil ||
			status.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_API_RETIRED {
			t.Errorf("status is %v", status)
		}
		member.SetClosing(collector.Closing{Since: time.Now().Add(-time.Minute), Due: time.Now().Add(time.Second)})
		time.Sleep(10 * time.Second)
		last := b.entries()[len(b.entries())-1].Entry.GetFailedClosing()
		if last.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_API_RETIRED {
			t.Errorf("after ten seconds the stream was told %v", last)
		}

		b.source.Fail(nil)
		b.change(func(i *integrationv1.Integration) { i.Paused = true })
		time.Sleep(time.Second)
		b.change(func(i *integrationv1.Integration) { i.Paused = false })
		time.Sleep(time.Minute)
		if status := c.Status(); status.GetState() != integrationv1.IntegrationStatus_STATE_ACTIVE || status.GetProblem() != nil {
			t.Errorf("after pausing and resuming: %v", status)
		}
	})
}

// That devices can no longer be looked up leaves the alerts alone.
func TestRetiredDeviceSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.FailDevices(&defender.Error{Permanent: true, Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, Message: "The list of machines is no longer offered.",
		}})
		c := b.collector()
		member, _, err := c.Join(t.Context(), [][]string{{"one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(time.Hour)
		member.SetClosing(collector.Closing{Since: time.Now().Add(-time.Minute), Due: time.Now()})
		time.Sleep(24 * time.Hour)
		if n := b.source.Lookups(); n != 1 {
			t.Errorf("%d look-ups of a retired device source, want 1", n)
		}
		if s := c.Status(); s.GetState() != integrationv1.IntegrationStatus_STATE_ACTIVE || s.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_API_RETIRED {
			t.Errorf("status is %v", s)
		}
		b.source.Put(collectortest.Alert("a", deviceOne, "one.contoso.test", time.Now()), time.Now())
		time.Sleep(time.Minute)
		if got := b.revisions(); len(got) != 1 {
			t.Errorf("revisions are %q", got)
		}
	})
}

// What kept the adapter from being made, such as a file that is not there yet, is tried again without a change of the record.
func TestConnectingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		var missing error = &defender.Error{Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE, Message: "The file is not there.",
		}}
		b.connect.Store(&missing)
		b.start(collector.DefaultSettings())
		defer b.stop()
		c := b.collector()
		time.Sleep(10 * time.Minute)
		if s := c.Status(); s.GetState() != integrationv1.IntegrationStatus_STATE_FAILING || s.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE {
			t.Errorf("status is %v", s)
		}
		b.connect.Store(nil)
		time.Sleep(3 * time.Minute)
		if s := c.Status(); s.GetState() != integrationv1.IntegrationStatus_STATE_ACTIVE || s.GetLastGoodReadTime() == nil {
			t.Errorf("after it was mended: %v", s)
		}
	})
}

// A paused integration is paused, also where its connection could not be made.
func TestPausedWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		b.connect.Store(new(errors.New("the secrets cannot be opened")))
		b.start(collector.DefaultSettings())
		defer b.stop()
		c := b.collector()
		time.Sleep(time.Minute)
		if s := c.Status(); s.GetState() != integrationv1.IntegrationStatus_STATE_FAILING || s.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID {
			t.Errorf("status is %v", s)
		}
		b.change(func(i *integrationv1.Integration) { i.Paused = true })
		time.Sleep(time.Hour)
		if s := c.Status(); s.GetState() != integrationv1.IntegrationStatus_STATE_PAUSED {
			t.Errorf("paused: %v", s)
		}
	})
}

// What the device source before said is nothing of the new one's.
func TestAnotherDeviceSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.FailDevices(&defender.Error{Permanent: true, Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, Message: "The role is missing.",
		}})
		c := b.collector()
		member, _, err := c.Join(t.Context(), [][]string{{"one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(time.Minute)
		if s := c.Status(); s.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING {
			t.Fatalf("status is %v", s)
		}
		b.source.FailDevices(nil)
		b.source.SetDevices(collectortest.Device(deviceOne, "one.contoso.test", time.Now()))
		time.Sleep(time.Hour)
		if snapshot, _ := c.Snapshot(); len(snapshot.Devices.Fitting([]string{"one.contoso.test"})) != 1 {
			t.Fatal("the device is not found")
		}
		lookups := b.source.Lookups()
		b.source.FailDevices(&defender.Error{Permanent: true, Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, Message: "The role is missing.",
		}})
		b.change(func(i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}
		})
		time.Sleep(time.Second)
		snapshot, _ := c.Snapshot()
		if made := b.source.Lookups() - lookups; made != 1 || snapshot.DeviceProblem == nil || snapshot.Devices != nil {
			t.Errorf("a second after the change: %d look-ups, problem %v, devices %v", made, snapshot.DeviceProblem, snapshot.Devices)
		}
	})
}

// A closing read looks the devices up again where that was done before it was due, however short before.
func TestDevicesOfAClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.SetDevices(collectortest.Device(deviceOne, "one.contoso.test", time.Now()))
		member, _, err := b.collector().Join(t.Context(), [][]string{{"one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(time.Second)
		due := time.Now().Add(5 * time.Second)
		member.SetClosing(collector.Closing{Since: due.Add(-time.Minute), Due: due})
		time.Sleep(time.Minute)
		for _, p := range b.entries() {
			if pair := p.Entry.GetPair(); pair != nil && !pair.GetPair().GetThrough().AsTime().Before(due) {
				if at := pair.GetDevices().GetLookedUpTime().AsTime(); at.Before(due) || b.source.Lookups() != 2 {
					t.Errorf("looked up %v before it was due, in %d look-ups", due.Sub(at), b.source.Lookups())
				}
				return
			}
		}
		t.Error("no pair completes the stream")
	})
}

// An entry tells exactly of which Actors a look-up says something.
func TestAskedInAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.SetWantedOnly(true)
		c := b.collector()
		member, _, err := c.Join(t.Context(), [][]string{{"one.contoso.test", "10.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(20 * time.Minute) // a re-read brings a pair
		var lookup *storev1.DeviceLookup
		for _, p := range b.entries() {
			if p.Entry.GetPair() != nil {
				lookup = p.Entry.GetPair().GetDevices()
			}
		}
		for _, tt := range []struct {
			keys []string
			want bool
		}{
			{[]string{"one.contoso.test", "10.0.0.1"}, true},
			{[]string{"10.0.0.1"}, true},
			{nil, true},
			{[]string{"one.contoso.test", "two.contoso.test"}, false},
			{[]string{"two.contoso.test"}, false},
		} {
			if got := collector.Asked(lookup, tt.keys); got != tt.want {
				t.Errorf("%q: asked %t, want %t", tt.keys, got, tt.want)
			}
			if !collector.Asked(&storev1.DeviceLookup{}, tt.keys) {
				t.Errorf("%q: a look-up of all devices did not ask", tt.keys)
			}
		}
	})
}
