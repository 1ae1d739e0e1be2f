package graph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// samplesVariable names a directory of other bodies of alerts_v2 to walk over: lists and single alerts.
const samplesVariable = "DEFENDER_SAMPLES"

// TestWalk fails unless every key of every alert has a field with its value, or stands among the ones that have a reason not to.
func TestWalk(t *testing.T) {
	directories := []string{"testdata"}
	if other := os.Getenv(samplesVariable); other != "" {
		directories = append(directories, other)
	}
	for _, directory := range directories {
		files, err := filepath.Glob(filepath.Join(directory, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no samples in %s: %v", directory, err)
		}
		walked := 0
		for _, file := range files {
			for i, raw := range alertsIn(t, file) {
				walked++
				t.Run(fmt.Sprintf("%s %d", filepath.Base(file), i), func(t *testing.T) { walkAlert(t, raw) })
			}
		}
		if walked == 0 {
			t.Fatalf("no alerts in %s", directory)
		}
	}
}

// alertsIn returns the elements of a file that is a list or one alert; incidents and the like have none.
func alertsIn(t *testing.T, file string) []json.RawMessage {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var shape struct {
		Value    []json.RawMessage `json:"value"`
		Evidence json.RawMessage   `json:"evidence"`
	}
	if err := json.Unmarshal(body, &shape); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if shape.Evidence != nil {
		return []json.RawMessage{body}
	}
	var alerts []json.RawMessage
	for _, element := range shape.Value {
		if bytes.Contains(element, []byte(`"evidence"`)) && bytes.Contains(element, []byte(`"lastUpdateDateTime"`)) {
			alerts = append(alerts, element)
		}
	}
	return alerts
}

func walkAlert(t *testing.T, raw []byte) {
	decoded, err := NewDecoder().Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if odd := decoded.Alert.GetOddities(); len(odd) > 0 {
		t.Errorf("oddities: %v", odd)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value map[string]any
	if err := d.Decode(&value); err != nil {
		t.Fatal(err)
	}
	w := &walk{t: t}
	w.object("", value, decoded.Alert.ProtoReflect())
	t.Logf("%d values compared, %d keys left to the raw bytes", w.compared, w.left)
}

// rawOnly says whether a key has no field, and for which reason.
func rawOnly(message protoreflect.FullName, key string) (reason string, ok bool) {
	switch {
	case key == "@odata.type" && message.Name() == "Alert":
		return "every element is an alert", true
	case strings.Contains(key, "@odata.") && key != "@odata.type":
		return "an annotation of OData, which tells nothing of the alert", true
	}
	return "", false
}

// renamed are the fields that are not named after their key.
func renamed(message, key string) string {
	switch message + "." + key {
	case "AlertComment.createdByDisplayName", "AlertComment.createdBy":
		return "created_by"
	case "AlertComment.createdTime":
		return "created_time"
	case "Alert.additionalData":
		return "additional_data_json"
	case "Alert.customDetails":
		return "custom_details_json"
	case "DeviceEvidence.azureAdDeviceId":
		return "entra_device_id"
	case "UserAccount.azureAdUserId":
		return "entra_user_id"
	case "HostLogonSessionEvidence.startUtcDateTime":
		return "start_time"
	case "HostLogonSessionEvidence.endUtcDateTime":
		return "end_time"
	case "UserEvidence.stream", "IpEvidence.stream":
		return "stream_name"
	}
	key = strings.TrimSuffix(key, "DateTime") + map[bool]string{true: "Time"}[strings.HasSuffix(key, "DateTime")]
	var snake strings.Builder
	for _, r := range key {
		if unicode.IsUpper(r) {
			snake.WriteByte('_')
		}
		snake.WriteRune(unicode.ToLower(r))
	}
	return snake.String()
}

type walk struct {
	t              *testing.T
	compared, left int
}

func (w *walk) object(path string, value map[string]any, m protoreflect.Message) {
	for key, v := range value {
		at := path + "/" + key
		if _, ok := rawOnly(m.Descriptor().FullName(), key); ok {
			w.left++
			continue
		}
		owner := m
		if evidence, ok := m.Interface().(*integrationv1.Evidence); ok {
			if key == "@odata.type" {
				if want := "#microsoft.graph.security." + evidence.GetType(); v != want {
					w.t.Errorf("%s is %v, the field has %s", at, v, want)
				}
				continue
			}
			set := m.WhichOneof(m.Descriptor().Oneofs().ByName("detail"))
			own := m.Descriptor().Fields().ByName(protoreflect.Name(renamed("Evidence", key)))
			shared := own != nil && own.ContainingOneof() == nil
			if set == nil && !shared {
				if !newEvidenceReader().others[evidence.GetType()] {
					w.t.Errorf("%s: %s has no detail", at, evidence.GetType())
				}
				w.left++
				continue // evidence that concerns no endpoint is in the raw bytes
			}
			if !shared {
				owner = m.Get(set).Message()
			}
		}
		name := string(owner.Descriptor().Name())
		field := owner.Descriptor().Fields().ByName(protoreflect.Name(renamed(name, key)))
		if field == nil {
			w.t.Errorf("%s has no field in %s, and no reason for it", at, name)
			continue
		}
		w.field(at, v, owner, field)
	}
}

func (w *walk) field(at string, v any, m protoreflect.Message, field protoreflect.FieldDescriptor) {
	got := m.Get(field)
	switch {
	case v == nil || v == "":
		if m.Has(field) {
			w.t.Errorf("%s is %v, the field has %v", at, v, got)
		}
	case field.IsList():
		items, ok := v.([]any)
		if !ok || len(items) != got.List().Len() {
			w.t.Errorf("%s is %v, the field has %d", at, v, got.List().Len())
			return
		}
		for i, item := range items {
			w.value(fmt.Sprintf("%s/%d", at, i), item, field, got.List().Get(i))
		}
	default:
		w.value(at, v, field, got)
	}
}

func (w *walk) value(at string, v any, field protoreflect.FieldDescriptor, got protoreflect.Value) {
	var want, have string
	switch {
	case field.Message() != nil && field.Message().FullName() == "google.protobuf.Timestamp":
		parsed, err := time.Parse(time.RFC3339Nano, v.(string))
		if err != nil {
			w.t.Fatal(err)
		}
		want, have = parsed.UTC().String(), got.Message().Interface().(*timestamppb.Timestamp).AsTime().String()
	case field.Message() != nil:
		w.object(at, v.(map[string]any), got.Message())
		return
	case field.Enum() != nil:
		words := strings.Split(string(field.Enum().Values().ByNumber(got.Enum()).Name()), "_")
		want, have = strings.ToLower(v.(string)), strings.ToLower(strings.Join(words, ""))
		if strings.HasSuffix(have, want) {
			have = want // the value's name begins with the enumeration's
		}
	case field.Name() == "stream_name":
		want, have = v.(map[string]any)["name"].(string), got.String()
	case strings.HasSuffix(string(field.Name()), "_json"):
		want, have = normal(w.t, v), normal(w.t, json.RawMessage(got.String()))
	default:
		want, have = fmt.Sprint(v), fmt.Sprint(got.Interface())
	}
	w.compared++
	if want != have {
		w.t.Errorf("%s is %s, the field has %s", at, want, have)
	}
}

// normal writes JSON with sorted keys and without white space.
func normal(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var again any
	if err := d.Decode(&again); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(again); err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// ofOtherAPIs are the fields that Graph has nothing for.
var ofOtherAPIs = map[protoreflect.FullName]bool{
	"defender.integration.v1.Alert.related_user": true,
	"defender.integration.v1.Alert.domains":      true,
	"defender.integration.v1.Alert.siem":         true,
}

// TestFixtureHasEveryField fails where the fixture leaves a field of the contract out, so that the walk compares them all.
func TestFixtureHasEveryField(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "alert-full.json"))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := NewDecoder().Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[protoreflect.FullName]bool{}
	all := map[protoreflect.FullName]bool{}
	var visit func(m protoreflect.Message)
	visit = func(m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			all[field.FullName()] = true
			if !m.Has(field) {
				continue
			}
			seen[field.FullName()] = true
			switch {
			case field.Message() == nil || field.Message().FullName() == "google.protobuf.Timestamp":
			case field.IsList():
				for j := range m.Get(field).List().Len() {
					visit(m.Get(field).List().Get(j).Message())
				}
			default:
				visit(m.Get(field).Message())
			}
		}
	}
	visit(decoded.Alert.ProtoReflect())
	for name := range all {
		if !seen[name] && name.Name() != "oddities" && !ofOtherAPIs[name] {
			t.Errorf("the fixture has nothing for %s", name)
		}
	}
}
