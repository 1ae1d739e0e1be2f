package acceptance_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"defender-integration/acceptance/process"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// sampleFolder is the folder whose JSON files are sent through the house: the adapter's fixtures, or the one that DEFENDER_SAMPLES
// names. A file is one alert, or an answer with a list of them.
func sampleFolder(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("DEFENDER_SAMPLES"); dir != "" {
		return dir
	}
	return filepath.Join(process.Root(t), "defender", "graph", "testdata")
}

// TestBodies sends each body the whole way: served over HTTP, collected, stored, streamed. Its bytes arrive as they were served.
func TestBodies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(sampleFolder(t), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies in %s: %v", sampleFolder(t), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			h := newHouse(t, service(t))
			for _, element := range elements(t, file) {
				h.tenant.AddRaw(element)
			}
			revisions := h.tenant.Revisions()
			// A closing read reaches back to where the window begins; nothing else reads what was updated so long ago.
			oldest := h.microsoft.Now()
			for _, revision := range revisions {
				if revision.LastUpdate.Before(oldest) {
					oldest = revision.LastUpdate
				}
			}
			h.serve(t, nil, "--poll-fast", "1s")
			h.register(t, h.connect(t), integrationv1.DeviceSource_KIND_NONE)
			var oddities int
			got := h.collect(t, bounded(oldest.Add(-time.Minute), oldest), func(*collected) bool { return false })
			got.checkOnce(t, revisions)
			for _, a := range got.alerts {
				oddities += len(a.GetAlert().GetOddities())
				for _, o := range a.GetAlert().GetOddities() {
					t.Logf("%s: %s %s %q", a.GetAlert().GetId(), o.GetKind(), o.GetPath(), o.GetValue())
				}
			}
			t.Logf("%d elements, %d alerts with equal bytes, %d oddities", len(revisions), len(got.alerts), oddities)
		})
	}
}

// elements returns the elements of a body, byte for byte.
func elements(t *testing.T, file string) []json.RawMessage {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Value []json.RawMessage `json:"value"`
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		t.Fatal(err)
	}
	if object["value"] == nil {
		var one json.RawMessage
		if err := json.Unmarshal(body, &one); err != nil {
			t.Fatal(err)
		}
		return []json.RawMessage{one}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	return list.Value
}
