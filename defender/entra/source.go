// Package entra gets tokens from Microsoft Entra for an application, cached and renewed early: OAuth 2.0 client credentials
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow) with a client secret, a certificate or
// a federated token, and the managed identity of the Azure resource that the service runs on.
//
// What is the same for all of them is here: the answer to a token request is read by one function (answer.go), refusals are told in
// the same words (refusal.go), and whatever goes over the wire passes one place that bounds it and knows what was secret in it
// (wire.go). Credentials differ in what they ask with.
//
// No error and no log line of it holds a secret or a token.
package entra

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"defender-integration/defender"
	"defender-integration/defender/outbound"
	"defender-integration/defender/rest"
	"defender-integration/defender/secretsdir"
	storev1 "defender-integration/gen/defender/integration/store/v1"
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
	// requestTimeout bounds what it takes to get a token as a whole.
	requestTimeout = 30 * time.Second
)

// Config is what a [Source] is made of. All fields must be set, but for those that say otherwise.
type Config struct {
	// Authentication is the integration's, completed; see [defender.Complete]. Its scope and resource are not read, and neither are
	// its values of secrets.
	Authentication *integrationv1.Authentication
	// Secrets are the integration's. May be nil where the credential has none of them.
	Secrets *storev1.Secrets
	// Files is the folder that files of credentials are in. May be nil where there is none: who needs it is told so.
	Files *secretsdir.Dir
	// Variables are the environment variables that credentials may be in. May be nil where there is none: who needs one is told so.
	Variables *secretsdir.Variables
	// Scope is what the tokens are for at a v2.0 token endpoint and for a managed identity, such as
	// `https://graph.microsoft.com/.default`; Resource is it at a v1 token endpoint, with a client secret alone, such as
	// `https://graph.windows.net`. One of them is set. See [defender.DeviceTarget].
	Scope, Resource string
	// HTTP makes the requests, and must not follow redirects; see [rest.NewHTTPClient]. A managed identity does not use it. Of sources
	// that are shared, the first one's makes the requests of all: it must go on working as long as one of them is used.
	HTTP *http.Client
	// Way names the proxy and the trust that HTTP goes by: integrations with another one do not share a source. Empty is a name.
	Way string
	// UserAgent names this service and its version.
	UserAgent string
}

// Source gives tokens for one scope or resource, and asks Entra only when it must. It is safe for concurrent use: those who come
// while a token is asked for wait for that one. It runs nothing by itself.
type Source struct {
	credential credential
	wire       wireConfig
	// turn holds one value while nobody works on what follows it.
	turn chan struct{}

	token     token
	renewFrom time.Time

	// until is when the token ends, in nanoseconds since 1970, for who does not wait for the turn; 0 before the first.
	until atomic.Int64
}

// NewSource returns a source. It asks for nothing yet, and reads no file. Where the settings do not go together, the error is a
// *defender.Error with the reason CONFIGURATION_INVALID.
func NewSource(config Config) (*Source, error) {
	s := &Source{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	var err error
	if s.credential, s.wire, err = newCredential(config); err != nil {
		return nil, err
	}
	return s, nil
}

// Token returns a token that is good for a while yet. An error is a *defender.Error, or the cause of ctx's end.
func (s *Source) Token(ctx context.Context) (string, error) { return s.get(ctx, "", false) }

// Fresh asks for a new token, however good the cached one is: whether Entra gives one now. For a managed identity, whether the
// machine's endpoint does, which has a cache of its own.
func (s *Source) Fresh(ctx context.Context) (string, error) { return s.get(ctx, "", true) }

// Renew returns a token that was got after refused, which an API refused. Where another caller has renewed it meanwhile, that one is
// returned, so that one refused token brings one request. It may be the same token again where a managed identity's endpoint
// answers from its cache.
func (s *Source) Renew(ctx context.Context, refused string) (string, error) {
	return s.get(ctx, refused, false)
}

// Inspect says what the credential is and how long it is good, from its files as they are now. It sends nothing. Where the credential
// cannot be used, the error is the one that asking for a token would give.
func (s *Source) Inspect(ctx context.Context) (Inspection, error) {
	if ctx.Err() != nil {
		return Inspection{}, context.Cause(ctx)
	}
	return s.credential.inspect()
}

// Expiries returns until when the token in use is good, and the client certificate that it was asked for with: zero before the first,
// and where the credential is no certificate.
func (s *Source) Expiries() (token, certificate time.Time) {
	return timeOf(s.until.Load()), s.credential.until()
}

// timeOf returns a time of nanoseconds since 1970; the zero time for 0.
func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

func (s *Source) get(ctx context.Context, refused string, fresh bool) (string, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { s.turn <- struct{}{} }()

	now := time.Now()
	good := !fresh && s.token.value != refused && now.Before(s.token.expires)
	if good && now.Before(s.renewFrom) {
		return s.token.value, nil
	}
	got, err := s.request(ctx)
	if err != nil {
		if good && ctx.Err() == nil {
			s.renewFrom = now.Add(renewPause)
			return s.token.value, nil
		}
		return "", err
	}
	s.token = got
	s.until.Store(got.expires.UnixNano())
	life := got.expires.Sub(now)
	s.renewFrom = got.expires.Add(-min(renewBefore, life/renewShare))
	if !got.renew.IsZero() && got.renew.Before(s.renewFrom) {
		s.renewFrom = got.renew
	}
	return got.value, nil
}

// request asks for a token.
func (s *Source) request(ctx context.Context) (got token, err error) {
	ctx, span := defender.StartSpan(ctx, "ask for a token", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("server.address", s.wire.host)))
	defer func() { defender.EndSpan(span, err) }()
	timed, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	w := &wire{wireConfig: s.wire}
	err = s.credential.ask(timed, w.client())
	if ctx.Err() != nil {
		return token{}, context.Cause(ctx)
	}
	if told, ok := errors.AsType[*defender.Error](err); ok {
		return token{}, told
	}
	if w.err != nil {
		return token{}, w.failure()
	}
	// From here on the answer speaks, not the error: libraries quote bodies in theirs.
	return w.read()
}

// failure tells why there was no answer.
func (w *wire) failure() error {
	if elsewhere, ok := errors.AsType[*elsewhereError](w.err); ok {
		return w.misled(elsewhere.host)
	}
	if errors.Is(w.err, errTooLong) {
		return w.invalid("more than the JSON of a token could be")
	}
	if w.managed != nil {
		return w.managed.unreachable(w.err)
	}
	e := outbound.Problem("Entra", w.host, w.err)
	// What is no HTTP is quoted in the library's words, and could repeat what was sent.
	if e.Err != nil && w.conceal(e.Err.Error()) != e.Err.Error() {
		e.Err = nil
	}
	return e
}

// invalid is the error of an answer that is not what Entra answers.
func (w *wire) invalid(got string) *defender.Error {
	remedy := "Check the authorization URL, and whether a proxy or a sign-in page answers in Entra's place."
	if w.managed != nil {
		remedy = "Check that what answers there is the machine's managed identity endpoint."
	}
	e := &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
		Message: "Asked for a token, " + w.host + " answered " + got + ".",
		Remedy:  remedy,
	}}
	if w.last != nil {
		e.Problem.HttpStatus = int32(w.last.status)
		e.Problem.UpstreamRequestId = rest.Excerpt(w.conceal(w.last.header.Get("X-Ms-Request-Id")))
	}
	return e
}
