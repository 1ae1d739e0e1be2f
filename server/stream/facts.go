package stream

import (
	"context"
	"errors"
	"slices"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// deviceFact takes a device fact. Where it gives an Actor a device, the stream looks through the entries about that device that it
// has passed, and sends what matches now, at this entry's position.
func (s *session) deviceFact(ctx context.Context, sequence uint64, f *storev1.DeviceFact, dry bool) ([]event, error) {
	var again []uint64
	s.heard++
	for _, a := range s.concerned(f.GetDevice()) {
		a.take(sequence, f)
		earlier, err := s.secondLook(ctx, a, sequence)
		if err != nil {
			return nil, err
		}
		again = append(again, earlier...)
	}
	return s.lookAgain(ctx, sequence, again, dry)
}

// lookAgain passes earlier revisions again, and returns the events that they make now, at the position of the entry at a sequence.
func (s *session) lookAgain(ctx context.Context, sequence uint64, again []uint64, dry bool) ([]event, error) {
	var events []event
	for len(again) > 0 {
		slices.Sort(again)
		again = slices.Compact(again)
		earlier := again[0]
		again = again[1:]
		p, err := s.feed.entry(ctx, earlier)
		if errors.Is(err, store.ErrTrimmed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		key := p.Entry.GetRevision().GetKey()
		_, was := s.sent[key]
		e, err := s.revision(ctx, earlier, p.Entry.GetRevision(), dry)
		if err != nil {
			return nil, err
		}
		if _, is := s.sent[key]; is && !was {
			// Its later revisions that were passed belong to it, also those about other devices.
			again = append(again, s.feed.revisions(key, earlier, sequence-1)...)
		}
		if e != nil {
			events = append(events, event{ordinal: ordinalOf(sequence, earlier), alert: e})
		}
	}
	return events, nil
}

// secondLook makes the devices that an Actor has now its own, and returns the revisions about them that were passed before. A
// device that one of them was merged into is one of them too.
func (s *session) secondLook(ctx context.Context, a *actor, sequence uint64) ([]uint64, error) {
	var revisions []uint64
	for {
		a.resolve()
		keys := a.newKeys()
		if len(keys) == 0 {
			return revisions, nil
		}
		for _, key := range keys {
			s.concern(key, a)
			if err := s.recallKey(ctx, a, key); err != nil {
				return nil, err
			}
			for _, earlier := range s.feed.about(key, 1, sequence-1) {
				p, err := s.feed.entry(ctx, earlier)
				if errors.Is(err, store.ErrTrimmed) {
					continue
				}
				if err != nil {
					return nil, err
				}
				if f := p.Entry.GetDeviceFact(); f != nil {
					a.take(earlier, f)
				} else {
					revisions = append(revisions, earlier)
				}
			}
		}
	}
}

// recall takes what is known of the Actors' devices where the journal begins: facts that trimming dropped and repeated.
func (s *session) recall(ctx context.Context) error {
	for _, a := range s.actors {
		for _, key := range a.Keys() {
			if err := s.recallKey(ctx, a, key); err != nil {
				return err
			}
		}
		if _, err := s.secondLook(ctx, a, 1); err != nil {
			return err
		}
	}
	return nil
}

// recallKey takes the repeated facts about a key. Of a device that a later fact was taken of, they are no news.
func (s *session) recallKey(ctx context.Context, a *actor, key match.Key) error {
	for _, sequence := range s.feed.repetitions(key) {
		p, err := s.feed.entry(ctx, sequence)
		if errors.Is(err, store.ErrTrimmed) {
			continue
		}
		if err != nil {
			return err
		}
		f := p.Entry.GetDeviceFact()
		id := f.GetDevice().GetMdeDeviceId()
		switch {
		case f.GetRepeats() >= s.first() || a.heard[id] != 0:
		case f.GetGone():
			delete(a.facts, id)
		default:
			a.facts[id] = f.GetDevice()
		}
	}
	return nil
}

// first is the first entry that is still there.
func (s *session) first() uint64 {
	first, _, _ := s.feed.bounds()
	return first
}

// take takes a fact about a device, of the entry at a sequence, into what the Actor's devices are worked out from. One that lies before
// what is known of the device already is left out: it comes up when the entries about the device are looked through.
func (a *actor) take(sequence uint64, f *storev1.DeviceFact) {
	id := f.GetDevice().GetMdeDeviceId()
	if sequence < a.heard[id] {
		return
	}
	a.heard[id] = sequence
	if f.GetGone() {
		delete(a.facts, id)
		return
	}
	a.facts[id] = f.GetDevice()
}

// newKeys returns the keys of the Actor's devices, and of those that one was merged into, that it had not when it was last asked. One
// that was lost meanwhile is new again, since of what came about it nothing was sent; so is one that a device was merged into, once
// it is the Actor's by a fact of its own.
func (a *actor) newKeys() []match.Key {
	had := a.lookedFor
	a.lookedFor = map[match.Key]bool{}
	for _, d := range a.facts {
		if id := d.GetMergedIntoDeviceId(); id != "" {
			a.lookedFor[match.DeviceIDKey(id)] = false
		}
	}
	for _, k := range a.resolution.Keys() {
		a.lookedFor[k] = true
	}
	var keys []match.Key
	for k, own := range a.lookedFor {
		if was, found := had[k]; !found || own && !was {
			keys = append(keys, k)
		}
	}
	return keys
}

// concerned returns the Actors that share a key with a device, or had it as a fact, in the request's order.
func (s *session) concerned(device *integrationv1.Device) []*actor {
	list := s.candidates(match.DeviceKeys(device))
	for _, a := range s.actors {
		if a.facts[device.GetMdeDeviceId()] != nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b *actor) int { return a.index - b.index })
	return list
}
