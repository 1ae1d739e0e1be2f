package match_test

import (
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// Confidences in short.
const (
	anyConfidence = integrationv1.Confidence_CONFIDENCE_UNSPECIFIED
	deviceOnly    = integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY
	weak          = integrationv1.Confidence_CONFIDENCE_WEAK
	strong        = integrationv1.Confidence_CONFIDENCE_STRONG
	certain       = integrationv1.Confidence_CONFIDENCE_CERTAIN
)

func TestCounts(t *testing.T) {
	sure, doubtful := &integrationv1.ActorMatch{}, &integrationv1.ActorMatch{Ambiguous: true}
	matched := func(c integrationv1.Confidence) *integrationv1.ActorMatch {
		return &integrationv1.ActorMatch{Attribution: &integrationv1.Attribution{Confidence: c}}
	}
	doubtfulAndCertain := matched(certain)
	doubtfulAndCertain.Ambiguous = true
	tests := []struct {
		match    *integrationv1.ActorMatch
		activity integrationv1.Activity
		least    integrationv1.Confidence
		want     bool
	}{
		{sure, inWindow, anyConfidence, true},
		{sure, reactivated, anyConfidence, true},
		{sure, preExisting, anyConfidence, false},
		{sure, afterWindow, anyConfidence, false},
		{sure, integrationv1.Activity_ACTIVITY_UNSPECIFIED, anyConfidence, false},
		{doubtful, inWindow, anyConfidence, false},
		{nil, inWindow, anyConfidence, false},
		{sure, inWindow, deviceOnly, true},
		{sure, inWindow, weak, false},
		{matched(deviceOnly), inWindow, anyConfidence, true},
		{matched(deviceOnly), inWindow, weak, false},
		{matched(weak), inWindow, weak, true},
		{matched(weak), inWindow, strong, false},
		{matched(strong), reactivated, strong, true},
		{matched(strong), inWindow, certain, false},
		{matched(certain), inWindow, certain, true},
		{matched(certain), preExisting, deviceOnly, false},
		{doubtfulAndCertain, inWindow, deviceOnly, false},
	}
	for _, test := range tests {
		if got := match.Counts(test.match, test.activity, test.least); got != test.want {
			t.Errorf("%v, %v, at least %v: counts = %v, want %v", test.match, test.activity, test.least, got, test.want)
		}
	}
}
