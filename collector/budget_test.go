package collector

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/defender"
	"defender-integration/store"
)

// Whatever is asked for, and however often the process is restarted, no period ever has more calls than its allowance.
func TestBudgetHoldsOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledgers := store.NewMemory()
		allowances := map[defender.Limit][]Allowance{
			defender.LimitEndpoint: {{Period: time.Minute, Calls: 30, Reserve: 6}, {Period: time.Hour, Calls: 300, Reserve: 60}},
		}
		var made []time.Time
		for range 40 {
			// A restart: what is counted comes from the ledger alone.
			spend := newBudgets(ledgers, allowances).spender("app")
			for range 17 {
				ctx, cancel := context.WithTimeout(withReserve(t.Context()), 30*time.Second)
				if spend(ctx, defender.LimitEndpoint) == nil {
					made = append(made, time.Now())
				}
				cancel()
			}
			time.Sleep(2 * time.Minute)
		}
		if len(made) < 250 {
			t.Errorf("%d calls were allowed, want most of the allowance to be usable", len(made))
		}
		for _, a := range allowances[defender.LimitEndpoint] {
			for i := range made {
				within := 0
				for j := i; j >= 0 && made[i].Sub(made[j]) < a.Period; j-- {
					within++
				}
				if within > a.Calls {
					t.Fatalf("%d calls in %v, allowed are %d", within, a.Period, a.Calls)
				}
			}
		}
	})
}

// The reserve is for polls and closing reads alone; who may not spend is told until when.
func TestBudgetKeepsTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudgets(store.NewMemory(), map[defender.Limit][]Allowance{
			defender.LimitGraphAlerts: {{Period: time.Hour, Calls: 10, Reserve: 3}},
		})
		spend := b.spender("app")
		for range 7 {
			if err := spend(t.Context(), defender.LimitGraphAlerts); err != nil {
				t.Fatal(err)
			}
		}
		var refused *defender.Error
		if err := spend(t.Context(), defender.LimitGraphAlerts); !errors.As(err, &refused) || !refused.RetryAt.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("beyond its share another read got %v", err)
		}
		for range 3 {
			if err := spend(withReserve(t.Context()), defender.LimitGraphAlerts); err != nil {
				t.Errorf("a poll could not spend the reserve: %v", err)
			}
		}
		if err := spend(withReserve(t.Context()), defender.LimitGraphAlerts); err == nil {
			t.Error("an eleventh call was allowed")
		}
		if left := b.left("app", defender.LimitGraphAlerts); left[0].GetLeft() != 0 || left[0].GetAllowed() != 10 {
			t.Errorf("left = %v", left)
		}
	})
}

// What may not spend the reserve is refused within a second, since everything of an integration waits for it; a poll may wait.
// A look-up that the budget has no room for is refused at once; one that has begun waits for the rest of its calls.
func TestALookUpThatBeganIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spend := newBudgets(store.NewMemory(), map[defender.Limit][]Allowance{
			defender.LimitEndpoint: {{Period: 30 * time.Second, Calls: 1}},
		}).spender("app")
		if err := spend(t.Context(), defender.LimitEndpoint); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := spend(withReserveOnceBegun(t.Context()), defender.LimitEndpoint); err == nil || time.Since(began) > 0 {
			t.Errorf("the first call: %v after %v", err, time.Since(began))
		}
		time.Sleep(30 * time.Second)
		began = time.Now()
		ctx := withReserveOnceBegun(t.Context())
		for range 3 {
			if err := spend(ctx, defender.LimitEndpoint); err != nil {
				t.Errorf("a call of a look-up that has begun: %v", err)
			}
		}
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("it took %v", waited)
		}
	})
}

func TestBudgetHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spend := newBudgets(store.NewMemory(), map[defender.Limit][]Allowance{
			defender.LimitEndpoint: {{Period: 30 * time.Second, Calls: 3, Reserve: 1}},
		}).spender("app")
		for range 2 {
			if err := spend(t.Context(), defender.LimitEndpoint); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := spend(t.Context(), defender.LimitEndpoint); err == nil || time.Since(began) > time.Second {
			t.Errorf("a look-up beyond its share: %v after %v", err, time.Since(began))
		}
		for range 2 {
			if err := spend(withReserve(t.Context()), defender.LimitEndpoint); err != nil {
				t.Errorf("a poll: %v", err)
			}
		}
		if waited := time.Since(began); waited < 29*time.Second {
			t.Errorf("the second poll waited %v for a call to leave the period", waited)
		}
	})
}
