package acceptance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// linked are the settings of a simulated side that links short pages.
func linked() defendertest.Options {
	const size = 5
	return defendertest.Options{Graph: defendertest.GraphOptions{NextLinks: true, LinkedSize: size}}
}

// pagingFaults are those of pages that do not fit together. Each read has several of them.
func pagingFaults() []faultRow {
	paged := func(fault string, tells telling, respond func(*faultRun) defendertest.Responder) faultRow {
		row := injected(fault, defendertest.RouteAlerts, tells, respond)
		row.where, row.server, row.meets = "pages of alerts", linked(), 9
		row.prepare = func(r *faultRun) { r.addBefore(12) }
		return row
	}
	shifting := paged("rows that shift", nothing, changingBetweenPages)
	shifting.server.Graph.ShiftingLinks = true
	unlinked := paged("an alert that changes between two pages by time", nothing, changingBetweenPages)
	unlinked.server = defendertest.Options{}
	shifting, unlinked = afterHanging(shifting, 15), afterHanging(unlinked, 1100)
	return []faultRow{
		alwaysFailing(),
		paged("a page that repeats", invalid, always(defendertest.RepeatPage())),
		paged("next links that loop", invalid, always(defendertest.LoopLinks())),
		paged("empty pages without end", invalid, func(r *faultRun) defendertest.Responder {
			// A read that is among them when the fault ends stays there: what leads to them leads to no page of Microsoft's.
			respond := defendertest.EmptyPages()
			r.microsoft.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Times: -1, Respond: respond, Match: func(q *http.Request) bool {
				return strings.HasPrefix(q.URL.Query().Get("$skiptoken"), "empty-")
			}})
			return respond
		}),
		shifting,
		afterHanging(paged("an alert that changes between two pages", nothing, changingBetweenPages), 15),
		unlinked,
		// A pair ends a second before the read that it is of, so a replica that is behind by less makes none untrue. Where it is behind by
		// more, an alert counts as visible when both show it: nothing that is read tells them apart.
		replicas("two replicas, one behind by 0.5 s", 500*time.Millisecond, 0),
		replicas("two replicas, one behind by 3 s", 3*time.Second, 3*time.Second),
	}
}

// alwaysFailing is a row of an alert that Microsoft fails on, however few are asked for.
func alwaysFailing() faultRow {
	row := injected("an alert that always fails", defendertest.RouteAlerts, failing(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED), nil)
	row.where, row.meets = "pages of alerts", 30
	row.begin = func(r *faultRun) func() {
		now := r.microsoft.Now()
		key := r.ids[0]
		remove := r.microsoft.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Times: -1, Respond: defendertest.Poison(key)})
		r.tenant.AddAlert(defendertest.Alert{ID: key, Title: "fails", LastUpdate: now, Evidence: onFirstDevice()})
		return remove
	}
	return row
}

// addBefore adds alerts that were last updated one after the other, up to now.
func (r *faultRun) addBefore(n int) {
	now := r.microsoft.Now()
	for i := range n {
		r.add(2, func(a *defendertest.Alert) { a.LastUpdate = now.Add(time.Duration(i-n) * time.Millisecond) })
	}
}

// afterHanging lets a read hang before the fault begins, while so many alerts appear, until the read that follows vouches for them: what
// goes wrong between its pages shows in its pair.
func afterHanging(row faultRow, alerts int) faultRow {
	begin := row.begin
	row.begin = func(r *faultRun) func() {
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		release := make(chan struct{})
		r.microsoft.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Respond: func(ctx context.Context, _ *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
			select {
			case <-release: // with a page that leads nowhere, or this read would go on to what has appeared
			case <-ctx.Done():
			}
			return defendertest.NewAnswer(http.StatusOK, `{"value":[]}`)
		}})
		hung := func(c defendertest.Call) bool { return c.Faulty }
		if _, err := r.microsoft.WaitCalls(ctx, 1, hung); err != nil {
			r.t.Error(err)
		}
		r.addBefore(alerts)
		// A pair ends up to two seconds before its read begins.
		time.Sleep(2200 * time.Millisecond)
		end := begin(r)
		close(release)
		return end
	}
	return row
}

// changingBetweenPages changes the first alert of every third page after the page was read: it comes again on a later page, and what
// follows moves up by one place.
func changingBetweenPages(r *faultRun) defendertest.Responder {
	var pages atomic.Int64
	return defendertest.Edit(func(page *defendertest.Answer) {
		if n := pages.Add(1); n%3 == 0 && len(page.Body) > 2 { // an element is between what is before the list and behind it
			var first struct{ ID string }
			if err := json.Unmarshal(page.Body[1], &first); err != nil {
				r.t.Error(err)
				return
			}
			r.change(first.ID, func(a *defendertest.Alert) { a.Title = fmt.Sprint("between pages ", n) })
		}
	})
}

// replicas is a row of two replicas that answer in turn, of which one lags; visible is how much later than at the other one an alert
// counts as visible. It lasts until pairs tell of what appeared meanwhile.
func replicas(fault string, lag, visible time.Duration) faultRow {
	return faultRow{
		fault: fault, where: "alerts", route: defendertest.RouteAlerts, steps: 90, lag: visible,
		begin: func(r *faultRun) func() {
			const behind = 20 // the first answers are all of the one that is behind
			var turn atomic.Int64
			return r.microsoft.Inject(defendertest.Fault{
				Route: defendertest.RouteAlerts, Times: -1, Lag: lag,
				Match: func(*http.Request) bool {
					n := turn.Add(1)
					return n <= behind || n%2 == 0
				},
			})
		},
	}
}

// scripted is a row of what alerts do, one thing after the other, each read before the next.
func scripted(fault string, act func(*faultRun)) faultRow {
	return faultRow{fault: fault, where: "alerts", route: defendertest.RouteAlerts, begin: func(r *faultRun) func() {
		act(r)
		return func() {}
	}}
}

// alertFaults are those of what alerts do, and of Microsoft's clock.
func alertFaults() []faultRow {
	clock := func(fault string, by time.Duration) faultRow {
		// Times before and after cannot be compared, so nothing is replaced that was there before.
		return faultRow{fault: fault, where: "Microsoft's clock", route: defendertest.RouteAlerts, quiet: true, begin: func(r *faultRun) func() {
			place := r.all.place()
			r.microsoft.SetClockOffset(by)
			r.all.waitFor(r.t, "a pair by the clock that was moved", place, func(e received) bool {
				return slices.ContainsFunc(pairsOf(e.event), func(p *integrationv1.Pair) bool {
					return r.microsoft.Now().Sub(p.GetThrough().AsTime()).Abs() < by.Abs()/2
				})
			})
			return func() {}
		}}
	}
	return []faultRow{
		scripted("an older version after a newer one", func(r *faultRun) {
			first := defendertest.Alert{ID: r.ids[0], Title: "first", LastUpdate: r.microsoft.Now(), Evidence: onFirstDevice()}
			second, older := first, first
			second.Title, second.LastUpdate = "second", first.LastUpdate.Add(time.Millisecond)
			older.Title, older.LastUpdate = "older than both", first.LastUpdate.Add(-time.Millisecond)
			r.show(first, second, first, older, second, older)
		}),
		scripted("two contents in turn", func(r *faultRun) {
			one := defendertest.Alert{ID: r.ids[0], Title: "one", LastUpdate: r.microsoft.Now(), Evidence: onFirstDevice()}
			other := one
			other.Title = "other"
			r.show(one, other, one, other, one, other)
		}),
		scripted("shown late", func(r *faultRun) {
			for i := range 10 {
				by := time.Duration(i) * 200 * time.Millisecond
				r.add(i%3, func(a *defendertest.Alert) { a.LastUpdate = r.microsoft.Now().Add(-5 * time.Second) }, defendertest.Late(5*time.Second+by))
			}
		}),
		scripted("shown out of order", func(r *faultRun) {
			now := r.microsoft.Now()
			for i := range 10 {
				at := time.Duration(i) * 100 * time.Millisecond
				r.add(i%3, func(a *defendertest.Alert) { a.LastUpdate = now.Add(-at) }, defendertest.VisibleAt(now.Add(at)))
			}
		}),
		scripted("1,500 at one instant", func(r *faultRun) {
			now := r.microsoft.Now()
			for i := range 1500 {
				r.add(i%3, func(a *defendertest.Alert) {
					a.LastUpdate, a.Created = now, now.Add(-time.Duration(i)*time.Millisecond)
				})
			}
		}),
		clock("ahead by an hour", time.Hour),
		clock("behind by a minute", -time.Minute),
	}
}

// onFirstDevice is evidence on the first Actor's device.
func onFirstDevice() []defendertest.Evidence {
	return []defendertest.Evidence{defendertest.DeviceEvidence{Device: defendertest.SampleDevices()[0]}}
}

// show shows versions of an alert, each once the one before was read.
func (r *faultRun) show(versions ...defendertest.Alert) {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for _, version := range versions {
		r.tenant.AddAlert(version)
		if err := r.tenant.WaitServed(ctx, version.ID); err != nil {
			r.t.Error(err)
		}
	}
}
