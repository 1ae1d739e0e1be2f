package defendertest

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// shapeOf counts the keys and containers of a JSON value.
func shapeOf(v any) (keys, containers int) {
	switch v := v.(type) {
	case map[string]any:
		containers = 1
		for _, member := range v {
			k, c := shapeOf(member)
			keys, containers = keys+k+1, containers+c
		}
	case []any:
		containers = 1
		for _, element := range v {
			k, c := shapeOf(element)
			keys, containers = keys+k, containers+c
		}
	}
	return keys, containers
}

func TestGenerateFollowsARealTenantsShape(t *testing.T) {
	const n = 3000
	var size, keys, containers, evidence float64
	var counts []int
	for a := range Generate(rand.New(rand.NewPCG(1, 2)), n, Shape{First: fixedClock{}.Now(), Step: time.Second}) {
		raw := a.withDefaults(a.LastUpdate).render(testTenantID)
		var v map[string]any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("not valid JSON: %v: %s", err, raw)
		}
		k, c := shapeOf(v)
		size, keys, containers, evidence = size+float64(len(raw)), keys+float64(k), containers+float64(c), evidence+float64(len(a.Evidence))
		counts = append(counts, len(a.Evidence))
	}
	slices.Sort(counts)
	t.Logf("bytes %.0f, keys %.1f, containers %.1f, evidence %.2f (median %d, most %d)",
		size/n, keys/n, containers/n, evidence/n, counts[n/2], counts[n-1])
	near := func(what string, got, want, share float64) {
		t.Helper()
		if got < want*(1-share) || got > want*(1+share) {
			t.Errorf("%s: %.2f, want %.2f within %.0f %%", what, got, want, share*100)
		}
	}
	near("bytes", size/n, 5729, 0.05)
	near("keys", keys/n, 120.8, 0.05)
	near("containers", containers/n, 28.2, 0.1)
	near("evidence", evidence/n, 3.48, 0.05)
	if counts[n/2] != 3 || counts[n-1] != 11 {
		t.Errorf("evidence: median %d, most %d, want 3 and 11", counts[n/2], counts[n-1])
	}
}

func TestGenerateRepeatsItself(t *testing.T) {
	render := func(seed uint64) []byte {
		var all []byte
		for a := range Generate(rand.New(rand.NewPCG(seed, 0)), 50, Shape{First: fixedClock{}.Now()}) {
			all = append(all, a.render(testTenantID)...)
		}
		return all
	}
	if !bytes.Equal(render(7), render(7)) {
		t.Error("the same seed made other alerts")
	}
	if bytes.Equal(render(7), render(8)) {
		t.Error("another seed made the same alerts")
	}
}

func TestAddAlerts(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	first := fixedClock{}.Now().Add(-time.Hour)
	at := Shape{First: first}
	if n := w.tenant.AddAlerts(Generate(rand.New(rand.NewPCG(1, 2)), 30, at)); n != 30 {
		t.Errorf("added %d", n)
	}
	stamp := formatTime(first)
	got := w.list(token, alertsPath, "$filter", "lastUpdateDateTime eq "+stamp, "$orderby", "createdDateTime asc")
	// All share one instant, and none the time of creation: an instant can be split by it.
	var last time.Time
	for _, element := range got.Value {
		created := decode[struct{ CreatedDateTime time.Time }](t, string(element)).CreatedDateTime
		if !created.After(last) {
			t.Errorf("created %v after %v", created, last)
		}
		last = created
	}
	if len(got.Value) != 30 {
		t.Errorf("%d alerts", len(got.Value))
	}
}

func BenchmarkAddGenerated(b *testing.B) {
	s, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	tenant := s.AddTenant(testTenantID)
	b.ResetTimer()
	tenant.AddAlerts(Generate(rand.New(rand.NewPCG(1, 2)), b.N, Shape{First: fixedClock{}.Now(), Step: time.Second}))
}
