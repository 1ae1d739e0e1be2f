package judgement_test

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// source plays a recording in fake time, where sockets cannot be used.
type source struct {
	recording recording
	// alertsFail and devicesFail are when Microsoft answers no such call.
	alertsFail, devicesFail *windowSpec
	noDevices               bool
	// telemetry is asked over HTTP; nil where the case does not ask for it, or the API has none.
	telemetry defender.TelemetrySource
}

// Alerts returns the source itself.
func (s *source) Alerts() defender.AlertSource { return s }

// Telemetry returns what is asked for telemetry.
func (s *source) Telemetry() defender.TelemetrySource { return s.telemetry }

// Devices returns the source itself, or nil where there is none.
func (s *source) Devices() defender.DeviceSource {
	if s.noDevices {
		return nil
	}
	return s
}

// Close does nothing.
func (s *source) Close() {}

// now returns the step in force.
func (s *source) now() step {
	at := time.Now()
	i := len(s.recording) - 1
	for i > 0 && s.recording[i].from.After(at) {
		i--
	}
	return s.recording[i]
}

// refusal is how Microsoft fails while it does.
func refusal(w *windowSpec) error {
	now := time.Now()
	if w == nil || now.Before(w.From.or(now)) || w.To != nil && !now.Before(w.To.Time) {
		return nil
	}
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, Message: "Microsoft answered 503.", Remedy: "Wait.",
	}}
}

// ReadAlerts gives what was last updated at or after since, the oldest first.
func (s *source) ReadAlerts(
	_ context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error,
) (defender.Read, error) {
	if err := refusal(s.alertsFail); err != nil {
		return defender.Read{}, err
	}
	read := defender.Read{Through: time.Now().Add(-time.Second), Asked: time.Now(), Calls: 1}
	shown := slices.Clone(s.now().elements)
	slices.SortStableFunc(shown, func(a, b *defender.Element) int { return a.Updated.Compare(b.Updated) })
	for _, e := range shown {
		if e.Updated.Before(since) {
			continue
		}
		given := *e
		given.Alert = proto.CloneOf(e.Alert)
		if _, is := known(e.RawHash); is {
			given.Known, given.Alert = true, nil
		}
		if err := yield(&given); err != nil {
			return defender.Read{}, err
		}
		read.Elements++
	}
	return read, nil
}

// lookingUp is how long Microsoft takes to tell the devices: long enough for a stream to say before that they are looked up.
const lookingUp = 3 * time.Second

// ReadDevices gives the devices.
func (s *source) ReadDevices(ctx context.Context, _ defender.Wanted, yield func(*integrationv1.Device) error) (defender.Read, error) {
	if err := refusal(s.devicesFail); err != nil {
		return defender.Read{}, err
	}
	shown := s.now()
	read := defender.Read{Through: time.Now().Add(-time.Second), Asked: time.Now(), Calls: 1, WantedOnly: shown.wantedOnly}
	select {
	case <-time.After(lookingUp):
	case <-ctx.Done():
		return defender.Read{}, context.Cause(ctx)
	}
	for _, d := range shown.devices {
		if err := yield(proto.CloneOf(d)); err != nil {
			return defender.Read{}, err
		}
		read.Elements++
	}
	return read, nil
}
