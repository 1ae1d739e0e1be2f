package entra

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxAnswer bounds the answer to a token request. Microsoft's have some kilobytes.
const maxAnswer = 1 << 20

// wireConfig is what the requests for tokens have in common.
type wireConfig struct {
	// http makes the requests.
	http *http.Client
	// origin is the only one that is called, whatever a library is led to; nil where the machine's environment says what is called.
	origin *url.URL
	// host names what is called, for an operator.
	host      string
	userAgent string
	// managed is set for a managed identity, whose endpoint refuses in words of its own.
	managed *managed
}

// wire is the HTTP of one request for a token. Whether we or a library make the requests, they pass it: it lets them go to one origin
// alone, bounds the answers, keeps the last one, and notes what was secret in them. It is not safe for concurrent use.
type wire struct {
	wireConfig

	// last is the last answer; err is why there was none.
	last *answer
	err  error
	// secrets are what was sent and must not be repeated.
	secrets []string
}

// client returns a client whose requests pass the wire.
func (w *wire) client() *http.Client {
	client := *w.http
	client.Transport = roundTripper(w.roundTrip)
	return &client
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip makes the request.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// errTooLong says that an answer passes maxAnswer.
var errTooLong = errors.New("the answer is too long")

// elsewhereError says that a request was meant for another origin.
type elsewhereError struct{ host string }

// Error names the other host.
func (e *elsewhereError) Error() string {
	return "a token request was led to another host, " + rest.Excerpt(e.host)
}

func (w *wire) roundTrip(request *http.Request) (*http.Response, error) {
	w.last, w.err = nil, nil
	response, err := w.exchange(request)
	w.err = err
	return response, err
}

func (w *wire) exchange(request *http.Request) (*http.Response, error) {
	if w.origin != nil && !rest.SameOrigin(w.origin, request.URL) {
		return nil, &elsewhereError{host: request.URL.Host}
	}
	request = request.Clone(request.Context())
	request.Header.Set("User-Agent", w.userAgent)
	if err := w.note(request); err != nil {
		return nil, err
	}
	transport := w.http.Transport
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	_ = response.Body.Close() // what was read was read
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, errTooLong
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	w.last = &answer{
		method: request.Method, status: response.StatusCode, header: response.Header, body: body, received: time.Now(),
	}
	return response, nil
}

// note notes what is secret in a request: in its form, and in the headers that managed identity endpoints are authenticated to by.
func (w *wire) note(request *http.Request) error {
	for _, name := range []string{"Authorization", "X-Identity-Header", "Secret"} {
		value := request.Header.Get(name)
		w.secrets = append(w.secrets, value, strings.TrimPrefix(value, "Basic "))
	}
	if request.Body == nil || request.Body == http.NoBody {
		return nil
	}
	// It is a form, made here or by a library, with an assertion of some kilobytes at most.
	body, err := io.ReadAll(request.Body)
	_ = request.Body.Close()
	if err != nil {
		return fmt.Errorf("read the form: %w", err)
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	if form, err := url.ParseQuery(string(body)); err == nil {
		w.secrets = append(w.secrets, form["client_secret"]...)
		w.secrets = append(w.secrets, form["client_assertion"]...)
	}
	return nil
}

// tokenLike finds what may be a part of a token or an assertion: a run of base64 that is longer than any id or thumbprint (a
// SHA-256 has 64 digits).
var tokenLike = regexp.MustCompile(`[A-Za-z0-9_-]{65,}`)

// conceal takes what was secret in the requests out of words that came from outside, and what looks like a token.
func (w *wire) conceal(text string) string {
	var pairs []string
	for _, secret := range w.secrets {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret)} {
			pairs = append(pairs, form, "[secret]")
		}
	}
	return tokenLike.ReplaceAllString(strings.NewReplacer(pairs...).Replace(text), "[secret]")
}

// misled is the error of a request that was meant for another host: the description of a token endpoint named it, or the service's
// environment made Microsoft's library choose a region's.
func (w *wire) misled(host string) error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
			Message: fmt.Sprintf("The way to a token led from %s to another host, %s. Nothing was sent there: the credential is for %s alone.",
				w.host, rest.Excerpt(host), w.host),
			Remedy: "If that host is Microsoft's for your cloud, give the authorization URL with it. If not, check whether a proxy changes what Entra answers, " +
				"and that this service's environment sets neither AZURE_REGIONAL_AUTHORITY_NAME nor MSAL_FORCE_REGION.",
		},
	}
}
