package configuration

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// decoder decodes one document into an integration, by the rules of protojson (https://protobuf.dev/programming-guides/json/) with YAML
// in the place of JSON. It is no decoder of JSON behind one of YAML, since it knows the line of each field, takes what is a number or a
// word to YAML for the text that a field wants, and quotes no value: that could be a secret.
type decoder struct {
	Document
	problems []Problem
}

// The fields of an integration that only the service sets.
func outputOnly(path string) bool {
	switch path {
	case "etag", "create_time", "update_time", "status", "managed_by":
		return true
	}
	return false
}

func (d *decoder) wrong(node *yaml.Node, path, text string) {
	d.problems = append(d.problems, Problem{File: d.File, Line: node.Line, Field: path, Text: text})
}

// message decodes a mapping.
func (d *decoder) message(node *yaml.Node, into protoreflect.Message, path string) {
	node = resolved(node)
	if node.Kind != yaml.MappingNode {
		d.wrong(node, path, "must be a mapping of field names to values")
		return
	}
	fields := into.Descriptor().Fields()
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolved(node.Content[i+1])
		field := fields.ByJSONName(key.Value)
		if field == nil {
			field = fields.ByTextName(key.Value)
		}
		if field == nil {
			d.wrong(key, path, unknown(key.Value, path, fields))
			continue
		}
		at := strings.TrimPrefix(path+"."+string(field.Name()), ".")
		switch oneof := field.ContainingOneof(); {
		case d.lines[at] != 0:
			d.wrong(key, at, fmt.Sprintf("is given twice, in line %d too", d.lines[at]))
		case oneof != nil && into.WhichOneof(oneof) != nil:
			d.wrong(key, at, fmt.Sprintf("cannot go with %s: give one of them", into.WhichOneof(oneof).Name()))
		case outputOnly(at):
			d.wrong(key, at, "is set by the service alone")
		case redacted(field):
			d.wrong(key, at, "is a secret, which does not belong here: name the file of --secrets-dir or the variable of --secret-env that it is in")
		default:
			d.lines[at] = key.Line
			d.field(value, into, field, at)
			continue
		}
		d.lines[at] = key.Line
	}
}

// unknown tells of a field that there is not. Inside of another, what stands in its place may be a secret, as in {SECRET}, and is not quoted.
func unknown(name, path string, fields protoreflect.FieldDescriptors) string {
	if path == "" {
		return fmt.Sprintf("there is no field %q", name)
	}
	var names []string
	for i := range fields.Len() {
		names = append(names, string(fields.Get(i).Name()))
	}
	return "there is no such field; there are " + strings.Join(names, ", ")
}

// field decodes the value of a field. As in protojson, null leaves it unset.
func (d *decoder) field(node *yaml.Node, into protoreflect.Message, field protoreflect.FieldDescriptor, path string) {
	switch {
	case node.Tag == "!!null" && node.Kind == yaml.ScalarNode:
	case field.IsList():
		if node.Kind != yaml.SequenceNode {
			d.wrong(node, path, "must be a list")
			return
		}
		list := into.Mutable(field).List()
		for i, item := range node.Content {
			if value, ok := d.scalar(resolved(item), field, fmt.Sprintf("%s[%d]", path, i)); ok {
				list.Append(value)
			}
		}
	case isDuration(field):
		d.duration(node, into, field, path)
	case field.Message() != nil:
		d.message(node, into.Mutable(field).Message(), path)
	default:
		if value, ok := d.scalar(node, field, path); ok {
			into.Set(field, value)
		}
	}
}

// scalar decodes a text, number, word or name.
func (d *decoder) scalar(node *yaml.Node, field protoreflect.FieldDescriptor, path string) (value protoreflect.Value, ok bool) {
	if node.Kind != yaml.ScalarNode {
		d.wrong(node, path, "must be one value")
		return value, false
	}
	if _, list := d.lines[path]; !list {
		d.lines[path] = node.Line
	}
	var want string
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(node.Value), true
	case protoreflect.BoolKind:
		switch node.Value {
		case "true":
			return protoreflect.ValueOfBool(true), true
		case "false":
			return protoreflect.ValueOfBool(false), true
		}
		want = "must be true or false"
	case protoreflect.Int32Kind:
		number, err := strconv.ParseInt(node.Value, 10, 32)
		if err == nil {
			return protoreflect.ValueOfInt32(int32(number)), true
		}
		want = "must be a whole number"
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		if named := values.ByName(protoreflect.Name(node.Value)); named != nil {
			return protoreflect.ValueOfEnum(named.Number()), true
		}
		var names []string
		for i := range values.Len() {
			names = append(names, string(values.Get(i).Name()))
		}
		want = "must be one of " + strings.Join(names[min(1, len(names)-1):], ", ")
	default:
		want = "cannot be given here"
	}
	d.wrong(node, path, want)
	return value, false
}

// duration decodes a time in seconds, such as 30s.
func (d *decoder) duration(node *yaml.Node, into protoreflect.Message, field protoreflect.FieldDescriptor, path string) {
	span := &durationpb.Duration{}
	if node.Kind != yaml.ScalarNode || protojson.Unmarshal([]byte(strconv.Quote(node.Value)), span) != nil {
		d.wrong(node, path, "must be a time in seconds, such as 30s")
		return
	}
	into.Set(field, protoreflect.ValueOfMessage(span.ProtoReflect()))
}

// resolved returns what a node stands for, where it is an alias.
func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isDuration(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName() == (*durationpb.Duration)(nil).ProtoReflect().Descriptor().FullName()
}

// redacted says whether a field carries the option debug_redact, as those of secrets do.
func redacted(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}
