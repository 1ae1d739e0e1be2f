// Package collectortest has a Microsoft of a few lines for tests in fake time, which cannot speak over sockets: a list of alerts
// and devices behind the interfaces of the adapter. What is to be tested of the adapter itself is tested against
// defender/defendertest over real HTTP.
package collectortest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Source is a collector.Source that serves what a test puts in. It is safe for concurrent use.
type Source struct {
	mu sync.Mutex
	// noDevices takes the device source away; wantedOnly makes it one that tells of the devices that are asked for by their full names alone.
	noDevices, wantedOnly bool
	traces                TracesFunc
	spend                 defender.SpendFunc
	served                []served
	devices               []*integrationv1.Device
	fail                  error
	// failDevices is why looking devices up fails.
	failDevices error
	reads       []time.Time
	lookups     int
	// hang is closed when reading alerts hangs no more; nil while it does not.
	hang chan struct{}
}

// TracesFunc answers what is asked of telemetry.
type TracesFunc func(context.Context, []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error)

type served struct {
	alert   *integrationv1.Alert
	visible time.Time
}

// TakeDevicesAway takes the device source away.
func (s *Source) TakeDevicesAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noDevices = true
}

// SetWantedOnly says whether the device source tells only of the devices that are asked for by their full names.
func (s *Source) SetWantedOnly(only bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wantedOnly = only
}

// SetTraces sets what answers what is asked of telemetry, after a call was spent; nil takes telemetry away.
func (s *Source) SetTraces(traces TracesFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traces = traces
}

// SetSpend sets what is asked before each call.
func (s *Source) SetSpend(spend defender.SpendFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spend = spend
}

// spender returns what is asked before a call: what the connection that it is made over has, or what was set. The caller holds mu.
func (s *Source) spender(ctx context.Context) defender.SpendFunc {
	if own, ok := ctx.Value(connectionKey{}).(defender.SpendFunc); ok {
		return own
	}
	return s.spend
}

type connectionKey struct{}

// Connection is one of several connections to a source, with a spend of its own.
type Connection struct {
	*Source

	spend defender.SpendFunc
}

// Connect returns a connection that asks spend before each call.
func (s *Source) Connect(spend defender.SpendFunc) *Connection { return &Connection{s, spend} }

func (c *Connection) own(ctx context.Context) context.Context {
	return context.WithValue(ctx, connectionKey{}, c.spend)
}

// Alerts returns the connection itself.
func (c *Connection) Alerts() defender.AlertSource { return c }

// Devices returns the connection itself, or nil where the source has none.
func (c *Connection) Devices() defender.DeviceSource {
	if c.Source.Devices() == nil {
		return nil
	}
	return c
}

// Telemetry returns the connection itself, or nil where the source has none.
func (c *Connection) Telemetry() defender.TelemetrySource {
	if c.Source.Telemetry() == nil {
		return nil
	}
	return c
}

// ReadAlerts is that of the source.
func (c *Connection) ReadAlerts(
	ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error,
) (defender.Read, error) {
	return c.Source.ReadAlerts(c.own(ctx), since, known, yield)
}

// ReadDevices is that of the source.
func (c *Connection) ReadDevices(
	ctx context.Context, wanted defender.Wanted, yield func(*integrationv1.Device) error,
) (defender.Read, error) {
	return c.Source.ReadDevices(c.own(ctx), wanted, yield)
}

// FindTraces is that of the source.
func (c *Connection) FindTraces(ctx context.Context, questions []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
	return c.Source.FindTraces(c.own(ctx), questions)
}

// Put makes a revision of an alert visible from a time on; what was there of the same id stays until then.
func (s *Source) Put(alert *integrationv1.Alert, visible time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = append(s.served, served{alert: proto.CloneOf(alert), visible: visible})
}

// SetDevices sets the list of devices.
func (s *Source) SetDevices(devices ...*integrationv1.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = devices
}

// Fail makes every call fail; nil ends that.
func (s *Source) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// FailDevices makes looking devices up fail; nil ends that.
func (s *Source) FailDevices(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failDevices = err
}

// Hang makes every read of alerts that begins from now on hang until its context ends, or this is ended.
func (s *Source) Hang(hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case hang && s.hang == nil:
		s.hang = make(chan struct{})
	case !hang && s.hang != nil:
		close(s.hang)
		s.hang = nil
	}
}

// Reads returns the lower bound of every read of alerts that was begun, in order.
func (s *Source) Reads() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reads)
}

// Lookups returns how often the devices were read.
func (s *Source) Lookups() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookups
}

// Alerts returns the source itself.
func (s *Source) Alerts() defender.AlertSource { return s }

// Devices returns the source itself, or nil where it has none.
func (s *Source) Devices() defender.DeviceSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noDevices {
		return nil
	}
	return s
}

// Telemetry returns the source itself, or nil where it has none.
func (s *Source) Telemetry() defender.TelemetrySource {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.traces == nil {
		return nil
	}
	return s
}

// FindTraces asks what SetTraces set.
func (s *Source) FindTraces(ctx context.Context, questions []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
	s.mu.Lock()
	spend, traces := s.spender(ctx), s.traces
	s.mu.Unlock()
	if spend != nil {
		if err := spend(ctx, defender.LimitTelemetry); err != nil {
			return nil, err
		}
	}
	return traces(ctx, questions)
}

// Close does nothing.
func (s *Source) Close() {}

// ReadAlerts serves the newest visible revision of each alert, oldest update first. One without evidence is served as one that came
// without it.
func (s *Source) ReadAlerts(
	ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error,
) (defender.Read, error) {
	now, alerts, err := s.look(ctx, since)
	if err != nil {
		return defender.Read{}, err
	}
	read := defender.Read{Through: now.Add(-time.Second), Asked: now, Calls: 1}
	for _, alert := range alerts {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(alert)
		if err != nil {
			return defender.Read{}, err
		}
		e := &defender.Element{
			Raw: raw, RawHash: sha256.Sum256(raw), ContentHash: sha256.Sum256(raw),
			Key: alert.GetId(), Updated: alert.GetLastUpdateTime().AsTime(), Alert: proto.CloneOf(alert),
			WithoutEvidence: len(alert.GetEvidence()) == 0,
		}
		if _, ok := known(e.RawHash); ok {
			e.Known = true
		}
		if err := yield(e); err != nil {
			return defender.Read{}, err
		}
		read.Elements++
	}
	return read, nil
}

// look returns what is visible now.
func (s *Source) look(ctx context.Context, since time.Time) (time.Time, []*integrationv1.Alert, error) {
	s.mu.Lock()
	spend, fail, hang := s.spender(ctx), s.fail, s.hang
	s.reads = append(s.reads, since)
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return time.Time{}, nil, context.Cause(ctx)
		}
	}
	if spend != nil {
		if err := spend(ctx, defender.LimitGraphAlerts); err != nil {
			return time.Time{}, nil, err
		}
	}
	if fail != nil {
		return time.Time{}, nil, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	newest := map[string]*integrationv1.Alert{}
	for _, one := range s.served {
		if !one.visible.After(now) {
			newest[one.alert.GetId()] = one.alert
		}
	}
	var alerts []*integrationv1.Alert
	for _, alert := range newest {
		if !alert.GetLastUpdateTime().AsTime().Before(since) {
			alerts = append(alerts, alert)
		}
	}
	slices.SortFunc(alerts, func(a, b *integrationv1.Alert) int {
		if c := a.GetLastUpdateTime().AsTime().Compare(b.GetLastUpdateTime().AsTime()); c != 0 {
			return c
		}
		return slices.Compare([]byte(a.GetId()), []byte(b.GetId()))
	})
	return now, alerts, nil
}

// ReadDevices serves the devices.
func (s *Source) ReadDevices(ctx context.Context, wanted defender.Wanted, yield func(*integrationv1.Device) error) (defender.Read, error) {
	s.mu.Lock()
	s.lookups++
	spend, fail, devices, wantedOnly := s.spender(ctx), cmp.Or(s.failDevices, s.fail), s.devices, s.wantedOnly
	s.mu.Unlock()
	if spend != nil {
		if err := spend(ctx, defender.LimitEndpoint); err != nil {
			return defender.Read{}, err
		}
	}
	if fail != nil {
		return defender.Read{}, fail
	}
	read := defender.Read{Through: time.Now().Add(-time.Second), Asked: time.Now(), Calls: 1, WantedOnly: wantedOnly}
	for _, d := range devices {
		if wantedOnly && !slices.Contains(wanted.FullNames, d.GetDeviceDnsName()) {
			continue
		}
		if err := yield(proto.CloneOf(d)); err != nil {
			return defender.Read{}, err
		}
		read.Elements++
	}
	return read, nil
}

// Alert returns an alert about a device, with one file that Defender prevented.
func Alert(id, deviceID, dnsName string, at time.Time) *integrationv1.Alert {
	stamp := timestamppb.New(at)
	return &integrationv1.Alert{
		Id: id, Title: "A test alert", CreatedTime: stamp, LastUpdateTime: stamp, FirstActivityTime: stamp, LastActivityTime: stamp,
		Evidence: []*integrationv1.Evidence{
			{Type: "deviceEvidence", CreatedTime: stamp, Detail: &integrationv1.Evidence_Device{
				Device: &integrationv1.DeviceEvidence{MdeDeviceId: deviceID, DeviceDnsName: dnsName},
			}},
			{Type: "fileEvidence", CreatedTime: stamp, Detail: &integrationv1.Evidence_File{
				File: &integrationv1.FileEvidence{
					MdeDeviceId: deviceID, DetectionStatus: integrationv1.DetectionStatus_DETECTION_STATUS_PREVENTED,
				},
			}},
		},
	}
}

// Device returns a device that is onboarded, active and last reported at a time.
func Device(id, dnsName string, lastSeen time.Time) *integrationv1.Device {
	return &integrationv1.Device{
		MdeDeviceId: id, DeviceDnsName: dnsName,
		HealthStatus:     integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE,
		OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_ONBOARDED,
		LastSeenTime:     timestamppb.New(lastSeen),
	}
}
