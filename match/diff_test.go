package match_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestChangedFields(t *testing.T) {
	base := &integrationv1.Alert{
		Id: "alert", Title: "title", Categories: []string{"a", "b"}, CreatedTime: stamp(noon),
		Evidence: []*integrationv1.Evidence{file(sawIt, noRemediation)},
	}
	tests := []struct {
		name   string
		change func(*integrationv1.Alert)
		want   []string
	}{
		{"nothing", func(*integrationv1.Alert) {}, nil},
		{"a value", func(a *integrationv1.Alert) { a.Title = "other" }, []string{"title"}},
		{"a value that went", func(a *integrationv1.Alert) { a.Title = "" }, []string{"title"}},
		{"a value that came", func(a *integrationv1.Alert) { a.AssignedTo = "analyst" }, []string{"assigned_to"}},
		{"the order of a list", func(a *integrationv1.Alert) { a.Categories = []string{"b", "a"} }, []string{"categories"}},
		{"a message that went", func(a *integrationv1.Alert) { a.CreatedTime = nil }, []string{"created_time"}},
		{"something deep inside", func(a *integrationv1.Alert) { a.Evidence[0].GetFile().GetFileDetails().FileName = "x" }, []string{"evidence"}},
		{
			"several, in the order of their numbers",
			func(a *integrationv1.Alert) {
				a.LastUpdateTime, a.Status, a.Title = stamp(noon), integrationv1.AlertStatus_ALERT_STATUS_RESOLVED, "other"
			},
			[]string{"title", "status", "last_update_time"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			other := proto.CloneOf(base)
			test.change(other)
			mask := match.ChangedFields(base, other)
			if !slices.Equal(mask.GetPaths(), test.want) {
				t.Errorf("changed %q, want %q", mask.GetPaths(), test.want)
			}
			if back := match.ChangedFields(other, base); !slices.Equal(back.GetPaths(), test.want) {
				t.Errorf("the other way round %q, want %q", back.GetPaths(), test.want)
			}
			if !mask.IsValid(base) {
				t.Errorf("%q are no fields of the alert", mask.GetPaths())
			}
		})
	}
}

func TestAddedEvidence(t *testing.T) {
	one, other := file(sawIt, noRemediation), file(sawIt, noRemediation)
	other.GetFile().FileDetails = &integrationv1.FileDetails{FileName: "other.exe"}
	machine := &integrationv1.Evidence{Detail: &integrationv1.Evidence_Device{
		Device: &integrationv1.DeviceEvidence{MdeDeviceId: idA, HealthStatus: integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE},
	}}
	malware := &integrationv1.Evidence{Detail: &integrationv1.Evidence_Malware{
		Malware: &integrationv1.MalwareEvidence{Name: "m", Files: []*integrationv1.Evidence{proto.CloneOf(one)}},
	}}
	base := []*integrationv1.Evidence{one, machine, malware}
	tests := []struct {
		name   string
		change func(evidence []*integrationv1.Evidence) []*integrationv1.Evidence
		want   []string
	}{
		{"nothing", func(e []*integrationv1.Evidence) []*integrationv1.Evidence { return e }, nil},
		{"another piece", func(e []*integrationv1.Evidence) []*integrationv1.Evidence { return append(e, other) }, []string{"/evidence/3"}},
		{"the same piece once more", func(e []*integrationv1.Evidence) []*integrationv1.Evidence { return append(e, one) }, []string{"/evidence/3"}},
		{"another order, and a piece in between", func(e []*integrationv1.Evidence) []*integrationv1.Evidence {
			return []*integrationv1.Evidence{e[2], other, e[1], e[0]}
		}, []string{"/evidence/1"}},
		{"a piece that went", func(e []*integrationv1.Evidence) []*integrationv1.Evidence { return e[1:] }, nil},
		{"what was concluded and done", func(e []*integrationv1.Evidence) []*integrationv1.Evidence {
			e[0].Verdict = integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_MALICIOUS
			e[0].RemediationStatus = integrationv1.RemediationStatus_REMEDIATION_STATUS_BLOCKED
			e[0].GetFile().DetectionStatus = integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED
			e[2].GetMalware().GetFiles()[0].GetFile().DetectionStatus = integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED
			return e
		}, nil},
		{"the state of a device", func(e []*integrationv1.Evidence) []*integrationv1.Evidence {
			e[1].GetDevice().HealthStatus = integrationv1.HealthStatus_HEALTH_STATUS_INACTIVE
			return e
		}, nil},
		{"another device", func(e []*integrationv1.Evidence) []*integrationv1.Evidence {
			e[1].GetDevice().MdeDeviceId = idB
			return e
		}, []string{"/evidence/1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			old := &integrationv1.Alert{Evidence: base}
			updated := proto.CloneOf(old)
			updated.Evidence = test.change(updated.GetEvidence())
			if got := match.AddedEvidence(old, updated); !slices.Equal(got, test.want) {
				t.Errorf("added %q, want %q", got, test.want)
			}
			if !proto.Equal(old, &integrationv1.Alert{Evidence: base}) {
				t.Error("the alert was changed")
			}
		})
	}
}
