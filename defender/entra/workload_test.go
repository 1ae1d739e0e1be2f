package entra

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
)

func TestFederatedTokenThatCannotBeUsed(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	t.Setenv(tokenFileVariable, "")
	w.write("opaque", plantedSecret)
	w.write("damaged", "a."+plantedSecret+".c")
	w.write("list", "a.W10.c")
	w.write("expired", w.federatedToken(func(f *defendertest.FederatedToken) { f.Expires = time.Now().Add(-time.Minute) }))
	for file, words := range map[string]string{
		"": "names no file", "nothing": "does not exist", "opaque": "not a JSON Web Token", "damaged": "not a JSON Web Token",
		"list": "not a JSON Web Token", "expired": "expired at",
	} {
		w.withWorkload(file)
		source := w.source()
		_, err := source.Token(t.Context())
		if e := wantError(t, err); e.Problem.GetReason() != notUsable || !e.Permanent || !strings.Contains(e.Problem.GetMessage(), words) {
			t.Errorf("%s: problem is %v, want it to say %q", file, e.Problem, words)
		}
		if _, inspected := source.Inspect(t.Context()); inspected == nil || inspected.Error() != err.Error() {
			t.Errorf("%s: Inspect says %v, want %v", file, inspected, err)
		}
	}
	if calls := w.server.Calls(nil); len(calls) != 0 {
		t.Errorf("it called %v", calls)
	}
}

func TestFederatedTokenThatIsRefused(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withWorkload("token")
	source := w.source()
	other, err := defendertest.NewIdentityProvider("https://other.test")
	if err != nil {
		t.Fatal(err)
	}
	trusted := w.provider
	for _, tt := range []struct {
		code     string
		provider *defendertest.IdentityProvider
		change   func(*defendertest.FederatedToken)
	}{
		{"AADSTS700211", other, nil},
		{"AADSTS700212", trusted, func(f *defendertest.FederatedToken) { f.Audience = "kubernetes" }},
		{"AADSTS700213", trusted, func(f *defendertest.FederatedToken) { f.Subject = "other" }},
		{"AADSTS7002138", trusted, func(f *defendertest.FederatedToken) { f.Subject = strings.ToUpper(subject) }},
	} {
		w.provider = tt.provider
		token := w.federatedToken(tt.change)
		w.write("token", token)
		_, err := source.Token(t.Context())
		e := wantError(t, err, token)
		if e.Problem.GetUpstreamCode() != tt.code || e.Problem.GetReason() != auth || !strings.Contains(e.Problem.GetRemedy(), "Federated credentials") || e.Problem.GetUpstreamRequestId() == "" {
			t.Errorf("problem is %v, want %s", e.Problem, tt.code)
		}
	}
	// The file is read each time: what renews it needs to tell no one.
	w.provider = trusted
	w.write("token", w.federatedToken(nil))
	if _, err := source.Token(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestInspectFederatedToken(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.config.Authentication.AuthorizationUrl = "https://login.test/" + tenantID + "/oauth2/v2.0/token"
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	w.write("token", w.federatedToken(func(f *defendertest.FederatedToken) { f.Expires = ends }))
	want := Inspection{
		Kind: "a federated token (workload identity)", File: "token", Expires: ends, Subject: subject,
		Issuer: "https://cluster.test", Audience: "api://AzureADTokenExchange",
	}
	w.withWorkload("token")
	if found, err := w.source().Inspect(t.Context()); err != nil || found != want {
		t.Errorf("found %+v, error %v; want %+v", found, err, want)
	}
	want.File = filepath.Join(w.folder, "token")
	t.Setenv(tokenFileVariable, want.File)
	w.withWorkload("")
	if found, err := w.source().Inspect(t.Context()); err != nil || found != want {
		t.Errorf("found %+v, error %v; want %+v", found, err, want)
	}

	// {"aud":"one","exp":1e300}: the audience as a text, and an end that is none.
	w.write("token", "h.eyJhdWQiOiJvbmUiLCJleHAiOjFlMzAwfQ.s")
	if found, err := w.source().Inspect(t.Context()); err != nil || found.Audience != "one" || !found.Expires.IsZero() {
		t.Errorf("found %+v, error %v", found, err)
	}
}
