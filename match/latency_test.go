package match_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestLatenciesOf(t *testing.T) {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	minutes := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Minute) }
	whole := func(change ...func(*integrationv1.Alert)) *integrationv1.Alert {
		a := &integrationv1.Alert{FirstActivityTime: stamp(noon), LastActivityTime: stamp(at(2)), CreatedTime: stamp(at(5))}
		for _, f := range change {
			f(a)
		}
		return a
	}
	tests := []struct {
		name               string
		alert              *integrationv1.Alert
		visible, delivered time.Time
		away               *durationpb.Duration
		want               *integrationv1.Latencies
	}{
		{"each step", whole(), at(15), at(16), minutes(4), &integrationv1.Latencies{
			ActivityToCreated: minutes(5), CreatedToVisible: minutes(10), VisibleToDelivered: minutes(1), Away: minutes(4),
		}},
		{"what is zero is known", whole(), at(5), at(5), minutes(0), &integrationv1.Latencies{
			ActivityToCreated: minutes(5), CreatedToVisible: minutes(0), VisibleToDelivered: minutes(0), Away: minutes(0),
		}},
		{"no first activity", whole(func(a *integrationv1.Alert) { a.FirstActivityTime = nil }), at(5), at(5), nil, &integrationv1.Latencies{
			ActivityToCreated: minutes(3), CreatedToVisible: minutes(0), VisibleToDelivered: minutes(0),
		}},
		{
			"no activity", whole(func(a *integrationv1.Alert) { a.FirstActivityTime, a.LastActivityTime = nil, nil }), at(6), time.Time{}, nil,
			&integrationv1.Latencies{CreatedToVisible: minutes(1)},
		},
		{"no creation", whole(func(a *integrationv1.Alert) { a.CreatedTime = nil }), at(6), at(8), minutes(1), &integrationv1.Latencies{
			VisibleToDelivered: minutes(2), Away: minutes(1),
		}},
		{"not known when it was read", whole(), time.Time{}, at(8), nil, &integrationv1.Latencies{ActivityToCreated: minutes(5)}},
		{"clocks that differ", whole(), at(4), at(3), minutes(1), &integrationv1.Latencies{
			ActivityToCreated: minutes(5), CreatedToVisible: minutes(0), VisibleToDelivered: minutes(0), Away: minutes(0),
		}},
		{"activity after the creation", whole(func(a *integrationv1.Alert) { a.FirstActivityTime = stamp(at(9)) }), at(9), at(9), minutes(4), &integrationv1.Latencies{
			ActivityToCreated: minutes(0), CreatedToVisible: minutes(4), VisibleToDelivered: minutes(0), Away: minutes(4),
		}},
		{
			"a detection is created when it was processed",
			&integrationv1.Alert{FirstActivityTime: stamp(noon), LastUpdateTime: stamp(at(3)), Siem: &integrationv1.SiemDetection{}}, at(7), at(7), minutes(9),
			&integrationv1.Latencies{ActivityToCreated: minutes(3), CreatedToVisible: minutes(4), VisibleToDelivered: minutes(0), Away: minutes(4)},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := match.LatenciesOf(test.alert, test.visible, test.delivered, test.away); !proto.Equal(got, test.want) {
				t.Errorf("latencies\n got %v\nwant %v", got, test.want)
			}
		})
	}
}
