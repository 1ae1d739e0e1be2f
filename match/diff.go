package match

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// ChangedFields returns the alert's fields, of the top level, that are other in `updated` than in `old`, in the order of their
// numbers. The paths are those of the message Alert.
func ChangedFields(old, updated *integrationv1.Alert) *fieldmaskpb.FieldMask {
	before, after := old.ProtoReflect(), updated.ProtoReflect()
	fields := before.Descriptor().Fields()
	mask := &fieldmaskpb.FieldMask{}
	for i := range fields.Len() {
		if field := fields.Get(i); !sameField(before, after, field) {
			mask.Paths = append(mask.Paths, string(field.Name()))
		}
	}
	return mask
}

func sameField(before, after protoreflect.Message, field protoreflect.FieldDescriptor) bool {
	if before.Has(field) != after.Has(field) {
		return false
	}
	return before.Get(field).Equal(after.Get(field))
}

// AddedEvidence returns the evidence of `updated` that `old` has not, as JSON Pointers such as `/evidence/2`, in Microsoft's order. What
// was concluded and done about a piece of evidence since does not make it another one.
func AddedEvidence(old, updated *integrationv1.Alert) []string {
	had := make(map[string]int, len(old.GetEvidence()))
	for _, evidence := range old.GetEvidence() {
		had[contentOf(evidence)]++
	}
	var added []string
	for i, evidence := range updated.GetEvidence() {
		content := contentOf(evidence)
		if had[content] == 0 {
			added = append(added, fmt.Sprintf("/evidence/%d", i))
			continue
		}
		had[content]--
	}
	return added
}

// contentOf returns what a piece of evidence is, without what changes about it, in a form that can be compared.
func contentOf(evidence *integrationv1.Evidence) string {
	e := proto.CloneOf(evidence)
	dropStatuses(e)
	// Marshalling a message that was unmarshalled cannot fail.
	data, _ := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	return string(data)
}

// dropStatuses clears what changes about evidence while it stays the same.
func dropStatuses(e *integrationv1.Evidence) {
	e.Verdict, e.RemediationStatus, e.RemediationStatusDetails = 0, 0, ""
	e.Roles, e.DetailedRoles, e.Tags = nil, nil, nil
	switch detail := e.GetDetail().(type) {
	case *integrationv1.Evidence_Device:
		// Of a device everything changes but which one it is.
		if id := detail.Device.GetMdeDeviceId(); id != "" {
			detail.Device = &integrationv1.DeviceEvidence{MdeDeviceId: id}
		}
	case *integrationv1.Evidence_Process:
		detail.Process.DetectionStatus = 0
	case *integrationv1.Evidence_File:
		detail.File.DetectionStatus = 0
	case *integrationv1.Evidence_Malware:
		for _, inside := range slices.Concat(detail.Malware.GetFiles(), detail.Malware.GetProcesses()) {
			dropStatuses(inside)
		}
	}
}
