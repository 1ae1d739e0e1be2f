package stream_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/server/stream"
)

// played is a stream that ran to its end: every kind of position is among its events.
type played struct {
	*house

	request *integrationv1.StreamAlertsRequest
	events  []*integrationv1.StreamAlertsResponse
}

// play runs a bounded stream in which alerts come, change, and are found by a second look, several in one entry.
func play(t *testing.T, actors ...*integrationv1.Actor) *played {
	t.Helper()
	h := newHouse(t, collector.DefaultSettings())
	now := time.Now()
	for i, id := range []string{"a1", "a2", "a3"} {
		at := now.Add(time.Duration(5+i) * time.Second)
		// The device's id alone: that it is the Actor's, only the device source tells, and late.
		alert := collectortest.Alert(id, deviceOne, "", at)
		h.source.Put(alert, at)
		alert.Title, alert.LastUpdateTime = "Changed", timestamppb.New(at.Add(time.Minute))
		h.source.Put(alert, at.Add(time.Minute))
	}
	h.source.Put(collectortest.Alert("b1", deviceTwo, "ws-one.contoso.test", now.Add(10*time.Second)), now.Add(10*time.Second))
	p := &played{house: h, request: boundedRequest(actors...)}
	c := h.open(p.request)
	time.Sleep(30 * time.Second)
	h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now))
	<-c.done
	p.events = c.events
	if got, want := len(journalled(p.events)), 7+len(actors); c.err != nil || got != want {
		t.Fatalf("%d events that rest on the journal, want %d (%v): %q", got, want, c.err, journalled(p.events))
	}
	return p
}

// place is a position of a token.
type place struct {
	sequence uint64
	ordinal  uint32
}

func placeOf(token *storev1.ResumeToken) place {
	return place{token.GetSequence(), token.GetOrdinal()}
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.sequence, other.sequence), cmp.Compare(p.ordinal, other.ordinal))
}

// decode returns the token of an event.
func decode(t *testing.T, text string) *storev1.ResumeToken {
	t.Helper()
	token, err := stream.DecodeToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// resume resumes the stream with a token until it ends, or has nothing to send for two hours.
func (p *played) resume(token string) *call {
	c := p.open(resumed(p.request, token))
	select {
	case <-c.done:
	case <-time.After(2 * time.Hour):
		c.cancel()
		<-c.done
	}
	return c
}

// after returns the events that rest on the journal behind a position.
func (p *played) after(at place) []string {
	var list []string
	for _, e := range p.events {
		if e.GetAlert() == nil && e.GetCompleted() == nil {
			continue
		}
		if placeOf(decode(p.t, e.GetResumeToken())).compare(at) > 0 {
			list = append(list, journalled([]*integrationv1.StreamAlertsResponse{e})...)
		}
	}
	return list
}

// vague says that a position is inside an entry, and at no event's: the own ordinal of an entry's last event is not told by its token,
// so it may lie before that or behind.
func (p *played) vague(at place) bool {
	inside := false
	for _, e := range p.events {
		one := placeOf(decode(p.t, e.GetResumeToken()))
		if one == at {
			return false
		}
		inside = inside || one.sequence == at.sequence
	}
	return inside && at.ordinal != stream.WholeEntry && at.ordinal != 0
}

// Resumed at any position, of an event or not, a stream sends what lies behind it and nothing else, or says why not.
func TestResumeAtEveryPosition(t *testing.T) {
	for name, actors := range map[string][]*integrationv1.Actor{
		"one Actor":    {actorNamed("one", "ws-one")},
		"every device": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := play(t, actors...)
				defer p.stop()
				last := decode(t, p.events[len(p.events)-1].GetResumeToken())
				tried := 0
				for sequence := range last.GetSequence() {
					for _, ordinal := range []uint32{0, 1, 2, stream.WholeEntry} {
						if sequence == 0 && ordinal != stream.WholeEntry {
							continue
						}
						at := place{sequence, ordinal}
						p.wantExact(t, at)
						if !p.vague(at) {
							tried++
						}
					}
				}
				if tried < 12 {
					t.Errorf("%d positions were tried", tried)
				}
			})
		})
	}
}

// wantExact resumes at a position, and wants exactly what lies behind it.
func (p *played) wantExact(t *testing.T, at place) {
	t.Helper()
	if p.vague(at) {
		return
	}
	token := decode(t, p.events[0].GetResumeToken())
	token.Sequence, token.Ordinal = at.sequence, at.ordinal
	c := p.resume(stream.EncodeToken(token))
	if got, want := journalled(c.events), p.after(at); c.err != nil || !slices.Equal(got, want) {
		t.Errorf("resumed at %v: %q, %v; want %q", at, got, c.err, want)
	}
}

// Whatever is made of a good token, the stream resumes exactly, or is refused with the reason; and where the error has a token that
// works, it does.
func FuzzResume(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(uint8(seed), uint16(seed*7), []byte{byte(seed), 0x20, 0x05}, seed)
	}
	f.Fuzz(func(t *testing.T, kind uint8, at uint16, data []byte, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			actors := []*integrationv1.Actor{actorNamed("one", "ws-one")}
			if seed%2 == 1 {
				actors = nil
			}
			p := play(t, actors...)
			defer p.stop()
			p.wantHonest(t, p.mutate(kind, at, data, seed))
		})
	})
}

// mutate makes something of the token of an event.
func (p *played) mutate(kind uint8, at uint16, data []byte, seed uint64) string {
	random := rand.New(rand.NewPCG(seed, uint64(kind)))
	text := p.events[random.IntN(len(p.events))].GetResumeToken()
	token := decode(p.t, text)
	switch kind % 6 {
	case 0: // Anything at all.
		return string(data)
	case 1: // Other letters in the text.
		changed := []byte(text)
		copy(changed[int(at)%len(changed):], data)
		return string(changed)
	case 2: // More in the message, such as fields that stand twice.
		token.ProtoReflect().SetUnknown(data)
		return stream.EncodeToken(token)
	case 3: // Another position within the journal, or about its end.
		token.Sequence = random.Uint64N(token.GetSequence() + 3)
		token.Ordinal = []uint32{0, 1, 2, uint32(at), stream.WholeEntry - uint32(at), stream.WholeEntry}[random.IntN(6)]
	case 4: // Another start.
		token.StartSequence = random.Uint64N(token.GetSequence() + 3)
		token.Completed = at%2 == 0
	case 5: // Another journal, or no position that there can be.
		switch at % 4 {
		case 0:
			token.Uid = string(data)
		case 1:
			token.Identity = string(data)
		case 2:
			token.Sequence = ^uint64(0) - random.Uint64N(3)
		case 3:
			token.StartTime = &timestamppb.Timestamp{Seconds: int64(random.Uint64()), Nanos: int32(at)}
		}
	}
	return stream.EncodeToken(token)
}

// wantHonest resumes with a token, and wants exactly what it stands for, or a refusal with its reason.
func (p *played) wantHonest(t *testing.T, text string) {
	t.Helper()
	if text == "" {
		return // No token at all: the stream begins anew.
	}
	c := p.resume(text)
	if c.err != nil && !errors.Is(c.err, context.Canceled) {
		p.wantRefused(t, text, c)
		return
	}
	token, err := stream.DecodeToken(text)
	if err != nil {
		t.Fatalf("resumed with %q, which cannot be read: %v", text, err)
	}
	before := placeOf(token)
	for i, e := range c.events {
		at := placeOf(decode(t, e.GetResumeToken()))
		order := at.compare(before)
		if e.GetAlert() == nil && e.GetCompleted() == nil && order < 0 || (e.GetAlert() != nil || e.GetCompleted() != nil) && order <= 0 {
			t.Fatalf("event %d is at %v, the one before at %v: %v", i, at, before, e)
		}
		before = at
	}
	first := decode(t, p.events[0].GetResumeToken())
	same := proto.CloneOf(token)
	same.Sequence, same.Ordinal = first.GetSequence(), first.GetOrdinal()
	last := placeOf(decode(t, p.events[len(p.events)-1].GetResumeToken()))
	if !proto.Equal(same, first) || p.vague(placeOf(token)) || placeOf(token).compare(last) >= 0 {
		return // It stands for another stream than the one that is known here, for no event of it, or for what comes after its end.
	}
	if got, want := journalled(c.events), p.after(placeOf(token)); !slices.Equal(got, want) {
		t.Errorf("resumed at %v: %q, want %q", placeOf(token), got, want)
	}
}

// wantRefused wants a failure that says why, and that the token it has works.
func (p *played) wantRefused(t *testing.T, text string, c *call) {
	t.Helper()
	var f *failure.Error
	if !errors.As(c.err, &f) || f.Message == "" || len(c.events) != 0 {
		t.Fatalf("with %q: %d events, then %v", text, len(c.events), c.err)
	}
	switch f.Reason {
	case integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN:
	case integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED:
		again := p.resume(f.Metadata["oldest_resume_token"])
		if again.err != nil && !errors.Is(again.err, context.Canceled) {
			t.Fatalf("the oldest token that works: %v", again.err)
		}
		if got, want := journalled(again.events), p.after(place{}); !slices.Equal(got, want) {
			t.Errorf("with the oldest token that works: %q, want %q", got, want)
		}
	default:
		t.Fatalf("with %q: %v", text, c.err)
	}
}

// encode returns the text of a token.
func encode(token *storev1.ResumeToken) string { return stream.EncodeToken(token) }
