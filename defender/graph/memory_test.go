package graph

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/page"
	"defender-integration/defender/reading/readingtest"
)

// pageShape is a page that is served piece by piece and never held.
type pageShape struct {
	// size is what the page takes before compression, and element what each of its elements does, in bytes.
	size, element int
	compressed    bool
	// most is how much live heap reading it may take at most, as a ratio to its size.
	most float64
}

// What reading takes is what an element takes, a few times over, and some hundred bytes of each element to know it again.
func pageShapes(size int) map[string]pageShape {
	return map[string]pageShape{
		"small elements":             {size: size, element: 6_000, most: 0.2},
		"small elements, compressed": {size: size, element: 6_000, compressed: true, most: 0.2},
		"few large elements":         {size: size, element: page.MaxElement - 1<<10, most: 1.25},
	}
}

// BenchmarkPageMemory reads pages of 100 MB.
func BenchmarkPageMemory(b *testing.B) {
	for name, shape := range pageShapes(100 << 20) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(shape.size))
			for b.Loop() {
				b.ReportMetric(peakRatio(b, shape), "peak/page")
			}
		})
	}
}

// TestPageMemory holds a smaller page to the same bound with each run of the tests.
func TestPageMemory(t *testing.T) {
	ratio := peakRatio(t, pageShapes(16 << 20)["small elements"])
	t.Logf("at its peak, reading took %.3f of the page", ratio)
	if ratio == 0 {
		t.Error("nothing was measured")
	}
}

// peakRatio reads a page on the way that every read takes, and returns by how much the live heap grew meanwhile, at most, as a ratio to
// the page's size. It fails above the shape's bound.
func peakRatio(tb testing.TB, shape pageShape) float64 {
	tb.Helper()
	template := newElementTemplate(tb)
	pages := 0
	source := NewSource(readingtest.NewClient(tb, "Microsoft Graph's list of alerts", func(w http.ResponseWriter, _ *http.Request) {
		if pages++; pages > 1 {
			_, _ = io.WriteString(w, `{"value":[]}`)
			return
		}
		template.serve(w, shape)
	}), "v1.0")

	// A collection after every fifth that the heap grows by: what is live is known well enough at each.
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	before, peak, met := liveHeap(), uint64(0), uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(100 * time.Microsecond); ; {
			peak = max(peak, liveHeap())
			select {
			case <-tick.C:
			case <-stop:
				tick.Stop()
				return
			}
		}
	}()
	read, err := source.ReadAlerts(tb.Context(), template.first, nil, func(*defender.Element) error {
		met = max(met, liveHeap()) // The clock's ticks may all be late.
		return nil
	})
	close(stop)
	<-stopped
	peak = max(peak, met)
	if want := shape.size / shape.element; err != nil || int(read.Elements) != want {
		tb.Fatalf("%d elements of %d came, with error %v", read.Elements, want, err)
	}
	ratio := float64(max(peak, before)-before) / float64(shape.size)
	if ratio > shape.most {
		tb.Errorf("reading a page of %d MB took %.0f MB at its peak, %.2f of it; at most %.2f are allowed",
			shape.size>>20, ratio*float64(shape.size>>20), ratio, shape.most)
	}
	return ratio
}

// liveHeap returns what the last collection found to be live, in bytes.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// elementTemplate makes elements of any size that have all that a real one has.
type elementTemplate struct {
	// raw is an element; its id, its last update, which is at first, and its padding are replaced.
	raw         []byte
	id, updated []byte
	first       time.Time
}

// padding stands in the template where an element is filled up.
const padding = "the padding stands here"

func newElementTemplate(tb testing.TB) *elementTemplate {
	tb.Helper()
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	tenant := server.AddTenant(tenantID)
	first := time.Date(2026, time.November, 1, 9, 0, 0, 0, time.UTC)
	for alert := range defendertest.Generate(rand.New(rand.NewPCG(1, 2)), 1, defendertest.Shape{First: first}) {
		alert.Description, alert.RecommendedActions = padding, ""
		tenant.AddAlert(alert)
		return &elementTemplate{
			raw: tenant.Revisions()[0].Raw, id: []byte(alert.ID), updated: []byte(first.Format("2006-01-02T15:04:05")), first: first,
		}
	}
	return nil
}

// serve writes a page, element by element.
func (e *elementTemplate) serve(w http.ResponseWriter, shape pageShape) {
	var out io.Writer = w
	if shape.compressed {
		w.Header().Set("Content-Encoding", "gzip")
		compressor, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // The level is one of the package's.
		defer func() { _ = compressor.Close() }()
		out = compressor
	}
	filling := bytes.Repeat([]byte("x"), 4<<10)
	_, _ = io.WriteString(out, `{"value":[`)
	for i := range shape.size / shape.element {
		if i > 0 {
			_, _ = io.WriteString(out, ",")
		}
		element := bytes.ReplaceAll(e.raw, e.id, fmt.Appendf(nil, "da%035d_1", i))
		element = bytes.ReplaceAll(element, e.updated, e.first.Add(time.Duration(i)*time.Second).AppendFormat(nil, "2006-01-02T15:04:05"))
		before, after, _ := bytes.Cut(element, []byte(padding))
		_, _ = out.Write(before)
		for missing := shape.element - len(before) - len(after); missing > 0; missing -= len(filling) {
			_, _ = out.Write(filling[:min(missing, len(filling))])
		}
		if _, err := out.Write(after); err != nil {
			return // Nobody reads on.
		}
	}
	_, _ = io.WriteString(out, `]}`)
}
