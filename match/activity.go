package match

import (
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Window is the time of activity that a request is about. A zero Start or End is an open side.
type Window struct {
	Start, End time.Time
}

// WindowOf reads a request's window.
func WindowOf(window *integrationv1.Window) Window {
	return Window{Start: timeOf(window.GetStartTime()), End: timeOf(window.GetEndTime())}
}

// before says that t lies before the window by more than the tolerance.
func (w Window) before(t time.Time, tolerance time.Duration) bool {
	return !w.Start.IsZero() && t.Before(w.Start.Add(-tolerance))
}

// after says that t lies after the window by more than the tolerance.
func (w Window) after(t time.Time, tolerance time.Duration) bool {
	return !w.End.IsZero() && t.After(w.End.Add(tolerance))
}

// contains says that t lies in the window or within the tolerance of it: both edges belong to it.
func (w Window) contains(t time.Time, tolerance time.Duration) bool {
	return !w.before(t, tolerance) && !w.after(t, tolerance)
}

// ActivityOf returns how an alert's activity lies to the window, where the clocks of machines may differ by the tolerance.
//
// It goes by the first and the last activity; where one of them is missing, by the other, and where both are, by the alert's
// creation. An alert that has no time at all is PRE_EXISTING: nothing of it is known to lie inside.
//
// What began before the window is REACTIVATED if the last activity is not before it too and a piece of evidence has its own time
// inside: the creation of its process where it is one, else when it was added to the alert. Defender adds evidence minutes to hours
// after the activity that it is of: where the last activity is not after the window, what was added since the window began lies inside,
// also if that was after its end.
func ActivityOf(alert *integrationv1.Alert, window Window, tolerance time.Duration) integrationv1.Activity {
	first, last := timeOf(alert.GetFirstActivityTime()), timeOf(alert.GetLastActivityTime())
	if first.IsZero() {
		first = last
	}
	if first.IsZero() {
		first = timeOf(alert.GetCreatedTime())
	}
	if last.IsZero() {
		last = first
	}
	switch {
	case first.IsZero():
		return integrationv1.Activity_ACTIVITY_PRE_EXISTING
	case window.after(first, tolerance):
		return integrationv1.Activity_ACTIVITY_AFTER_WINDOW
	case !window.before(first, tolerance):
		return integrationv1.Activity_ACTIVITY_IN_WINDOW
	case !window.before(last, tolerance) && evidenceInside(alert, window, tolerance, nobodys):
		return integrationv1.Activity_ACTIVITY_REACTIVATED
	default:
		return integrationv1.Activity_ACTIVITY_PRE_EXISTING
	}
}

// ActivityByCreation says that the alert tells no activity of its own, so that ActivityOf goes by when it was created.
func ActivityByCreation(alert *integrationv1.Alert) bool {
	return alert.GetFirstActivityTime() == nil && alert.GetLastActivityTime() == nil && alert.GetCreatedTime() != nil
}

// nobodys says of no device that it is another than the Actor's.
func nobodys(string) bool { return false }

// ActivityFor returns how the activity on an Actor lies to the window, where ActivityOf says of the whole alert that it is `activity`: one
// that is REACTIVATED by evidence about other devices alone, such as an alert about a worm, is PRE_EXISTING for this Actor.
func (d *AlertDevices) ActivityFor(actor *Actor, resolution Resolution, activity integrationv1.Activity, window Window, tolerance time.Duration,
) integrationv1.Activity {
	if activity != integrationv1.Activity_ACTIVITY_REACTIVATED {
		return activity
	}
	_, machines := d.matchMachines(actor, resolution)
	if evidenceInside(d.alert, window, tolerance, d.foreignTo(actor, resolution, machines)) {
		return activity
	}
	return integrationv1.Activity_ACTIVITY_PRE_EXISTING
}

// evidenceInside says that a piece of evidence has its own time inside the window. foreign says of a device's id that it is not the Actor's:
// what is about such a device is left out.
func evidenceInside(alert *integrationv1.Alert, window Window, tolerance time.Duration, foreign func(device string) bool) bool {
	// Where no activity is after the window, what was added after it is about activity from before its end.
	ended := !window.after(timeOf(alert.GetLastActivityTime()), tolerance)
	for located := range eachEvidence(alert) {
		at, added := timeOf(located.evidence.GetProcess().GetProcessCreationTime()), timeOf(located.evidence.GetCreatedTime())
		inside := !added.IsZero() && !window.before(added, tolerance) && (ended || !window.after(added, tolerance))
		if !at.IsZero() {
			inside = window.contains(at, tolerance)
		}
		if inside && !foreign(located.device()) {
			return true
		}
	}
	return false
}

// Late says that Defender created the alert later after the window's end than onTime. Nothing is late to an open window, nor is
// an alert of which the creation is not known.
func Late(alert *integrationv1.Alert, window Window, onTime time.Duration) bool {
	created := createdTime(alert)
	return !created.IsZero() && window.after(created, onTime)
}

// createdTime returns when Defender created an alert; zero where that is not known. Of a detection of the SIEM API, which does not
// tell it and never changes, it is when Defender's back end processed it.
func createdTime(alert *integrationv1.Alert) time.Time {
	if alert.GetCreatedTime() == nil && alert.GetSiem() != nil {
		return timeOf(alert.GetLastUpdateTime())
	}
	return timeOf(alert.GetCreatedTime())
}
