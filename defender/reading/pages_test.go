package reading

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const invalidAnswer = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER

// script answers the calls of one read, one after the other.
type script struct {
	*List

	// calls are the options that were asked with.
	calls []string
}

// source makes a list a defender.AlertSource.
type source struct{ *List }

func (s source) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	return s.Read(ctx, since, known, yield)
}

// newScript returns a list in pages of two whose answers are given; the last is repeated.
func newScript(t *testing.T, answers ...string) *script {
	t.Helper()
	s := &script{}
	client := readingtest.NewClient(t, "The list", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(answers[min(len(s.calls), len(answers)-1)]))
		s.calls = append(s.calls, r.URL.RawQuery)
	})
	s.List = &List{
		Client: client, URL: client.Base().JoinPath("list"), NewDecoder: func() Decoder { return &decoder{} },
		Updated: "updated", Created: "created", PageSize: 2, MaxSkip: 4,
	}
	return s
}

// element writes an element by the seconds of its last update and its creation.
func element(id string, updated, created int) string {
	return fmt.Sprintf(`{"id":%q,"updated":"2026-01-01T00:00:%02dZ","created":"2026-01-01T00:00:%02dZ"}`, id, updated, created)
}

// answer writes a page, with a next link where link is not empty.
func answer(link string, elements ...string) string {
	if link != "" {
		link = fmt.Sprintf(`,"@odata.nextLink":"?%s"`, link)
	}
	return fmt.Sprintf(`{"value":[%s]%s}`, strings.Join(elements, ","), link)
}

// since is when the elements' minute begins.
func since() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// A change behind a link may have shifted what follows, so the pages are read again by time, and no link is followed any more.
func TestChangeBehindALink(t *testing.T) {
	s := newScript(t,
		answer("one", element("a", 1, 1), element("b", 2, 2)),
		answer("", element("a", 5, 1)),
		answer("two", element("b", 2, 2), element("c", 3, 3)),
		answer("three", element("c", 3, 3), element("a", 5, 1)),
		answer("", element("a", 5, 1)),
	)
	given, read, err := readingtest.Collect(t, source{s.List}, since())
	if err != nil {
		t.Fatal(err)
	}
	readingtest.WantOnce(t, given, []string{element("a", 1, 1), element("b", 2, 2), element("a", 5, 1), element("c", 3, 3)})
	if read.Calls != 5 || s.calls[1] != "one" {
		t.Fatalf("asked %q, want five questions, of which the second is a link", s.calls)
	}
	for _, call := range s.calls[2:] {
		if !strings.HasPrefix(call, "$filter=") {
			t.Errorf("%s was followed after the change was noticed", call)
		}
	}
}

func TestPagesThatCannotBeTrusted(t *testing.T) {
	full := answer("", element("a", 1, 1), element("b", 1, 2))
	for name, tt := range map[string]struct {
		answers []string
		words   string
		calls   int
	}{
		"changed and not in order": {[]string{answer("one", element("a", 1, 1), element("b", 5, 2)), answer("", element("a", 3, 1))}, "alerts may be missing", 2},
		"links in a circle":        {[]string{answer("one", element("a", 1, 1)), answer("two"), answer("one")}, "circle", 3},
		"not in order":             {[]string{answer("", element("a", 2, 1), element("b", 1, 2))}, "not in the order of the last updates", 1},
		"an instant not in order":  {[]string{full, full, answer("", element("b", 1, 2), element("a", 1, 1))}, "in the order of their creation", 3},
		"skipped through not in order": {[]string{
			full, full, answer("", element("a", 1, 1), element("b", 1, 1)), answer("", element("a", 1, 1), element("b", 1, 1)),
			answer("", element("d", 1, 2), element("c", 1, 1)),
		}, "in the order of their creation", 5},
		"a link that is no address": {[]string{`{"value":[],"@odata.nextLink":"http://[/"}`}, "no address", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, tt.answers...)
			_, read, err := readingtest.Collect(t, source{s.List}, since())
			problem := readingtest.WantReason(t, err, invalidAnswer)
			if !strings.Contains(problem.GetMessage(), tt.words) || read.Calls != tt.calls {
				t.Errorf("after %d calls it says %q, want %q after %d", read.Calls, problem.GetMessage(), tt.words, tt.calls)
			}
		})
	}
}

// What shares both times ends where another creation begins, and that is where reading goes on.
func TestSkippedThroughToTheNextCreation(t *testing.T) {
	both := []string{element("a", 1, 1), element("b", 1, 1), element("c", 1, 1)}
	s := newScript(t,
		answer("", both[0], both[1]),            // from the beginning
		answer("", both[0], both[1]),            // from the instant
		answer("", both[0], both[1]),            // the instant
		answer("", both[0], both[1]),            // the instant, by creation
		answer("", both[1], both[2]),            // one skipped
		answer("", both[2], element("d", 1, 2)), // two skipped
		answer("", element("d", 1, 2)),          // created later
		answer("", element("e", 3, 3)),          // behind the instant
	)
	given, _, err := readingtest.Collect(t, source{s.List}, since())
	if err != nil {
		t.Fatal(err)
	}
	readingtest.WantOnce(t, given, append(both, element("d", 1, 2), element("e", 3, 3)))
	for i, want := range map[int]string{
		2: "updated%20ge%202026-01-01T00%3A00%3A01.0000000Z%20and%20updated%20le%202026-01-01T00%3A00%3A01.0000000Z&$orderby=created%20asc&$top=2",
		4: "created%20ge%202026-01-01T00%3A00%3A01.0000000Z&$orderby=created%20asc&$top=2&$skip=1",
		5: "$skip=2",
		6: "created%20ge%202026-01-01T00%3A00%3A01.0000001Z&$orderby=created%20asc&$top=2",
		7: "$filter=updated%20ge%202026-01-01T00%3A00%3A01.0000001Z&$orderby=updated%20asc&$top=2",
	} {
		if !strings.HasSuffix(s.calls[i], want) {
			t.Errorf("question %d is %s, want it to end in %s", i, s.calls[i], want)
		}
	}
}

func TestLinksAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		// every is how many pages come to one that has an alert.
		every int
		words string
		calls int
	}{
		"with alerts now and then": {maxEmptyLinks, "do not end", 1 + maxLinks},
		"empty":                    {2 * maxLinks, "from one empty page to the next", 1 + maxEmptyLinks},
	} {
		n := 0
		client := readingtest.NewClient(t, "The list", func(w http.ResponseWriter, _ *http.Request) {
			var elements []string
			if n++; n%tt.every == 0 {
				elements = []string{element(fmt.Sprint("alert-", n), 1, 1)}
			}
			_, _ = w.Write([]byte(answer(fmt.Sprint("page=", n), elements...)))
		})
		list := &List{Client: client, URL: client.Base(), NewDecoder: func() Decoder { return &decoder{} }, Updated: "updated", PageSize: 2}
		_, _, err := readingtest.Collect(t, source{list}, since())
		problem := readingtest.WantReason(t, err, invalidAnswer)
		if !strings.Contains(problem.GetMessage(), tt.words) || n != tt.calls {
			t.Errorf("%s: after %d pages, and not %d, it says %q", name, n, tt.calls, problem.GetMessage())
		}
	}
}
