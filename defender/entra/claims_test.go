package entra

import (
	"strings"
	"testing"
)

func TestReadClaims(t *testing.T) {
	// {"aud":"https://graph.test","roles":["A","B"],"tid":"t"}
	claims, err := ReadClaims("h.eyJhdWQiOiJodHRwczovL2dyYXBoLnRlc3QiLCJyb2xlcyI6WyJBIiwiQiJdLCJ0aWQiOiJ0In0.s")
	if err != nil || claims.Audience != "https://graph.test" || strings.Join(claims.Roles, ",") != "A,B" || claims.Tenant != "t" {
		t.Errorf("claims are %+v, error %v", claims, err)
	}
	for _, token := range []string{"", "opaque", "a.b", "a.!.c", "a.W10.c", "a." + strings.Repeat("a", maxClaims+1) + ".c"} {
		if _, err := ReadClaims(token); err == nil || token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("%.20q: error %v, want one that does not repeat it", token, err)
		}
	}
}
