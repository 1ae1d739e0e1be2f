package collector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/store"
)

// largeWish returns a wish that is too large for one note.
func largeWish(version uint64) *storev1.Wish {
	w := &storev1.Wish{Generation: 7, Version: version, Streams: 3, Reach: timestamppb.New(time.Unix(9, 0)), Damaged: "identity"}
	for i := range 20_000 {
		w.Keys = append(w.Keys, fmt.Sprintf("name:a-machine-with-a-long-name-%d.contoso.test", i))
	}
	for i := range uint64(3_000) {
		w.Closings = append(w.Closings, &storev1.WishedClosing{Number: i, Due: timestamppb.New(time.Unix(int64(i), 0))})
	}
	for i := range 3 {
		w.Questions = append(w.Questions, &storev1.WishedAnswer{Question: make([]byte, 16), DeviceIds: []string{fmt.Sprint(i)}})
	}
	return w
}

// A wish lies in as many notes as it takes, and is put together again from the parts of one version alone.
func TestWishInParts(t *testing.T) {
	b := newBoard()
	post := func(i int, part *storev1.Wish, deleted bool) {
		t.Helper()
		s, ok := subjectOf(wishKey("uid", 5, i))
		if !ok || s != (subject{kind: wishNotes, journal: "uid", server: 5, part: i}) {
			t.Fatalf("part %d is about %+v", i, s)
		}
		b.post(s, store.NoteChange{Note: &storev1.Note{Body: &storev1.Note_Wish{Wish: part}}, Deleted: deleted}, time.Now())
	}
	first := split(largeWish(1))
	if len(first) < 3 || int(first[0].GetParts()) != len(first) {
		t.Fatalf("a large wish lies in %d parts", len(first))
	}
	for i, part := range slices.Backward(first) {
		if size := proto.Size(part); size > 2*partBytes {
			t.Errorf("part %d takes %d bytes", i, size)
		}
		if b.wish("uid", 5) != nil {
			t.Fatalf("a wish was told before part %d came", i)
		}
		post(i, part, false)
	}
	whole := func(version uint64) *storev1.Wish {
		w := largeWish(version)
		w.Parts = uint32(len(first))
		return w
	}
	if got := b.wish("uid", 5); !proto.Equal(got, whole(1)) {
		t.Fatal("what was put together is another wish")
	}
	for i, part := range split(largeWish(2)) {
		post(i, part, false)
		if told := b.wish("uid", 5) != nil; told != (i == len(first)-1) {
			t.Fatalf("after part %d of the next version a wish is told: %t", i, told)
		}
	}
	small := split(&storev1.Wish{Generation: 8, Version: 3})
	post(0, small[0], false)
	if got := b.wish("uid", 5); len(small) != 1 || got.GetVersion() != 3 || len(got.GetKeys()) != 0 {
		t.Errorf("a small wish in place of a large one is %v", got)
	}
	for i := range first {
		post(i, nil, true)
	}
	if len(b.wishes) != 0 || b.wish("uid", 5) != nil {
		t.Error("what was deleted is there")
	}
}

// Keys that this version does not write are none of its notes.
func TestSubjects(t *testing.T) {
	for _, key := range []string{"", "servers", "servers.x", "servers.1.2", "leases", "wishes.uid.5", "wishes.uid.5.x", "wishes.uid.x.0", "later.uid"} {
		if s, ok := subjectOf(key); ok {
			t.Errorf("%q is about %+v", key, s)
		}
	}
	for key, want := range map[string]subject{
		serverKey(7):      {kind: serverNotes, server: 7},
		leaseKey("app"):   {kind: leaseNotes, app: "app"},
		presentKey("uid"): {kind: presentNotes, journal: "uid"},
	} {
		if s, ok := subjectOf(key); !ok || s != want {
			t.Errorf("%q is about %+v", key, s)
		}
	}
}
