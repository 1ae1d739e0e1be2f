package demo

import (
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// script is what happens at the simulated Microsoft and what the service is expected to make of it.
type script struct {
	// window is how long each attack lasts; wait, tolerance and onTime are those of its stream's request.
	window, wait, tolerance, onTime time.Duration
	devices                         []defendertest.Device
	attacks                         []attack
	// others are alerts about machines that are no Actors. Their times count from the campaign's beginning.
	others []step
}

// attack is one attack on one Actor.
type attack struct {
	title string
	actor *integrationv1.Actor
	// traces, where set, is what the Director knows of the attack; minConfidence is how sure it wants an alert to be about it.
	traces        traces
	minConfidence integrationv1.Confidence
	// telemetry says that the Director asks for what telemetry holds of the attack before it is told as missed.
	telemetry bool
	// begins is when it begins, counted from the campaign's beginning.
	begins time.Duration
	steps  []step
	// cutFor, where set, is how long the Director's connection is cut once the first alert has arrived.
	cutFor time.Duration
	// afterwards, where set, is what Defender does when the verdict was given; then the Director resumes the stream.
	afterwards []step
	want       expectation
}

// step is something that Defender does.
type step struct {
	// at is when, counted from the attack's beginning.
	at time.Duration
	// told is what is printed of it.
	told string
	// alert is the alert that it makes visible: a new one, or by its id a revision of one that was there. began is the attack's
	// beginning, now the present.
	alert func(began, now time.Time) defendertest.Alert
	// event, where there is no alert, is what a device reports, which stands in telemetry alone.
	event func(began, now time.Time) defendertest.Event
}
