package stream

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// someToken returns a token with all of its fields.
func someToken() *storev1.ResumeToken {
	return &storev1.ResumeToken{
		Format: 1, Uid: "uid-1", Identity: "IDENTITY", Sequence: 300, Ordinal: 2, StartSequence: 7, Completed: true, IntegrationId: "contoso",
		StartTime: timestamppb.New(time.Unix(1_800_000_000, 5)),
		Binding:   bindingOf(&integrationv1.StreamAlertsRequest{Actors: []*integrationv1.Actor{{ActorId: "one", HostName: "ws-one"}}}),
	}
}

// refusedAs returns the words that a token is refused with, which must be as RESUME_TOKEN_INVALID.
func refusedAs(t *testing.T, err error) string {
	t.Helper()
	var f *failure.Error
	if !errors.As(err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID {
		t.Fatalf("refused with %v", err)
	}
	return f.Message
}

// A token comes back as it was made, and any change of a character of its text is found.
func TestTokenText(t *testing.T) {
	token := someToken()
	text := encodeToken(token)
	got, err := decodeToken(text)
	if err != nil || !proto.Equal(got, token) {
		t.Fatalf("%v, %v", got, err)
	}
	const letters = "AQgw-_9z=. é"
	for i := range text {
		for _, letter := range letters {
			changed := text[:i] + string(letter) + text[i+1:]
			if changed == text {
				continue
			}
			if got, err := decodeToken(changed); err == nil {
				t.Errorf("%q at %d was taken for %v", letter, i, got)
			}
		}
		if got, err := decodeToken(text[:i]); err == nil {
			t.Errorf("cut at %d it was taken for %v", i, got)
		}
	}
}

// A token that no event of this version had is refused, whatever its checksum says, in words that tell the version from damage.
func TestTokenOfNoEvent(t *testing.T) {
	const damaged, another = "it is damaged", "it is of another version of this service"
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1)
	for name, test := range map[string]struct {
		change func(*storev1.ResumeToken)
		words  string
	}{
		"a later format":          {func(r *storev1.ResumeToken) { r.Format = 2 }, another},
		"no format":               {func(r *storev1.ResumeToken) { r.Format = 0 }, another},
		"an unknown field":        {func(r *storev1.ResumeToken) { r.ProtoReflect().SetUnknown(unknown) }, another},
		"one in the binding":      {func(r *storev1.ResumeToken) { r.GetBinding().ProtoReflect().SetUnknown(unknown) }, another},
		"one in the time":         {func(r *storev1.ResumeToken) { r.GetStartTime().ProtoReflect().SetUnknown(unknown) }, another},
		"no journal":              {func(r *storev1.ResumeToken) { r.Uid = "" }, damaged},
		"no identity":             {func(r *storev1.ResumeToken) { r.Identity = "" }, damaged},
		"inside no entry":         {func(r *storev1.ResumeToken) { r.Sequence = 0 }, damaged},
		"a time that there isn't": {func(r *storev1.ResumeToken) { r.StartTime.Nanos = math.MinInt32 }, damaged},
		"a year that there isn't": {func(r *storev1.ResumeToken) { r.StartTime.Seconds = math.MaxInt64 }, damaged},
	} {
		token := someToken()
		test.change(token)
		_, err := decodeToken(encodeToken(token))
		if words := refusedAs(t, err); !strings.Contains(words, test.words) {
			t.Errorf("%s: %q, want %q", name, words, test.words)
		}
	}
	// A good checksum over what is no message.
	text := encodeToken(someToken())
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	_, err = decodeToken(sealed(append(data[:len(data)-4:len(data)-4], 0x0b)))
	if words := refusedAs(t, err); !strings.Contains(words, damaged) {
		t.Errorf("no message: %q", words)
	}
}

// sealed returns the text of a token with these bytes and a good checksum.
func sealed(body []byte) string {
	// What a message does not know it keeps as it is; all of it here.
	token := &storev1.ResumeToken{}
	token.ProtoReflect().SetUnknown(body)
	return encodeToken(token)
}

// What a request's tokens are bound to, and what may change.
func TestBinding(t *testing.T) {
	request := func() *integrationv1.StreamAlertsRequest {
		return &integrationv1.StreamAlertsRequest{
			IntegrationId: "contoso", Reference: "job-1",
			Actors: []*integrationv1.Actor{{ActorId: "one", HostName: "ws-one"}, {ActorId: "two", HostName: "ws-two"}},
			Window: &integrationv1.Window{StartTime: timestamppb.New(time.Unix(1000, 0)), EndTime: timestamppb.New(time.Unix(2000, 0))},
		}
	}
	later := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "a field of a later version")
	for name, test := range map[string]struct {
		change func(*integrationv1.StreamAlertsRequest)
		// differs is what is told to differ; "" where it may change.
		differs string
	}{
		"nothing":             {func(*integrationv1.StreamAlertsRequest) {}, ""},
		"reference":           {func(r *integrationv1.StreamAlertsRequest) { r.Reference = "job-2" }, ""},
		"include_raw":         {func(r *integrationv1.StreamAlertsRequest) { r.IncludeRaw = true }, ""},
		"order of the Actors": {func(r *integrationv1.StreamAlertsRequest) { slices.Reverse(r.GetActors()) }, ""},
		"defaults written out": {func(r *integrationv1.StreamAlertsRequest) {
			r.Wait, r.Tolerance, r.OnTime = durationpb.New(time.Hour), durationpb.New(5*time.Minute), durationpb.New(30*time.Minute)
			r.MinConfidence = integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY
		}, ""},
		"explain":       {func(r *integrationv1.StreamAlertsRequest) { r.Explain = true }, ""},
		"integration":   {func(r *integrationv1.StreamAlertsRequest) { r.IntegrationId = "fabrikam" }, "integration_id"},
		"an Actor less": {func(r *integrationv1.StreamAlertsRequest) { r.Actors = r.GetActors()[:1] }, "actors"},
		"no Actors":     {func(r *integrationv1.StreamAlertsRequest) { r.Actors = nil }, "actors"},
		"an Actor's id": {func(r *integrationv1.StreamAlertsRequest) { r.Actors[1].ActorId = "zwei" }, "actors"},
		"an Actor's name": {
			func(r *integrationv1.StreamAlertsRequest) { r.Actors[1].HostName = "ws-three" }, "actors"},
		"a later version's field of an Actor": {
			func(r *integrationv1.StreamAlertsRequest) { r.GetActors()[1].ProtoReflect().SetUnknown(later) }, "actors"},
		"the window's start": {func(r *integrationv1.StreamAlertsRequest) { r.Window.StartTime.Nanos++ }, "window"},
		"the window's end":   {func(r *integrationv1.StreamAlertsRequest) { r.Window.EndTime.Nanos++ }, "window"},
		"no end":             {func(r *integrationv1.StreamAlertsRequest) { r.Window.EndTime = nil }, "window"},
		"no window":          {func(r *integrationv1.StreamAlertsRequest) { r.Window = nil }, "window"},
		"a later version's field of the window": {
			func(r *integrationv1.StreamAlertsRequest) { r.GetWindow().ProtoReflect().SetUnknown(later) }, "window"},
		"wait":      {func(r *integrationv1.StreamAlertsRequest) { r.Wait = durationpb.New(time.Minute) }, "wait, tolerance, on_time or min_confidence"},
		"tolerance": {func(r *integrationv1.StreamAlertsRequest) { r.Tolerance = durationpb.New(0) }, "wait, tolerance, on_time or min_confidence"},
		"on_time":   {func(r *integrationv1.StreamAlertsRequest) { r.OnTime = durationpb.New(time.Hour) }, "wait, tolerance, on_time or min_confidence"},
		"min_confidence": {func(r *integrationv1.StreamAlertsRequest) { r.MinConfidence = integrationv1.Confidence_CONFIDENCE_WEAK },
			"wait, tolerance, on_time or min_confidence"},
		"the Actors' traces": {func(r *integrationv1.StreamAlertsRequest) {
			r.Actors[0].Traces = &integrationv1.Traces{Users: []string{"alex"}}
		}, "actors"},
	} {
		own := func(r *integrationv1.StreamAlertsRequest) *storev1.ResumeToken {
			return &storev1.ResumeToken{IntegrationId: r.GetIntegrationId(), Binding: bindingOf(r)}
		}
		changed := request()
		test.change(changed)
		if got := foreign(own(request()), own(changed)); got != test.differs {
			t.Errorf("%s: differs in %q, want %q", name, got, test.differs)
		}
	}
}

// Where a request asks for no more than the device, its tokens are bound to what they were bound to before there was a choice: the
// hash is that of a version that did not know min_confidence.
func TestBindingWithoutAChoiceOfConfidence(t *testing.T) {
	for _, least := range []integrationv1.Confidence{0, integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY} {
		binding := bindingOf(&integrationv1.StreamAlertsRequest{MinConfidence: least})
		if got := hex.EncodeToString(binding.GetThresholds()); got != "6b5f913b1e439d817f630f7bdfb55c6e" {
			t.Errorf("%v: the thresholds' hash is %s", least, got)
		}
	}
}

// Whatever is given for a token, it is refused with the reason, or is a token of this version that says the same when it is written
// again.
func FuzzDecodeToken(f *testing.F) {
	good := encodeToken(someToken())
	body, _ := base64.RawURLEncoding.DecodeString(good)
	f.Add(good, []byte{})
	f.Add("", []byte{})
	f.Add("AAAA", body)
	f.Add(good[1:], body[:len(body)-4])
	// A field that stands twice.
	f.Add("", protowire.AppendVarint(protowire.AppendTag(body[:len(body)-4:len(body)-4], 4, protowire.VarintType), 9))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		for _, text := range []string{text, sealed(body)} {
			token, err := decodeToken(text)
			if err != nil {
				refusedAs(t, err)
				continue
			}
			if token.GetFormat() != tokenFormat || token.GetUid() == "" || token.GetIdentity() == "" || hasUnknown(token) {
				t.Fatalf("%q was taken for %v", text, token)
			}
			again, err := decodeToken(encodeToken(token))
			if err != nil || !proto.Equal(again, token) {
				t.Fatalf("written again, %v is %v, %v", token, again, err)
			}
		}
	})
}
