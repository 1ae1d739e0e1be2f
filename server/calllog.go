package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/access"
)

// maxNoted is how much of a caller's text goes into a line of the log, in bytes: the longest reference that is valid.
const maxNoted = 256

// call is what is known of a call while it runs, for the lines of the log that concern it and for who may call. One is in the context
// of every call.
type call struct {
	requestID string
	// conn is the connection that it came over; nil where it did not come through a handshake of ours.
	conn *connection
	// untold says that the log does not tell how it ended.
	untold atomic.Bool

	mu            sync.Mutex
	integrationID string
	reference     string
	// need is what it must be allowed, as far as that is known yet.
	need need
	// grants are what its caller held when it was let in.
	grants access.Grants
}

type callKey struct{}

// withCall returns a context that carries the call.
func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callFrom returns the context's call, nil where there is none.
func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// requestID returns the id of the context's call, empty where there is none.
func requestID(ctx context.Context) string {
	if c := callFrom(ctx); c != nil {
		return c.requestID
	}
	return ""
}

// integrationCarrier is a request that has an integration inside.
type integrationCarrier interface {
	GetIntegration() *integrationv1.Integration
}

// integrationOf returns the integration that a request names, clipped; empty where it names none. It takes any request: those of this
// service name an integration in one of two ways.
func integrationOf(request any) string {
	if r, ok := request.(interface{ GetIntegrationId() string }); ok && r.GetIntegrationId() != "" {
		return clip(r.GetIntegrationId())
	}
	if r, ok := request.(integrationCarrier); ok {
		return clip(r.GetIntegration().GetIntegrationId())
	}
	return ""
}

// require keeps what the call must be allowed.
func (c *call) require(n need) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.need = n
}

// needs returns the connection of the call, and what it must be allowed as far as that is known yet.
func (c *call) needs() (*connection, need) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn, c.need
}

// hold keeps what the caller holds.
func (c *call) hold(grants access.Grants) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grants = grants
}

// mayRead says whether the caller of the context's call may read an integration. Where there is no call, the program asks for itself.
func mayRead(ctx context.Context, integration string) bool {
	c := callFrom(ctx)
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grants.Allow(access.All, integration)
}

// note keeps what a request is about.
func (c *call) note(request any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.integrationID = integrationOf(request)
	if r, ok := request.(interface{ GetReference() string }); ok {
		c.reference = clip(r.GetReference())
	}
}

// attrs returns the call's attributes for the log; what is not known is left out.
func (c *call) attrs() []slog.Attr {
	c.mu.Lock()
	defer c.mu.Unlock()
	attrs := make([]slog.Attr, 0, 3)
	for _, a := range [...]slog.Attr{
		slog.String("request_id", c.requestID),
		slog.String("integration_id", c.integrationID),
		slog.String("reference", c.reference),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return attrs
}

// clip shortens a text to maxNoted bytes, never inside a character.
func clip(s string) string {
	if len(s) <= maxNoted {
		return s
	}
	end := maxNoted
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// LogHandler returns a handler that adds to each line the request id, the integration and the reference of the call whose context
// the line is logged with, and the ids of the trace and span that it has, and otherwise does what next does.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if c := callFrom(ctx); c != nil {
		record = record.Clone()
		record.AddAttrs(c.attrs()...)
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record = record.Clone()
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
