package lenient

import (
	"strings"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// sample has a field of each kind that the tests of the APIs' own tables do not reach.
type sample struct {
	yes    bool
	number float64
	status integrationv1.HealthStatus
}

func sampleFields() Fields[*sample] {
	return Fields[*sample]{
		"yes":    Bool(func(s *sample) *bool { return &s.yes }),
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
		if got != tt.want {
			t.Errorf("%.40s is read as %+v, want %+v", tt.raw, got, tt.want)
		}
		if tt.odd == 0 && len(odd) > 0 || tt.odd != 0 && (len(odd) != 1 || odd[0].GetKind() != tt.odd) {
			t.Errorf("%.40s: oddities are %v, want %s", tt.raw, odd, tt.odd)
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
