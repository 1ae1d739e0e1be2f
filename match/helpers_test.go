package match_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// Device ids, in the form that Defender for Endpoint gives them.
const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	idC = "cccccccccccccccccccccccccccccccccccccccc"
	// entraA is a device id of Entra.
	entraA = "11111111-2222-3333-4444-555555555555"
)

// noon is the start of the window in these tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func stamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// device returns a device that is onboarded and active and was seen at noon.
func device(id, name string, change ...func(*integrationv1.Device)) *integrationv1.Device {
	d := &integrationv1.Device{
		MdeDeviceId: id, DeviceDnsName: name,
		HealthStatus:     integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE,
		OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_ONBOARDED,
		LastSeenTime:     stamp(noon),
	}
	for _, f := range change {
		f(d)
	}
	return d
}

func withAddresses(addresses ...string) func(*integrationv1.Device) {
	return func(d *integrationv1.Device) { d.IpAddresses = addresses }
}

func withEntra(id string) func(*integrationv1.Device) {
	return func(d *integrationv1.Device) { d.EntraDeviceId = id }
}

func inactive(d *integrationv1.Device) {
	d.HealthStatus = integrationv1.HealthStatus_HEALTH_STATUS_INACTIVE
}

func notOnboarded(d *integrationv1.Device) {
	d.OnboardingStatus = integrationv1.OnboardingStatus_ONBOARDING_STATUS_CAN_BE_ONBOARDED
}

func excluded(d *integrationv1.Device) { d.Excluded = true }

func duplicate(d *integrationv1.Device) { d.PotentialDuplicate = true }

func seen(at time.Time) func(*integrationv1.Device) {
	return func(d *integrationv1.Device) { d.LastSeenTime = stamp(at) }
}

func mergedInto(id string) func(*integrationv1.Device) {
	return func(d *integrationv1.Device) { d.MergedIntoDeviceId = id }
}

// alertOf returns an alert with this evidence.
func alertOf(evidence ...*integrationv1.Evidence) *integrationv1.Alert {
	return &integrationv1.Alert{Id: "alert", Evidence: evidence}
}

// onDevice returns a device evidence.
func onDevice(id, dnsName string, addresses ...string) *integrationv1.Evidence {
	return deviceEvidence(&integrationv1.DeviceEvidence{MdeDeviceId: id, DeviceDnsName: dnsName, IpInterfaces: addresses})
}

func deviceEvidence(d *integrationv1.DeviceEvidence) *integrationv1.Evidence {
	return &integrationv1.Evidence{Type: "deviceEvidence", Detail: &integrationv1.Evidence_Device{Device: d}}
}

// file returns evidence of a file.
func file(detection integrationv1.DetectionStatus, remediation integrationv1.RemediationStatus,
	change ...func(*integrationv1.Evidence),
) *integrationv1.Evidence {
	e := &integrationv1.Evidence{
		RemediationStatus: remediation,
		Detail: &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{
			DetectionStatus: detection, FileDetails: &integrationv1.FileDetails{FileName: "evil.exe"},
		}},
	}
	for _, f := range change {
		f(e)
	}
	return e
}

// process returns evidence of a process.
func process(detection integrationv1.DetectionStatus, remediation integrationv1.RemediationStatus,
	change ...func(*integrationv1.Evidence),
) *integrationv1.Evidence {
	e := &integrationv1.Evidence{
		RemediationStatus: remediation,
		Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{
			DetectionStatus: detection, ProcessId: 4711, ImageFile: &integrationv1.FileDetails{FileName: "cmd.exe"},
		}},
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func malicious(e *integrationv1.Evidence) {
	e.Verdict = integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_MALICIOUS
}

func added(at time.Time) func(*integrationv1.Evidence) {
	return func(e *integrationv1.Evidence) { e.CreatedTime = stamp(at) }
}

// shuffled returns the slice in another order.
func shuffled[T any](r *rand.Rand, in []T) []T {
	out := append([]T(nil), in...)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// criteria returns the criteria of matches, in their order.
func criteria(matches []*integrationv1.Match) []integrationv1.MatchCriterion {
	var out []integrationv1.MatchCriterion
	for _, m := range matches {
		out = append(out, m.GetCriterion())
	}
	return out
}

// Criteria in short.
const (
	byID        = integrationv1.MatchCriterion_MATCH_CRITERION_DEVICE_ID
	byEntra     = integrationv1.MatchCriterion_MATCH_CRITERION_ENTRA_DEVICE_ID
	byFull      = integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME
	byShort     = integrationv1.MatchCriterion_MATCH_CRITERION_SHORT_NAME
	byAltFull   = integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_FULL_NAME
	byAltShort  = integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_SHORT_NAME
	byAddress   = integrationv1.MatchCriterion_MATCH_CRITERION_IP_ADDRESS
	byKnown     = integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE
	known       = integrationv1.ActorState_KNOWLEDGE_KNOWN
	unknown     = integrationv1.ActorState_KNOWLEDGE_UNKNOWN
	isAmbiguous = integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS
)

// resolve resolves an Actor among devices.
func resolve(t testing.TB, actor *integrationv1.Actor, devices ...*integrationv1.Device) match.Resolution {
	t.Helper()
	return match.Resolve(match.NewActor(actor), devices)
}
