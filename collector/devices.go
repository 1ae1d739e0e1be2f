package collector

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Devices are the devices of one whole look-up: all that there are, or those that were asked for. Nothing in it may be modified.
type Devices struct {
	// LookedUp is when the look-up began, by this machine's clock.
	LookedUp time.Time
	byID     map[string]*integrationv1.Device // by the id in lower case
	byKey    map[string][]*integrationv1.Device
	// asked are the keys that devices were asked for by, nil where all were read; and as they stand in entries.
	asked  map[string]bool
	hashes []uint64
}

// Asked says whether the look-up tells of the devices that share a key with these: that none was found means that there is none.
func (d *Devices) Asked(keys []string) bool {
	switch {
	case d == nil:
		return false
	case d.asked == nil:
		return true
	}
	return !slices.ContainsFunc(keys, func(key string) bool { return !d.asked[key] })
}

// covers says whether the look-up would have found a device that is known by these keys.
func (d *Devices) covers(keys []string) bool {
	return d.asked == nil || slices.ContainsFunc(keys, func(key string) bool { return d.asked[key] })
}

// Fitting returns the devices that share a key with these, and those that they were merged into, each once.
func (d *Devices) Fitting(keys []string) []*integrationv1.Device {
	if d == nil {
		return nil
	}
	var found []*integrationv1.Device
	seen := map[*integrationv1.Device]bool{}
	for _, k := range keys {
		for _, device := range d.byKey[k] {
			if !seen[device] {
				seen[device] = true
				found = append(found, device)
			}
		}
	}
	for i := 0; i < len(found); i++ {
		if into := d.byID[strings.ToLower(found[i].GetMergedIntoDeviceId())]; into != nil && !seen[into] {
			seen[into] = true
			found = append(found, into)
		}
	}
	return found
}

// fact is an entry about a device.
type fact struct {
	sequence uint64 // where it is
	since    uint64 // from where on it is so: where it is, or where the one was that it repeats
	fact     *storev1.DeviceFact
}

// learn takes an entry into what is known of the devices.
func (c *Collector) learn(sequence uint64, entry *storev1.Entry) {
	f := entry.GetDeviceFact()
	if f == nil {
		return
	}
	one := &fact{sequence: sequence, since: cmp.Or(f.GetRepeats(), sequence), fact: f}
	id := f.GetDevice().GetMdeDeviceId()
	list := c.facts[id]
	n, _ := slices.BinarySearchFunc(list, one, func(x, y *fact) int {
		return cmp.Or(cmp.Compare(x.since, y.since), cmp.Compare(x.sequence, y.sequence))
	})
	c.facts[id] = slices.Insert(list, n, one)
}

// inForce returns the fact about a device that is so now; nil where there is none.
func (c *Collector) inForce(id string) *storev1.DeviceFact {
	list := c.facts[id]
	if len(list) == 0 || list[len(list)-1].fact.GetGone() {
		return nil
	}
	return list[len(list)-1].fact
}

// repeatFacts lines up the facts that are so at a sequence, and lie before it, and forgets those before it. That a device is gone is one
// where an earlier fact about it was repeated and stays: what is so where the journal begins would be that. The caller holds appending.
func (c *Collector) repeatFacts(before uint64) {
	for _, id := range sortedKeys(c.facts) {
		var last *fact
		for _, f := range c.facts[id] {
			if f.since < before {
				last = f
			}
		}
		stays := func(f *fact) bool { return f.since < last.since && f.sequence >= before }
		if last != nil && last.sequence < before && (!last.fact.GetGone() || slices.ContainsFunc(c.facts[id], stays)) {
			entry := factEntry(last.fact.GetDevice(), last.fact.GetLookedUpTime().AsTime(), last.fact.GetGone())
			entry.GetDeviceFact().Repeats = last.since
			c.add(entry)
		}
		c.facts[id] = slices.DeleteFunc(c.facts[id], func(f *fact) bool { return f.sequence < before })
		if len(c.facts[id]) == 0 {
			delete(c.facts, id)
		}
	}
}

// lookUpLimit is how long a look-up may take. Nothing else is read meanwhile.
const lookUpLimit = 2 * time.Minute

// lookUpTooLong is the cause of the end of a look-up that took longer.
func lookUpTooLong() error {
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE,
		Message: "Looking the devices up took longer than two minutes, and was given up.",
		Remedy:  "It is tried again. If it stays, look at Microsoft's service health, or choose another device source.",
	}}
}

// gatherActors is the least time between two look-ups of Actors that were not asked for yet, so that those who come one after the
// other share a call.
const gatherActors = 5 * time.Second

// devicesDue returns when the devices are to be looked up next. The caller holds mu.
func (c *Collector) devicesDue() time.Time {
	switch {
	case c.now.Devices == nil:
		return c.plan.devices
	case !c.now.Devices.Asked(slices.Collect(maps.Keys(c.interest))):
		return c.plan.devices.Add(gatherActors)
	case c.unresolved:
		return c.plan.devices.Add(c.settings.DeviceRefresh)
	}
	return c.plan.devices.Add(c.settings.DeviceInterval)
}

// lookUp looks the devices up that the streams ask for, all at once, and appends what is new of those that concern a stream, or are
// gone. What fails upstream is told, and tried again by the schedule.
func (c *Collector) lookUp(ctx context.Context) error {
	now := time.Now()
	c.plan.devices = now
	ctx, span := c.span(ctx, "look devices up")
	defer span.End()
	found := &Devices{LookedUp: now, byID: map[string]*integrationv1.Device{}, byKey: map[string][]*integrationv1.Device{}}
	keys, asked := c.interests()
	timed, cancel := context.WithTimeoutCause(ctx, lookUpLimit, lookUpTooLong())
	defer cancel()
	read, err := c.source.Devices().ReadDevices(timed, c.options.Wanted(keys), func(device *integrationv1.Device) error {
		id := strings.ToLower(device.GetMdeDeviceId())
		if id == "" || found.byID[id] != nil {
			return nil
		}
		found.byID[id] = device
		for _, k := range c.options.DeviceKeys(device) {
			found.byKey[k] = append(found.byKey[k], device)
		}
		return nil
	})
	if ctx.Err() != nil || errors.Is(err, ErrStopped) {
		return nil
	}
	if err != nil {
		defender.NoteError(span, err)
		problem, _ := c.plan.devicesGate.note(c.settings, err)
		c.metrics.failed(c.id, operationDevices, problem)
		c.log.WarnContext(ctx, "looking the devices up failed", "reason", problem.GetReason().String(), "error", err, "again_at", c.plan.devicesGate.until)
		c.update(func(s *Snapshot) { s.DeviceProblem = since(problem, s.DeviceProblem) })
		return nil
	}
	c.plan.devicesGate = gate{}
	if read.WantedOnly {
		found.asked = make(map[string]bool, len(keys))
		for _, key := range keys {
			found.asked[key] = true
		}
		found.hashes = keyHashes(found.asked)
	}
	c.update(func(s *Snapshot) { s.Devices, s.Elsewhere, s.DeviceProblem = found, nil, nil })
	return c.locked(ctx, func(ctx context.Context) error {
		c.mu.Lock()
		c.unresolved, c.fresh = false, nil
		c.mu.Unlock()
		keys, served := c.interests()
		c.addFacts(keys, false)
		c.addGone()
		if err := c.flush(ctx); err != nil {
			return err
		}
		if !read.WantedOnly {
			asked = served
		}
		c.noteLookUp(asked)
		return nil
	})
}

// freshDevices looks the devices up where the last look-up is older than a closing interval, from before the verdicts were due, or did
// not ask for all that streams ask for, so that a verdict rests on what is so when it is given. A failure is told with the pair. It returns
// false where the budget lets them be looked up later, which is waited for no longer than a poll waits: meanwhile polls go on.
func (c *Collector) freshDevices(ctx context.Context, due time.Time) (bool, error) {
	// What the budget refused was none.
	old := c.devicesSpent() || c.plan.devices.Before(due) || time.Since(c.plan.devices) >= c.settings.ClosingInterval
	// A second time where streams joined while the devices were looked up: the pair completes them too.
	for range 2 {
		keys := c.keys()
		if len(keys) == 0 || c.source.Devices() == nil || c.plan.devicesGate.retired {
			return true, nil
		}
		spent := c.devicesSpent()
		if !spent {
			c.plan.spent = spentDevices{}
		}
		if !spent && time.Now().Before(c.plan.devicesGate.until) {
			return true, nil
		}
		c.mu.Lock()
		asked := c.now.Devices.Asked(keys)
		c.mu.Unlock()
		if asked && !old {
			return true, nil
		}
		if spent && time.Now().Before(c.plan.spent.until) {
			return c.waitedForDevices(), nil
		}
		if err := c.lookUp(withReserveOnceBegun(ctx)); err != nil {
			return false, err
		}
		if c.devicesSpent() {
			c.plan.spent.until = c.plan.devicesGate.until
			return c.waitedForDevices(), nil
		}
		old = false
	}
	return true, nil
}

// waitedForDevices says whether the budget has kept the devices from being looked up for as long as is waited for it, or will.
func (c *Collector) waitedForDevices() bool {
	now := time.Now()
	if c.plan.spent.since.IsZero() {
		c.plan.spent.since = now
	}
	limit := c.plan.spent.since.Add(longestWait)
	if now.After(limit) || c.plan.spent.until.After(limit) {
		c.plan.spent.since = time.Time{} // The next pair waits again.
		return true
	}
	return false
}

// devicesSpent says whether the last look-up of the devices was refused by the budget.
func (c *Collector) devicesSpent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.DeviceProblem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT
}

// appendFresh appends the facts for the keys that came since, going by the last look-up.
func (c *Collector) appendFresh(ctx context.Context) error {
	return c.locked(ctx, func(ctx context.Context) error {
		c.mu.Lock()
		keys, served, all := c.fresh, c.served(), c.now.Devices != nil && c.now.Devices.asked == nil
		c.fresh = nil
		c.mu.Unlock()
		c.addFacts(keys, false)
		if err := c.flush(ctx); err != nil {
			return err
		}
		if all {
			c.noteLookUp(served)
		}
		return nil
	})
}

// keys returns what devices that concern a stream share one of.
func (c *Collector) keys() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.interest))
}

// interests returns the same, and whose they are among servers that share a store.
func (c *Collector) interests() ([]string, []*storev1.Served) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.interest)), c.served()
}

// addFacts lines up an entry for each device that has one of the keys and is other than the journal says; with reports also where
// only its last report is. The caller holds appending.
func (c *Collector) addFacts(keys []string, reports bool) {
	c.mu.Lock()
	devices := c.now.Devices
	c.mu.Unlock()
	concerned := devices.Fitting(keys)
	slices.SortFunc(concerned, func(a, b *integrationv1.Device) int {
		return cmp.Compare(a.GetMdeDeviceId(), b.GetMdeDeviceId())
	})
	for _, device := range concerned {
		if before := c.inForce(device.GetMdeDeviceId()); before == nil || differs(before.GetDevice(), device, reports) {
			c.add(factEntry(device, devices.LookedUp, false))
		}
	}
}

// addGone lines up an entry for each device of a fact that the last look-up would have found, and did not. The caller holds appending.
func (c *Collector) addGone() {
	c.mu.Lock()
	devices := c.now.Devices
	c.mu.Unlock()
	for _, id := range sortedKeys(c.facts) {
		if before := c.inForce(id); before != nil && devices.byID[strings.ToLower(id)] == nil && devices.covers(c.options.DeviceKeys(before.GetDevice())) {
			c.add(factEntry(before.GetDevice(), devices.LookedUp, true))
		}
	}
}

// differs says whether a device is other than a fact tells, its last report counted or not.
func differs(before, now *integrationv1.Device, reports bool) bool {
	if reports {
		return !proto.Equal(before, now)
	}
	a, b := proto.CloneOf(before), proto.CloneOf(now)
	a.LastSeenTime, b.LastSeenTime = nil, nil
	return !proto.Equal(a, b)
}

func factEntry(device *integrationv1.Device, lookedUp time.Time, gone bool) *storev1.Entry {
	return &storev1.Entry{
		EntryTime: timestamppb.Now(),
		Body: &storev1.Entry_DeviceFact{DeviceFact: &storev1.DeviceFact{
			Device:       device,
			LookedUpTime: timestamppb.New(lookedUp),
			Gone:         gone,
		}},
	}
}

// deviceLookup tells what is known of looking devices up, for a pair: by the record that they were looked up by, which may not be the
// newest.
func (c *Collector) deviceLookup() *storev1.DeviceLookup {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &storev1.DeviceLookup{Kind: c.plan.record.GetIntegration().GetDeviceSource().GetKind(), Problem: c.now.DeviceProblem}
	if c.now.Devices != nil {
		l.LookedUpTime = timestamppb.New(c.now.Devices.LookedUp)
		l.WantedOnly, l.Asked = c.now.Devices.asked != nil, c.now.Devices.hashes
	}
	return l
}
