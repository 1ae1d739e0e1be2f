package defender_test

import (
	"context"
	"errors"
	"testing"

	"defender-integration/defender"
)

// Where nobody traces, a span costs nothing.
func TestNoSpanCostsNothing(t *testing.T) {
	ctx, failure := t.Context(), errors.New("x")
	if n := testing.AllocsPerRun(100, func() { noSpan(ctx, failure) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNoSpan(b *testing.B) {
	ctx, failure := b.Context(), errors.New("x")
	b.ReportAllocs()
	for b.Loop() {
		noSpan(ctx, failure)
	}
}

// noSpan begins and ends a span below none.
func noSpan(ctx context.Context, failure error) {
	_, span := defender.StartSpan(ctx, "call")
	if span.IsRecording() {
		panic("it is recorded")
	}
	defender.EndSpan(span, failure)
}
