package judgement_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// played is what a stream of a case said.
type played struct {
	// sent are its alerts' events by the alerts' ids, in their order; those of the streams before it, too.
	sent map[string][]*integrationv1.AlertEvent
	// actors are the events of that kind, of which a stream begins with one.
	actors    []*integrationv1.ActorsEvent
	completed *integrationv1.CompletedEvent
	token     string
}

// play plays a case in a house, and returns what each of its streams said: the first one, and those that come again.
func (h *house) play(id string, s *spec, api integrationv1.Api, r recorded) ([]*played, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	time.Sleep(time.Until(s.registered()))
	err := h.register(ctx, id, api, s.kind(), &source{
		recording: r.steps, telemetry: r.telemetry, alertsFail: s.AlertsFail, devicesFail: s.DevicesFail,
		noDevices: s.kind() == integrationv1.DeviceSource_KIND_NONE,
	})
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	time.Sleep(time.Until(s.asked()))
	request := s.request(id)
	all := []*played{{sent: map[string][]*integrationv1.AlertEvent{}}}
	if err := h.stream(ctx, request, all[0]); err != nil {
		return nil, err
	}
	for _, again := range s.Again {
		last := all[len(all)-1]
		next := &played{sent: map[string][]*integrationv1.AlertEvent{}}
		for key, events := range last.sent {
			next.sent[key] = slices.Clip(events)
		}
		time.Sleep(time.Until(again.At.Time))
		request.ResumeToken = last.token
		if err := h.stream(ctx, request, next); err != nil {
			return nil, fmt.Errorf("again at %s: %w", clock(again.At.Time), err)
		}
		all = append(all, next)
	}
	_, err = h.client.DeleteIntegration(ctx, &integrationv1.DeleteIntegrationRequest{IntegrationId: id})
	return all, err
}

// stream opens a stream and takes what it says, to its end.
func (h *house) stream(ctx context.Context, request *integrationv1.StreamAlertsRequest, p *played) error {
	ctx, cancel := context.WithDeadline(ctx, deadline(time.Now()))
	defer cancel()
	stream, err := h.client.StreamAlerts(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && (p.completed == nil || len(p.actors) == 0):
			return errors.New("the stream ended without an actors or a completed event")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		p.token = event.GetResumeToken()
		switch {
		case event.GetAlert() != nil:
			key := event.GetAlert().GetAlert().GetId()
			p.sent[key] = append(p.sent[key], event.GetAlert())
		case event.GetActors() != nil:
			p.actors = append(p.actors, event.GetActors())
		case event.GetCompleted() != nil:
			p.completed = event.GetCompleted()
		}
	}
}

// verdict is the verdict for an Actor.
func (p *played) verdict(actor string) *integrationv1.ActorVerdict {
	for _, v := range p.completed.GetVerdicts() {
		if v.GetActorId() == actor {
			return v
		}
	}
	return nil
}

// stateIn is what an event tells of an Actor's devices.
func stateIn(event *integrationv1.ActorsEvent, actor string) *integrationv1.ActorState {
	for _, s := range event.GetActors() {
		if s.GetActorId() == actor {
			return s
		}
	}
	return nil
}

// events are those of an alert of the case: by the alert's id, or, through SIEM, by those of its detections.
func (p *played) events(alert string) map[string][]*integrationv1.AlertEvent {
	found := map[string][]*integrationv1.AlertEvent{}
	for key, events := range p.sent {
		if p.alertOf(key) == alert {
			found[key] = events
		}
	}
	return found
}

// alertOf is the case's alert that an id is of: the id itself, or what stands before a detection's own part.
func (*played) alertOf(id string) string {
	alert, _, _ := strings.Cut(id, ":")
	return alert
}

// alertsOf are the case's alerts that ids are of, each once.
func (p *played) alertsOf(ids []string) []string {
	list := []string{}
	seen := map[string]bool{}
	for _, id := range ids {
		if alert := p.alertOf(id); !seen[alert] {
			seen[alert] = true
			list = append(list, alert)
		}
	}
	return list
}
