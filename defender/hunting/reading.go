package hunting

import (
	"context"
	"errors"
	"strings"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Bounds of one read.
const (
	// maxQueries is how many queries one read makes. The collector's budget lets a look-up spend 19 calls a minute: 27, less the 8
	// that are kept for polls and closing reads. What cannot be finished within them would begin again, for ever; the few that are
	// left are for calls that are made again.
	maxQueries = 16
	// maxSplits is how often what Microsoft finds too much is halved.
	maxSplits = 3
	// maxMerges is how many merges are followed from one device.
	maxMerges = 8
)

// reading is one read under way.
type reading struct {
	ctx     context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	source  *Source
	yield   func(*integrationv1.Device) error
	decoder *decoder

	result defender.Read
	// queries is how many were made.
	queries int
	// What the last answer told: see [defender.Probed].
	date      time.Time
	received  time.Time
	roundTrip time.Duration
	// given are the ids of the devices that were given, in lower case.
	given map[string]bool
	// mergedInto are the ids that devices of the last round were merged into.
	mergedInto []string
}

func (s *Source) newReading(ctx context.Context, yield func(*integrationv1.Device) error) *reading {
	return &reading{
		ctx: ctx, source: s, yield: yield, decoder: newDecoder(),
		result: defender.Read{WantedOnly: true}, given: map[string]bool{},
	}
}

// everything reads the devices that have the values, and then those that they were merged into.
func (r *reading) everything(values []value) error {
	for range 1 + maxMerges {
		for len(values) > 0 {
			n := oneQuery(values, r.source.size.most(time.Now()))
			if err := r.narrowing(values[:n], maxSplits); err != nil {
				return err
			}
			values = values[n:]
		}
		if values = r.merged(); len(values) == 0 {
			return nil
		}
	}
	return nil
}

// merged returns what the devices of the last round were merged into, without what was read already.
func (r *reading) merged() []value {
	var ids []string
	for _, id := range r.mergedInto {
		if !r.given[strings.ToLower(id)] {
			ids = append(ids, id)
		}
	}
	r.mergedInto = r.mergedInto[:0]
	return valuesOf(defender.Wanted{DeviceIDs: ids})
}

// narrowing reads the devices that have the values, in halves where Microsoft finds them too much, and these in halves so many times.
func (r *reading) narrowing(values []value, splits int) error {
	err := r.ask(lookUp(values))
	if tooMuch(err) || errors.Is(r.ctx.Err(), context.DeadlineExceeded) {
		// Remembered, for the time may not do to finish in parts what failed as a whole.
		r.source.size.failed(len(values), time.Now())
	}
	if splits == 0 || len(values) == 1 || !tooMuch(err) {
		return err
	}
	half := len(values) / 2
	if err := r.narrowing(values[:half], splits-1); err != nil {
		return err
	}
	return r.narrowing(values[half:], splits-1)
}

// ask runs one query and gives the devices of its answer on.
func (r *reading) ask(query string) error {
	if r.queries == maxQueries {
		return tooManyQueries()
	}
	r.queries++
	ran, err := r.source.ask(r.ctx, query, ofDevices(), r.row)
	r.result.Calls += ran.calls
	if ran.answered {
		r.date, r.received, r.roundTrip = ran.date, ran.received, ran.roundTrip
	}
	if !ran.date.IsZero() && r.result.Through.IsZero() {
		r.result.Through = ran.date.UTC().Add(-ran.roundTrip - time.Second)
		r.result.Asked = ran.received.Add(-ran.roundTrip)
	}
	return err
}

// row gives one device on. One without an id cannot be told from others, and is left out.
func (r *reading) row(raw []byte, now time.Time) error {
	device, err := r.decoder.decode(raw, now)
	if err != nil {
		return r.source.noJSON()
	}
	id := strings.ToLower(device.GetMdeDeviceId())
	if r.given[id] {
		return nil
	}
	r.result.Elements++
	if id == "" {
		return nil
	}
	r.given[id] = true
	if into := device.GetMergedIntoDeviceId(); into != "" {
		r.mergedInto = append(r.mergedInto, into)
	}
	return r.yield(device)
}
