// Package rest makes single calls at Microsoft's APIs: one HTTP client, a time limit at each point, bounded bodies, and every
// failure told as a *defender.Error in words for an operator. It neither pages nor waits nor tries again, but for the one new
// token that a 401 brings.
package rest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The time limits of a body, and its bounds. What comes before it is bounded by the transport; see package outbound.
const (
	// stallTimeout is how long a body may send nothing.
	stallTimeout = 30 * time.Second
	// bodyTimeout is how long reading a body may take, without the time that the reader takes between its reads.
	bodyTimeout = 5 * time.Minute
	// maxBody bounds a body after decompression: a full page of the largest elements.
	maxBody = 1 << 30
	// maxErrorBody bounds what is read of a body that tells an error.
	maxErrorBody = 64 << 10
)

// NewHTTPClient returns a client that follows no redirect, so that neither a token nor a secret leaves the host that it is for.
func NewHTTPClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Tokens gives tokens for one scope.
type Tokens interface {
	// Token returns a token that is good, from the cache where one is.
	Token(ctx context.Context) (string, error)
	// Renew returns another token than refused, which an API refused.
	Renew(ctx context.Context, refused string) (string, error)
}

// Config is what a [Client] is made of. All fields must be set but those that have a default, Permissions and Lifecycle.
type Config struct {
	// Name is what is called, for an operator, such as "Microsoft Graph's alerts".
	Name string
	// Base is the origin that is called; nothing else is.
	Base *url.URL
	// HTTP makes the calls; see [NewHTTPClient].
	HTTP *http.Client
	// Tokens gives the tokens.
	Tokens Tokens
	// Spend is asked before each call, for Limit.
	Spend defender.SpendFunc
	// Limit is the limit that the calls count against.
	Limit defender.Limit
	// Permissions are the roles any one of which opens the API; none where it goes by something else.
	Permissions []*integrationv1.Permission
	// Lifecycle says whether Microsoft still offers the API: past its end, a refusal that looks like that is told as that.
	Lifecycle *integrationv1.Lifecycle
	// Unreachable tells why there was no answer. Default: [Unreachable].
	Unreachable func(name, host string, err error) *defender.Error
	// UserAgent names this service and its version.
	UserAgent string
	// Logger takes one line at debug level for each call. Default: nowhere.
	Logger *slog.Logger
}

// Client calls one API. It is safe for concurrent use.
type Client struct {
	config Config
}

// NewClient returns a client.
func NewClient(config Config) *Client {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Unreachable == nil {
		config.Unreachable = Unreachable
	}
	return &Client{config: config}
}

// Answer is an answer with status 200. Close it after use.
type Answer struct {
	// Body is the answer's body, bounded and decompressed. Its errors are for [Client.BodyError].
	Body *Body
	// Date is the answer's Date header; zero where it has none that can be read.
	Date time.Time
	// Received is when the answer's headers came, by this machine's clock; RoundTrip is how long they took.
	Received  time.Time
	RoundTrip time.Duration
	// RequestID is what Microsoft's support asks for.
	RequestID string
}

// Close ends the call.
func (a *Answer) Close() { a.Body.close() }

// Get calls an address at the client's origin. Every failure that Microsoft or the network causes is a *defender.Error; the end
// of ctx is its cause. calls is how many calls at the API were made, also where it fails. Where the API answered with another
// status than 200, answer stands beside the error and tells when; its body is read and closed.
func (c *Client) Get(ctx context.Context, target *url.URL) (answer *Answer, calls int, err error) {
	return c.call(ctx, http.MethodGet, target, nil)
}

// Post sends JSON to an address at the client's origin; for the rest see [Client.Get].
func (c *Client) Post(ctx context.Context, target *url.URL, body []byte) (answer *Answer, calls int, err error) {
	return c.call(ctx, http.MethodPost, target, body)
}

func (c *Client) call(ctx context.Context, method string, target *url.URL, body []byte) (answer *Answer, calls int, err error) {
	if !SameOrigin(c.config.Base, target) {
		return nil, 0, c.invalid("", "The next page is said to be at another host, "+hostOf(target)+".",
			"Nothing was sent there. Check that no proxy changes what Microsoft answers.", nil)
	}
	token, err := c.config.Tokens.Token(ctx)
	if err != nil {
		return nil, 0, err
	}
	answer, refused, err := c.traced(ctx, method, target, body, token, 1)
	if !refused {
		return answer, 1, err
	}
	// Graph's back ends now and then refuse a good token, and a token can be revoked: one new token, and the same call again.
	if token, err = c.config.Tokens.Renew(ctx, token); err != nil {
		return nil, 1, err
	}
	answer, _, err = c.traced(ctx, method, target, body, token, 2)
	return answer, 2, err
}

// traced is try in a span of its own, which ends when the answer's head is there: its body is read as it is needed.
func (c *Client) traced(
	ctx context.Context, method string, target *url.URL, body []byte, token string, attempt int,
) (answer *Answer, refused bool, err error) {
	spanned, span := defender.StartSpan(ctx, "call "+c.config.Name, trace.WithSpanKind(trace.SpanKindClient))
	answer, refused, err = c.try(spanned, method, target, body, token)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("http.request.method", method), attribute.String("server.address", c.config.Base.Hostname()),
			attribute.String("defender.limit", string(c.config.Limit)), attribute.Int("defender.attempt", attempt),
		)
		if err == nil {
			span.SetAttributes(attribute.Int("http.response.status_code", http.StatusOK))
		}
	}
	defender.EndSpan(span, err)
	return answer, refused, err
}

// try makes one call; refused says that it was answered 401.
func (c *Client) try(
	ctx context.Context, method string, target *url.URL, body []byte, token string,
) (answer *Answer, refused bool, err error) {
	if err := c.config.Spend(ctx, c.config.Limit); err != nil {
		return nil, false, err
	}
	callCtx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(callCtx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, false, c.invalid("", "The address of the call cannot be used.", "Check the endpoint's host.", nil)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	// Without it Graph hides the newer members of its enumerations
	// (https://learn.microsoft.com/en-us/graph/best-practices-concept#handling-future-members-in-evolvable-enumerations).
	request.Header.Set("Prefer", "include-unknown-enum-members")
	request.Header.Set("User-Agent", c.config.UserAgent)
	request.Header.Set("Client-Request-Id", requestID())
	began := time.Now()
	response, err := c.config.HTTP.Do(request) //nolint:bodyclose // Body closes it, which the caller closes.
	took := time.Since(began)
	if err != nil {
		defer cancel(nil)
		c.config.Logger.DebugContext(ctx, "called Microsoft", "api", c.config.Name, "took", took.String(), "error", "no answer")
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		return nil, false, c.config.Unreachable(c.config.Name, c.config.Base.Host, err)
	}
	received := newBody(response.Body, cancel)
	date, _ := http.ParseTime(response.Header.Get("Date"))
	answer = &Answer{Body: received, Date: date, Received: began.Add(took), RoundTrip: took, RequestID: responseID(response.Header)}
	c.config.Logger.DebugContext(ctx, "called Microsoft", "api", c.config.Name, "status", response.StatusCode, "took", took.String())
	if response.StatusCode == http.StatusOK {
		if !isJSON(response.Header) {
			defer received.close()
			return nil, false, c.invalid(responseID(response.Header),
				fmt.Sprintf("%s answered %s where JSON is documented.", c.config.Name, kindOf(response.Header)),
				"Check the endpoint's host, and whether a proxy or a sign-in page answers in Microsoft's place.", nil)
		}
		return answer, false, nil
	}
	defer received.close()
	return answer, response.StatusCode == http.StatusUnauthorized, c.refusal(response, received, token)
}

// SameOrigin says whether two addresses have the same scheme, host and port.
func SameOrigin(a, b *url.URL) bool {
	return b.User == nil && strings.EqualFold(a.Scheme, b.Scheme) &&
		strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case strings.EqualFold(u.Scheme, "http"):
		return "80"
	}
	return "443"
}

// hostOf names an address's host, short enough for a sentence.
func hostOf(u *url.URL) string {
	host := u.Host
	if host == "" {
		return "none"
	}
	return Excerpt(host)
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func isJSON(header http.Header) bool {
	kind := strings.ToLower(header.Get("Content-Type"))
	// Without a type it is for the parser to say.
	return kind == "" || strings.Contains(kind, "json")
}

func kindOf(header http.Header) string {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return Excerpt(kind)
}

// BodyError tells what went wrong while a body was read, by the error that reading it gave. The end of ctx is its cause.
func (c *Client) BodyError(ctx context.Context, answer *Answer, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:            integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
			Message:           c.config.Name + " broke off in the middle of an answer.",
			Remedy:            "It is tried again. If it stays, check the network between this service and " + c.config.Base.Host + ".",
			HttpStatus:        http.StatusOK,
			UpstreamRequestId: answer.RequestID,
		},
		Err: err,
	}
	if stalled, ok := errors.AsType[*StallError](err); ok {
		e.Problem.Message = c.config.Name + " stopped sending in the middle of an answer: " + stalled.Error() + "."
	}
	return e
}

// Invalid is the error of an answer that is not what the API answers. message is a sentence that tells it.
func (c *Client) Invalid(answer *Answer, message string, err error) error {
	id := ""
	if answer != nil {
		id = answer.RequestID
	}
	return c.invalid(id, message, "It is tried again. If it stays, check the endpoint's host and version, and whether a proxy changes what Microsoft answers.", err)
}

func (c *Client) invalid(id, message, remedy string, err error) *defender.Error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
			Message: message, Remedy: remedy, UpstreamRequestId: id,
		},
		Err: err,
	}
}

// Name is what is called, for an operator.
func (c *Client) Name() string { return c.config.Name }

// Base returns a copy of the origin that is called.
func (c *Client) Base() *url.URL {
	base := *c.config.Base
	return &base
}
