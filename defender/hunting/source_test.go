package hunting

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestReadDevices(t *testing.T) {
	s := newService(t, func(string) (int, string) { return http.StatusOK, string(sampleAnswer(t)) })
	ids, read, err := s.read(t, defender.Wanted{FullNames: []string{"ws-01.contoso.test"}})
	if err != nil || ids != "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567 1b2c3d4e5f60718293a4b5c6d7e8f9012345670a 2c3d4e5f60718293a4b5c6d7e8f9012345670a1b" {
		t.Errorf("devices are %q, error %v", ids, err)
	}
	through := time.Date(2026, time.November, 20, 9, 59, 59, 0, time.UTC)
	if read.Elements != 5 || read.Calls != 1 || !read.WantedOnly || read.Asked.IsZero() || read.Through.After(through) || read.Through.Before(through.Add(-time.Minute)) {
		t.Errorf("read is %+v", read)
	}
}

// Nothing is called for nothing, or for what no device can have.
func TestNothingWanted(t *testing.T) {
	s := newService(t, func(string) (int, string) { return http.StatusOK, table() })
	for _, wanted := range []defender.Wanted{{}, {FullNames: []string{"x\ny"}, DeviceIDs: []string{"none"}, Addresses: []string{"127.0.0.1"}}} {
		if ids, read, err := s.read(t, wanted); ids != "" || err != nil || read.Calls != 0 || !read.WantedOnly {
			t.Errorf("%v: devices %q, read %+v, error %v", wanted, ids, read, err)
		}
	}
	if n := len(s.asked()); n != 0 {
		t.Errorf("%d queries were made", n)
	}
}

// One call serves a thousand Actors; beyond, values are shared out, and a device that several of them find is given once.
func TestManyActors(t *testing.T) {
	tests := []struct{ values, calls int }{{1, 1}, {maxValues, 1}, {maxValues + 1, 2}, {3 * maxValues, 3}}
	for _, tt := range tests {
		s := newService(t, func(string) (int, string) { return http.StatusOK, table(row("a", "")) })
		ids, read, err := s.read(t, defender.Wanted{FullNames: texts(tt.values)})
		if ids != "a" || err != nil || read.Calls != tt.calls || read.Elements != 1 {
			t.Errorf("%d values: devices %q, read %+v, error %v; want one device in %d calls", tt.values, ids, read, err, tt.calls)
		}
		asked := 0
		for _, query := range s.asked() {
			asked += strings.Count(query, ".contoso.test")
		}
		if asked != tt.values {
			t.Errorf("%d of %d values were asked for", asked, tt.values)
		}
	}

	s := newService(t, func(string) (int, string) { return http.StatusOK, table() })
	names := texts(1000)
	thousand := defender.Wanted{FullNames: names}
	for i, name := range names {
		short, _, _ := strings.Cut(name, ".")
		thousand.DeviceIDs = append(thousand.DeviceIDs, fmt.Sprintf("%040x", i))
		thousand.EntraIDs = append(thousand.EntraIDs, fmt.Sprintf("aaaaaaaa-1111-4111-8111-%012x", i))
		thousand.Labels = append(thousand.Labels, short)
		thousand.Addresses = append(thousand.Addresses, fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff))
	}
	if _, read, err := s.read(t, thousand); err != nil || read.Calls != 1 {
		t.Errorf("a thousand Actors of five values each: %d calls, error %v; want one", read.Calls, err)
	}

	_, read, err := s.read(t, defender.Wanted{FullNames: texts(maxValues*maxQueries + 1)})
	wantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT, "more queries")
	if read.Calls != maxQueries {
		t.Errorf("%d calls were made, want %d", read.Calls, maxQueries)
	}
}

// What a device was merged into is read too, to the end of the chain, round a circle once, and never without end.
func TestMerges(t *testing.T) {
	tests := []struct {
		name  string
		into  map[string]string
		want  string
		calls int
	}{
		{"none", map[string]string{}, "a", 1},
		{"one", map[string]string{"a": "b"}, "a b", 2},
		{"a chain", map[string]string{"a": "b", "b": "c"}, "a b c", 3},
		{"into itself", map[string]string{"a": "a"}, "a", 1},
		{"a circle", map[string]string{"a": "b", "b": "a"}, "a b", 2},
		{"into one in capitals", map[string]string{"a": "B"}, "a b", 2},
		{"into one that is silent", map[string]string{"a": "dead"}, "a", 2},
		{"into what is no id", map[string]string{"a": `x"y`}, "a", 1},
	}
	for _, tt := range tests {
		s := newService(t, func(query string) (int, string) {
			for _, id := range []string{"a", "b", "c"} {
				if strings.Contains(query, `| where DeviceId in ("`+id+`")`+"\n") {
					return http.StatusOK, table(row(id, tt.into[id]))
				}
			}
			return http.StatusOK, table()
		})
		ids, read, err := s.read(t, defender.Wanted{DeviceIDs: []string{"a"}})
		if ids != tt.want || err != nil || read.Calls != tt.calls {
			t.Errorf("%s: devices %q in %d calls, error %v; want %q in %d", tt.name, ids, read.Calls, err, tt.want, tt.calls)
		}
	}

	n := 0
	s := newService(t, func(string) (int, string) {
		n++
		return http.StatusOK, table(row(fmt.Sprintf("%02x", n), fmt.Sprintf("%02x", n+1)))
	})
	if _, read, err := s.read(t, defender.Wanted{DeviceIDs: []string{"01"}}); err != nil || read.Calls != 1+maxMerges {
		t.Errorf("an endless chain: %d calls, error %v; want %d", read.Calls, err, 1+maxMerges)
	}
}

func TestNarrowing(t *testing.T) {
	const (
		heavy = "Query execution has exceeded the allowed limits. The query execution was preempted."
		large = "Query execution has exceeded the allowed result size. Optimize your query by limiting the number of results and try again."
	)
	failed := integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
	manyRows := `{"results":[` + strings.Repeat("{},", maxRows-1) + `{}]}`
	tests := []struct {
		name   string
		status int
		body   string
		// fits is how many values are answered well.
		fits  int
		calls int
		want  integrationv1.ErrorReason
	}{
		{"too heavy as a whole", 400, refused(heavy), 8, 3, 0},
		{"too heavy in halves", 400, refused(heavy), 4, 7, 0},
		{"too large", 400, refused(large), 8, 3, 0},
		{"too heavy in the smallest part", 400, refused(heavy), 0, 4, failed},
		{"a server error", 500, `{"error":{"code":"UnknownError","message":""}}`, 8, 3, 0},
		{"a server error that stays", 504, `{"error":{"code":"UnknownError","message":""}}`, 0, 4, failed},
		{"an answer that breaks off", 200, `{"results":[{"DeviceId":"0000"},{`, 8, 3, 0},
		{"as many rows as an answer can have", 200, manyRows, 8, 3, 0},
		{"a further page", 200, `{"results":[],"@odata.nextLink":"https://graph.microsoft.com/x"}`, 0, 4, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER},
		{"a wrong query", 400, refused("'where' operator: syntax error. Fix syntax errors in your query."), 0, 1, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED},
	}
	for _, tt := range tests {
		s := newService(t, func(query string) (int, string) {
			if n := strings.Count(query, ".contoso.test"); n <= tt.fits {
				var rows []string
				for _, name := range texts(16) {
					if strings.Contains(query, name) {
						rows = append(rows, row(name[3:8], ""))
					}
				}
				return http.StatusOK, table(rows...)
			}
			return tt.status, tt.body
		})
		ids, read, err := s.read(t, defender.Wanted{FullNames: texts(16)})
		if read.Calls != tt.calls {
			t.Errorf("%s: %d calls, want %d", tt.name, read.Calls, tt.calls)
		}
		if tt.want != 0 {
			wantReason(t, err, tt.want, "Advanced hunting")
			continue
		}
		if given := strings.Fields(ids); err != nil || len(slices.Compact(slices.Sorted(slices.Values(given)))) < 16 {
			t.Errorf("%s: devices are %q, error %v; want all sixteen", tt.name, ids, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	quarter := func() time.Time { return time.Now().Truncate(15 * time.Minute).Add(15 * time.Minute) }
	minute := func() time.Time { return time.Now().Add(time.Minute) }
	tests := []struct {
		name      string
		status    int
		body      string
		reason    integrationv1.ErrorReason
		words     string
		remedy    string
		permanent bool
		retryAt   func() time.Time
	}{
		{"too many calls", 429, `{"error":{"code":"429","message":"API calls quota exceeded! maximum allowed 45 per 00:01:00"}}`,
			integrationv1.ErrorReason_ERROR_REASON_THROTTLED, "maximum allowed 45", "goes on by itself", false, minute},
		{"too much processor time", 429, `{"error":{"code":"TooManyRequests","message":"This query exceeded processing resources"}}`,
			integrationv1.ErrorReason_ERROR_REASON_THROTTLED, "processing resources", "goes on by itself", false, quarter},
		{"too much CPU", 429, `{"error":{"code":"TooManyRequests","message":"The tenant's share of CPU is used up"}}`,
			integrationv1.ErrorReason_ERROR_REASON_THROTTLED, "CPU", "goes on by itself", false, quarter},
		{"too heavy", 400, refused("Query execution has exceeded the allowed limits. Optimize your query."),
			integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, "too heavy", "KIND_MACHINES", false, nil},
		{"no table", 400, refused("'where' operator: Failed to resolve table or column expression named 'DeviceInfo'. Fix semantic errors in your query."),
			integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, "no table of devices", "Plan 2", true, nil},
		{"wrong", 400, refused("A recognition error occurred. Fix syntax errors in your query."),
			integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, "refused the query as wrong", "fault of this service", true, nil},
		{"no permission", 403, `{"error":{"code":"Forbidden","message":"Missing application scopes"}}`,
			integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, "ThreatHunting.Read.All", "ThreatHunting.Read.All", true, nil},
		{"no table at all", 200, `{"value":[]}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "no `results`", "host and version", false, nil},
		{"an error with success", 200, `{"error":{"code":"x"}}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "tells an error", "", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, func(string) (int, string) { return tt.status, tt.body })
			if tt.retryAt == nil {
				tt.retryAt = func() time.Time { return time.Time{} }
			}
			earliest := tt.retryAt()
			_, _, err := s.read(t, defender.Wanted{Labels: []string{"a"}})
			latest := tt.retryAt()
			e := wantReason(t, err, tt.reason, tt.words)
			if !strings.Contains(e.Problem.GetRemedy(), tt.remedy) || e.Permanent != tt.permanent {
				t.Errorf("remedy %q, permanent %t; want %q, %t", e.Problem.GetRemedy(), e.Permanent, tt.remedy, tt.permanent)
			}
			if e.RetryAt.Before(earliest) || e.RetryAt.After(latest) {
				t.Errorf("it is to be tried again at %v, want from %v to %v", e.RetryAt, earliest, latest)
			}
		})
	}
}

func TestProbeAndPermission(t *testing.T) {
	s := newService(t, func(query string) (int, string) {
		if query == "print ok = 1" {
			return http.StatusOK, `{"schema":[{"name":"ok","type":"Int64"}],"results":[{"ok":1}]}`
		}
		return http.StatusOK, `{"schema":[{"name":"DeviceId","type":"String"},{"name":"DeviceName","type":"String"}],"results":[{"DeviceId":"a","DeviceName":"ws-01"}]}`
	})
	probed, err := s.Probe(t.Context())
	if err != nil || probed.Elements != 1 || probed.Date.UTC().Format(http.TimeFormat) != date || probed.Received.IsZero() || probed.RoundTrip <= 0 {
		t.Errorf("probed %+v, error %v", probed, err)
	}
	if err := s.Permission(t.Context()); err != nil {
		t.Errorf("permission: %v", err)
	}
	if queries := s.asked(); len(queries) != 2 || queries[0] != probeQuery {
		t.Errorf("queries are %q", queries)
	}

	s = newService(t, func(string) (int, string) { return http.StatusForbidden, `{"error":{"code":"Forbidden"}}` })
	wantReason(t, s.Permission(t.Context()), integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, "ThreatHunting.Read.All")
	_, err = s.Probe(t.Context())
	wantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, "ThreatHunting.Read.All")
}

func TestYieldsErrorAndContext(t *testing.T) {
	stop := errors.New("stop")
	s := newService(t, func(string) (int, string) { return http.StatusOK, table(row("a", ""), row("b", "")) })
	given := 0
	_, err := s.ReadDevices(t.Context(), defender.Wanted{DeviceIDs: []string{"a"}}, func(*integrationv1.Device) error {
		given++
		return stop
	})
	if !errors.Is(err, stop) || given != 1 {
		t.Errorf("error is %v after %d devices, want yield's after one", err, given)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	_, err = s.ReadDevices(ctx, defender.Wanted{DeviceIDs: []string{"a"}}, func(*integrationv1.Device) error { return nil })
	if !errors.Is(err, stop) {
		t.Errorf("error is %v, want the context's cause", err)
	}
}

// What was found too much is not asked for again, but no less than lets one read finish.
func TestNarrowingIsRemembered(t *testing.T) {
	for _, tt := range []struct{ fits, first, then int }{{330, 7, 4}, {170, 15, 10}} {
		s := newService(t, func(query string) (int, string) {
			if strings.Count(query, ".contoso.test") > tt.fits {
				return http.StatusGatewayTimeout, `{"error":{"code":"UnknownError","message":""}}`
			}
			return http.StatusOK, table()
		})
		for _, calls := range []int{tt.first, tt.then} {
			if _, read, err := s.read(t, defender.Wanted{FullNames: texts(1000)}); err != nil || read.Calls != calls {
				t.Errorf("%d fit: %d calls, error %v; want %d", tt.fits, read.Calls, err, calls)
			}
		}
	}
}
