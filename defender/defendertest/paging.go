package defendertest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
)

// RepeatPage answers what a next link leads to with the page that was last given without one, that page's next link too.
func RepeatPage() Responder {
	var mu sync.Mutex
	var first *Answer
	return func(_ context.Context, r *http.Request, next func() *Answer) *Answer {
		answer := next()
		if answer.Status != http.StatusOK {
			return answer
		}
		mu.Lock()
		defer mu.Unlock()
		if !r.URL.Query().Has("$skiptoken") {
			kept := *answer
			first = &kept
		}
		if first == nil {
			return answer
		}
		again := *first
		again.Header = first.Header.Clone()
		return &again
	}
}

// LoopLinks gives each true page a next link that leads to the page itself.
func LoopLinks() Responder {
	return func(_ context.Context, r *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.setNextLink(originOf(r) + r.URL.RequestURI())
		return answer
	}
}

// EmptyPages answers with pages that hold nothing and lead on to another page, each to a new one.
func EmptyPages() Responder {
	var pages atomic.Int64
	return func(_ context.Context, r *http.Request, _ func() *Answer) *Answer {
		link := fmt.Sprintf("%s%s?$skiptoken=empty-%d", originOf(r), r.URL.Path, pages.Add(1))
		return jsonAnswer(http.StatusOK, map[string]any{"@odata.nextLink": link, "value": []string{}})
	}
}

// originOf is the scheme, host and port that a request was sent to.
func originOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// nextLinkMember is a next link in a page, as the lists write it.
var nextLinkMember = regexp.MustCompile(`,?"@odata\.nextLink":"[^"]*"`)

// setNextLink gives a page that holds a list this next link, in place of the one that it has. The alerts in it stay served.
func (a *Answer) setNextLink(link string) {
	if a.Status != http.StatusOK || len(a.Body) == 0 {
		return
	}
	whole := a.bodySize() == a.size
	a.Body = slices.Clone(a.Body)
	// The member is before the elements or behind them, and not within them.
	for _, i := range []int{0, len(a.Body) - 1} {
		a.Body[i] = nextLinkMember.ReplaceAll(a.Body[i], nil)
	}
	head := &jsonWriter{b: []byte{'{'}}
	head.text("@odata.nextLink", link)
	head.b = append(head.b, ',')
	a.Body[0] = append(head.b, bytes.TrimPrefix(a.Body[0], []byte("{"))...)
	if whole {
		a.size = a.bodySize()
	}
}
