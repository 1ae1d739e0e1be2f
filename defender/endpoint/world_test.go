package endpoint

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/defender/reading"
	"defender-integration/defender/reading/readingtest"
)

// item is an alert of the world.
type item struct {
	id               string
	updated, created time.Time
}

func (i item) raw() string {
	return fmt.Sprintf(`{"id":%q,"lastUpdateTime":%q,"alertCreationTime":%q,"evidence":[]}`, i.id, i.updated.Format(time.RFC3339Nano), i.created.Format(time.RFC3339Nano))
}

// world plays Defender for Endpoint's list of alerts as it is documented and was seen: $top bounds an answer, which has no link.
type world struct {
	source *Source

	mutex sync.Mutex
	// items are the alerts; they need no order.
	items []item
	// queries are the options of the calls.
	queries []url.Values
	// linked is how many elements a page has where answers are linked together within $top; zero for none.
	linked int
	// unordered leaves $orderby out of account: the newest comes first, as without it.
	unordered bool
	// before is called before each answer, with how many there were; true means that it has answered.
	before func(w http.ResponseWriter, r *http.Request, call int) bool
}

func newWorld(t *testing.T, items ...item) *world {
	t.Helper()
	w := &world{items: items}
	w.source = NewSource(readingtest.NewClient(t, "Defender for Endpoint's list of alerts", w.answer), "v1.0")
	return w
}

// filterPattern is the only filter that is asked for.
var filterPattern = regexp.MustCompile(`^lastUpdateTime ge (\S+)(?: and lastUpdateTime le (\S+))?(?: and alertCreationTime ge (\S+))?$`)

func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	query, err := url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, "+", "%2B"))
	w.queries = append(w.queries, query)
	if w.before != nil && w.before(rw, r, len(w.queries)) {
		return
	}
	match := filterPattern.FindStringSubmatch(query.Get("$filter"))
	if err != nil || r.URL.Path != "/api/v1.0/alerts" || match == nil || query.Get("$expand") != "evidence" {
		http.Error(rw, `{"error":{"code":"ODataError","message":"The query is none."}}`, http.StatusBadRequest)
		return
	}
	found := w.find(match, query.Get("$orderby"))
	skip, _ := strconv.Atoi(query.Get("$skip"))
	top, _ := strconv.Atoi(query.Get("$top"))
	found = found[min(skip, len(found)):]
	found = found[:min(top, len(found))]
	if len(found) == 0 && len(w.items) == 0 {
		http.Error(rw, `{"error":{"code":"NotFound","message":"There are no alerts.","target":"|a1"}}`, http.StatusNotFound)
		return
	}
	link := ""
	if w.linked > 0 && len(found) > w.linked {
		next := maps.Clone(query)
		next.Set("$skip", strconv.Itoa(skip+w.linked))
		next.Set("$top", strconv.Itoa(top-w.linked))
		// With host and all, as Microsoft's links are.
		link = fmt.Sprintf(`,"@odata.nextLink":"http://%s%s?%s"`, r.Host, r.URL.Path, strings.ReplaceAll(next.Encode(), "+", "%20"))
		found = found[:w.linked]
	}
	elements := make([]string, len(found))
	for i, f := range found {
		elements[i] = f.raw()
	}
	_, _ = fmt.Fprintf(rw, `{"@odata.context":"x","value":[%s]%s}`, strings.Join(elements, ","), link)
}

// find returns what a filter lets through, in order.
func (w *world) find(filter []string, order string) []item {
	bound := func(text string, none time.Time) time.Time {
		if at, err := time.Parse("2006-01-02T15:04:05.0000000Z", text); err == nil {
			return at
		}
		return none
	}
	since, until, created := bound(filter[1], time.Time{}), bound(filter[2], time.Now().AddDate(100, 0, 0)), bound(filter[3], time.Time{})
	var found []item
	for _, i := range w.items {
		if !i.updated.Before(since) && !i.updated.After(until) && !i.created.Before(created) {
			found = append(found, i)
		}
	}
	slices.SortStableFunc(found, func(a, b item) int {
		switch {
		case w.unordered:
			return b.created.Compare(a.created)
		case order == "alertCreationTime asc":
			return a.created.Compare(b.created)
		default:
			return a.updated.Compare(b.updated)
		}
	})
	return found
}

// items returns n alerts; update and create say when each was last updated and created.
func items(name string, n int, update, create func(i int) time.Time) []item {
	all := make([]item, n)
	for i := range all {
		all[i] = item{name + strconv.Itoa(i), update(i).Truncate(reading.Tick), create(i).Truncate(reading.Tick)}
	}
	return all
}

// every is a time that moves on by a step.
func every(start time.Time, step time.Duration) func(int) time.Time {
	return func(i int) time.Time { return start.Add(time.Duration(i) * step) }
}

// raws returns the bytes of all alerts.
func raws(items []item) []string {
	all := make([]string, len(items))
	for i, item := range items {
		all[i] = item.raw()
	}
	return all
}

// The alerts of the world are JSON, or nothing that it is asked would mean anything.
func TestWorld(t *testing.T) {
	i := item{id: "a", updated: time.Date(2026, 1, 2, 3, 4, 5, 100, time.UTC)}
	if !json.Valid([]byte(i.raw())) || !strings.Contains(i.raw(), "05.0000001Z") {
		t.Fatal(i.raw())
	}
}
