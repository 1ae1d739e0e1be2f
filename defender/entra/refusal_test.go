package entra

import (
	"net/http"
	"strings"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestRefusals(t *testing.T) {
	refusal := func(standard, code, text string) string {
		return `{"error":"` + standard + `","error_description":"AADSTS` + code + `: ` + text + `\r\nTrace ID: tr\r\nCorrelation ID: co\r\nTimestamp: 2026-01-02 03:04:05Z","error_codes":[` + code + `],"trace_id":"tr","correlation_id":"co"}`
	}
	tests := []struct {
		name      string
		status    int
		body      string
		reason    integrationv1.ErrorReason
		permanent bool
		code      string
		message   string
		remedy    string
	}{
		{"wrong secret", 401, refusal("invalid_client", "7000215", "Invalid client secret provided."), auth, true, "AADSTS7000215", "client secret is wrong", "Value, not its Secret ID"},
		{"expired secret", 401, refusal("invalid_client", "7000222", "x"), auth, true, "AADSTS7000222", "has expired", "new secret"},
		{"unknown application", 400, refusal("unauthorized_client", "700016", "x"), auth, true, "AADSTS700016", "does not know the application", "client) id"},
		{"unknown tenant", 400, refusal("invalid_request", "90002", "x"), auth, true, "AADSTS90002", "no such tenant", "cloud"},
		{"another cloud", 400, refusal("invalid_request", "900432", "x"), auth, true, "AADSTS900432", "another national cloud", "tenant's cloud"},
		{"unknown resource", 400, refusal("invalid_resource", "500011", "x"), auth, true, "AADSTS500011", "not known in the tenant", "Defender"},
		{"conditional access", 400, refusal("invalid_grant", "53003", "x"), auth, true, "AADSTS53003", "Conditional Access", "policies"},
		{"scope", 400, refusal("invalid_scope", "1002012", "x"), auth, true, "AADSTS1002012", "scope", "/.default"},
		{"certificate", 401, refusal("invalid_client", "700027", "The certificate with identifier used to sign the client assertion is not registered on application."), auth, true, "AADSTS700027", "not one of the application's", "thumbprint"},
		{"clock", 401, refusal("invalid_client", "700024", "x"), auth, true, "AADSTS700024", "not within its time", "clock"},
		{"federated subject", 401, refusal("invalid_client", "700213", "x"), auth, true, "AADSTS700213", "token's subject", "api://AzureADTokenExchange"},
		{"federated issuer", 401, refusal("invalid_client", "700211", "x"), auth, true, "AADSTS700211", "token's issuer", "Federated credentials"},
		{"federated audience", 401, refusal("invalid_client", "700212", "x"), auth, true, "AADSTS700212", "token's audience", "Federated credentials"},
		{"assertion for another tenant", 401, refusal("invalid_client", "700023", "x"), auth, true, "AADSTS700023", "another tenant or cloud", "authorization URL"},
		{"the same code of a scope", 400, refusal("invalid_scope", "700023", "x"), auth, true, "AADSTS700023", "scope is not one", "/.default"},
		{"resource at v2.0", 400, refusal("invalid_request", "901002", "x"), auth, true, "AADSTS901002", "takes a scope", "/oauth2/token"},
		{"scope at v1", 400, refusal("invalid_request", "900144", "x"), auth, true, "AADSTS900144", "missing", "/oauth2/token"},
		{"two codes, the general one first", 401, refusal("invalid_client", "70002,50012", "x"), auth, true, "AADSTS50012", "subject or chain", "upload"},
		{"two codes, the general one last", 401, refusal("invalid_client", "700016,70002", "x"), auth, true, "AADSTS700016", "does not know", "client"},
		{"two codes, none known", 401, refusal("invalid_client", "123,456", "x"), auth, true, "AADSTS123", "credentials", "tenant"},
		{"unknown code", 400, refusal("invalid_client", "123456", "Something new."), auth, true, "AADSTS123456", "Something new.", "tenant"},
		{"no code", 400, `{"error":"unauthorized_client"}`, auth, true, "unauthorized_client", "does not accept the application", "tenant"},
		{"code in the text alone", 400, `{"error":"invalid_client","error_description":"AADSTS7000215: x Trace ID: y"}`, auth, true, "AADSTS7000215", "client secret is wrong", "Value"},
		{"transient code", 400, refusal("invalid_request", "90033", "x"), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "AADSTS90033", "failed", "tried again"},
		{"temporarily unavailable", 400, `{"error":"temporarily_unavailable"}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "temporarily_unavailable", "failed", "tried again"},
		{"500", 500, `oops`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "", "HTTP status 500", "tried again"},
		{"429", 429, `{}`, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "", "less often", "by itself"},
		{"loop", 400, refusal("invalid_grant", "50196", "x"), integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "AADSTS50196", "less often", "by itself"},
		{"redirect", 302, ``, invalidAnswer, false, "", "redirect", "authorization URL"},
		{"404 in HTML", 404, `<html>`, invalidAnswer, false, "", "without saying why", "authorization URL"},
		{"a token of someone quoted", 400, refusal("invalid_client", "123456", "not eyJ0."+strings.Repeat("aB3-_", 20)+" nor "+strings.Repeat("0F", 32)+"."), auth, true, "AADSTS123456", "not eyJ0.[secret] nor " + strings.Repeat("0F", 32) + ".", "tenant"},
		{"the secret echoed", 400, refusal("invalid_client", "123456", `not planted~s&cret/+ value nor planted~s%26cret%2F%2B+value`), auth, true, "AADSTS123456", "not [secret] nor [secret]", "tenant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := newTestSource(t, func(*http.Request) (*http.Response, error) { return reply(tt.status, tt.body), nil })
			_, err := source.Token(t.Context())
			e := wantError(t, err)
			p := e.Problem
			if p.GetReason() != tt.reason || e.Permanent != tt.permanent || p.GetUpstreamCode() != tt.code {
				t.Errorf("problem is %v (permanent %t), want %s (permanent %t) with code %q", p, e.Permanent, tt.reason, tt.permanent, tt.code)
			}
			if !strings.Contains(p.GetMessage(), tt.message) || !strings.Contains(p.GetRemedy(), tt.remedy) {
				t.Errorf("problem is %v, want it to say %q and %q", p, tt.message, tt.remedy)
			}
			if strings.Contains(tt.body, `"trace_id"`) && p.GetUpstreamRequestId() != "trace tr, correlation co" {
				t.Errorf("request id is %q", p.GetUpstreamRequestId())
			}
		})
	}
}

func TestCausesAreWhole(t *testing.T) {
	type key struct {
		code     int
		standard string
	}
	seen := map[key]bool{}
	for _, group := range causes() {
		if !group.transient && (group.meaning == "" || group.remedy == "") {
			t.Errorf("%v has no words", group.codes)
		}
		for _, code := range group.codes {
			if seen[key{code, group.standard}] || seen[key{code, ""}] {
				t.Errorf("%d is there twice, or behind itself", code)
			}
			seen[key{code, group.standard}] = true
		}
	}
}
