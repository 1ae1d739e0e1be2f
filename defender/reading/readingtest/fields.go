package readingtest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Fields takes a message apart: each field that is set and holds a single value, by its path, such as
// `evidence.0.process.process_id`. Times are written as [Time] writes them, members of enumerations as [Word] writes them.
func Fields(message proto.Message) map[string]string {
	fields := map[string]string{}
	addMessage(fields, "", message.ProtoReflect())
	return fields
}

func addMessage(fields map[string]string, at string, m protoreflect.Message) {
	for field, value := range m.Range {
		path := join(at, string(field.Name()))
		if !field.IsList() {
			addValue(fields, path, field, value)
			continue
		}
		for i := range value.List().Len() {
			addValue(fields, join(path, strconv.Itoa(i)), field, value.List().Get(i))
		}
	}
}

func addValue(fields map[string]string, at string, field protoreflect.FieldDescriptor, value protoreflect.Value) {
	switch {
	case field.Enum() != nil:
		values := field.Enum().Values()
		prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
		fields[at] = Word(strings.TrimPrefix(string(values.ByNumber(value.Enum()).Name()), prefix))
	case field.Message() == nil:
		fields[at] = value.String()
	default:
		if moment, ok := value.Message().Interface().(*timestamppb.Timestamp); ok {
			fields[at] = moment.AsTime().Format(time.RFC3339Nano)
			return
		}
		addMessage(fields, at, value.Message())
	}
}

// Word writes a member of an enumeration without the case, the underscores and the blanks that its spellings differ in.
func Word(word string) string {
	return strings.ToLower(strings.NewReplacer("_", "", " ", "").Replace(word))
}

// Time writes a time of RFC 3339, with any number of digits and with or without a zone, in UTC and with no more digits than it
// needs. What is no time stays as it is.
func Time(text string) string {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if moment, err := time.Parse(layout, text); err == nil {
			return moment.UTC().Format(time.RFC3339Nano)
		}
	}
	return text
}

// Leaves takes JSON apart: each value in it that says something, so neither null, "", {} nor [], by its path, such as
// `evidence.0.processId`. Numbers keep their spelling.
func Leaves(raw []byte) (map[string]string, error) {
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("the element is no JSON: %w", err)
	}
	leaves := map[string]string{}
	addLeaves(leaves, "", value)
	return leaves, nil
}

func addLeaves(leaves map[string]string, at string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			addLeaves(leaves, join(at, key), member)
		}
	case []any:
		for i, item := range value {
			addLeaves(leaves, join(at, strconv.Itoa(i)), item)
		}
	case nil:
	default:
		if text := fmt.Sprint(value); text != "" {
			leaves[at] = text
		}
	}
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
