package sequences_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// microsoft is Defender: what it shows of alerts and devices, and what it showed to whom. It is safe for concurrent use.
type microsoft struct {
	pace pace
	// skew is Microsoft's clock less this machine's.
	skew time.Duration

	mu       sync.Mutex
	spend    defender.SpendFunc
	alerts   map[string][]showing // by id, in the order in which they become visible
	devices  []*integrationv1.Device
	trouble  trouble
	reads    []*reading
	lookUps  []*lookUp
	returned map[content]bool // every revision that a read returned
}

// content is a revision: an alert's id and the hash of what it says.
type content struct {
	id   string
	hash [sha256.Size]byte
}

// showing is a version of an alert that is shown from a time on, until the next.
type showing struct {
	alert *integrationv1.Alert
	hash  [sha256.Size]byte
	from  time.Time // by this machine's clock
	// words tells apart how the same is said: the element's bytes are others, its content is not.
	words byte
}

func (s showing) content() content { return content{s.alert.GetId(), s.hash} }

func (s showing) updated() time.Time { return s.alert.GetLastUpdateTime().AsTime() }

// reading is a read of alerts that was begun.
type reading struct {
	since, through time.Time // as in the pair that it gives
	began, ended   time.Time // by this machine's clock
	whole          bool
}

// lookUp is a look-up of devices that succeeded.
type lookUp struct {
	began, ended time.Time
	devices      []*integrationv1.Device
}

// trouble is what is wrong with Microsoft.
type trouble struct {
	// until is when calls no longer fail with err; devicesUntil likewise for look-ups of devices alone.
	until, devicesUntil time.Time
	err                 func() error
	// breakAfter is after how many elements the next read breaks: it takes `pause`, and fails where breakFails says so.
	breakNext, breakFails bool
	breakAfter            int
	pause                 time.Duration
}

// Alerts returns itself.
func (m *microsoft) Alerts() defender.AlertSource { return m }

// Devices returns itself.
func (m *microsoft) Devices() defender.DeviceSource      { return m }
func (m *microsoft) Telemetry() defender.TelemetrySource { return nil }

// Close does nothing.
func (m *microsoft) Close() {}

// show shows a version of an alert from so many seconds on. The time is taken where no read can come between: one that begins after it
// returns what is shown.
func (m *microsoft) show(s showing, in int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.from = time.Now().Add(m.pace.of(in))
	id := s.alert.GetId()
	m.alerts[id] = append(slices.Clone(m.alerts[id]), s)
	slices.SortStableFunc(m.alerts[id], func(a, b showing) int { return a.from.Compare(b.from) })
}

// shown returns the version of an alert that is shown at a time.
func shown(list []showing, at time.Time) (showing, bool) {
	n, found := 0, false
	for i, s := range list {
		if !s.from.After(at) {
			n, found = i, true
		}
	}
	if !found {
		return showing{}, false
	}
	return list[n], true
}

// visible returns what is shown at a time with a last update at or after since, oldest first. The caller holds mu.
func (m *microsoft) visible(at, since time.Time) []showing {
	var list []showing
	for _, versions := range m.alerts {
		if s, ok := shown(versions, at); ok && !s.updated().Before(since) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b showing) int {
		if c := a.updated().Compare(b.updated()); c != 0 {
			return c
		}
		return strings.Compare(a.alert.GetId(), b.alert.GetId())
	})
	return list
}

// standing returns what was shown from when a read began, by its pair, until it ended: what the pair says was collected.
func (m *microsoft) standing(r *reading) []showing {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []showing
	for _, s := range m.visible(r.through.Add(-m.skew), r.since) {
		if last, _ := shown(m.alerts[s.alert.GetId()], r.ended); last.from.Equal(s.from) && last.hash == s.hash {
			list = append(list, s)
		}
	}
	return list
}

// readOf returns the whole read that a pair tells of; nil where there was none.
func (m *microsoft) readOf(pair *integrationv1.Pair) *reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.reads {
		if r.whole && r.since.Equal(pair.GetSince().AsTime()) && r.through.Equal(pair.GetThrough().AsTime()) {
			return r
		}
	}
	return nil
}

// call is what every call begins with.
func (m *microsoft) call(ctx context.Context, limit defender.Limit, devices bool) error {
	m.mu.Lock()
	spend, t := m.spend, m.trouble
	m.mu.Unlock()
	if err := spend(ctx, limit); err != nil {
		return err
	}
	if now := time.Now(); now.Before(t.until) || devices && now.Before(t.devicesUntil) {
		return t.err()
	}
	return ctx.Err()
}

// ReadAlerts shows what is visible, in one page or, where the read breaks, in two: the second is what is visible then, from the last
// update of the first one's last element on.
func (m *microsoft) ReadAlerts(
	ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error,
) (defender.Read, error) {
	if err := m.call(ctx, defender.LimitGraphAlerts, false); err != nil {
		return defender.Read{}, err
	}
	m.mu.Lock()
	began := time.Now()
	// Microsoft tells whole seconds; a second more or less is what its reader takes off.
	r := &reading{since: since, began: began, through: began.Add(m.skew).Add(-m.pace.unit)}
	m.reads = append(m.reads, r)
	t := m.trouble
	m.trouble.breakNext = false
	page := m.visible(began, since)
	m.mu.Unlock()
	given := map[[sha256.Size]byte]bool{}
	count := int64(0)
	give := func(page []showing) error {
		for _, s := range page {
			e := elementOf(s, known)
			if given[e.RawHash] {
				continue
			}
			given[e.RawHash] = true
			m.mu.Lock()
			m.returned[s.content()] = true
			m.mu.Unlock()
			if err := yield(e); err != nil {
				return err
			}
			count++
		}
		return nil
	}
	if t.breakNext && t.breakAfter < len(page) {
		if err := give(page[:t.breakAfter]); err != nil {
			return defender.Read{}, err
		}
		select {
		case <-time.After(t.pause):
		case <-ctx.Done():
			return defender.Read{}, ctx.Err()
		}
		if t.breakFails {
			return defender.Read{}, errors.New("broken off in the middle")
		}
		boundary := since
		if t.breakAfter > 0 {
			boundary = page[t.breakAfter-1].updated()
		}
		m.mu.Lock()
		page = m.visible(time.Now(), boundary)
		m.mu.Unlock()
	}
	if err := give(page); err != nil {
		return defender.Read{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.ended, r.whole = time.Now(), true
	return defender.Read{Through: r.through, Asked: r.began, Elements: count, Calls: 1}, nil
}

// elementOf returns a version as the adapter gives it.
func elementOf(s showing, known defender.KnownFunc) *defender.Element {
	raw := append(slices.Clone(s.hash[:]), s.words)
	e := &defender.Element{
		Raw: raw, RawHash: sha256.Sum256(append(raw, s.alert.GetId()...)), Key: s.alert.GetId(), Updated: s.updated(),
	}
	if _, ok := known(e.RawHash); ok {
		e.Known = true
		return e
	}
	e.ContentHash, e.Alert = s.hash, proto.CloneOf(s.alert)
	return e
}

// hashOf hashes what an alert says.
func hashOf(alert *integrationv1.Alert) [sha256.Size]byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(alert)
	if err != nil {
		panic(fmt.Sprintf("an alert of the test cannot be encoded: %v", err))
	}
	return sha256.Sum256(data)
}

// ReadDevices tells all devices.
func (m *microsoft) ReadDevices(ctx context.Context, _ defender.Wanted, yield func(*integrationv1.Device) error) (defender.Read, error) {
	began := time.Now()
	if err := m.call(ctx, defender.LimitEndpoint, true); err != nil {
		return defender.Read{}, err
	}
	m.mu.Lock()
	devices := slices.Clone(m.devices)
	asked := time.Now()
	through := asked.Add(m.skew).Add(-m.pace.unit)
	m.mu.Unlock()
	for _, d := range devices {
		if err := yield(proto.CloneOf(d)); err != nil {
			return defender.Read{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookUps = append(m.lookUps, &lookUp{began: began, ended: time.Now(), devices: devices})
	return defender.Read{Through: through, Asked: asked, Elements: int64(len(devices)), Calls: 1}, nil
}

// changeDevice replaces the device of an id by what change makes of it; nil takes it away. change is given nil where there is none.
func (m *microsoft) changeDevice(id string, change func(*integrationv1.Device) *integrationv1.Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.devices, func(d *integrationv1.Device) bool { return d.GetMdeDeviceId() == id })
	var before *integrationv1.Device
	devices := slices.Clone(m.devices)
	if i >= 0 {
		before = proto.CloneOf(devices[i])
		devices = slices.Delete(devices, i, i+1)
	}
	if after := change(before); after != nil {
		devices = append(devices, after)
	}
	m.devices = devices
}
