package lenient

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// sample has a field of each kind that the tests of the APIs' own tables do not reach.
type sample struct {
	yes    bool
	maybe  *bool
	number float64
	status integrationv1.HealthStatus
}

func sampleFields() Fields[*sample] {
	return Fields[*sample]{
		"yes":    Bool(func(s *sample) *bool { return &s.yes }),
		"maybe":  OptionalBool(func(s *sample) **bool { return &s.maybe }),
		"number": Float(func(s *sample) *float64 { return &s.number }),
		"status": Enum(NamesOf(Names[integrationv1.HealthStatus]{"fine": integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE}), func(s *sample) *integrationv1.HealthStatus { return &s.status }),
	}
}

func TestScalars(t *testing.T) {
	tests := []struct {
		raw  string
		want sample
		odd  integrationv1.Oddity_Kind
	}{
		{`{"yes":true}`, sample{yes: true}, 0},
		{`{"yes":"True"}`, sample{yes: true}, 0},
		{`{"yes":"false"}`, sample{}, 0},
		{`{"yes":null}`, sample{}, 0},
		{`{"yes":""}`, sample{}, 0},
		{`{"yes":1}`, sample{}, wrongType},
		{`{"maybe":true}`, sample{maybe: new(true)}, 0},
		{`{"maybe":false}`, sample{maybe: new(false)}, 0},
		{`{"maybe":"TRUE"}`, sample{maybe: new(true)}, 0},
		{`{"maybe":"False"}`, sample{maybe: new(false)}, 0},
		{`{"maybe":null}`, sample{}, 0},
		{`{"maybe":""}`, sample{}, 0},
		{`{"maybe":0}`, sample{}, wrongType},
		{`{"maybe":"perhaps"}`, sample{}, wrongType},
		{`{"number":52.5}`, sample{number: 52.5}, 0},
		{`{"number":"52.5"}`, sample{number: 52.5}, 0},
		{`{"number":"far"}`, sample{}, wrongType},
		{`{"number":[]}`, sample{}, wrongType},
		{`{"number":1e999}`, sample{}, wrongType},
		{`{"status":"NoSensorData"}`, sample{status: integrationv1.HealthStatus_HEALTH_STATUS_NO_SENSOR_DATA}, 0},
		{`{"status":"Fine"}`, sample{status: integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE}, 0},
		{`{"status":"unspecified"}`, sample{status: integrationv1.HealthStatus_HEALTH_STATUS_UNRECOGNIZED}, unknownEnum},
		{`{"status":"` + strings.Repeat("x", 500) + `"}`, sample{status: integrationv1.HealthStatus_HEALTH_STATUS_UNRECOGNIZED}, unknownEnum},
	}
	for _, tt := range tests {
		var d Document
		if err := d.Parse([]byte(tt.raw)); err != nil {
			t.Fatal(err)
		}
		var got sample
		odd := Read(&d, sampleFields(), &got)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%.40s is read as %+v, want %+v", tt.raw, got, tt.want)
		}
		if tt.odd == 0 && len(odd) > 0 || tt.odd != 0 && (len(odd) != 1 || odd[0].GetKind() != tt.odd) {
			t.Errorf("%.40s: oddities are %v, want %s", tt.raw, odd, tt.odd)
		}
	}
}

func TestNamesWithoutCase(t *testing.T) {
	tests := []struct {
		raw  string
		want sample
		// odd is where something is told, in the element's own spelling.
		odd []string
	}{
		{`{"YES":true,"nUmBeR":2}`, sample{yes: true, number: 2}, nil},
		{`{"number":1,"Number":2}`, sample{number: 2}, []string{"/Yes"}},
		{`{"Number":2,"number":1}`, sample{number: 1}, []string{"/Yes"}},
		{`{"Number":2,"number":null}`, sample{}, []string{"/Yes"}},
		{`{"yes":null}`, sample{}, []string{"/Yes"}},
		{`{"yes":true,"NUMBER":"far"}`, sample{yes: true}, []string{"/NUMBER"}},
		{`{"yes":true,"NewThing":1}`, sample{yes: true}, []string{"/NewThing"}},
		{`{"yes":true,"@Odata.Context":1}`, sample{yes: true}, nil},
	}
	d := Document{IgnoreCase: true}
	fields := IgnoringCase(sampleFields())
	for _, tt := range tests {
		if err := d.Parse([]byte(tt.raw)); err != nil {
			t.Fatal(err)
		}
		var got sample
		var paths []string
		for _, odd := range Read(&d, fields, &got, "Yes") {
			paths = append(paths, odd.GetPath())
		}
		if !reflect.DeepEqual(got, tt.want) || !slices.Equal(paths, tt.odd) {
			t.Errorf("%s is read as %+v with oddities at %q, want %+v and %q", tt.raw, got, paths, tt.want, tt.odd)
		}
	}
}

// What is the same but for the case of a name is the same content to a document that ignores it, and another to one that does not.
func TestContentHashAndCase(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		d := Document{IgnoreCase: ignore}
		var hashes [][32]byte
		for _, raw := range []string{`{"A":"x","b":1}`, `{"B":1,"a":"x"}`, `{"a":"X","b":1}`} {
			if err := d.Parse([]byte(raw)); err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, d.ContentHash(""))
		}
		if same := hashes[0] == hashes[1]; same != ignore {
			t.Errorf("ignoring case %t: names of other case have the same hash: %t", ignore, same)
		}
		if hashes[1] == hashes[2] {
			t.Errorf("ignoring case %t: values of other case have the same hash", ignore)
		}
	}
}

func TestParseRefusesWhatIsNoJSON(t *testing.T) {
	var d Document
	for _, raw := range []string{``, ` `, `{`, `{"a"}`, `{"a":}`, `[1,]`, `1 2`, `{}x`, `nul`, `1.2.3`, "\"\x00\"", `{'a':1}`} {
		if err := d.Parse([]byte(raw)); err == nil {
			t.Errorf("%q is taken for JSON", raw)
		}
		if err := d.Parse([]byte(`{"a":1}`)); err != nil {
			t.Errorf("after %q the document is spoilt: %v", raw, err)
		}
	}
}

func TestDeepNestingIsBounded(t *testing.T) {
	var d Document
	for _, depth := range []int{MaxDepth, MaxDepth + 1, 9000} {
		if err := d.Parse([]byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))); err != nil {
			t.Errorf("%d deep: %v", depth, err)
		}
		if len(d.nodes) > MaxDepth+1 {
			t.Errorf("%d deep: %d nodes", depth, len(d.nodes))
		}
	}
}
