package defendertest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcomes gives what n reads of the alerts come to: the status, or the error.
func (w *world) outcomes(token string, n int) []string {
	var got []string
	for range n {
		reply := w.get(token, alertsPath, "$orderby", "lastUpdateDateTime asc")
		switch {
		case reply.err != nil:
			got = append(got, "broken")
		default:
			got = append(got, http.StatusText(reply.status))
		}
	}
	return got
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault Fault
		want  string // of four reads
		// served is how many of the reads count as having served the alert.
		served int
	}{
		{"status once", Fault{Respond: Respond(500, nil, "")}, "Internal Server Error,OK,OK,OK", 3},
		{"after one, twice", Fault{After: 1, Times: 2, Respond: Respond(503, http.Header{"Retry-After": {"3"}}, "{}")}, "OK,Service Unavailable,Service Unavailable,OK", 2},
		{"always", Fault{Times: -1, Respond: Respond(410, nil, "")}, "Gone,Gone,Gone,Gone", 0},
		{"other route", Fault{Route: RouteMachines, Respond: Respond(500, nil, "")}, "OK,OK,OK,OK", 4},
		{"no match", Fault{Match: func(r *http.Request) bool { return r.URL.Query().Has("$skip") }, Respond: Cut()}, "OK,OK,OK,OK", 4},
		{"match", Fault{Route: RouteAlerts, Match: func(r *http.Request) bool { return r.URL.Query().Has("$orderby") }, Respond: Respond(500, nil, "")}, "Internal Server Error,OK,OK,OK", 3},
		{"truncated", Fault{Times: 2, Respond: Truncate(200)}, "broken,broken,OK,OK", 2},
		{"truncated at once", Fault{Respond: Truncate(0)}, "broken,OK,OK,OK", 3},
		{"truncated cleanly", Fault{Respond: TruncateCleanly(200)}, "OK,OK,OK,OK", 3},
		{"edited", Fault{Respond: Edit(func(a *Answer) { a.Body = append(a.Body, []byte(" ")) })}, "OK,OK,OK,OK", 3},
		{"header edited", Fault{Respond: Edit(func(a *Answer) { a.Header.Set("X", "y") })}, "OK,OK,OK,OK", 4},
		{"spoiled", Fault{Respond: Edit(func(a *Answer) { a.Spoiled = true })}, "OK,OK,OK,OK", 3},
		{"partial", Fault{Respond: Edit(func(a *Answer) { a.Status = http.StatusPartialContent })}, "Partial Content,OK,OK,OK", 3},
		{"throttled", Fault{Respond: Throttle(503, "1")}, "Service Unavailable,OK,OK,OK", 3},
		{"reset in the middle", Fault{Times: 2, Respond: Reset(200)}, "broken,broken,OK,OK", 2},
		{"too long", Fault{Respond: WrongLength(1)}, "broken,OK,OK,OK", 3},
		{"as long as it is", Fault{Respond: WrongLength(0)}, "OK,OK,OK,OK", 4},
		{"no HTTP", Fault{Respond: Noise("\x00\xff nothing\r\n\r\n")}, "broken,OK,OK,OK", 3},
		{"compressed", Fault{Respond: Gzip()}, "OK,OK,OK,OK", 4},
		{"compressed and ended too early", Fault{Respond: GzipCut(50)}, "broken,OK,OK,OK", 3},
		{"compressed in words only", Fault{Respond: GzipLie()}, "broken,OK,OK,OK", 3},
		{"a bomb", Fault{Respond: GzipBomb(10 << 20)}, "OK,OK,OK,OK", 3},
		{"one page", Fault{Times: 2, Respond: RepeatPage()}, "OK,OK,OK,OK", 4},
		{"a link to itself", Fault{Respond: LoopLinks()}, "OK,OK,OK,OK", 4},
		{"nothing, and a link", Fault{Respond: EmptyPages()}, "OK,OK,OK,OK", 3},
		{"before it was there", Fault{Lag: time.Minute}, "OK,OK,OK,OK", 3},
		{"delayed", Fault{Times: -1, Respond: Delay(time.Millisecond)}, "OK,OK,OK,OK", 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.tenant.AddAlert(Alert{ID: "x"})
			token := w.token(Graph)
			w.server.Inject(test.fault)
			if got := strings.Join(w.outcomes(token, 4), ","); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if got := w.tenant.Revisions("x")[0].Served; got != test.served {
				t.Errorf("served %d times, want %d", got, test.served)
			}
		})
	}
}

// net/http repeats what a kept connection was reset on before the first byte; what is answered in part, or asked over a new one, it
// does not. It keeps one where its own goroutines are soon enough.
func TestResetAtOnce(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{ID: "x"})
	token := w.token(Graph)
	w.server.Inject(Fault{Respond: Reset(-1)})
	kept := false
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { kept = kept || got.Reused },
	}), http.MethodGet, w.server.URL()+alertsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	served := 3
	if got := w.do(r); got.err == nil {
		served++
	}
	if got := strings.Join(w.outcomes(token, 3), ","); got != "OK,OK,OK" {
		t.Errorf("%s", got)
	}
	if got := w.tenant.Revisions("x")[0].Served; got != served || (served == 4) != kept {
		t.Errorf("served %d times, want %d; over a kept connection: %t", got, served, kept)
	}
	w.client.CloseIdleConnections()
	w.server.Inject(Fault{Respond: Reset(-1)})
	if got := strings.Join(w.outcomes(token, 2), ","); got != "broken,OK" {
		t.Errorf("over a new connection: %s", got)
	}
}

// An answer that is longer than it says is whole to who goes by its length. net/http drops what is left of it, or takes that for the
// next answer where it asks sooner: what is read next is read over another connection.
func TestTooShortALength(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{ID: "x"})
	token := w.token(Graph)
	w.server.Inject(Fault{Respond: WrongLength(-1)})
	first := w.outcomes(token, 1)
	w.client.CloseIdleConnections()
	if got := strings.Join(append(first, w.outcomes(token, 3)...), ","); got != "OK,OK,OK,OK" {
		t.Errorf("%s", got)
	}
	if got := w.tenant.Revisions("x")[0].Served; got != 3 {
		t.Errorf("served %d times, want 3", got)
	}
}

func TestCutClosesTheConnection(t *testing.T) {
	for _, tls := range []bool{false, true} {
		w := newWorld(t, Options{TLS: tls})
		w.tenant.AddAlert(Alert{})
		token := w.token(Graph)
		// net/http repeats a read by itself where a kept connection was closed: it takes several cuts to make it give up.
		remove := w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Respond: Cut()})
		if got := w.get(token, alertsPath); got.err == nil {
			t.Errorf("TLS %v: answered with %d", tls, got.status)
		}
		remove()
		remove()
		checkError(t, w.get(token, alertsPath), http.StatusOK, "", "")
	}
}

func TestTruncateOverTLS(t *testing.T) {
	w := newWorld(t, Options{TLS: true})
	w.tenant.AddAlert(Alert{})
	token := w.token(Graph)
	w.server.Inject(Fault{Respond: Truncate(300)})
	if got := w.get(token, alertsPath); got.err == nil || len(got.body) > 300 {
		t.Errorf("%v, %d bytes", got.err, len(got.body))
	}
}

func TestFaultBodiesAndHeaders(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	w.server.Inject(Fault{Respond: Respond(429, http.Header{"Retry-After": {"2.128"}}, `{"error":{"code":"TooManyRequests"}}`)})
	got := w.get(token, alertsPath)
	if got.status != 429 || got.header.Get("Retry-After") != "2.128" || got.body != `{"error":{"code":"TooManyRequests"}}` || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", got)
	}
	w.server.Inject(Fault{Route: RouteToken, Respond: func(context.Context, *http.Request, func() *Answer) *Answer {
		return w.server.EntraError(400, "invalid_grant", 53003, "Access has been blocked by Conditional Access policies.")
	}})
	if got := w.postToken(testTenantID, tokenForm(Graph)); got.status != 400 || !strings.Contains(got.body, "AADSTS53003") {
		t.Errorf("%+v", got)
	}
}

// The part before a pause is there while it lasts, and the alert counts as served only when the rest was sent.
func TestPauseGoesOn(t *testing.T) {
	for name, n := range map[string]int{"at the first byte": 0, "within": 200, "behind the last byte": 1 << 20} {
		w := newWorld(t, Options{})
		w.tenant.AddAlert(Alert{ID: "x"})
		token := w.token(Graph)
		release := make(chan struct{})
		w.server.Inject(Fault{Route: RouteAlerts, Respond: Pause(n, release)})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL()+alertsPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := w.client.Do(r) // the headers are there
		if err != nil {
			t.Fatal(err)
		}
		before := make([]byte, min(n, 200))
		if _, err := io.ReadFull(response.Body, before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if w.tenant.ServedAll() {
			t.Errorf("%s: served while the answer pauses", name)
		}
		close(release)
		rest, err := io.ReadAll(response.Body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = response.Body.Close()
		if l := decode[list](t, string(before)+string(rest)); len(l.Value) != 1 {
			t.Errorf("%s: %d alerts", name, len(l.Value))
		}
		if err := w.tenant.WaitServed(t.Context(), "x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A caller that gives up while an answer pauses was not served.
func TestPauseEndsWithTheCaller(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{ID: "x"})
	token := w.token(Graph)
	w.server.Inject(Fault{Route: RouteAlerts, Respond: Pause(200, make(chan struct{}))})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL()+alertsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = response.Body.Close()
	done := func(c Call) bool { return c.Route == RouteAlerts && c.Done }
	if _, err := w.server.WaitCalls(t.Context(), 1, done); err != nil {
		t.Fatal(err)
	}
	if got := w.tenant.Revisions("x")[0].Served; got != 0 {
		t.Errorf("served %d times", got)
	}
}

func TestResetIsToldFromClosing(t *testing.T) {
	for _, tls := range []bool{false, true} {
		w := newWorld(t, Options{TLS: tls})
		w.tenant.AddAlert(Alert{})
		token := w.token(Graph)
		remove := w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Respond: Reset(-1)})
		if got := w.get(token, alertsPath); !errors.Is(got.err, syscall.ECONNRESET) {
			t.Errorf("TLS %v: %v", tls, got.err)
		}
		remove()
		checkError(t, w.get(token, alertsPath), http.StatusOK, "", "")
	}
}

func TestHangEndsWithTheServer(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(Fault{Respond: Hang()})
	client := s.Client()
	defer client.CloseIdleConnections()
	ended := make(chan error, 1)
	go func() {
		response, err := client.Get(s.URL())
		if err == nil {
			err = response.Body.Close()
		}
		ended <- err
	}()
	if _, err := s.WaitCalls(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a request that hung was answered")
	}
}

func TestHoldKeepsTheAnswerBack(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{ID: "x"})
	token := w.token(Graph)
	release := make(chan struct{})
	w.server.Inject(Fault{Route: RouteAlerts, Respond: Hold(release)})
	answered := make(chan reply, 1)
	go func() { answered <- w.get(token, alertsPath) }()
	if _, err := w.server.WaitCalls(t.Context(), 1, OnRoute(RouteAlerts)); err != nil {
		t.Fatal(err)
	}
	if w.tenant.ServedAll() {
		t.Error("served before the answer went out")
	}
	close(release)
	if got := <-answered; got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	if err := w.tenant.WaitServed(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}
