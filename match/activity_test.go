package match_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

const (
	inWindow    = integrationv1.Activity_ACTIVITY_IN_WINDOW
	reactivated = integrationv1.Activity_ACTIVITY_REACTIVATED
	preExisting = integrationv1.Activity_ACTIVITY_PRE_EXISTING
	afterWindow = integrationv1.Activity_ACTIVITY_AFTER_WINDOW
)

// The window of these tests is from noon for an hour, with five minutes of tolerance.
var window = match.Window{Start: noon, End: noon.Add(time.Hour)}

const tolerance = 5 * time.Minute

// at returns a time so long after noon; nil for never.
func at(offset time.Duration) *timestamppb.Timestamp {
	if offset == never {
		return nil
	}
	return stamp(noon.Add(offset))
}

const never = time.Duration(1<<63 - 1)

func TestActivityOf(t *testing.T) {
	const minute, day = time.Minute, 24 * time.Hour
	tests := []struct {
		name                 string
		first, last, created time.Duration
		evidence             []*integrationv1.Evidence
		window               match.Window
		want                 integrationv1.Activity
	}{
		{"began inside", minute, 2 * minute, never, nil, window, inWindow},
		{"began inside and goes on after", minute, day, never, nil, window, inWindow},
		{"began at the first moment of the tolerance", -5 * minute, never, never, nil, window, inWindow},
		{"began at the last moment of the tolerance", 65 * minute, never, never, nil, window, inWindow},
		{"began just after the tolerance", 65*minute + 1, never, never, nil, window, afterWindow},
		{"began after the window, whenever it was created", 2 * 60 * minute, 3 * 60 * minute, minute, nil, window, afterWindow},
		{"began just before the tolerance, and ended", -5*minute - 1, -5*minute - 1, never, nil, window, preExisting},
		{"began before and goes on inside, without evidence inside", -day, minute, never, nil, window, preExisting},
		{
			"began before, goes on, and has evidence inside: re-used", -day, minute, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(-day))), file(0, 0, added(noon.Add(minute)))}, window, reactivated,
		},
		{
			"evidence at the first moment of the tolerance is inside", -day, minute, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(-tolerance)))}, window, reactivated,
		},
		{
			"evidence just before it is not", -day, minute, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(-tolerance-1)))}, window, preExisting,
		},
		{
			"evidence inside, and all activity before: not re-used", -day, -6 * minute, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(minute)))}, window, preExisting,
		},
		{
			"goes on after the window with evidence inside: re-used", -day, day, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(minute)))}, window, reactivated,
		},
		{
			"goes on after the window with evidence only after", -day, day, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(2*time.Hour)))}, window, preExisting,
		},
		{
			"what is added after the window is about activity inside where all activity ended there", -day, minute, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(-day))), file(0, 0, added(noon.Add(2*time.Hour)))}, window, reactivated,
		},
		{
			"so is it where the activity ended at the last moment of the tolerance", -day, 65 * minute, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(2*time.Hour)))}, window, reactivated,
		},
		{
			"but not where it ended a moment later", -day, 65*minute + 1, never,
			[]*integrationv1.Evidence{file(0, 0, added(noon.Add(2*time.Hour)))}, window, preExisting,
		},
		{
			"a process of after the window that is added later is not inside", -day, minute, never,
			[]*integrationv1.Evidence{process(0, 0, added(noon.Add(2*time.Hour)), createdAs(noon.Add(2*time.Hour)))}, window, preExisting,
		},
		{
			"a process goes by its creation, not by when it was added", -day, minute, never,
			[]*integrationv1.Evidence{process(0, 0, added(noon.Add(minute)), createdAs(noon.Add(-day)))}, window, preExisting,
		},
		{
			"a process that was created inside", -day, minute, never,
			[]*integrationv1.Evidence{process(0, 0, added(noon.Add(day)), createdAs(noon.Add(minute)))}, window, reactivated,
		},
		{
			"a process of which the creation is not known goes by when it was added", -day, minute, never,
			[]*integrationv1.Evidence{process(0, 0, added(noon.Add(minute)))}, window, reactivated,
		},
		{
			"evidence inside of malware", -day, minute, never,
			[]*integrationv1.Evidence{malware(nil, []*integrationv1.Evidence{process(0, 0, createdAs(noon.Add(minute)))})}, window, reactivated,
		},
		{"evidence without a time is nowhere", -day, minute, never, []*integrationv1.Evidence{file(0, 0)}, window, preExisting},
		{"only a last activity", never, minute, -day, nil, window, inWindow},
		{"no activity: by creation", never, never, minute, nil, window, inWindow},
		{"no activity: by creation, after", never, never, day, nil, window, afterWindow},
		{"no activity: by creation, before", never, never, -day, nil, window, preExisting},
		{"no time at all", never, never, never, nil, window, preExisting},
		{"an open window has no after", 1000 * day, never, never, nil, match.Window{Start: noon}, inWindow},
		{"an open window has a before", -day, never, never, nil, match.Window{Start: noon}, preExisting},
		{"a window open on both sides has everything", -1000 * day, never, never, nil, match.Window{}, inWindow},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			alert := &integrationv1.Alert{
				FirstActivityTime: at(test.first), LastActivityTime: at(test.last), CreatedTime: at(test.created), Evidence: test.evidence,
			}
			if got := match.ActivityOf(alert, test.window, tolerance); got != test.want {
				t.Errorf("activity = %v, want %v", got, test.want)
			}
			if got, want := match.ActivityByCreation(alert), test.first == never && test.last == never && test.created != never; got != want {
				t.Errorf("by creation = %v, want %v", got, want)
			}
		})
	}
}

// What other devices' evidence reactivates is not reactivated for the Actor.
func TestActivityFor(t *testing.T) {
	actor := match.NewActor(&integrationv1.Actor{MdeDeviceId: idA})
	for _, test := range []struct {
		name     string
		evidence *integrationv1.Evidence
		want     integrationv1.Activity
	}{
		{"evidence about the Actor's device", file(0, 0, added(noon), onto(idA)), reactivated},
		{"about no device", file(0, 0, added(noon)), reactivated},
		{"about another device", file(0, 0, added(noon), onto(idB)), preExisting},
		{"a process of another device", process(0, 0, createdAs(noon), onto(idB)), preExisting},
		{"another device itself", changedEvidence(onDevice(idB, "pc2"), added(noon)), preExisting},
	} {
		t.Run(test.name, func(t *testing.T) {
			alert := alertOf(changedEvidence(onDevice(idA, "pc1"), added(noon.Add(-24*time.Hour))), test.evidence)
			alert.FirstActivityTime, alert.LastActivityTime = at(-24*time.Hour), at(time.Minute)
			activity := match.ActivityOf(alert, window, tolerance)
			if activity != reactivated {
				t.Fatalf("the alert is %v", activity)
			}
			if got := match.DevicesOf(alert).ActivityFor(actor, match.Resolution{}, activity, window, tolerance); got != test.want {
				t.Errorf("for the Actor it is %v, want %v", got, test.want)
			}
		})
	}
}

func changedEvidence(e *integrationv1.Evidence, change func(*integrationv1.Evidence)) *integrationv1.Evidence {
	change(e)
	return e
}

func createdAs(t time.Time) func(*integrationv1.Evidence) {
	return func(e *integrationv1.Evidence) { e.GetProcess().ProcessCreationTime = stamp(t) }
}

func malware(files, processes []*integrationv1.Evidence) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_Malware{Malware: &integrationv1.MalwareEvidence{Files: files, Processes: processes}}}
}

// TestWindowMovedByASecond moves the window past an alert's activity, second by second: the answer changes at the two edges,
// once each, and nowhere else.
func TestWindowMovedByASecond(t *testing.T) {
	alert := &integrationv1.Alert{FirstActivityTime: stamp(noon), LastActivityTime: stamp(noon)}
	var changes []time.Duration
	var answers []integrationv1.Activity
	for s := -7200; s <= 7200; s++ {
		start := noon.Add(time.Duration(s) * time.Second)
		got := match.ActivityOf(alert, match.Window{Start: start, End: start.Add(time.Hour)}, tolerance)
		if len(answers) == 0 || got != answers[len(answers)-1] {
			answers = append(answers, got)
			changes = append(changes, time.Duration(s)*time.Second)
		}
	}
	// In the window from the moment when its end and the tolerance reach noon, until its start less the tolerance passes it.
	want := []time.Duration{-2 * time.Hour, -time.Hour - tolerance, tolerance + time.Second}
	if len(changes) != 3 || answers[0] != afterWindow || answers[1] != inWindow || answers[2] != preExisting ||
		changes[1] != want[1] || changes[2] != want[2] {
		t.Errorf("answers %v from %v on, want changes at %v", answers, changes, want)
	}
}

func TestLate(t *testing.T) {
	tests := []struct {
		name    string
		created time.Duration
		window  match.Window
		want    bool
	}{
		{"created in time", 90 * time.Minute, window, false},
		{"created a moment after", 90*time.Minute + 1, window, true},
		{"created in the window", time.Minute, window, false},
		{"nobody knows when", never, window, false},
		{"nothing is late to an open window", 1000 * time.Hour, match.Window{Start: noon}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := match.Late(&integrationv1.Alert{CreatedTime: at(test.created)}, test.window, 30*time.Minute); got != test.want {
				t.Errorf("late = %v, want %v", got, test.want)
			}
		})
	}
}

func TestWindowOf(t *testing.T) {
	got := match.WindowOf(&integrationv1.Window{StartTime: stamp(window.Start), EndTime: stamp(window.End)})
	if !got.Start.Equal(window.Start) || !got.End.Equal(window.End) {
		t.Errorf("window = %v", got)
	}
	if got := match.WindowOf(nil); !got.Start.IsZero() || !got.End.IsZero() {
		t.Errorf("no window = %v", got)
	}
}
