package defendertest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SIEMOptions are the settings of the alert exporter.
type SIEMOptions struct {
	// Format2017 writes detections as the documentation of 2017 shows them: null in place of empty strings, fewer members, the misspelt
	// IoaDefinitiondId, and a bare object where the answer has one detection.
	Format2017 bool
}

// siemDefaultRange is what is answered where the request does not say since when.
const siemDefaultRange = 2 * time.Hour

// zoneless is how the alert exporter's examples write a time: in UTC, without saying so.
const zoneless = "2006-01-02T15:04:05"

// siemAPI refuses as the alert exporter does. Its statuses are documented, the format of a body is not: there is none
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem and the page on pulling detections that it followed).
type siemAPI struct{}

func (siemAPI) resource() Resource { return SIEM }

// badToken is 401, which a malformed request is as well.
func (siemAPI) badToken(*exchange, tokenFault) *Answer { return emptyAnswer(http.StatusUnauthorized) }

// forbidden is "a domain is not managed by the tenant administrator, or tenant state is deleted".
func (siemAPI) forbidden(*exchange, string) *Answer { return emptyAnswer(http.StatusForbidden) }

// throttled is not documented. It is played where [Limits.SIEM] is set.
func (siemAPI) throttled(_ *exchange, _ Rate, wait time.Duration) *Answer {
	a := emptyAnswer(http.StatusTooManyRequests)
	a.Header.Set("Retry-After", strconv.Itoa(wholeSeconds(wait)))
	return a
}

func emptyAnswer(status int) *Answer { return &Answer{Status: status, Header: http.Header{}} }

// isForSIEM tells whether a request for `/api/alerts` is one to the alert exporter, which has a host of its own in reality: by the
// options, since those of OData begin with a dollar sign, and, where there are none, by the token's resource.
func (s *Server) isForSIEM(r *http.Request) bool {
	// What cannot be read of the query is refused by the handler.
	options := r.URL.Query()
	for option := range options {
		if strings.HasPrefix(option, "$") {
			return false
		}
	}
	own := []string{"sinceTimeUtc", "untilTimeUtc", "ago", "limit", "machinegroups", "DeviceCreatedMachineTags", "CloudCreatedMachineTags"}
	if slices.ContainsFunc(own, options.Has) {
		return true
	}
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[token]
	return ok && g.resource == SIEM
}

// detectionQuery is what a request asks the alert exporter for.
type detectionQuery struct {
	since, until            time.Time
	limit                   int // 0: all
	groups                  []string
	registryTag, portalTags string
}

// listDetections plays the alert exporter's `GET /api/alerts`: a bare array of detections, without pages. The order of the array and
// whether the bounds are inclusive are not documented: the newest is first, and both are.
func (s *Server) listDetections(x *exchange) *Answer {
	if !x.tenant.hasResource(SIEM) {
		return siemAPI{}.forbidden(x, "")
	}
	query, err := parseDetectionQuery(x.request.URL.RawQuery, x.now)
	if err != nil {
		return emptyAnswer(http.StatusUnauthorized)
	}
	rows, held := x.tenant.selectDetections(query, x.now)
	body := make([][]byte, 0, 2*len(rows)+2)
	for _, row := range rows {
		body = append(body, []byte{','}, row.raw)
	}
	if len(body) > 0 {
		body = body[1:]
	}
	if !s.options.SIEM.Format2017 || len(rows) != 1 {
		body = append(slices.Insert(body, 0, []byte{'['}), []byte{']'})
	}
	x.call.Elements = len(rows)
	a := &Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, Body: body, held: held}
	a.size = a.bodySize()
	return a
}

// selectDetections returns the detections, newest first, and the revisions of which all detections are among them.
func (t *Tenant) selectDetections(query detectionQuery, now time.Time) (rows []detection, held []*revision) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alerts.advance(now)
	for _, r := range slices.Backward(t.alerts.fed) {
		if r.processed.After(query.until) {
			continue
		}
		if r.processed.Before(query.since) || query.limit > 0 && len(rows) == query.limit {
			break
		}
		whole := true
		for _, row := range r.detections() {
			if query.takes(row) && (query.limit == 0 || len(rows) < query.limit) {
				rows = append(rows, row)
			} else {
				whole = false
			}
		}
		if whole {
			held = append(held, r)
		}
	}
	return rows, held
}

// takes tells whether a detection is of a device that the query asks for.
func (q *detectionQuery) takes(d detection) bool {
	return (len(q.groups) == 0 || slices.Contains(q.groups, d.group)) &&
		(q.registryTag == "" || q.registryTag == d.registryTag) &&
		(q.portalTags == "" || slices.Contains(d.portalTags, q.portalTags))
}

// parseDetectionQuery reads the query options. ago in one request with a bound is refused: what it would mean is not documented.
func parseDetectionQuery(rawQuery string, now time.Time) (detectionQuery, error) {
	query := detectionQuery{since: now.Add(-siemDefaultRange), until: now}
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return query, err
	}
	if values.Has("ago") && (values.Has("sinceTimeUtc") || values.Has("untilTimeUtc")) {
		return query, errors.New("ago stands beside a bound")
	}
	for option, given := range values {
		if option == "machinegroups" {
			query.groups = given
			continue
		}
		if len(given) > 1 {
			return query, fmt.Errorf("%s is given more than once", option)
		}
		value := given[0]
		switch option {
		case "sinceTimeUtc":
			query.since, err = parseSIEMTime(value)
		case "untilTimeUtc":
			query.until, err = parseSIEMTime(value)
		case "ago":
			var ago time.Duration
			ago, err = parseISODuration(value)
			query.since = now.Add(-ago)
		case "limit":
			if query.limit, err = strconv.Atoi(value); err == nil && query.limit < 1 {
				err = errors.New("the limit is not positive")
			}
		case "DeviceCreatedMachineTags":
			query.registryTag = value
		case "CloudCreatedMachineTags":
			query.portalTags = value
		default:
			err = fmt.Errorf("%s is not known", option)
		}
		if err != nil {
			return query, err
		}
	}
	return query, nil
}

// parseSIEMTime reads a time in UTC, with or without saying so.
func parseSIEMTime(text string) (time.Time, error) {
	return time.Parse(zoneless, strings.TrimSuffix(text, "Z"))
}
