package datadir_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// lacks returns where a message does not say what another one says: the path of the first field that is set in want and other in got;
// "" where it says all of it, and perhaps more. An explanation must be there: what it says is for people.
func lacks(want, got protoreflect.Message) string {
	differs := ""
	want.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		path := string(field.Name())
		switch {
		case !got.Has(field):
			differs = path
		case field.Name() == "explanation":
			// A later version may find better words.
		case field.IsList():
			differs = lacksItem(path, field, value.List(), got.Get(field).List())
		case field.Message() != nil && !field.IsMap():
			if within := lacks(value.Message(), got.Get(field).Message()); within != "" {
				differs = path + "." + within
			}
		case !value.Equal(got.Get(field)):
			differs = path
		}
		return differs == ""
	})
	return differs
}

func lacksItem(path string, field protoreflect.FieldDescriptor, want, got protoreflect.List) string {
	if want.Len() != got.Len() {
		return path
	}
	for i := range want.Len() {
		at := fmt.Sprintf("%s[%d]", path, i)
		if field.Message() == nil {
			if !want.Get(i).Equal(got.Get(i)) {
				return at
			}
			continue
		}
		if within := lacks(want.Get(i).Message(), got.Get(i).Message()); within != "" {
			return at + "." + within
		}
	}
	return ""
}

func TestLacks(t *testing.T) {
	want := &integrationv1.Alert{Id: "a", Categories: []string{"x"}, Evidence: []*integrationv1.Evidence{{Type: "file"}}}
	for path, got := range map[string]*integrationv1.Alert{
		"":                 {Id: "a", Title: "more", Categories: []string{"x"}, Evidence: []*integrationv1.Evidence{{Type: "file", Verdict: 1}}},
		"id":               {Id: "b", Categories: []string{"x"}, Evidence: []*integrationv1.Evidence{{Type: "file"}}},
		"categories":       {Id: "a", Evidence: []*integrationv1.Evidence{{Type: "file"}}},
		"categories[0]":    {Id: "a", Categories: []string{"y"}, Evidence: []*integrationv1.Evidence{{Type: "file"}}},
		"evidence[0].type": {Id: "a", Categories: []string{"x"}, Evidence: []*integrationv1.Evidence{{Type: "process"}}},
	} {
		if found := lacks(want.ProtoReflect(), got.ProtoReflect()); found != path {
			t.Errorf("found %q, want %q", found, path)
		}
	}
	explained := (&integrationv1.ActorVerdict{Explanation: "a"}).ProtoReflect()
	if found := lacks(explained, (&integrationv1.ActorVerdict{Explanation: "b"}).ProtoReflect()); found != "" {
		t.Errorf("in other words: found %q", found)
	}
	if found := lacks(explained, (&integrationv1.ActorVerdict{}).ProtoReflect()); found != "explanation" {
		t.Errorf("without words: found %q", found)
	}
}
