package sequences_test

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// checkLog compares a journal with what Microsoft showed.
func (p *play) checkLog(l *log) []string {
	var wrong []string
	fault := func(sequence uint64, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("entry %d: %s", sequence, fmt.Sprintf(format, args...)))
	}
	have, newest := map[content]uint64{}, map[string]time.Time{}
	for i, entry := range l.entries {
		sequence := uint64(i + 1)
		switch body := entry.GetBody().(type) {
		case *storev1.Entry_Revision:
			rev := body.Revision
			c := content{rev.GetKey(), [32]byte(rev.GetContentHash())}
			updated := rev.GetUpdatedTime().AsTime()
			p.microsoft.mu.Lock()
			returned := p.microsoft.returned[c]
			p.microsoft.mu.Unlock()
			switch {
			case !returned || hashOf(rev.GetAlert()) != c.hash:
				fault(sequence, "Microsoft never returned %v", rev.GetAlert())
			case have[c] != 0:
				fault(sequence, "%s.%s is there already, as entry %d", rev.GetKey(), rev.GetAlert().GetTitle(), have[c])
			case updated.Before(newest[rev.GetKey()]):
				fault(sequence, "%s.%s was last updated before an earlier entry of it", rev.GetKey(), rev.GetAlert().GetTitle())
			case updated.Before(l.floors[i]):
				fault(sequence, "%s.%s lies below the floor, %v", rev.GetKey(), rev.GetAlert().GetTitle(), l.floors[i])
			}
			have[c], newest[rev.GetKey()] = sequence, updated
		case *storev1.Entry_DeviceFact:
			if why := p.checkFact(body.DeviceFact); why != "" {
				fault(sequence, "%s: %v", why, body.DeviceFact)
			}
		case *storev1.Entry_Pair:
			through, why := p.proven(l, body.Pair.GetPair(), l.times[i])
			if why == "" && through >= sequence {
				why = fmt.Sprintf("it rests on entry %d", through)
			}
			if why != "" {
				fault(sequence, "%v: %s", body.Pair.GetPair(), why)
			}
		case *storev1.Entry_FailedClosing:
			tried := entry.GetEntryTime().AsTime().Add(p.microsoft.skew).Sub(body.FailedClosing.GetDue().AsTime())
			if tried < p.settings.ClosingLimit && !body.FailedClosing.GetSince().AsTime().Before(l.floors[i]) {
				fault(sequence, "a closing was given up after %v", tried)
			}
		}
	}
	return wrong
}

// checkFact says what is wrong with a device fact: it must be what a look-up said.
func (p *play) checkFact(fact *storev1.DeviceFact) string {
	p.microsoft.mu.Lock()
	defer p.microsoft.mu.Unlock()
	at := fact.GetLookedUpTime().AsTime()
	var began time.Time
	for _, l := range p.microsoft.lookUps {
		if l.began.Before(at) {
			continue
		}
		// The first that began then or later is the one; in fake time several can begin at one instant.
		if began.IsZero() {
			began = l.began
		}
		if l.began.After(began) {
			break
		}
		listed := slices.ContainsFunc(l.devices, func(d *integrationv1.Device) bool {
			return d.GetMdeDeviceId() == fact.GetDevice().GetMdeDeviceId() && (fact.GetGone() || proto.Equal(d, fact.GetDevice()))
		})
		if listed == !fact.GetGone() {
			return ""
		}
	}
	return "no look-up said so"
}

// proven returns the entry through which all is in a journal that a pair says was collected, and why the pair is not true at a
// time, where it is not: there was no such read, or something that stood while it lasted is not in the journal.
func (p *play) proven(l *log, pair *integrationv1.Pair, at time.Time) (through uint64, why string) {
	r := p.microsoft.readOf(pair)
	if r == nil {
		return 0, "there was no such read"
	}
	proof, ok := p.proofs[proofKey{l.identity, r}]
	if !ok {
		proof = prove(l, p.microsoft.standing(r))
		if p.proofs == nil {
			p.proofs = map[proofKey]proven{}
		}
		p.proofs[proofKey{l.identity, r}] = proof
	}
	for _, s := range proof.missing {
		if !s.updated().Before(l.floor(at)) {
			return 0, fmt.Sprintf("%s.%s is not in the journal", s.alert.GetId(), s.alert.GetTitle())
		}
	}
	if proof.through > l.perhaps(at) {
		return 0, fmt.Sprintf("what it rests on was entered later, as entry %d", proof.through)
	}
	return proof.through, ""
}

type proofKey struct {
	identity string
	read     *reading
}

// proven is through where a journal has what a read returned, and what of it the journal has not.
type proven struct {
	through uint64
	missing []showing
}

// prove looks for what a read returned: the revision itself, or one of its alert that was last updated later, which makes it old.
func prove(l *log, standing []showing) proven {
	var proof proven
	for _, s := range standing {
		i := slices.IndexFunc(l.entries, func(entry *storev1.Entry) bool {
			rev := entry.GetRevision()
			return rev.GetKey() == s.alert.GetId() &&
				([32]byte(rev.GetContentHash()) == s.hash || rev.GetUpdatedTime().AsTime().After(s.updated()))
		})
		if i < 0 {
			proof.missing = append(proof.missing, s)
			continue
		}
		proof.through = max(proof.through, uint64(i+1))
	}
	return proof
}

// checkEnd says what is wrong at the end, when everything was well for a while: the deeper reads were made, so that all that they
// reach is in the journal, and what is told of the devices that streams ask for is what is so.
func (p *play) checkEnd(healed time.Time) []string {
	l := p.witness.current()
	if l == nil {
		return []string{"nothing was collected"}
	}
	deep := slices.ContainsFunc(l.entries, func(entry *storev1.Entry) bool {
		return entry.GetEntryTime().AsTime().After(healed) && entry.GetPair().GetPair().GetDepth() == integrationv1.Pair_DEPTH_REREAD
	})
	if !deep {
		return []string{"nothing was read again at the end"}
	}
	last := map[string]*storev1.DeviceFact{}
	for _, entry := range l.entries {
		if fact := entry.GetDeviceFact(); fact != nil && fact.GetRepeats() == 0 {
			last[fact.GetDevice().GetMdeDeviceId()] = fact
		}
	}
	p.microsoft.mu.Lock()
	defer p.microsoft.mu.Unlock()
	var wrong []string
	for _, d := range p.directors {
		for _, device := range p.microsoft.devices {
			asked := slices.ContainsFunc(d.request.GetActors(), func(a *integrationv1.Actor) bool {
				return fits(a, device.GetMdeDeviceId(), device.GetDeviceDnsName())
			})
			if fact := last[device.GetMdeDeviceId()]; asked && !d.done && (fact.GetGone() || !sameDevice(fact.GetDevice(), device)) {
				wrong = append(wrong, fmt.Sprintf("%s asks for %v, of which the journal says %v", d.name, device, fact))
			}
		}
	}
	return wrong
}

// sameDevice says that two are the same, their last reports apart.
func sameDevice(a, b *integrationv1.Device) bool {
	if a == nil {
		return false
	}
	x, y := proto.CloneOf(a), proto.CloneOf(b)
	x.LastSeenTime, y.LastSeenTime = nil, nil
	return proto.Equal(x, y)
}
