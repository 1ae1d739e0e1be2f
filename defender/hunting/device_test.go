package hunting

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/page"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// now is the time of the answers that tests decode.
var now = time.Date(2026, time.November, 20, 10, 0, 0, 0, time.UTC)

func sampleAnswer(t testing.TB) []byte {
	t.Helper()
	body, err := os.ReadFile("testdata/answer.json")
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// decodeAll decodes the rows of an answer that is a list.
func decodeAll(body []byte) ([]*integrationv1.Device, error) {
	var devices []*integrationv1.Device
	d := newDecoder()
	_, err := page.ReadMember(bytes.NewReader(body), "results", func(raw []byte) error {
		device, err := d.decode(raw, now)
		devices = append(devices, device)
		return err
	})
	return devices, err
}

func TestDecode(t *testing.T) {
	got, err := decodeAll(sampleAnswer(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []*integrationv1.Device{
		{
			MdeDeviceId: "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", EntraDeviceId: "aaaaaaaa-1111-4111-8111-000000000004",
			DeviceDnsName: "ws-01.contoso.test", IpAddresses: []string{"192.0.2.10", "fe80::10"},
			HealthStatus:     integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE,
			OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_ONBOARDED,
			FirstSeenTime:    timestamppb.New(time.Date(2026, time.November, 2, 3, 4, 5, 123456700, time.UTC)),
			LastSeenTime:     timestamppb.New(time.Date(2026, time.November, 20, 9, 15, 0, 120000000, time.UTC)),
			OsPlatform:       "Windows11", OsVersion: "10.0", RbacGroupName: "Workstations",
		},
		{
			// Its first row is at the edge of what is kept, so that it tells nothing.
			MdeDeviceId: "1b2c3d4e5f60718293a4b5c6d7e8f9012345670a", DeviceDnsName: "ws-02", OsPlatform: "Windows10",
			HealthStatus:       integrationv1.HealthStatus_HEALTH_STATUS_IMPAIRED_COMMUNICATION,
			OnboardingStatus:   integrationv1.OnboardingStatus_ONBOARDING_STATUS_CAN_BE_ONBOARDED,
			MergedIntoDeviceId: "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", Excluded: true,
		},
		{
			MdeDeviceId: "2c3d4e5f60718293a4b5c6d7e8f9012345670a1b", DeviceDnsName: "ws-03.contoso.test",
			HealthStatus:     integrationv1.HealthStatus_HEALTH_STATUS_UNRECOGNIZED,
			OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_UNRECOGNIZED,
			Excluded:         true,
		},
		{DeviceDnsName: "without an id"},
		{},
	}
	for i, device := range got {
		if i < len(want) && !proto.Equal(device, want[i]) {
			t.Errorf("row %d is %v, want %v", i, device, want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

// TestEveryColumnIsRead fails where the look-up asks for a column that the decoder does not know, or the other way round.
func TestEveryColumnIsRead(t *testing.T) {
	_, last, _ := strings.Cut(lookUpAfter, "| project DeviceId, DeviceName")
	columns := []string{"DeviceId", "DeviceName"}
	for column := range strings.SplitSeq(strings.TrimPrefix(last, ", "), ", ") {
		name, _, _ := strings.Cut(column, " = ")
		columns = append(columns, name)
	}
	d := newDecoder()
	for _, column := range columns {
		if d.fields[strings.ToLower(column)] == nil {
			t.Errorf("the column %s is asked for and not read", column)
		}
	}
	if len(columns) != len(d.fields) {
		t.Errorf("%d columns are asked for and %d read", len(columns), len(d.fields))
	}

	var answer struct{ Schema []struct{ Name string } }
	if err := json.Unmarshal(sampleAnswer(t), &answer); err != nil {
		t.Fatal(err)
	}
	for i, column := range columns {
		if i >= len(answer.Schema) || answer.Schema[i].Name != column {
			t.Errorf("the sample's schema has no %s at %d", column, i)
		}
	}
}

func TestFirstSeen(t *testing.T) {
	tests := []struct {
		age  time.Duration
		told bool
	}{
		{time.Hour, true},
		{29*24*time.Hour - time.Second, true},
		{29 * 24 * time.Hour, true},
		{29*24*time.Hour + time.Second, false},
		{30 * 24 * time.Hour, false},
	}
	for _, tt := range tests {
		raw := fmt.Sprintf(`{"DeviceId":"a","FirstSeen":%q}`, now.Add(-tt.age).Format(time.RFC3339))
		device, err := newDecoder().decode([]byte(raw), now)
		if err != nil {
			t.Fatal(err)
		}
		if told := device.GetFirstSeenTime() != nil; told != tt.told {
			t.Errorf("a first row %s ago: first_seen_time is told: %t, want %t", tt.age, told, tt.told)
		}
	}
}

func TestCells(t *testing.T) {
	excluded := &integrationv1.Device{Excluded: true}
	addresses := &integrationv1.Device{IpAddresses: []string{"192.0.2.1", "192.0.2.2"}}
	tests := []struct {
		raw  string
		want *integrationv1.Device
	}{
		{`{"IsExcluded":1}`, excluded},
		{`{"IsExcluded":"1"}`, excluded},
		{`{"IsExcluded":"True"}`, excluded},
		{`{"isexcluded":true}`, excluded},
		{`{"IsExcluded":false}`, &integrationv1.Device{}},
		{`{"IsExcluded":{}}`, &integrationv1.Device{}},
		{`{"IPAddresses":"[{\"IPAddress\":\"192.0.2.1\"},{\"ipAddress\":\"192.0.2.2\"},{\"IPAddress\":\"192.0.2.1\"}]"}`, addresses},
		{`{"IPAddresses":[{"IPAddress":"192.0.2.1"},{"IPAddress":"192.0.2.2"}]}`, addresses},
		{`{"IPAddresses":["[{\"IPAddress\":\"192.0.2.1\"}]","[{\"IPAddress\":\"192.0.2.2\"},7,null,{}]",null,{}]}`, addresses},
		{`{"IPAddresses":"{\"IPAddress\":\"192.0.2.1\"}"}`, &integrationv1.Device{IpAddresses: []string{"192.0.2.1"}}},
		{`{"IPAddresses":"[{\"IPAddress\":\"0.0.0.0\"},{\"IPAddress\":{}},{\"IPAddress\":\"::1\"},{\"IPAddress\":\"none\"}]"}`, &integrationv1.Device{}},
		{`{"IPAddresses":""}`, &integrationv1.Device{}},
		{`{"IPAddresses":"["}`, &integrationv1.Device{}},
		{`{"IPAddresses":7}`, &integrationv1.Device{}},
		{`{"DeviceName":"x","DeviceName@odata.type":"#String","New":1}`, &integrationv1.Device{DeviceDnsName: "x"}},
	}
	d := newDecoder()
	for _, tt := range tests {
		if got, err := d.decode([]byte(tt.raw), now); err != nil || !proto.Equal(got, tt.want) {
			t.Errorf("%s is read as %v, error %v; want %v", tt.raw, got, err, tt.want)
		}
	}
}

// FuzzAnswer holds that whatever is answered is read or refused, and that what is read is a device's.
func FuzzAnswer(f *testing.F) {
	f.Add(sampleAnswer(f))
	f.Add(simulatedAnswer(f))
	f.Add([]byte(table(row("a", "b"), `{"IPAddresses":["[[{\"IPAddress\":\"1.2.3.4\"}]]"]}`)))
	f.Add([]byte(`{"results":[{"DeviceId":"a","deviceid":{},"FirstSeen":"0001-01-01T00:00:00"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		devices, err := decodeAll(body)
		for _, device := range devices {
			for i, text := range device.GetIpAddresses() {
				address, err := netip.ParseAddr(text)
				if err != nil || address.IsLoopback() || address.IsUnspecified() || slices.Contains(device.GetIpAddresses()[:i], text) {
					t.Errorf("%q is among the addresses %q", text, device.GetIpAddresses())
				}
			}
			if first := device.GetFirstSeenTime(); first != nil && first.AsTime().Before(now.Add(-certainlyFirst)) {
				t.Errorf("first seen at %v", first.AsTime())
			}
			if _, err := proto.Marshal(device); err != nil {
				t.Errorf("%v cannot be stored: %v", device, err)
			}
		}
		if err == nil && !json.Valid(body) && !bytes.ContainsRune(body, '\uFFFD') && bytes.Equal(body, bytes.ToValidUTF8(body, nil)) {
			t.Errorf("%q is no JSON, and was read", body)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	cells := strings.Replace(string(firstRow(b)), "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "%040x", 1)
	rows := make([]string, 1000)
	for i := range rows {
		rows[i] = fmt.Sprintf(cells, i)
	}
	body := []byte(table(rows...))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if devices, err := decodeAll(body); err != nil || len(devices) != len(rows) {
			b.Fatal(len(devices), err)
		}
	}
}

// firstRow returns the first row of the sample.
func firstRow(t testing.TB) []byte {
	t.Helper()
	var first []byte
	_, err := page.ReadMember(bytes.NewReader(sampleAnswer(t)), "results", func(raw []byte) error {
		if first == nil {
			first = bytes.Clone(raw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return first
}
