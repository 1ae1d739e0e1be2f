package match

import (
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
