package defendertest

import (
	"crypto/x509"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTLS(t *testing.T) {
	w := newWorld(t, Options{TLS: true, Hosts: []string{"graph.test", "10.9.8.7"}})
	w.tenant.AddAlert(Alert{ID: "x"})
	got := w.get(w.token(Graph), alertsPath)
	checkError(t, got, http.StatusOK, "", "")
	stranger := &http.Client{Transport: &http.Transport{}}
	if response, err := stranger.Get(w.server.URL()); err == nil {
		_ = response.Body.Close()
		t.Error("a client that does not know the authority trusts it")
	}
	if w.server.CAPEM() == nil || w.server.URL()[:8] != "https://" {
		t.Errorf("%s, %s", w.server.URL(), w.server.CAPEM())
	}
	leaf, err := x509.ParseCertificate(w.server.http.TLSConfig.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"graph.test", "10.9.8.7", "127.0.0.1", "localhost"} {
		if err := leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
}

func TestAddressIsTaken(t *testing.T) {
	w := newWorld(t, Options{})
	if second, err := New(Options{Addr: w.server.listener.Addr().String()}); err == nil {
		_ = second.Close()
		t.Error("two servers listen on one address")
	}
	if w.server.Host() != "127.0.0.1" || w.server.Port() == 0 {
		t.Errorf("%s %d", w.server.Host(), w.server.Port())
	}
}

// TestConcurrentUse is for the race detector, and holds that a reader who overlaps misses nothing while alerts are added.
func TestConcurrentUse(t *testing.T) {
	const n = 300
	w := newWorld(t, Options{Clock: systemClock{}, Limits: Limits{GraphAlerts: []Rate{}}})
	token := w.token(Graph)
	var group sync.WaitGroup
	group.Go(func() {
		for a := range Generate(rand.New(rand.NewPCG(3, 4)), n, Shape{First: w.server.Now(), Step: time.Millisecond}) {
			w.tenant.AddAlert(a)
			if _, err := w.tenant.Change(a.ID, func(a *Alert) { a.Status = "resolved" }); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		group.Go(func() {
			for range 10 {
				if got := w.get(token, alertsPath, "$orderby", "lastUpdateDateTime asc"); got.status != http.StatusOK {
					t.Errorf("%d %v", got.status, got.err)
				}
				w.tenant.Revisions()
				w.server.Calls(nil)
				w.tenant.ServedAll()
			}
		})
	}
	group.Wait()
	if got := w.list(token, alertsPath); len(got.Value) != n {
		t.Errorf("%d alerts, want %d", len(got.Value), n)
	}
	if !w.tenant.ServedAll() {
		t.Error("the last read held all, and the record does not know")
	}
}

func TestRevisionsOrder(t *testing.T) {
	// Merging into the order agrees with sorting, whatever the order of adding.
	rng := rand.New(rand.NewPCG(5, 6))
	table := newAlertTable()
	now := fixedClock{}.Now()
	for i := range 500 {
		key := string(rune('a' + rng.IntN(26)))
		table.add(&revision{key: key, updated: now.Add(time.Duration(rng.IntN(50)) * time.Second), visibleAt: now.Add(time.Duration(rng.IntN(30)) * time.Second)})
		if i%10 == 0 {
			now = now.Add(time.Second)
			table.advance(now)
			checkTable(t, &table)
		}
	}
	table.advance(now.Add(time.Hour))
	checkTable(t, &table)
	if len(table.byTime) != 26 || len(table.waiting) != 0 {
		t.Errorf("%d served, %d waiting", len(table.byTime), len(table.waiting))
	}
}

// checkTable checks that what is in the order is what is current, in order.
func checkTable(t *testing.T, table *alertTable) {
	t.Helper()
	if len(table.byTime) != len(table.current) {
		t.Fatalf("%d in the order, %d current", len(table.byTime), len(table.current))
	}
	for i, r := range table.byTime {
		if table.current[r.key] != r || r.gone || !r.shown {
			t.Fatalf("%s/%d is served and not current", r.key, r.number)
		}
		if i > 0 && byUpdate(table.byTime[i-1], r) >= 0 {
			t.Fatalf("out of order at %d", i)
		}
	}
}

// BenchmarkServe makes the pages of a read of 100,000 alerts, without sending them: what the simulation itself costs a reader.
func BenchmarkServe(b *testing.B) {
	const n = 100_000
	s, err := New(Options{Limits: Limits{GraphAlerts: []Rate{}}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	tenant := s.AddTenant(testTenantID)
	tenant.AddAlerts(Generate(rand.New(rand.NewPCG(1, 2)), n, Shape{First: fixedClock{}.Now(), Step: time.Second}))
	x := &exchange{server: s, tenant: tenant, request: &http.Request{Header: http.Header{"Prefer": {preferUnknownMembers}}}, now: s.Now()}
	for b.Loop() {
		read, bytes := 0, 0
		for from := (fixedClock{}).Now(); read < n; {
			query := alertQuery{api: Graph, by: propertyUpdated, filter: filter{{property: propertyUpdated, operator: "ge", time: ticks(from)}}}
			page, _, _ := tenant.selectAlerts(query, graphMaxTop, x.now, x.now)
			bytes += graphPage(x, page, 0, "", false).bodySize()
			read += len(page)
			from = page[len(page)-1].updated.Add(tick)
		}
		b.SetBytes(int64(bytes))
	}
}
