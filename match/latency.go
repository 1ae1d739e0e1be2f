package match

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// LatenciesOf returns the steps of an alert's way. visible is when this service first read it, delivered when a stream could first send
// it, both by this machine's clock and zero where that is not known; away is for how much of the time until it was visible nobody read,
// nil where that is not known.
//
// Where the clocks of the machine, of Microsoft and of this service differ by more than a step took, it took no time. Nobody can have
// been away for longer than the alert took to become visible.
func LatenciesOf(alert *integrationv1.Alert, visible, delivered time.Time, away *durationpb.Duration) *integrationv1.Latencies {
	activity := timeOf(alert.GetFirstActivityTime())
	if activity.IsZero() {
		activity = timeOf(alert.GetLastActivityTime())
	}
	return latencies(activity, createdTime(alert), visible, delivered, away)
}

// LatenciesOfReused returns the steps of the way of a re-used alert, by the revision that brought activity into the window: from its last
// activity until Defender changed the alert, and from there as [LatenciesOf] does.
func LatenciesOfReused(alert *integrationv1.Alert, visible, delivered time.Time, away *durationpb.Duration) *integrationv1.Latencies {
	return latencies(timeOf(alert.GetLastActivityTime()), timeOf(alert.GetLastUpdateTime()), visible, delivered, away)
}

func latencies(activity, created, visible, delivered time.Time, away *durationpb.Duration) *integrationv1.Latencies {
	l := &integrationv1.Latencies{
		ActivityToCreated:  between(activity, created),
		CreatedToVisible:   between(created, visible),
		VisibleToDelivered: between(visible, delivered),
		Away:               away,
	}
	if whole := l.GetCreatedToVisible(); whole != nil && away.AsDuration() > whole.AsDuration() {
		l.Away = whole
	}
	return l
}

// between returns how long lies between two times, nil where one is not known.
func between(from, to time.Time) *durationpb.Duration {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	return durationpb.New(max(0, to.Sub(from)))
}
