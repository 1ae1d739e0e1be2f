package defendertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// HuntingOptions are the settings of advanced hunting.
type HuntingOptions struct {
	// MaxRows is how many rows an answer has at the most: more are cut off without a word. Default: 100,000, as documented.
	MaxRows int
	// MaxValues is how many values a query may name; one with more is refused as too heavy for the engine, as real ones are now and
	// then. Default: no limit.
	MaxValues int
	// MaxSpan is how much time a search of the tables of events may be about; one about more is refused likewise. Default: no limit.
	MaxSpan time.Duration
	// MaxBytes is how large the answer may be in bytes; beyond it the query is refused. Default: 50 MB, as documented.
	MaxBytes int
}

const (
	huntingMaxRows  = 100_000
	huntingMaxBytes = 50 << 20
)

// What the engine refuses a query with that it can read.
const (
	huntingTooHeavy = "Query execution has exceeded the allowed limits. The query execution was preempted. This could possibly be due to high CPU and/or memory resource consumption. Optimize your query by following best practices and try again."
	huntingTooLarge = "Query execution has exceeded the allowed result size. Optimize your query by limiting the number of results and try again."
)

// huntingAPI refuses as Graph does. Its answer to too many calls is documented as telling which limit was reached; its words and
// whether it has a Retry-After are not: there is none.
type huntingAPI struct{ graphAPI }

func (huntingAPI) throttled(x *exchange, spent Rate, _ time.Duration) *Answer {
	return graphError(x, http.StatusTooManyRequests, "TooManyRequests", fmt.Sprintf(
		"You have exceeded the limit of %d calls in %s for the tenant.", spent.Calls, spent.Period))
}

// runHuntingQuery plays `POST /security/runHuntingQuery` (https://learn.microsoft.com/en-us/graph/api/security-security-runhuntingquery).
// It is no engine: it knows the queries of parseHunting, and nothing else. Names of the answer's parts are in lower case, as real ones
// are.
func (s *Server) runHuntingQuery(x *exchange) *Answer {
	text, timespan, err := readHunting(x.request)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return emptyAnswer(http.StatusRequestEntityTooLarge)
	}
	if err != nil {
		return graphError(x, http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.")
	}
	x.call.Hunting = text
	lookBack := huntingLookBack
	if timespan != "" {
		// A query has a time filter of its own: the shorter of the two holds.
		span, err := parseISODuration(timespan)
		if err != nil {
			return graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid timespan '%s'.", timespan))
		}
		lookBack = min(lookBack, span)
	}
	query, err := parseHunting(text)
	if err != nil {
		return graphError(x, http.StatusBadRequest, "BadRequest", err.Error())
	}
	w := &jsonWriter{}
	if err := s.answerHunting(x, query, lookBack, w); err != nil {
		return graphError(x, http.StatusBadRequest, "BadRequest", err.Error())
	}
	if len(w.b) > s.options.Hunting.MaxBytes {
		return graphError(x, http.StatusBadRequest, "BadRequest", huntingTooLarge)
	}
	return &Answer{Status: http.StatusOK, Body: [][]byte{w.b}, Header: http.Header{
		"Content-Type":  {"application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"},
		"Odata-Version": {"4.0"},
	}}
}

// answerHunting writes the answer to a query. The error is the engine's refusal.
func (s *Server) answerHunting(x *exchange, query huntingQuery, lookBack time.Duration, w *jsonWriter) error {
	options := s.options.Hunting
	switch {
	case query.permission:
		x.call.Elements = 1
		w.huntingAnswer([][2]string{{"ok", "Int64"}}, 1, func(int) { w.object("", func() { w.number("ok", 1) }) })
		return nil
	case query.tables != nil:
		return s.answerTablesProbe(x, query.tables, w)
	case query.traces != nil:
		return s.answerTraces(x, query.traces, lookBack, w)
	}
	if missing := x.tenant.firstMissing("DeviceInfo"); missing != "" {
		return unresolvedTable(missing)
	}
	if query.one {
		rows := x.tenant.huntingRows(query, min(lookBack, oneDeviceLookBack), 1, x.now)
		x.call.Elements = len(rows)
		w.huntingAnswer(huntingSchema()[:2], len(rows), func(i int) { w.object("", func() { rows[i].renderName(w) }) })
		return nil
	}
	values := 0
	for _, clause := range query.clauses {
		values += len(clause.values)
	}
	if options.MaxValues > 0 && values > options.MaxValues {
		return engineError(huntingTooHeavy)
	}
	rows := x.tenant.huntingRows(query, lookBack, options.MaxRows, x.now)
	x.call.Elements = len(rows)
	w.huntingAnswer(huntingSchema(), len(rows), func(i int) { rows[i].render(w) })
	return nil
}

// readHunting reads a request's body: the query and, where one is given, the time span. Both casings of their names are taken, as
// Microsoft's own callers send both.
func readHunting(r *http.Request) (query, timespan string, err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return "", "", errors.New("not sent as JSON")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", "", err
	}
	var members map[string]*string
	if err := json.Unmarshal(body, &members); err != nil {
		return "", "", err
	}
	for name, value := range members {
		switch name {
		case "Query", "query":
			if value == nil {
				return "", "", errors.New("the query is null")
			}
			query = *value
		case "Timespan", "timespan":
			if value != nil {
				timespan = *value
			}
		default:
			return "", "", fmt.Errorf("%s is not known", name)
		}
	}
	return query, timespan, nil
}

// huntingAnswer writes the answer to a query: the columns, then n rows.
func (w *jsonWriter) huntingAnswer(columns [][2]string, n int, row func(i int)) {
	w.object("", func() {
		w.text("@odata.context", "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.security.huntingQueryResults")
		w.list("schema", len(columns), func(i int) {
			w.object("", func() {
				w.text("name", columns[i][0])
				w.text("type", columns[i][1])
			})
		})
		w.list("results", n, row)
	})
}
