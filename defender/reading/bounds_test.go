package reading_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/graph"
	"defender-integration/defender/page"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// An element that no page can hold costs itself and nothing else, and is told as missing.
func TestAnElementThatCannotBeRead(t *testing.T) {
	const at = `"lastUpdateDateTime":"2026-01-01T00:00:00Z"`
	for name, raw := range map[string]string{
		"larger than an element may be": `{` + at + `,"title":"` + strings.Repeat("x", page.MaxElement) + `"}`,
		"nested 100,000 deep":           `{` + at + `,"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		"no JSON":                       `{` + at + `,"a":01}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, apis()[0])
			w.fill(60, seconds)
			// Where its time cannot be read it counts as updated when it is added: it comes last, before one that is updated later.
			w.tenant.AddRaw([]byte(raw))
			w.since = w.since.AddDate(-3, 0, 0)
			last := w.tenant.AddAlert(defendertest.Alert{ID: "last", LastUpdate: w.server.Now().Add(time.Minute)})
			given, _, err := w.readAlerts(t)
			p := readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED)
			if len(given) != 60+1 || len(p.GetMissing()) != 1 || isMissing(p, last.LastUpdate) {
				t.Errorf("%d were given, missing is %v", len(given), p.GetMissing())
			}
		})
	}
}

// compressed answers with what a little expands to: members of gzip one after the other, which are read as one (RFC 1952, section 2.2).
func compressed(before string, fill byte, megabytes int) http.HandlerFunc {
	body := gzipped([]byte(before))
	member := gzipped(bytes.Repeat([]byte{fill}, 1<<20))
	for range megabytes {
		body = append(body, member...)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(body)
	}
}

// gzipped is one member.
func gzipped(data []byte) []byte {
	var member bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&member, gzip.BestSpeed)
	_, _ = writer.Write(data)
	_ = writer.Close()
	return member.Bytes()
}

// What a small answer expands to is bounded, in memory and in work.
func TestCompressedBodiesAreBounded(t *testing.T) {
	const whole = `{"value":[{"id":"a","lastUpdateDateTime":"2026-01-01T00:00:00Z"},`
	for name, handler := range map[string]http.HandlerFunc{
		"white space":    compressed(whole, ' ', 4*page.MaxElement>>20),
		"an element":     compressed(whole+`"`, 'x', 4*page.MaxElement>>20),
		"nested":         compressed(whole, '[', 4*page.MaxElement>>20),
		"a refusal":      refusing(compressed(`{"error":{"code":"`, 'x', 4*page.MaxElement>>20)),
		"no list at all": compressed(``, ' ', 4*page.MaxElement>>20),
	} {
		t.Run(name, func(t *testing.T) {
			source := graph.NewSource(readingtest.NewClient(t, "The list", handler), "v1.0")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := source.Probe(t.Context(), time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("there is no error")
			}
			// All that was ever allocated for a call: no more than some of the largest elements. A read that narrows makes more such calls.
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 10*page.MaxElement {
				t.Errorf("%d MB were allocated: %v", allocated>>20, err)
			}
		})
	}
}

func refusing(body http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body(refused{w}, r)
	}
}

// refused answers with a status of refusal.
type refused struct{ http.ResponseWriter }

func (w refused) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusBadRequest)
	return w.ResponseWriter.Write(p)
}

// An answer whose compression is damaged keeps what was whole, and fails the read.
func TestDamagedCompression(t *testing.T) {
	const body = `{"value":[{"id":"a","lastUpdateDateTime":"2026-01-01T00:00:00Z"}]}`
	var good bytes.Buffer
	writer := gzip.NewWriter(&good)
	_, _ = io.WriteString(writer, body)
	_ = writer.Close()
	damaged := bytes.Clone(good.Bytes())
	damaged[len(damaged)-5]++ // its check sum
	for name, raw := range map[string][]byte{"no compression at all": []byte(body), "another check sum": damaged, "cut": good.Bytes()[:good.Len()-9]} {
		t.Run(name, func(t *testing.T) {
			source := graph.NewSource(readingtest.NewClient(t, "The list", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write(raw)
			}), "v1.0")
			given, _, err := readingtest.Collect(t, source, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
			readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED)
			for raw, n := range given {
				if n != 1 || !strings.Contains(body, raw) {
					t.Errorf("%s was given %d times", raw, n)
				}
			}
		})
	}
}
