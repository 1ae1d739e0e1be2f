package match

import (
	"fmt"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Lookup is how far the device source was asked, and whether absence can be told at all.
type Lookup struct {
	// API is what alerts are read over. That SIEM answers with nothing proves nothing: Microsoft may have switched it off.
	API integrationv1.Api
	// Kind is the device source; KIND_NONE where there is none.
	Kind integrationv1.DeviceSource_Kind
	// Time is when the last whole look-up was made; zero where there was none yet.
	Time time.Time
	// Problem is why a newer one failed; nil where none did.
	Problem *integrationv1.Problem
	// Rhythm is how old the last report of a device that is well may be, going by how often the source learns of reports.
	Rhythm time.Duration
}

// Judgeable says whether an Actor could be judged as MISSED, going by its device: whether the device source says that the device is
// known, onboarded and active, and that it reported in or after the window, or no longer before it than the source's rhythm
// explains. Otherwise it says why not.
func Judgeable(resolution Resolution, lookup Lookup, window Window) (bool, integrationv1.CannotJudgeReason) {
	reason := cannotSee(resolution, lookup, window)
	return reason == integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED, reason
}

func cannotSee(resolution Resolution, lookup Lookup, window Window) integrationv1.CannotJudgeReason {
	switch {
	case lookup.API == integrationv1.Api_API_SIEM:
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE
	case lookup.Kind == integrationv1.DeviceSource_KIND_NONE:
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE
	case lookup.Problem != nil && lookup.staleFor(window):
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED
	case lookup.Time.IsZero():
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_PENDING
	}
	device := resolution.Preferred
	switch {
	case resolution.Knowledge == integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS:
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS
	case device == nil:
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN
	case !onboarded(device), firstSeenAfter(device, window):
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_NOT_ONBOARDED
	case !active(device), !reportedFor(device, window, lookup.Rhythm):
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT
	}
	return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED
}

// staleFor says that what was looked up last is from before the window's end, or, while the window is open, from before its
// start: the look-ups that failed since could have told otherwise.
func (l Lookup) staleFor(window Window) bool {
	if window.End.IsZero() {
		return l.Time.IsZero() || l.Time.Before(window.Start)
	}
	return l.Time.Before(window.End)
}

// firstSeenAfter says that Defender first saw the device after the window: nothing that happened inside could be seen.
func firstSeenAfter(device *integrationv1.Device, window Window) bool {
	return !window.End.IsZero() && timeOf(device.GetFirstSeenTime()).After(window.End)
}

// reportedFor says that the device's last report lies in the window, after it, or no longer before it than the rhythm explains.
func reportedFor(device *integrationv1.Device, window Window, rhythm time.Duration) bool {
	seen := lastSeen(device)
	return !seen.IsZero() && !seen.Before(window.Start.Add(-rhythm))
}

// State returns what an `actors` event tells of an Actor.
func State(actorID string, resolution Resolution, lookup Lookup, window Window) *integrationv1.ActorState {
	judgeable, reason := Judgeable(resolution, lookup, window)
	state := &integrationv1.ActorState{
		ActorId:           actorID,
		Knowledge:         resolution.Knowledge,
		Devices:           resolution.Devices,
		Judgeable:         judgeable,
		CannotJudgeReason: reason,
	}
	switch {
	case lookup.Kind == integrationv1.DeviceSource_KIND_NONE:
		state.Knowledge = integrationv1.ActorState_KNOWLEDGE_NO_DEVICE_SOURCE
	case lookup.Time.IsZero():
		state.Knowledge = integrationv1.ActorState_KNOWLEDGE_PENDING
	case state.GetKnowledge() == integrationv1.ActorState_KNOWLEDGE_UNSPECIFIED:
		state.Knowledge = integrationv1.ActorState_KNOWLEDGE_UNKNOWN
	}
	return state
}

// explainCannotSee says in words why an Actor cannot be judged by its device.
func explainCannotSee(reason integrationv1.CannotJudgeReason, resolution Resolution, lookup Lookup, window Window) string {
	device := resolution.Preferred
	switch reason {
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE:
		return "through the SIEM API an empty answer proves nothing, since Microsoft may have switched it off"
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE:
		return "the integration has no device source, so nothing says that the device was there to be seen"
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED:
		return "the devices could not be looked up: " + lookup.Problem.GetMessage()
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_PENDING:
		return "the Actor's device has not been looked up since the window ended"
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS:
		return fmt.Sprintf("%d devices fit the Actor, and nothing tells which it is", len(resolution.Devices))
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN:
		within := ""
		if lookup.Kind == integrationv1.DeviceSource_KIND_HUNTING {
			within = ", in the 30 days that advanced hunting knows"
		}
		return fmt.Sprintf("Defender knew no device that fits the Actor at %s%s", clock(lookup.Time), within)
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_NOT_ONBOARDED:
		if firstSeenAfter(device, window) {
			return fmt.Sprintf("Defender first saw %s at %s, after the window", describeDevice(device), clock(timeOf(device.GetFirstSeenTime())))
		}
		return fmt.Sprintf("%s is not onboarded (onboarding status %s)",
			describeDevice(device), spell(device.GetOnboardingStatus().String(), "ONBOARDING_STATUS_"))
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT:
		return explainSilence(device, lookup, window)
	}
	return ""
}

func explainSilence(device *integrationv1.Device, lookup Lookup, window Window) string {
	seen := lastSeen(device)
	switch {
	case !active(device):
		return fmt.Sprintf("the sensor of %s is not well (health status %s)",
			describeDevice(device), spell(device.GetHealthStatus().String(), "HEALTH_STATUS_"))
	case seen.IsZero():
		return fmt.Sprintf("%s has no last report", describeDevice(device))
	default:
		return fmt.Sprintf("%s last reported at %s, longer before the window's start at %s than the device source's rhythm of %s explains",
			describeDevice(device), clock(seen), clock(window.Start), duration(lookup.Rhythm))
	}
}

// describeReport says when the device last reported, and how that lies to the window.
func describeReport(device *integrationv1.Device, window Window) string {
	seen := lastSeen(device)
	switch {
	case seen.Before(window.Start):
		return fmt.Sprintf("last reported at %s, %s before the window began", clock(seen), duration(window.Start.Sub(seen)))
	case seen.After(window.End):
		return fmt.Sprintf("last reported at %s, after the window", clock(seen))
	default:
		return fmt.Sprintf("last reported at %s, in the window", clock(seen))
	}
}

func describeDevice(device *integrationv1.Device) string {
	if name := device.GetDeviceDnsName(); name != "" {
		return fmt.Sprintf("device %q (%s)", name, device.GetMdeDeviceId())
	}
	return "device " + device.GetMdeDeviceId()
}

// clock writes a time as an explanation tells it: UTC, to the millisecond.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z") }

// duration writes a length of time to the second, or exactly where it is shorter than that.
func duration(d time.Duration) string {
	if d < time.Second {
		return d.String()
	}
	return d.Round(time.Second).String()
}
