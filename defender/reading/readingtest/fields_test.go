package readingtest_test

import (
	"maps"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestFields(t *testing.T) {
	got := readingtest.Fields(&integrationv1.Alert{
		Id: "a", Severity: integrationv1.Severity_SEVERITY_HIGH, MitreTechniques: []string{"T1", "T2"},
		CreatedTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC)),
		Siem:        &integrationv1.SiemDetection{AlertPart: 7, RemediationIsSuccess: new(false)},
		Evidence: []*integrationv1.Evidence{{}, {Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{
			DetectionStatus: integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED, ImageFile: &integrationv1.FileDetails{Sha1: "1"},
		}}}},
	})
	want := map[string]string{
		"id": "a", "severity": "high", "mitre_techniques.0": "T1", "mitre_techniques.1": "T2", "created_time": "2026-01-02T03:04:05.12Z",
		"siem.alert_part": "7", "siem.remediation_is_success": "false",
		"evidence.1.process.detection_status": "blocked", "evidence.1.process.image_file.sha1": "1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("fields are %q, want %q", got, want)
	}
}

func TestLeaves(t *testing.T) {
	got, err := readingtest.Leaves([]byte(`{"a":"x","b":{"c":[1.0,null,{"d":false}]},"e":"","f":[],"g":{},"h":9007199254740993}`))
	want := map[string]string{"a": "x", "b.c.0": "1.0", "b.c.2.d": "false", "h": "9007199254740993"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("leaves are %q with error %v, want %q", got, err, want)
	}
	if _, err := readingtest.Leaves([]byte(`{`)); err == nil {
		t.Error("what is no JSON has leaves")
	}
}

func TestTime(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-02T03:04:05":          "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.1200000Z": "2026-01-02T03:04:05.12Z",
		"2026-01-02T05:04:05+02:00":    "2026-01-02T03:04:05Z",
		"soon":                         "soon",
	} {
		if got := readingtest.Time(text); got != want {
			t.Errorf("%s is written %s, want %s", text, got, want)
		}
	}
}
