package store

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

func TestMemoryFailAppend(t *testing.T) {
	m := NewMemory()
	t.Cleanup(func() { closeStore(t, m) })
	j, _ := writer(t, m, "uid")
	lost := errors.New("lost")
	for stored := range 3 {
		before := int(j.Checkpoint().GetLastSequence())
		m.FailAppend("uid", stored, lost)
		_, err := j.Append(t.Context(), entries(before+1, before+2))
		wantError(t, err, lost)
		_, err = j.Append(t.Context(), entries(before+1, before+2))
		wantError(t, err, ErrFenced) // It must be recovered first.
		recovered, err := j.Recover(t.Context())
		must(t, err)
		if got := int(recovered.GetLastSequence()); got != before+stored {
			t.Errorf("recovered %d entries, want %d", got, before+stored)
		}
		wantEntries(t, j, 1, 100, 1, before+stored)
	}
}

func TestMemoryDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(m *Memory)
		read   int // So many entries can be read.
	}{
		"an entry is unreadable": {func(m *Memory) { m.Damage("uid", 3) }, 2},
		"the end is lost":        {func(m *Memory) { m.Cut("uid", 5) }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory()
			t.Cleanup(func() { closeStore(t, m) })
			j, first := writer(t, m, "uid")
			_, err := j.Append(t.Context(), entries(1, 5))
			must(t, err)
			must(t, j.SaveCheckpoint(t.Context(), &storev1.Checkpoint{
				LastSequence: 5, PolledSince: timestamppb.New(time.Unix(2, 0)), PolledThrough: timestamppb.New(time.Unix(3, 0)),
			}))
			c.damage(m)
			read := 0
			for _, err := range j.Read(t.Context(), 1, 5) {
				if err != nil {
					wantError(t, err, ErrDamaged)
					break
				}
				read++
			}
			if read != c.read {
				t.Errorf("read %d entries, want %d", read, c.read)
			}
			_, err = j.Get(t.Context(), uint64(c.read+1))
			wantError(t, err, ErrDamaged)
			recovered, err := j.Recover(t.Context())
			must(t, err)
			if recovered.GetIdentity() == first.GetIdentity() || recovered.GetLastSequence() != 0 ||
				recovered.GetPolledThrough() != nil || recovered.GetPolledSince().GetSeconds() != 2 {
				t.Errorf("recovered %v", recovered)
			}
			if last, err := j.Append(t.Context(), entries(1, 1)); err != nil || last != 1 {
				t.Errorf("appended through %d, %v", last, err)
			}
		})
	}
}

// What lost its end can be trimmed all the same, and is found to be damaged afterwards.
func TestMemoryTrimsWhatLostItsEnd(t *testing.T) {
	m := NewMemory()
	t.Cleanup(func() { closeStore(t, m) })
	j, first := writer(t, m, "uid")
	_, err := j.Append(t.Context(), entries(1, 6))
	must(t, err)
	must(t, j.SaveCheckpoint(t.Context(), &storev1.Checkpoint{LastSequence: 6}))
	m.Cut("uid", 3)
	must(t, j.Trim(t.Context(), 5, time.Unix(5, 0)))
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if recovered.GetIdentity() == first.GetIdentity() || recovered.GetLastSequence() != 0 {
		t.Errorf("recovered %v", recovered)
	}
}

func TestMemorySetUnavailable(t *testing.T) {
	m := NewMemory()
	t.Cleanup(func() { closeStore(t, m) })
	j, _ := writer(t, m, "uid")
	m.SetUnavailable(true)
	wantError(t, m.Ready(t.Context()), ErrUnavailable)
	_, err := j.Append(t.Context(), entries(1, 1))
	wantError(t, err, ErrUnavailable)
	m.SetUnavailable(false)
	must(t, m.Ready(t.Context()))
	_, err = j.Append(t.Context(), entries(1, 1))
	must(t, err) // Nothing was sent, so nothing is to be recovered.
}

// Waiting takes no time of the real clock, whatever it is in fake time.
func TestMemoryWaitsInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		defer closeStore(t, m)
		j, checkpoint := writer(t, m, "uid")
		waited := wait(t, j, checkpoint.GetIdentity(), 0)
		synctest.Wait()
		start := time.Now()
		go func() {
			time.Sleep(24 * time.Hour)
			if _, err := j.Append(t.Context(), entries(1, 1)); err == nil {
				_ = j.SaveCheckpoint(t.Context(), &storev1.Checkpoint{LastSequence: 1})
			}
		}()
		got := <-waited
		if got.err != nil || got.checkpoint.GetLastSequence() != 1 || time.Since(start) != 24*time.Hour {
			t.Errorf("after %v: %v, %v", time.Since(start), got.checkpoint, got.err)
		}
	})
}
