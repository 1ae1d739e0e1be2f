package stream

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// mostShown bounds how many devices are remembered of an Actor that alerts have shown. An Actor that more fit by is no machine.
const mostShown = 64

// shown is a device that an alert's evidence showed.
type shown struct {
	device   *integrationv1.Device
	alert    string // the alert's key
	sequence uint64 // the entry that showed it
}

// learn takes what an alert's evidence shows of an Actor's devices: the ids of those that fit it. It counts only where the device
// source tells of none, and says whether it is news then.
func (a *actor) learn(sequence uint64, key string, devices []*integrationv1.Device) bool {
	news := false
	for _, d := range devices {
		if a.shown[d.GetMdeDeviceId()] != nil || len(a.shown) >= mostShown || len(a.MatchDevice(d)) == 0 {
			continue
		}
		if a.shown == nil {
			a.shown = map[string]*shown{}
		}
		a.shown[d.GetMdeDeviceId()] = &shown{device: d, alert: key, sequence: sequence}
		news = true
	}
	return news && !a.isKnown()
}

// isKnown says that the device source tells of a device of the Actor's, or of several that it may be.
func (a *actor) isKnown() bool {
	return a.known.Knowledge == integrationv1.ActorState_KNOWLEDGE_KNOWN || a.known.Knowledge == integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS
}

// unlearn forgets what entries before the journal's first showed: a stream that is rebuilt cannot know of it. It returns the ids of
// those devices.
func (a *actor) unlearn(first uint64) []string {
	var gone []string
	maps.DeleteFunc(a.shown, func(id string, s *shown) bool {
		if s.sequence < first {
			gone = append(gone, id)
			return true
		}
		return false
	})
	slices.Sort(gone)
	return gone
}

// relearn takes what later entries that were passed show of devices that were forgotten, as a stream does that is rebuilt from those.
func (s *session) relearn(ctx context.Context, a *actor, gone []string) error {
	passed := s.position.sequence
	if s.position.ordinal != wholeEntry {
		passed--
	}
	for _, id := range gone {
		for _, sequence := range s.feed.about(match.DeviceIDKey(id), s.scanFrom(), passed) {
			if a.shown[id] != nil {
				break
			}
			p, err := s.feed.entry(ctx, sequence)
			if errors.Is(err, store.ErrTrimmed) {
				continue
			}
			if err != nil {
				return err
			}
			if rev := p.Entry.GetRevision(); rev != nil {
				a.learn(sequence, rev.GetKey(), match.ShownDevices(rev.GetAlert()))
			}
		}
	}
	return nil
}

// shownDevices returns the devices that the Actor is by what alerts have shown; none where the device source tells of some.
func (a *actor) shownDevices() []*integrationv1.ActorDevice {
	if a.isKnown() {
		return nil
	}
	for _, d := range a.resolution.Devices {
		d.ShownByAlertId = a.shown[d.GetDevice().GetMdeDeviceId()].alert
	}
	return a.resolution.Devices
}

// resolve works out anew which devices the Actor is: by the device source's facts, and where none of those fits, by what alerts have
// shown.
func (a *actor) resolve() {
	a.known = match.Resolve(a.Actor, slices.SortedFunc(maps.Values(a.facts), byDeviceID))
	a.resolution = a.known
	if a.isKnown() {
		return
	}
	devices := make([]*integrationv1.Device, 0, len(a.shown))
	for _, s := range a.shown {
		devices = append(devices, s.device)
	}
	slices.SortFunc(devices, byDeviceID)
	a.resolution = match.ResolveShown(a.Actor, devices)
}

func byDeviceID(a, b *integrationv1.Device) int {
	return cmp.Compare(a.GetMdeDeviceId(), b.GetMdeDeviceId())
}
