package server

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// maxMaskPaths is how many paths a mask may have: several times the fields that there are.
const maxMaskPaths = 64

// fieldMask is the fields of an integration that an update changes, each as the descriptors on the way to it.
type fieldMask [][]protoreflect.FieldDescriptor

// parseMask reads the paths of an update's mask. It returns a failure for a path that is no field of an integration, and for one
// that never changes or that only the service sets.
func parseMask(paths []string) (fieldMask, error) {
	switch {
	case len(paths) == 0:
		return nil, failure.Invalid("update_mask", "must name at least one field, such as \"paused\"")
	case len(paths) > maxMaskPaths:
		return nil, failure.Invalid("update_mask", "must not name more than %d fields", maxMaskPaths)
	}
	mask := make(fieldMask, 0, len(paths))
	for _, path := range paths {
		fields := resolve((*integrationv1.Integration)(nil).ProtoReflect().Descriptor(), path)
		if fields == nil {
			return nil, failure.Invalid("update_mask", "names %q, which is no field of an integration", clip(path))
		}
		switch fields[0].Name() {
		case "display_name", "endpoint", "authentication", "device_source", "polling", "paused", "proxy", "trust":
			mask = append(mask, fields)
		case "integration_id", "api", "cloud", "tenant_id":
			return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_IMMUTABLE_FIELD,
				"update_mask: names %q, which never changes; register another integration instead", path).With("field", path)
		default:
			return nil, failure.Invalid("update_mask", "names %q, which only the service sets", path)
		}
	}
	// A field comes before what is inside of it, so that the order in which a caller names them makes no difference.
	slices.SortStableFunc(mask, func(a, b []protoreflect.FieldDescriptor) int { return len(a) - len(b) })
	return mask, nil
}

// resolve returns the fields on a path, nil where there is no such path. It goes into messages of this project only: a duration is
// one value.
func resolve(message protoreflect.MessageDescriptor, path string) []protoreflect.FieldDescriptor {
	home := message.ParentFile().Package()
	var fields []protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(path, ".") {
		if message == nil || message.ParentFile().Package() != home {
			return nil
		}
		field := message.Fields().ByName(protoreflect.Name(name))
		if field == nil {
			return nil
		}
		fields = append(fields, field)
		message = field.Message()
	}
	return fields
}

// within says whether the mask names nothing but these fields of an integration, or what is in them.
func (m fieldMask) within(names ...protoreflect.Name) bool {
	return !slices.ContainsFunc(m, func(fields []protoreflect.FieldDescriptor) bool {
		return !slices.Contains(names, fields[0].Name())
	})
}

// apply sets the masked fields of one integration to their values in another; what is not set there is cleared.
func (m fieldMask) apply(to, from protoreflect.Message) {
	for _, fields := range m {
		target, source := to, from
		for _, field := range fields[:len(fields)-1] {
			target, source = target.Mutable(field).Message(), source.Get(field).Message()
		}
		last := fields[len(fields)-1]
		if source.Has(last) {
			target.Set(last, source.Get(last))
		} else {
			target.Clear(last)
		}
	}
}
