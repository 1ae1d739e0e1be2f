package defendertest

import (
	"net/http"
	"testing"
)

// A poisoned alert fails what would hold it, and nothing else; it is served once it is healed.
func TestPoison(t *testing.T) {
	w := newWorld(t, Options{})
	for _, id := range []string{"a", "b", "c"} {
		w.tenant.AddAlert(Alert{ID: id})
	}
	token := w.token(Graph)
	ask := func(top, skip string) int {
		return w.get(token, alertsPath, "$orderby", "lastUpdateDateTime asc", "$top", top, "$skip", skip).status
	}
	heal := w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Respond: Poison("b")})
	for _, tt := range []struct {
		top, skip string
		want      int
	}{{"1", "0", http.StatusOK}, {"2", "0", http.StatusInternalServerError}, {"1", "1", http.StatusInternalServerError}, {"1", "2", http.StatusOK}} {
		if got := ask(tt.top, tt.skip); got != tt.want {
			t.Errorf("$top=%s&$skip=%s is answered %d, want %d", tt.top, tt.skip, got, tt.want)
		}
	}
	if served := w.tenant.Revisions("b")[0].Served; served != 0 {
		t.Errorf("what is poisoned was served %d times", served)
	}
	heal()
	if got := ask("3", "0"); got != http.StatusOK || w.tenant.Revisions("b")[0].Served != 1 {
		t.Errorf("healed, it is answered %d", got)
	}
	w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Respond: Poisoned(Truncate(10), "b")})
	if reply := w.get(token, alertsPath); reply.err == nil {
		t.Error("an answer that holds it is not cut")
	}
}
