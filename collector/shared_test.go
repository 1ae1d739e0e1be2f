package collector

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/defender"
	"defender-integration/store"
)

// The budget is one, whoever spends of it: the process that collects, which changes, and those that make calls beside it.
func TestBudgetIsSharedByProcesses(t *testing.T) {
	const allowed, period = 20, time.Minute
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			memory, holder := store.NewMemory(), 0
			var processes []*budgets
			for i := range 3 {
				b := newBudgets(memory, map[defender.Limit][]Allowance{defender.LimitSIEM: {{Period: period, Calls: allowed, Reserve: 4}}})
				b.held = func(string) bool { return i == holder }
				processes = append(processes, b)
			}
			var calls []time.Time
			refused := 0
			for range 600 {
				time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
				who := random.IntN(len(processes))
				switch {
				case random.IntN(40) == 0:
					// The one that is taken over from may still be about to make calls that it wrote ahead: it makes none any more.
					processes[holder].forget("app")
					holder = who
					processes[holder].forget("app")
					continue
				case random.IntN(3) > 0:
					who = holder
				}
				ctx := t.Context()
				if who == holder {
					ctx = withReserve(ctx)
				}
				if err := processes[who].guest("app")(ctx, defender.LimitSIEM); err != nil {
					refused++
					continue
				}
				calls = append(calls, time.Now())
			}
			from := 0
			for i, at := range calls {
				for at.Sub(calls[from]) >= period {
					from++
				}
				if i-from+1 > allowed {
					t.Fatalf("seed %d: %d calls in the minute before %s", seed, i-from+1, at)
				}
			}
			if refused == 0 || len(calls) < 100 {
				t.Errorf("seed %d: %d calls were made and %d refused", seed, len(calls), refused)
			}
		})
	}
}

// What a server knows of a budget is forgotten when it takes the lease, and when it has had it: others spend of it in between.
func TestLedgerIsReadAnewByWhoTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		m := NewManager(Options{Store: memory, Settings: DefaultSettings(), Lease: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
		c := newCluster(m)
		if err := c.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		ledger := m.budgets.of("app", defender.LimitSIEM)
		known := func() bool {
			ledger.mu.Lock()
			defer ledger.mu.Unlock()
			return ledger.loaded
		}
		load := func() {
			if err := ledger.load(t.Context()); err != nil || !known() {
				t.Fatal(err)
			}
		}
		load()
		c.take(t.Context(), "app")
		h := c.holdOf("app")
		if h == nil || known() {
			t.Fatalf("it has taken %v, and knows the ledger from before: %t", h, known())
		}
		load()
		h.end()
		c.tasks.Wait()
		if known() {
			t.Error("it knows the ledger when its lease is over")
		}
		if err := memory.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Shares are even, alike for everybody who knows the same, and move no more than it takes.
func TestShare(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 1))
	var apps []string
	for i := range 50 {
		apps = append(apps, fmt.Sprint("app-", i))
	}
	servers := []uint64{11, 22, 33}
	holders := map[string]uint64{}
	for round := range 30 {
		owners := share(apps, servers, holders)
		shuffled := slices.Clone(apps)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		backwards := slices.Clone(servers)
		slices.Reverse(backwards)
		if !maps.Equal(owners, share(shuffled, backwards, holders)) {
			t.Fatalf("round %d: the order of what is known makes a difference", round)
		}
		has, moved, before := map[uint64]int{}, 0, map[uint64]int{}
		for app, owner := range owners {
			has[owner]++
			if was := holders[app]; slices.Contains(servers, was) {
				before[was]++
				if was != owner {
					moved++
				}
			}
		}
		least, most, surplus := len(apps), 0, 0
		for _, server := range servers {
			least, most = min(least, has[server]), max(most, has[server])
			surplus += max(0, before[server]-len(apps)/len(servers))
		}
		if len(owners) != len(apps) || most-least > 1 || moved > surplus {
			t.Fatalf("round %d: of %d apps, servers have %v, and %d moved where %d were too many", round, len(apps), has, moved, surplus)
		}
		holders = owners
		switch {
		case len(servers) > 1 && random.IntN(2) == 0:
			servers = slices.Delete(servers, 0, 1)
		default:
			servers = append(servers, random.Uint64())
		}
	}
	if share(apps, nil, holders) != nil {
		t.Error("nobody has something")
	}
}
