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
