package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// sampleSize is about what a revision takes, in bytes: the element of 5.7 KB as served, and what was decoded of it.
const sampleSize = 6 << 10

// BenchmarkAppend appends batches, each with a checkpoint after it, to the embedded server. One operation is one batch.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			j := benchmarkJournal(b)
			batch := samples(size)
			b.SetBytes(int64(size * sampleSize))
			appended := 0
			for b.Loop() {
				appendSaved(b, j, batch)
				appended += size
			}
			b.ReportMetric(float64(appended)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkReplay reads 100,000 entries from the embedded server. One operation is the whole of it.
func BenchmarkReplay(b *testing.B) {
	const total = 100_000
	j := benchmarkJournal(b)
	batch := samples(1000)
	for range total / len(batch) {
		appendSaved(b, j, batch)
	}
	b.SetBytes(total * sampleSize)
	read := 0
	for b.Loop() {
		for _, err := range j.Read(b.Context(), 1, total) {
			if err != nil {
				b.Fatal(err)
			}
			read++
		}
	}
	if read != total*b.N {
		b.Fatalf("read %d entries", read)
	}
	b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkGet reads single entries, as a lookup by position does: of the newest, and of those that only the engine has.
func BenchmarkGet(b *testing.B) {
	const total = 4000 // Of which about the last 1,300 are kept at hand.
	j := benchmarkJournal(b)
	for range total / 1000 {
		appendSaved(b, j, samples(1000))
	}
	for name, from := range map[string]uint64{"newest": total - 999, "stored": 1} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := j.Get(b.Context(), from+rand.Uint64N(1000)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWake tells of a checkpoint to one that waits in the same process, with the entry that it waits for.
func BenchmarkWake(b *testing.B) {
	j := benchmarkJournal(b)
	batch := samples(1)
	for b.Loop() {
		after := j.Checkpoint().GetLastSequence()
		done := make(chan error, 1)
		go func() {
			_, err := j.Wait(b.Context(), j.Checkpoint().GetIdentity(), after, floorOf(j.Checkpoint()))
			done <- err
		}()
		appendSaved(b, j, batch)
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkJournal(b *testing.B) Journal {
	b.Helper()
	s := openDir(b, b.TempDir())
	j, err := s.Journal(b.Context(), "uid")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := j.Recover(b.Context()); err != nil {
		b.Fatal(err)
	}
	return j
}

// samples returns entries of about sampleSize that do not compress.
func samples(count int) []*storev1.Entry {
	random := rand.NewChaCha8([32]byte{1})
	all := make([]*storev1.Entry, count)
	for i := range all {
		raw := make([]byte, sampleSize)
		_, _ = random.Read(raw) // It never fails.
		all[i] = &storev1.Entry{
			EntryTime: timestamppb.Now(),
			Body:      &storev1.Entry_Revision{Revision: &storev1.Revision{Key: fmt.Sprint(i), Raw: raw}},
		}
	}
	return all
}

func appendSaved(b *testing.B, j Journal, batch []*storev1.Entry) {
	b.Helper()
	last, err := j.Append(b.Context(), batch)
	if err != nil {
		b.Fatal(err)
	}
	checkpoint := proto.CloneOf(j.Checkpoint())
	checkpoint.LastSequence = last
	if err := j.SaveCheckpoint(b.Context(), checkpoint); err != nil {
		b.Fatal(err)
	}
}
