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

// firstSeenGrace is how long after a device was onboarded Defender may first see it.
const firstSeenGrace = 5 * time.Minute

// firstSeenAfter says that Defender first saw the device after the window had begun: what happened before then could not be seen.
func firstSeenAfter(device *integrationv1.Device, window Window) bool {
	return !window.End.IsZero() && timeOf(device.GetFirstSeenTime()).After(window.Start.Add(firstSeenGrace))
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

// What an operator can do about a device that could not be seen.
const (
	tellApart = "Ask anew with the Actor's mde_device_id, or with a name that no other device has."
	lookAgain = "Resume with the token of this event: the device is looked up again, and the window judged again."
)

// explainCannotSee says in words why an Actor cannot be judged by its device, and what to do about it.
func explainCannotSee(reason integrationv1.CannotJudgeReason, resolution Resolution, lookup Lookup, window Window) obstacle {
	switch reason {
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE:
		return obstacle{
			"through the SIEM API an empty answer proves nothing, since Microsoft may have switched it off",
			"Register the tenant through GRAPH_SECURITY or DEFENDER_FOR_ENDPOINT: there a miss can be told.",
		}
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE:
		return obstacle{
			"the integration has no device source, so nothing says that the device was there to be seen",
			"Give it one: MACHINES needs the permission Machine.Read.All, HUNTING (with GRAPH_SECURITY) ThreatHunting.Read.All.",
		}
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED:
		return explainFailedLookup(lookup)
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_PENDING:
		return obstacle{"the Actor's device has not been looked up since the window ended", lookAgain}
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS:
		return explainAmbiguity(resolution)
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN:
		within := ""
		if lookup.Kind == integrationv1.DeviceSource_KIND_HUNTING {
			within = ", in the 30 days that advanced hunting knows"
		}
		return obstacle{
			fmt.Sprintf("Defender knew no device that fits the Actor at %s%s", clock(lookup.Time), within),
			"See in Defender's list of devices whether the machine is onboarded, and under which name; ask anew with that name, or with its mde_device_id.",
		}
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_NOT_ONBOARDED:
		return explainNotOnboarded(resolution.Preferred, window)
	case integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT:
		return explainSilence(resolution.Preferred, lookup, window)
	}
	return obstacle{}
}

func explainFailedLookup(lookup Lookup) obstacle {
	why := "the devices could not be looked up: " + sentence(lookup.Problem.GetMessage())
	if !lookup.Time.IsZero() {
		why += fmt.Sprintf(" What was looked up before, at %s, tells nothing of the window", clock(lookup.Time))
	}
	remedy := lookup.Problem.GetRemedy()
	if remedy != "" {
		remedy = sentence(remedy) + " "
	}
	return obstacle{why, remedy + lookAgain}
}

func explainAmbiguity(resolution Resolution) obstacle {
	devices := make([]string, 0, maxListed+1)
	for _, d := range resolution.Devices[:min(len(resolution.Devices), maxListed)] {
		devices = append(devices, describeDevice(d.GetDevice()))
	}
	if more := len(resolution.Devices) - maxListed; more > 0 {
		devices = append(devices, fmt.Sprintf("%d more", more))
	}
	if resolution.renamed && len(resolution.Devices) == 1 {
		return obstacle{
			fmt.Sprintf("%s has an address of the Actor's and bears another name, so that it may be another machine", devices[0]),
			"If it is the Actor's, ask anew with its mde_device_id, or with that name among the alternate_host_names; if not, see whether the Actor's machine is onboarded.",
		}
	}
	return obstacle{fmt.Sprintf("%d devices fit the Actor, and nothing tells which it is: %s", len(resolution.Devices), enumerated(devices)), tellApart}
}

func explainNotOnboarded(device *integrationv1.Device, window Window) obstacle {
	if onboarded(device) && firstSeenAfter(device, window) {
		return obstacle{
			fmt.Sprintf("Defender first saw %s at %s, after the window had begun", describeDevice(device), clock(timeOf(device.GetFirstSeenTime()))),
			"An attack from now on can be judged.",
		}
	}
	return obstacle{
		fmt.Sprintf("%s is not onboarded (onboarding status %s)",
			describeDevice(device), spell(device.GetOnboardingStatus().String(), "ONBOARDING_STATUS_")),
		"Onboard it to Defender for Endpoint: an attack after that can be judged.",
	}
}

func explainSilence(device *integrationv1.Device, lookup Lookup, window Window) obstacle {
	const reach = "See that the machine runs and reaches Defender's service, and what its page in the Defender portal says of its sensor"
	const reported = ". Once it has reported, resume with the token of this event: the window is judged again."
	seen := lastSeen(device)
	switch {
	case !active(device):
		return obstacle{
			fmt.Sprintf("the sensor of %s is not well (health status %s)",
				describeDevice(device), spell(device.GetHealthStatus().String(), "HEALTH_STATUS_")), reach + reported,
		}
	case seen.IsZero():
		return obstacle{describeDevice(device) + " has no last report", reach + reported}
	default:
		return obstacle{
			fmt.Sprintf("%s last reported at %s, longer before the window's start at %s than the device source's rhythm of %s explains",
				describeDevice(device), clock(seen), clock(window.Start), duration(lookup.Rhythm)), reach + reported,
		}
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
		return fmt.Sprintf("device %s (%s)", quote(name), device.GetMdeDeviceId())
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
