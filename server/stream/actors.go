package stream

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// actorsEvent tells what is known of the Actors' devices now. It goes by the present, not by the journal; where no device source tells of
// an Actor's, by what alerts have shown. The open alerts are those of when the stream began, or the Actor's device was found: before is
// the event before, nil at the beginning.
func (s *session) actorsEvent(ctx context.Context, now collector.Snapshot, before *integrationv1.ActorsEvent) (*integrationv1.ActorsEvent, error) {
	e := &integrationv1.ActorsEvent{Problem: now.DeviceProblem, OpenAlertsSince: stampOf(now.Covered)}
	if before != nil {
		e.OpenAlertsSince = before.GetOpenAlertsSince()
	}
	lookup := match.Lookup{API: s.api, Kind: now.DeviceSource, Problem: now.DeviceProblem, Rhythm: defender.RhythmOf(now.DeviceSource)}
	if at := lookedUp(now); !at.IsZero() {
		lookup.Time = at
		e.LookedUpTime = timestamppb.New(at)
	}
	budget := openInAll
	for i, a := range s.actors {
		keys := texts(a.Keys())
		asked := lookup
		resolution := match.Resolve(a.Actor, now.Devices.Fitting(keys))
		told := now.Devices.Asked(keys)
		if now.Elsewhere != nil {
			resolution, told = a.known, s.toldOf(now.Elsewhere)
		}
		if !told {
			asked.Time = time.Time{}
		}
		state := match.State(a.ID(), resolution, asked, s.window)
		if len(state.GetDevices()) == 0 {
			resolution = a.resolution
			state.Devices = a.shownDevices()
		}
		if before != nil && sameDevices(before.GetActors()[i], state) {
			state.OpenAlerts, state.OpenAlertCount = before.GetActors()[i].GetOpenAlerts(), before.GetActors()[i].GetOpenAlertCount()
		} else {
			share := budget / (len(s.actors) - i)
			budget -= share
			var err error
			if state.OpenAlerts, state.OpenAlertCount, err = s.openAlerts(ctx, a, resolution, &share); err != nil {
				return nil, err
			}
			budget += share
		}
		e.Actors = append(e.Actors, state)
	}
	bound(e)
	return e, nil
}

// toldOf says whether a look-up that another server made asked for the stream's Actors, and the stream has what it found.
func (s *session) toldOf(l *collector.LookUp) bool {
	return l.Identity == s.feed.identity && l.Sequence <= s.position.sequence && s.joined != nil && l.Asked(s.joined)
}

// sameDevices says whether two states tell of the same devices, by their ids.
func sameDevices(a, b *integrationv1.ActorState) bool {
	if len(a.GetDevices()) != len(b.GetDevices()) {
		return false
	}
	for i, d := range a.GetDevices() {
		if d.GetDevice().GetMdeDeviceId() != b.GetDevices()[i].GetDevice().GetMdeDeviceId() {
			return false
		}
	}
	return true
}

// bound cuts how many devices and open alerts are told of each Actor until the event is not too large.
func bound(e *integrationv1.ActorsEvent) {
	for _, most := range []int{64, 16, 4, 1} {
		for _, state := range e.GetActors() {
			state.Devices = state.GetDevices()[:min(len(state.GetDevices()), most)]
			state.OpenAlerts = state.GetOpenAlerts()[:min(len(state.GetOpenAlerts()), most)]
		}
		if proto.Size(e) <= maxEvent {
			return
		}
	}
	for _, state := range e.GetActors() {
		for _, d := range state.GetDevices() {
			d.Device = withoutAddresses(d.GetDevice())
		}
	}
}

// withoutAddresses returns a device but for its addresses, of which there can be any number.
func withoutAddresses(device *integrationv1.Device) *integrationv1.Device {
	if device == nil {
		return nil
	}
	d := proto.CloneOf(device)
	d.IpAddresses = nil
	return d
}
