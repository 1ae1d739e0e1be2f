package stream

import (
	"fmt"
	"slices"
	"testing"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// howMany are the numbers of Actors that an alert about one of them is matched against.
func howMany() []int { return []int{1, 100, 10_000} }

// BenchmarkMatch matches one alert, with all of an attack's traces in it, against the Actors of a stream, of which it concerns one: what
// that costs is not to depend on how many there are. The last one times 1 and 10,000 in turn, in one run, and reports the ratio of the
// two medians.
func BenchmarkMatch(b *testing.B) {
	for _, actors := range howMany() {
		b.Run(fmt.Sprintf("actors=%d", actors), func(b *testing.B) {
			s, alert := sessionOf(b, actors)
			b.ReportAllocs()
			for b.Loop() {
				if matches := s.match(alert); len(matches) != 1 || !matches[0].GetCounts() {
					b.Fatalf("matches %v", matches)
				}
			}
		})
	}
	b.Run("ratio", func(b *testing.B) {
		few, alertOfFew := sessionOf(b, 1)
		many, alertOfMany := sessionOf(b, 10_000)
		const calls = 100
		timed := func(s *session, alert *integrationv1.Alert) time.Duration {
			began := time.Now()
			for range calls {
				s.match(alert)
			}
			return time.Since(began)
		}
		var ofFew, ofMany []time.Duration
		for b.Loop() {
			ofFew, ofMany = append(ofFew, timed(few, alertOfFew)), append(ofMany, timed(many, alertOfMany))
		}
		slices.Sort(ofFew)
		slices.Sort(ofMany)
		b.ReportMetric(float64(ofMany[len(ofMany)/2])/float64(ofFew[len(ofFew)/2]), "10000:1")
	})
}

// sessionOf makes a session for as many Actors, each a device of its own with an attack of its own, and an alert about the one in the
// middle.
func sessionOf(t testing.TB, actors int) (*session, *integrationv1.Alert) {
	t.Helper()
	request := &integrationv1.StreamAlertsRequest{Window: &integrationv1.Window{StartTime: stampOf(benchmarkTime)}, MinConfidence: certain}
	for i := range actors {
		request.Actors = append(request.Actors, &integrationv1.Actor{
			ActorId: fmt.Sprint("actor-", i), MdeDeviceId: deviceID(i), FqHostName: fmt.Sprintf("pc-%d.contoso.test", i), Traces: tracesOf(i),
		})
	}
	s := newSession(request, benchmarkFeed(t), &storev1.ResumeToken{})
	t.Cleanup(s.close)
	one := request.GetActors()[actors/2]
	alert := revisionEntry(one.GetMdeDeviceId()).GetRevision().GetAlert()
	process := one.GetTraces().GetProcesses()[0]
	alert.Evidence = append(alert.Evidence, &integrationv1.Evidence{Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{
		MdeDeviceId: one.GetMdeDeviceId(), ProcessId: process.GetProcessId(), ProcessCreationTime: process.GetProcessCreationTime(),
		ProcessCommandLine: process.GetCommandLine(), UserAccount: &integrationv1.UserAccount{AccountName: "alex"},
		ImageFile: &integrationv1.FileDetails{FilePath: `C:\Temp`, FileName: "evil.exe"}, DetectionStatus: integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED,
	}}})
	return s, alert
}

const certain = integrationv1.Confidence_CONFIDENCE_CERTAIN

var benchmarkTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func tracesOf(i int) *integrationv1.Traces {
	return &integrationv1.Traces{
		Processes: []*integrationv1.ProcessTrace{{
			ProcessId: int64(100_000 + i), ProcessCreationTime: stampOf(benchmarkTime), CommandLine: fmt.Sprintf("cmd /c echo %d", i),
			ImageFile: &integrationv1.FileTrace{FilePath: `C:\Temp\evil.exe`},
		}},
		Users: []string{`CONTOSO\alex`}, MitreTechniques: []string{"T1059"},
	}
}

// What matching takes from memory does not depend on how many Actors the alert does not concern.
func TestMatchingDoesNotGrowWithOtherActors(t *testing.T) {
	var allocations []float64
	for _, actors := range howMany() {
		s, alert := sessionOf(t, actors)
		if matches := s.match(alert); len(matches) != 1 || matches[0].GetActorId() != fmt.Sprint("actor-", actors/2) {
			t.Fatalf("%d Actors: matches %v", actors, matches)
		}
		allocations = append(allocations, testing.AllocsPerRun(20, func() { s.match(alert) }))
	}
	// The runtime's own come and go; ten thousand Actors would take a thousand times as many.
	if slices.Max(allocations) > slices.Min(allocations)*1.2 {
		t.Errorf("allocations among %d Actors: %v", howMany(), allocations)
	}
}
