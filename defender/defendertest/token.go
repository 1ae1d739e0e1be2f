package defendertest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

// grant is an access token that was given out.
type grant struct {
	app      *Application
	resource Resource
	roles    []string
	expires  time.Time
	revoked  bool
}

// grants are the tokens that were given out, by their text. The server's mu guards them.
type grants map[string]*grant

func (g grants) revoke(app *Application) {
	for _, grant := range g {
		if grant.app == app {
			grant.revoked = true
		}
	}
}

// prune forgets tokens an hour after they expired: they are refused as unknown instead of expired then.
func (g grants) prune(now time.Time) {
	maps.DeleteFunc(g, func(_ string, grant *grant) bool { return now.Sub(grant.expires) > time.Hour })
}

// proof is what an application proved itself by, as the claim `appidacr` tells it.
type proof string

const (
	provedBySecret    proof = "1"
	provedByAssertion proof = "2"
)

// issue makes a token of an application for a resource. It looks like Entra's: a JWT with the claims that operators look at
// (https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference), `roles` absent where nothing was
// consented to. Its signature is random: APIs know it by heart.
func (s *Server) issue(app *Application, resource Resource, proof proof) (string, error) {
	now := s.clock.Now()
	claims := struct {
		Audience  string   `json:"aud"`
		Issuer    string   `json:"iss"`
		IssuedAt  int64    `json:"iat"`
		NotBefore int64    `json:"nbf"`
		Expires   int64    `json:"exp"`
		AppID     string   `json:"appid"`
		AppIDACR  string   `json:"appidacr"`
		Roles     []string `json:"roles,omitempty"`
		TenantID  string   `json:"tid"`
		Unique    string   `json:"uti"`
		Version   string   `json:"ver"`
	}{
		Audience:  string(resource),
		Issuer:    "https://sts.windows.net/" + app.tenant.id + "/",
		IssuedAt:  now.Unix(),
		NotBefore: now.Unix(),
		Expires:   now.Add(s.options.TokenLifetime).Unix(),
		AppID:     app.id,
		AppIDACR:  string(proof),
		Roles:     app.rolesOf(resource),
		TenantID:  app.tenant.id,
		Unique:    rand.Text(),
		Version:   "1.0",
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode a token's claims: %w", err)
	}
	signature := make([]byte, 256)
	_, _ = rand.Read(signature) // never fails, by its documentation
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"typ":"JWT","alg":"RS256","kid":"simulated"}`)) + "." + encode(payload) + "." + encode(signature)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.prune(now)
	s.grants[token] = &grant{app: app, resource: resource, roles: claims.Roles, expires: time.Unix(claims.Expires, 0)}
	return token, nil
}

// tokenFault is what is wrong with a token.
type tokenFault int

const (
	tokenGood tokenFault = iota
	tokenMissing
	tokenUnknown
	tokenExpired
	tokenRevoked
	tokenForOther // of another resource
)

// authorize finds the grant of a request's token. The grant is set with tokenGood only.
func (s *Server) authorize(r *http.Request, resource Resource) (grant, tokenFault) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return grant{}, tokenMissing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[token]
	switch {
	case !ok:
		return grant{}, tokenUnknown
	case !s.clock.Now().Before(g.expires):
		return grant{}, tokenExpired
	case g.revoked:
		return grant{}, tokenRevoked
	case g.resource != resource:
		return grant{}, tokenForOther
	}
	return *g, tokenGood
}
