package datadir_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector/collectortest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// What the data directory holds. Nothing in it is anybody's: names, ids and secrets are made up.

const (
	contosoJournal  = "contosojournal"
	fabrikamJournal = "fabrikamjournal"
	ledgerKey       = "0123456789abcdef0123456789abcdef.graph-alerts"

	deviceOne   = "1111111111111111111111111111111111111111"
	deviceTwo   = "2222222222222222222222222222222222222222"
	deviceThree = "3333333333333333333333333333333333333333"
	deviceFour  = "4444444444444444444444444444444444444444"

	// firstKept is the first entry that trimming leaves, begun the last one when the streams begin.
	firstKept, begun = 4, 13
)

// opened is what the sealed secrets of each integration are.
var opened = map[string]*storev1.Secrets{
	"contoso":  {ClientSecret: "made-up client secret of contoso", ProxyPassword: "made-up password at a proxy"},
	"fabrikam": {ClientCertificate: "a made-up certificate of fabrikam"},
}

// at is a time of the day that the journal is about, in hours and minutes.
func at(hour, minute int) time.Time {
	return time.Date(2026, time.March, 2, hour, minute, 0, 0, time.UTC)
}

func stamp(hour, minute int) *timestamppb.Timestamp { return timestamppb.New(at(hour, minute)) }

// records are the registry's, but for their sealed secrets. Contoso is paused: its journal stays as it was written.
func records() []*storev1.Record {
	contoso, fabrikam := &integrationv1.Integration{}, &integrationv1.Integration{}
	fill(contoso.ProtoReflect(), 3)
	fill(fabrikam.ProtoReflect(), 3)
	contoso.IntegrationId, contoso.Paused, contoso.Etag, contoso.Status = "contoso", true, "", nil
	contoso.Api, contoso.Authentication.Credential = integrationv1.Api_API_GRAPH_SECURITY, &integrationv1.Authentication_ClientSecret{
		ClientSecret: &integrationv1.ClientSecret{File: "contoso-secret"},
	}
	contoso.DeviceSource.Kind = integrationv1.DeviceSource_KIND_MACHINES
	fabrikam.IntegrationId, fabrikam.Paused, fabrikam.Etag, fabrikam.Status = "fabrikam", true, "", nil
	fabrikam.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{}}
	return []*storev1.Record{
		{Uid: contosoJournal, Integration: contoso},
		{Uid: fabrikamJournal, Integration: fabrikam},
	}
}

// ledger has two blocks.
func ledger() *storev1.Ledger {
	return &storev1.Ledger{Blocks: []*storev1.Ledger_Block{{Time: stamp(10, 0), Calls: 10}, {Time: stamp(10, 1), Calls: 20}}}
}

// lastTest is a test with every field.
func lastTest() *integrationv1.ConnectivityTest {
	test := &integrationv1.ConnectivityTest{}
	fill(test.ProtoReflect(), 4)
	return test
}

// checkpoint is the one behind the last entry; its floor is set by trimming.
func checkpoint(last uint64) *storev1.Checkpoint {
	return &storev1.Checkpoint{LastSequence: last, PolledSince: stamp(6, 0), CoveredSince: stamp(7, 0), PolledThrough: stamp(11, 5)}
}

// floor is just past what was trimmed.
var floor = at(8, 0).Add(100 * time.Nanosecond)

// entries are the journal's, in order: every kind, and of each what it can be.
func entries() []*storev1.Entry {
	changed := alert("alert-1", deviceOne, "", at(9, 20))
	changed.Title, changed.LastUpdateTime = "A changed title", stamp(9, 40)
	moved := alert("alert-1", deviceTwo, "", at(9, 20))
	moved.LastUpdateTime = stamp(11, 10)
	lookup := &storev1.DeviceLookup{Kind: integrationv1.DeviceSource_KIND_MACHINES, LookedUpTime: stamp(11, 1)}
	asked := &storev1.DeviceLookup{
		Kind: integrationv1.DeviceSource_KIND_HUNTING, LookedUpTime: stamp(9, 1), WantedOnly: true, Asked: []uint64{1, 1 << 63}, Problem: problem(),
	}
	list := []*storev1.Entry{
		1:  fact(8, 0, &storev1.DeviceFact{Device: device(deviceOne, "ws-one.contoso.test")}),
		2:  revision(8, 0, alert("alert-0", deviceOne, "", at(8, 0)), 0),
		3:  fact(8, 1, &storev1.DeviceFact{Device: device(deviceTwo, "ws-two.contoso.test")}),
		4:  revision(9, 21, alert("alert-1", deviceOne, "", at(9, 20)), 0),
		5:  pair(9, 22, integrationv1.Pair_DEPTH_REREAD, at(7, 22), at(9, 22), lookup),
		6:  revision(9, 41, changed, 4),
		7:  cut(revision(9, 42, alert("alert-2", deviceTwo, "ws-two.contoso.test", at(9, 41)), 0)),
		8:  revision(9, 43, everything(), 0),
		9:  pair(9, 44, integrationv1.Pair_DEPTH_POLL, at(9, 39), at(9, 44), asked),
		10: fact(9, 45, &storev1.DeviceFact{Device: device(deviceThree, "ws-three.contoso.test")}),
		11: fact(9, 50, &storev1.DeviceFact{Device: device(deviceThree, "ws-three.contoso.test"), Gone: true}),
		12: fact(9, 51, &storev1.DeviceFact{Device: device(deviceOne, "ws-one.contoso.test"), Repeats: 1}),
		13: fact(9, 51, &storev1.DeviceFact{Device: device(deviceTwo, "ws-two.contoso.test"), Repeats: 3}),
		14: revision(9, 55, alert("alert-3", deviceFour, "", at(9, 54)), 0),
		15: fact(9, 56, &storev1.DeviceFact{Device: device(deviceFour, "ws-one.contoso.test")}),
		16: pair(11, 2, integrationv1.Pair_DEPTH_CLOSING, at(8, 55), at(11, 1), lookup),
		17: {EntryTime: stamp(11, 5), Body: &storev1.Entry_FailedClosing{FailedClosing: &storev1.FailedClosing{
			Since: stamp(6, 55), Due: stamp(9, 0), Problem: problem(), Devices: lookup,
		}}},
		18: revision(11, 11, moved, 6),
	}
	return list[1:]
}

func alert(id, deviceID, name string, updated time.Time) *integrationv1.Alert {
	return collectortest.Alert(id, deviceID, name, updated)
}

func device(id, name string) *integrationv1.Device { return collectortest.Device(id, name, at(11, 0)) }

func problem() *integrationv1.Problem {
	p := &integrationv1.Problem{}
	fill(p.ProtoReflect(), 3)
	return p
}

// everything is an alert with every field, and a piece of evidence of every kind.
func everything() *integrationv1.Alert {
	a := &integrationv1.Alert{}
	fill(a.ProtoReflect(), 4)
	a.Id, a.LastUpdateTime, a.FirstActivityTime, a.LastActivityTime = "alert-full", stamp(9, 42), stamp(9, 30), stamp(9, 35)
	a.Evidence = []*integrationv1.Evidence{{Detail: &integrationv1.Evidence_Device{
		Device: &integrationv1.DeviceEvidence{MdeDeviceId: deviceOne, DeviceDnsName: "ws-one.contoso.test"},
	}}}
	kinds := (&integrationv1.Evidence{}).ProtoReflect().Descriptor().Oneofs().ByName("detail").Fields()
	for i := range kinds.Len() {
		e := &integrationv1.Evidence{}
		fill(e.ProtoReflect(), 2)
		detail := e.ProtoReflect().NewField(kinds.Get(i))
		fill(detail.Message(), 3)
		e.ProtoReflect().Set(kinds.Get(i), detail)
		a.Evidence = append(a.Evidence, e)
	}
	return a
}

func revision(hour, minute int, a *integrationv1.Alert, previous uint64) *storev1.Entry {
	raw := fmt.Appendf(nil, `{"id":%q,"title":%q}`, a.GetId(), a.GetTitle())
	hash := sha256.Sum256(raw)
	return &storev1.Entry{EntryTime: stamp(hour, minute), Body: &storev1.Entry_Revision{Revision: &storev1.Revision{
		Key: a.GetId(), ContentHash: hash[:], RawHash: bytes.Clone(hash[:]), UpdatedTime: a.GetLastUpdateTime(), SeenTime: stamp(hour, minute),
		FirstSeenTime: stamp(hour, minute), Alert: a, Raw: raw, PreviousSequence: previous, ArrivedLate: a.GetId() == "alert-full",
	}}}
}

// cut takes the raw bytes and evidence off a revision, as where it is too large.
func cut(entry *storev1.Entry) *storev1.Entry {
	entry.GetRevision().Raw = nil
	entry.GetRevision().Omission = &integrationv1.Omission{RawSize: 2_000_000, RawSha256: "5eb6", RawOmitted: true, EvidenceOmitted: 3}
	return entry
}

func fact(hour, minute int, f *storev1.DeviceFact) *storev1.Entry {
	f.LookedUpTime = stamp(hour, minute)
	return &storev1.Entry{EntryTime: stamp(hour, minute), Body: &storev1.Entry_DeviceFact{DeviceFact: f}}
}

func pair(hour, minute int, depth integrationv1.Pair_Depth, since, through time.Time, devices *storev1.DeviceLookup) *storev1.Entry {
	return &storev1.Entry{EntryTime: stamp(hour, minute), Body: &storev1.Entry_Pair{Pair: &storev1.PairProof{
		Pair:    &integrationv1.Pair{Depth: depth, Since: timestamppb.New(since), Through: timestamppb.New(through), Elements: 7},
		Devices: proto.CloneOf(devices),
	}}}
}

// requests are those of the streams, by name.
func requests() map[string]*integrationv1.StreamAlertsRequest {
	one := &integrationv1.Actor{ActorId: "one", HostName: "ws-one.contoso.test"}
	two := &integrationv1.Actor{ActorId: "two", HostName: "ws-two"}
	return map[string]*integrationv1.StreamAlertsRequest{
		"bounded": {
			IntegrationId: "contoso", Reference: "job-1", Actors: []*integrationv1.Actor{one, two}, IncludeRaw: true,
			Window: &integrationv1.Window{StartTime: stamp(9, 0), EndTime: stamp(10, 0)},
		},
		"failed": {
			IntegrationId: "contoso", Reference: "job-2", Actors: []*integrationv1.Actor{one},
			Window: &integrationv1.Window{StartTime: stamp(7, 0), EndTime: stamp(8, 0)}, Wait: durationpb.New(time.Hour),
		},
		"open": {
			IntegrationId: "contoso", Actors: []*integrationv1.Actor{one}, Window: &integrationv1.Window{StartTime: stamp(9, 0)},
		},
		"following":    {IntegrationId: "contoso", Reference: "job-3", Actors: []*integrationv1.Actor{two, one}},
		"every-device": {IntegrationId: "contoso", Window: &integrationv1.Window{StartTime: stamp(8, 30)}, IncludeRaw: true},
	}
}

// fill sets every field of a message, to a depth, to a value that tells it from others.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.IsMap(), field.Message() != nil && depth == 0,
			// Of a oneof, the first.
			field.ContainingOneof() != nil && m.WhichOneof(field.ContainingOneof()) != nil:
		case field.IsList():
			if field.Message() != nil {
				fill(m.Mutable(field).List().AppendMutable().Message(), depth-1)
			} else {
				m.Mutable(field).List().Append(sample(field))
			}
		case field.Message() != nil:
			if t, ok := m.Mutable(field).Message().Interface().(*timestamppb.Timestamp); ok {
				t.Seconds = at(9, 0).Unix() + int64(field.Number())
			} else if d, ok := m.Mutable(field).Message().Interface().(*durationpb.Duration); ok {
				d.Seconds = 60 + int64(field.Number())
			} else {
				fill(m.Mutable(field).Message(), depth-1)
			}
		default:
			m.Set(field, sample(field))
		}
	}
}

// sample is a value of a field that is no message.
func sample(field protoreflect.FieldDescriptor) protoreflect.Value {
	n := int32(field.Number())
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("%s %d", field.Name(), n))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(n)})
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(n)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n))
	default:
		return protoreflect.ValueOfInt64(int64(n))
	}
}
