package readingtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// samplesVariable names a directory of answers of a real tenant to walk over.
const samplesVariable = "DEFENDER_SAMPLES"

// Files returns the fixtures of a package, and the samples that the environment names.
func Files(tb testing.TB) []string {
	tb.Helper()
	directories := []string{"testdata"}
	if other := os.Getenv(samplesVariable); other != "" {
		directories = append(directories, other)
	}
	var all []string
	for _, directory := range directories {
		files, err := filepath.Glob(filepath.Join(directory, "*.json"))
		if err != nil || len(files) == 0 {
			tb.Fatalf("no samples in %s: %v", directory, err)
		}
		all = append(all, files...)
	}
	return all
}

// Oddities writes an alert's oddities as "KIND path value", without the prefix of the kinds.
func Oddities(alert *integrationv1.Alert) string {
	var lines []string
	for _, o := range alert.GetOddities() {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(o.GetKind().String(), "KIND_")+" "+o.GetPath()+" "+o.GetValue()))
	}
	return strings.Join(lines, "; ")
}

// Decode decodes an element into its alert, with its key and its content's hash.
type Decode func(raw []byte) (alert *integrationv1.Alert, key string, contentHash [sha256.Size]byte, err error)

// WantField fails unless the field at a path among [Fields] is as wanted, and the alert can be stored. Where an empty one is wanted,
// nothing may stand below it either.
func WantField(t *testing.T, alert *integrationv1.Alert, path, want string) {
	t.Helper()
	fields := Fields(alert)
	if got := fields[path]; got != want {
		t.Errorf("%s is %q, want %q", path, got, want)
	}
	for field := range fields {
		if want == "" && strings.HasPrefix(field, path+".") {
			t.Errorf("%s is set, want nothing of %s", field, path)
		}
	}
	if _, err := proto.Marshal(alert); err != nil {
		t.Errorf("it cannot be stored: %v", err)
	}
}

// Times fails unless a last update is read with each number of digits that Microsoft writes, with and without a zone; element
// writes an element with one.
func Times(t *testing.T, decode Decode, element func(updated string) string) {
	t.Helper()
	for digits := range 8 {
		text := "2026-01-02T03:04:05"
		if digits > 0 {
			text += "." + "1234567"[:digits]
		}
		want, err := time.Parse(time.RFC3339, text+"Z")
		if err != nil {
			t.Fatal(err)
		}
		for _, zone := range []string{"", "Z", "+00:00"} {
			alert, _, _, err := decode([]byte(element(text + zone)))
			if err != nil {
				t.Fatal(err)
			}
			if got := alert.GetLastUpdateTime().AsTime(); !got.Equal(want) || len(alert.GetOddities()) > 0 {
				t.Errorf("%s%s is read as %s with oddities %q", text, zone, got, Oddities(alert))
			}
		}
	}
}

// Fuzz holds a decoder to encoding/json: what the one takes the other takes, and what is decoded has a key, bounded oddities, can be
// stored, and is the same whatever the decoder has read before. newDecode returns a decoder that has read nothing.
func Fuzz(f *testing.F, newDecode func() Decode) {
	f.Helper()
	used := newDecode()
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		alert, key, hash, err := used(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("the bytes were changed")
		}
		if valid := json.Valid(raw); valid != (err == nil) {
			t.Fatalf("encoding/json says %t, the decoder %v", valid, err)
		}
		if err != nil {
			return
		}
		if _, err := proto.Marshal(alert); err != nil {
			t.Fatalf("it cannot be stored: %v", err)
		}
		if key == "" || len(alert.GetOddities()) > 32 {
			t.Fatalf("key %q, %d oddities", key, len(alert.GetOddities()))
		}
		again, sameKey, sameHash, err := newDecode()(raw)
		if err != nil || sameKey != key || sameHash != hash || !proto.Equal(again, alert) {
			t.Fatalf("a used decoder and a new one differ: %v", err)
		}
	})
}
