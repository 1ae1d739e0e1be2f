// Package entra gets tokens from Microsoft Entra: OAuth 2.0 client credentials at the v2.0 endpoint
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow), cached and renewed early.
//
// No error and no log line of it holds a secret or a token.
package entra

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Tokens are renewed when a fifth of their life is left, or five minutes where that is less: Microsoft's live an hour or more
// (https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens).
const (
	renewBefore = 5 * time.Minute
	renewShare  = 5
	// renewPause is how long an early renewal that failed is not tried again while the token still holds: Entra punishes
	// those who ask again and again (AADSTS50196).
	renewPause = 30 * time.Second
	// requestTimeout bounds a token request as a whole.
	requestTimeout = 30 * time.Second
)

// Config is what a [Source] is made of. All fields must be set.
type Config struct {
	// TokenURL is the token endpoint. The secret is sent to it and to nothing else.
	TokenURL string
	// ClientID is the application's id.
	ClientID string
	// ClientSecret is its secret.
	ClientSecret string
	// Scope is what the tokens are for, such as `https://graph.microsoft.com/.default`.
	Scope string
	// HTTP makes the requests; it must not follow redirects. See [rest.NewHTTPClient].
	HTTP *http.Client
	// UserAgent names this service and its version.
	UserAgent string
}

// Source gives tokens for one scope, and asks Entra only when it must. It is safe for concurrent use: those who come while a
// token is asked for wait for that one.
type Source struct {
	config clientcredentials.Config
	http   *http.Client
	host   string
	// turn holds one value while nobody works on what follows it.
	turn chan struct{}

	token     *oauth2.Token
	renewFrom time.Time
}

// NewSource returns a source. It asks for nothing yet.
func NewSource(config Config) *Source {
	s := &Source{
		config: clientcredentials.Config{
			ClientID: config.ClientID, ClientSecret: config.ClientSecret,
			TokenURL: config.TokenURL, Scopes: []string{config.Scope},
			// The zero value would try HTTP Basic first, and repeat each request that fails.
			AuthStyle: oauth2.AuthStyleInParams,
		},
		turn: make(chan struct{}, 1),
		host: "the authorization host",
	}
	if u, err := url.Parse(config.TokenURL); err == nil {
		s.host = u.Host
	}
	client := *config.HTTP
	client.Transport = &agent{next: config.HTTP.Transport, name: config.UserAgent}
	client.Timeout = requestTimeout
	s.http = &client
	s.turn <- struct{}{}
	return s
}

// agent sets the User-Agent of token requests, which x/oauth2 offers no way to set.
type agent struct {
	next http.RoundTripper
	name string
}

// RoundTrip makes the request under the service's name.
func (a *agent) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("User-Agent", a.name)
	return a.next.RoundTrip(request)
}

// Token returns a token that is good for a while yet. An error is a *defender.Error, or the cause of ctx's end.
func (s *Source) Token(ctx context.Context) (string, error) { return s.get(ctx, "", false) }

// Fresh asks Entra for a new token, however good the cached one is: whether Entra gives one now.
func (s *Source) Fresh(ctx context.Context) (string, error) { return s.get(ctx, "", true) }

// Renew returns another token than refused, which an API refused. Where another caller has renewed it meanwhile, that one is
// returned, so that one refused token brings one request.
func (s *Source) Renew(ctx context.Context, refused string) (string, error) {
	return s.get(ctx, refused, false)
}

func (s *Source) get(ctx context.Context, refused string, fresh bool) (string, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { s.turn <- struct{}{} }()

	now := time.Now()
	good := !fresh && s.token != nil && s.token.AccessToken != refused && now.Before(s.token.Expiry)
	if good && now.Before(s.renewFrom) {
		return s.token.AccessToken, nil
	}
	token, err := s.request(ctx)
	if err != nil {
		if good && ctx.Err() == nil {
			s.renewFrom = now.Add(renewPause)
			return s.token.AccessToken, nil
		}
		return "", err
	}
	s.token = token
	life := token.Expiry.Sub(now)
	s.renewFrom = token.Expiry.Add(-min(renewBefore, life/renewShare))
	return token.AccessToken, nil
}

// request asks Entra for a token.
func (s *Source) request(ctx context.Context) (*oauth2.Token, error) {
	token, err := s.config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.http))
	var refused *oauth2.RetrieveError
	switch {
	case err == nil && token.Expiry.IsZero():
		return nil, s.invalid("a token without saying how long it is good (expires_in)")
	case err == nil && !token.Expiry.After(time.Now()):
		return nil, s.invalid("a token that has expired already")
	case err == nil && strings.ContainsFunc(token.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, s.invalid("a token that is no token")
	case err == nil:
		return token, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &refused):
		return nil, s.refusal(refused)
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return nil, rest.Unreachable("Entra", s.host, err)
	}
	// x/oauth2 tells of a body that it cannot read with words of its own; they are dropped, since they can quote the body.
	if strings.Contains(err.Error(), "missing access_token") {
		return nil, s.invalid("no token (access_token)")
	}
	return nil, s.invalid("something else than the JSON of a token")
}

// invalid is the error of a 200 that is not what Entra answers.
func (s *Source) invalid(got string) *defender.Error {
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:     integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
		Message:    "Asked for a token, " + s.host + " answered " + got + ".",
		Remedy:     "Check the authorization URL, and whether a proxy or a sign-in page answers in Entra's place.",
		HttpStatus: http.StatusOK,
	}}
}

// conceal takes the secret out of words that came from outside.
func (s *Source) conceal(text string) string {
	secret := s.config.ClientSecret
	if secret == "" {
		return text
	}
	for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
		text = strings.ReplaceAll(text, form, "[secret]")
	}
	return text
}
