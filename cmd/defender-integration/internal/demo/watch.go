package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// result is what came over gRPC about one attack.
type result struct {
	attack *attack
	began  time.Time
	// alerts are the events of alerts, each revision once; repeated counts those that came again.
	alerts   []*integrationv1.AlertEvent
	repeated int
	// open are the alerts that were told of as open.
	open map[string]bool
	// cut says that the stream was cut, resumed that it went on.
	cut, resumed bool
	completed    *integrationv1.CompletedEvent
	// first is the verdict that was given before the stream was completed once more.
	first *integrationv1.ActorVerdict
}

// verdict returns the verdict for the attack's Actor; nil where there is none.
func (r *result) verdict() *integrationv1.ActorVerdict {
	for _, v := range r.completed.GetVerdicts() {
		if v.GetActorId() == r.attack.actor.GetActorId() {
			return v
		}
	}
	return nil
}

func (r *result) revisions() int { return len(r.alerts) }

// take keeps an alert's event, and counts a revision that came before.
func (r *result) take(e *integrationv1.AlertEvent) {
	for _, have := range r.alerts {
		if have.GetAlert().GetId() == e.GetAlert().GetId() &&
			have.GetAlert().GetLastUpdateTime().AsTime().Equal(e.GetAlert().GetLastUpdateTime().AsTime()) {
			r.repeated++
			return
		}
	}
	r.alerts = append(r.alerts, e)
}

// matchedBy says whether an alert that counts for the Actor matched by a criterion.
func (r *result) matchedBy(criterion integrationv1.MatchCriterion) bool {
	for _, e := range r.alerts {
		for _, m := range matchesOf(e) {
			if m.GetCriterion() == criterion && e.GetActors()[0].GetCounts() {
				return true
			}
		}
	}
	return false
}

// deciding returns the last revision of the alert that decides; nil where none does.
func (r *result) deciding() *integrationv1.AlertEvent {
	id := r.verdict().GetDecidingAlertId()
	for _, e := range slices.Backward(r.alerts) {
		if id != "" && e.GetAlert().GetId() == id {
			return e
		}
	}
	return nil
}

// attributionOf returns how surely an alert is about the attack, and by what.
func attributionOf(e *integrationv1.AlertEvent) *integrationv1.Attribution {
	if len(e.GetActors()) == 0 {
		return nil
	}
	return e.GetActors()[0].GetAttribution()
}

// matchesOf returns by what an alert matched; a stream of the demonstration has one Actor.
func matchesOf(e *integrationv1.AlertEvent) []*integrationv1.Match {
	if len(e.GetActors()) == 0 {
		return nil
	}
	return e.GetActors()[0].GetMatches()
}

// watch streams what Defender makes of an attack until the stream is completed. Where something comes afterwards, it then resumes the
// stream with the token of its end, and watches until it is completed again.
func (d *director) watch(ctx context.Context, l *line, a *attack, began time.Time, afterwards func() error) (*result, error) {
	r := &result{attack: a, began: began, open: map[string]bool{}}
	stream := d.client.Alerts(d.request(a, began))
	if err := d.follow(ctx, l, stream, r); err != nil || len(a.afterwards) == 0 {
		return r, err
	}
	r.first = r.verdict()
	if err := afterwards(); err != nil {
		return nil, err
	}
	d.narrator.again(a, stream.Acknowledged())
	return r, d.follow(ctx, l, stream, r)
}

// follow receives a stream's events until it is completed.
func (d *director) follow(ctx context.Context, l *line, stream *client.Stream, r *result) error {
	a := r.attack
	for event, err := range stream.Events(ctx) {
		if err != nil {
			return fmt.Errorf("the stream for %s: %w", a.actor.GetActorId(), err)
		}
		switch {
		case event.GetActors() != nil:
			if r.cut && !r.resumed {
				r.resumed = true
				d.narrator.resumed(a)
				break
			}
			r.takeOpen(event.GetActors())
			d.narrator.actors(a, event.GetActors())
		case event.GetAlert() != nil:
			r.take(event.GetAlert())
			d.narrator.alert(a, event.GetAlert())
		case event.GetProgress() != nil:
			d.narrator.progress(a, event.GetProgress())
		case event.GetGap() != nil:
			d.narrator.gap(a, event.GetGap())
		case event.GetCompleted() != nil:
			r.completed = event.GetCompleted()
			d.narrator.completed(r)
		}
		// A Director keeps what the event says together with its token first.
		event.Ack()
		if a.cutFor > 0 && !r.cut && event.GetAlert() != nil {
			r.cut = true
			d.cut(l, stream, a)
		}
	}
	return nil
}

// takeOpen keeps which alerts were told of as open.
func (r *result) takeOpen(e *integrationv1.ActorsEvent) {
	for _, state := range e.GetActors() {
		for _, alert := range state.GetOpenAlerts() {
			r.open[alert.GetAlertId()] = true
		}
	}
}

// cut cuts the line under a stream; package client reconnects and resumes by itself.
func (d *director) cut(l *line, stream *client.Stream, a *attack) {
	d.narrator.cut(a, stream.Acknowledged())
	l.cut(a.cutFor)
}
