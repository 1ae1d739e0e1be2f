package store

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

func testSealMark(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	mark, revision, err := s.SealMark(ctx)
	must(t, err)
	if mark != nil || revision != 0 {
		t.Errorf("an empty store has the mark %q at %d", mark, revision)
	}
	must(t, s.PutSealMark(ctx, []byte("first"), 0))
	wantError(t, s.PutSealMark(ctx, []byte("again"), 0), ErrConflict)
	mark, revision, err = h.peer(t).SealMark(ctx)
	must(t, err)
	if string(mark) != "first" || revision == 0 {
		t.Errorf("the mark is %q at %d", mark, revision)
	}
	must(t, s.PutSealMark(ctx, []byte("second"), revision))
	wantError(t, s.PutSealMark(ctx, []byte("third"), revision), ErrConflict)
	s = h.reopen(t)
	mark, _, err = s.SealMark(ctx)
	must(t, err)
	if string(mark) != "second" {
		t.Errorf("after reopening the mark is %q", mark)
	}
}

// sealedHouse is a key file, and a store with records that were sealed with it.
type sealedHouse struct {
	path  string
	store *Memory
}

const sealedRecords = 5

func newSealedHouse(t *testing.T) *sealedHouse {
	t.Helper()
	h := &sealedHouse{path: filepath.Join(t.TempDir(), "sealing.key"), store: NewMemory()}
	t.Cleanup(func() { closeStore(t, h.store) })
	sealer, err := OpenSealer(h.path, true)
	must(t, err)
	for i := range sealedRecords {
		h.register(t, sealer, i)
	}
	_, err = sealer.CheckKey(t.Context(), h.store)
	must(t, err)
	return h
}

func (h *sealedHouse) register(t *testing.T, sealer *Sealer, i int) {
	t.Helper()
	r := record(fmt.Sprint("i-", i), fmt.Sprint("uid-", i))
	var err error
	r.SealedSecrets, err = sealer.Seal(&storev1.Secrets{ClientSecret: fmt.Sprint("secret-", i)}, r.GetUid())
	must(t, err)
	_, err = h.store.CreateRecord(t.Context(), r)
	must(t, err)
}

// open returns the sealer of the key file, which must open every record.
func (h *sealedHouse) open(t *testing.T) *Sealer {
	t.Helper()
	sealer, err := OpenSealer(h.path, false)
	must(t, err)
	h.wantOpens(t, sealer)
	return sealer
}

func (h *sealedHouse) wantOpens(t *testing.T, sealer *Sealer) {
	t.Helper()
	unopened, err := sealer.CheckKey(t.Context(), h.store)
	if err != nil || len(unopened) > 0 {
		t.Fatalf("%v are not opened, %v", unopened, err)
	}
	records, err := h.store.Records(t.Context(), "", 100)
	must(t, err)
	for _, r := range records {
		secrets, err := sealer.Open(r.Record.GetSealedSecrets(), r.Record.GetUid())
		must(t, err)
		if want := "secret-" + r.Record.GetUid()[len("uid-"):]; secrets.GetClientSecret() != want {
			t.Errorf("%s holds %q, want %q", r.Record.GetUid(), secrets.GetClientSecret(), want)
		}
	}
}

// The key is changed in steps, with a server of each step beside that of the step before: each opens what the other seals.
func TestRotateKey(t *testing.T) {
	h := newSealedHouse(t)
	first := h.open(t)
	before, err := os.ReadFile(h.path)
	must(t, err)

	added, err := AddKey(h.path)
	must(t, err)
	again, err := AddKey(h.path)
	must(t, err)
	if !added || again {
		t.Errorf("a key was added %t and then %t", added, again)
	}
	second := h.open(t)
	h.register(t, second, sealedRecords)
	h.wantOpens(t, first) // What seals is the old key still.

	if newest, err := NewestSeals(h.path); err != nil || newest {
		t.Errorf("the newest seals already, %v", err)
	}
	changed, err := UseNewestKey(h.path)
	must(t, err)
	if !changed {
		t.Error("the newest key was no other")
	}
	changed, err = UseNewestKey(h.path)
	must(t, err)
	if changed {
		t.Error("the newest key became another again")
	}
	third := h.open(t)
	h.register(t, third, sealedRecords+1)
	h.wantOpens(t, second) // It has the new key, though it does not seal with it.

	resealed, err := third.Reseal(t.Context(), h.store)
	must(t, err)
	if resealed != sealedRecords+1 {
		t.Errorf("%d were sealed again, want all but the last", resealed)
	}
	h.wantOpens(t, second)
	resealed, err = third.Reseal(t.Context(), h.store)
	must(t, err)
	if resealed != 0 {
		t.Errorf("%d were sealed once more", resealed)
	}
	dropped, err := DropOtherKeys(h.path)
	must(t, err)
	if dropped != 1 {
		t.Errorf("%d keys were dropped", dropped)
	}
	last := h.open(t)
	h.wantOpens(t, third)
	_, err = first.CheckKey(t.Context(), h.store)
	wantError(t, err, ErrKey)
	for _, r := range must1(h.store.Records(t.Context(), "", 100))(t) {
		if _, err := first.Open(r.Record.GetSealedSecrets(), r.Record.GetUid()); err == nil {
			t.Errorf("the old key opens %s still", r.Record.GetUid())
		}
		if !last.sealedLast(r.Record.GetSealedSecrets()) {
			t.Errorf("%s was not sealed with the new key", r.Record.GetUid())
		}
	}
	after, err := os.ReadFile(h.path)
	must(t, err)
	if bytes.Equal(before, after) {
		t.Error("the key file is what it was")
	}
	info, err := os.Stat(h.path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key file has mode %o", info.Mode().Perm())
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(h.path), ".sealing.key*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func must1[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return value
	}
}

// A record that is changed, or deleted, while it is sealed again is as whoever changed it wants it, and sealed with the new key.
func TestResealBesideChanges(t *testing.T) {
	h := newSealedHouse(t)
	_, err := AddKey(h.path)
	must(t, err)
	_, err = UseNewestKey(h.path)
	must(t, err)
	sealer := h.open(t)
	once := map[string]bool{}
	resealed, err := sealer.Reseal(t.Context(), &meddled{Memory: h.store, before: func(r *storev1.Record, revision uint64) {
		id := r.GetIntegration().GetIntegrationId()
		if once[id] {
			return
		}
		once[id] = true
		if id == "i-2" {
			must(t, h.store.DeleteRecord(t.Context(), id, revision))
			return
		}
		stored, revision, err := h.store.Record(t.Context(), id)
		must(t, err)
		other := proto.CloneOf(stored)
		other.Integration.DisplayName = "changed"
		_, err = h.store.UpdateRecord(t.Context(), other, revision)
		must(t, err)
	}})
	must(t, err)
	if resealed != sealedRecords-1 {
		t.Errorf("%d were sealed again", resealed)
	}
	for _, r := range must1(h.store.Records(t.Context(), "", 100))(t) {
		if r.Record.GetIntegration().GetDisplayName() != "changed" || !sealer.sealedLast(r.Record.GetSealedSecrets()) {
			t.Errorf("%v", r.Record)
		}
	}
	h.open(t)
}

// meddled is a store in which another changes each record just before it is updated.
type meddled struct {
	*Memory
	before func(record *storev1.Record, revision uint64)
}

// UpdateRecord implements Registry.
func (m *meddled) UpdateRecord(ctx context.Context, record *storev1.Record, revision uint64) (uint64, error) {
	m.before(record, revision)
	return m.Memory.UpdateRecord(ctx, record, revision)
}

// Another key is found out at the start: by the mark where nothing is registered, by the records where a version without the mark stored
// them. One record that does not open under the right key keeps nothing else from being served.
func TestCheckKey(t *testing.T) {
	ctx := t.Context()
	other, err := OpenSealer(filepath.Join(t.TempDir(), "other.key"), true)
	must(t, err)

	empty := NewMemory()
	t.Cleanup(func() { closeStore(t, empty) })
	right := newSealedHouse(t)
	sealer := right.open(t)
	_, err = sealer.CheckKey(ctx, empty)
	must(t, err)
	_, err = other.CheckKey(ctx, empty)
	wantError(t, err, ErrKey)

	unmarked := NewMemory()
	t.Cleanup(func() { closeStore(t, unmarked) })
	r := record("one", "uid-1")
	r.SealedSecrets, err = sealer.Seal(&storev1.Secrets{}, "uid-1")
	must(t, err)
	_, err = unmarked.CreateRecord(ctx, r)
	must(t, err)
	_, err = other.CheckKey(ctx, unmarked)
	wantError(t, err, ErrKey)
	if _, revision, err := unmarked.SealMark(ctx); err != nil || revision != 0 {
		t.Errorf("the wrong key made the mark, %v", err)
	}
	_, err = sealer.CheckKey(ctx, unmarked)
	must(t, err)

	right.register(t, other, 9)
	unopened, err := sealer.CheckKey(ctx, right.store)
	if err != nil || len(unopened) != 1 || unopened[0] != "i-9" {
		t.Errorf("not opened are %v, %v", unopened, err)
	}
}
