package collector

import (
	"context"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"defender-integration/defender"
)

// maxLinks is to how many streams a span is linked that serves many: a read for more says how many there were.
const maxLinks = 64

// span begins a span of what the collector does by itself; where nobody traces it costs nothing. It begins a trace, unless it is a part
// of something else that the collector does. The caller ends it.
func (c *Collector) span(ctx context.Context, name string, links ...trace.Link) (context.Context, trace.Span) {
	if c.options.Tracer == nil {
		return ctx, noop.Span{}
	}
	return c.options.Tracer.Start(ctx, name, trace.WithLinks(links...), trace.WithAttributes(attribute.String("integration_id", c.id))) //nolint:spancheck // The caller ends it.
}

// traceMember remembers the span in whose context a stream joined, if there is one. The caller holds mu.
func (c *Collector) traceMember(ctx context.Context, m *Member) {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		if c.traces == nil {
			c.traces = map[*Member]trace.SpanContext{}
		}
		c.traces[m] = span
	}
}

// linksTo returns links to the spans of streams, of the first maxLinks where there are more. The caller holds mu.
func linksTo[V any](c *Collector, members map[*Member]V, which func(*Member) bool) []trace.Link {
	if len(c.traces) == 0 {
		return nil
	}
	var links []trace.Link
	for m := range members {
		span, ok := c.traces[m]
		if !ok || !which(m) {
			continue
		}
		links = append(links, trace.Link{SpanContext: span, Attributes: []attribute.KeyValue{attribute.String("why", "the stream waits for it")}})
		if len(links) == maxLinks {
			break
		}
	}
	return links
}

// closingLinks returns links to the streams whose closing read is due now.
func (c *Collector) closingLinks(now time.Time) []trace.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return linksTo(c, c.closings, func(m *Member) bool { return !c.here(m.closing.Due).After(now) })
}

// reachLinks returns links to the streams that ask for alerts from before what was read.
func (c *Collector) reachLinks() []trace.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return linksTo(c, c.reaching, func(*Member) bool { return true })
}

// questionLinks returns links to the streams that wait for the answers to questions. The caller holds mu.
func (c *Collector) questionLinks(batch []*question) []trace.Link {
	if len(c.traces) == 0 {
		return nil
	}
	waiting := map[*Member]struct{}{}
	for _, q := range batch {
		maps.Copy(waiting, q.members)
	}
	return linksTo(c, waiting, func(*Member) bool { return true })
}

// noteRead tells in the span of ctx what a read of alerts came to.
func noteRead(ctx context.Context, since time.Time, read defender.Read, err error) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("defender.since", since.UTC().Format(time.RFC3339Nano)),
		attribute.Int64("defender.elements", read.Elements),
		attribute.Int("defender.calls", read.Calls),
	)
	if err != nil {
		defender.NoteError(span, err)
	}
}
