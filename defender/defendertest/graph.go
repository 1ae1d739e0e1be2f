package defendertest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// GraphOptions are the settings of Graph's alerts.
type GraphOptions struct {
	// NextLinks makes every page that is not the last carry an @odata.nextLink, as documented. By default only requests without
	// $top get one: with $top users do not, whatever the documentation says.
	NextLinks bool
	// LinkedSize is how many alerts a page with a next link holds at the most, whatever $top says. Default: as many as $top says.
	LinkedSize int
	// ShiftingLinks makes next links lead to the page behind so many alerts, and not behind the last one that was given: what changes
	// between two pages shifts the others, and one that is shifted to a page before is not given. Whether Microsoft's do is not documented.
	ShiftingLinks bool
	// PageSize is how large a page is when the request has no $top. Microsoft does not document it. Default: 1000.
	PageSize int
}

// What the list of alerts takes (https://learn.microsoft.com/en-us/graph/api/resources/security-error-codes): a larger $top is
// cut to 1000, a larger $skip is refused.
const (
	graphMaxTop      = 1000
	graphMaxSkip     = 500
	graphDefaultPage = 1000
)

// graphWords are the names that Graph's $filter and $orderby take (https://learn.microsoft.com/en-us/graph/api/resources/security-alert).
func graphWords() vocabulary {
	return vocabulary{
		properties: map[string]property{
			"lastUpdateDateTime": propertyUpdated, "createdDateTime": propertyCreated,
			"status": propertyStatus, "severity": propertySeverity, "serviceSource": propertySource,
		},
		members: map[property]map[string]string{
			propertyStatus:   sameSpelling("unknown", "new", "inProgress", "resolved", "unknownFutureValue"),
			propertySeverity: sameSpelling("unknown", "informational", "low", "medium", "high", "unknownFutureValue"),
			propertySource: sameSpelling(
				"unknown", "microsoftDefenderForEndpoint", "microsoftDefenderForIdentity", "microsoftDefenderForCloudApps",
				"microsoftDefenderForOffice365", "microsoft365Defender", "azureAdIdentityProtection", "microsoftAppGovernance",
				"dataLossPrevention", "unknownFutureValue", "microsoftDefenderForCloud", "microsoftSentinel",
				"microsoftInsiderRiskManagement", "microsoftThreatIntelligence", "microsoftSecurityForAI",
			),
		},
	}
}

// listAlerts plays `GET /v1.0/security/alerts_v2` (https://learn.microsoft.com/en-us/graph/api/security-list-alerts_v2).
func (s *Server) listAlerts(x *exchange) *Answer {
	query, refusal := parseGraphQuery(x)
	if refusal != nil {
		return refusal
	}
	size := query.top
	linked := s.options.Graph.NextLinks
	if size == 0 {
		size, linked = s.options.Graph.PageSize, true
	}
	if linked && s.options.Graph.LinkedSize > 0 {
		size = min(size, s.options.Graph.LinkedSize)
	}
	if query.after != nil && query.after.sequence == 0 {
		query.skip, query.after = query.after.skip, nil
	}

	page, total, more := x.tenant.selectAlerts(query, size, x.now, x.asOf)
	link := ""
	if linked && more && len(page) > 0 {
		link = s.nextLink(x, query, page)
	}
	x.call.Elements = len(page)
	return graphPage(x, page, total, link, query.count)
}

// graphPage makes the answer of one page. The elements' bytes are not copied.
func graphPage(x *exchange, page []*revision, total int, link string, count bool) *Answer {
	head := &jsonWriter{}
	head.b = append(head.b, '{')
	head.text("@odata.context", "https://graph.microsoft.com/v1.0/$metadata#security/alerts_v2")
	if count {
		head.number("@odata.count", int64(total))
	}
	if link != "" {
		head.text("@odata.nextLink", link)
	}
	head.b = append(head.b, `,"value":[`...)

	whole := wantsUnknownMembers(x.request.Header)
	body := make([][]byte, 0, 2*len(page)+2)
	body = append(body, head.b)
	for i, r := range page {
		if i > 0 {
			body = append(body, []byte{','})
		}
		if whole {
			body = append(body, r.raw)
		} else {
			body = append(body, r.withoutUnknownMembers())
		}
	}
	body = append(body, []byte("]}"))

	a := &Answer{Status: http.StatusOK, Body: body, held: page, Header: http.Header{
		"Content-Type":  {"application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"},
		"Odata-Version": {"4.0"},
	}}
	if whole {
		a.Header["Preference-Applied"] = []string{preferUnknownMembers}
	}
	a.size = a.bodySize()
	return a
}

// parseGraphQuery reads the query options, and refuses what Graph refuses or is not played.
func parseGraphQuery(x *exchange) (alertQuery, *Answer) {
	// Most recent first is documented; by which time is not, nor is $orderby. The two times are what production code orders by.
	query, words := alertQuery{api: Graph, by: propertyCreated, desc: true}, graphWords()
	values, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil {
		return query, graphError(x, http.StatusBadRequest, "BadRequest", "The query string cannot be read.")
	}
	for option, given := range values {
		if len(given) > 1 {
			return query, graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Query option '%s' was specified more than once, but it must be specified at most once.", option))
		}
		value := given[0]
		switch option {
		case "$filter":
			if query.filter, err = words.parseFilter(value); err != nil {
				return query, graphError(x, http.StatusBadRequest, "BadRequest", "Invalid filter clause: "+err.Error())
			}
		case "$orderby":
			var ok bool
			if query.by, query.desc, ok = words.parseOrder(value); !ok {
				return query, graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("The query specified in the URI is not valid. The $orderby '%s' cannot be used.", value))
			}
		case "$top":
			if query.top, err = strconv.Atoi(value); err != nil || query.top < 1 {
				return query, graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid value '%s' for $top query option found. The $top query option requires a positive integer value.", value))
			}
			query.top = min(query.top, graphMaxTop)
		case "$skip":
			if query.skip, err = strconv.Atoi(value); err != nil || query.skip < 0 {
				return query, graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid value '%s' for $skip query option found. The $skip query option requires a non-negative integer value.", value))
			}
			if query.skip > graphMaxSkip {
				// With an empty code, as users report it.
				return query, graphError(x, http.StatusBadRequest, "", fmt.Sprintf("$skip=%d cannot exceed %d", query.skip, graphMaxSkip))
			}
		case "$count":
			if query.count = value == "true"; !query.count && value != "false" {
				return query, graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid value '%s' for $count query option found. The $count query option requires one of the values: 'true', 'false'.", value))
			}
		case "$skiptoken":
			if query.after, err = parseSkipToken(value); err != nil {
				return query, graphError(x, http.StatusBadRequest, "BadRequest", "The query specified in the URI is not valid. Query option 'SkipToken' is not allowed. To allow it, set the 'AllowedQueryOptions' property on EnableQueryAttribute or QueryValidationSettings.")
			}
		default:
			return query, graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("The query specified in the URI is not valid. Query option '%s' is not allowed.", option))
		}
	}
	return query, nil
}

// nextLink is the address of the page after this one: the request's own options, with a token for the place.
func (s *Server) nextLink(x *exchange, query alertQuery, page []*revision) string {
	last := page[len(page)-1]
	place := fmt.Sprintf("%d.%d.0", query.sortTime(last).UnixNano(), last.sequence)
	if s.options.Graph.ShiftingLinks {
		place = fmt.Sprintf("0.0.%d", query.skip+len(page))
	}
	values := x.request.URL.Query()
	values.Del("$skip")
	values.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(place)))
	return x.link(values.Encode())
}

// parseSkipToken reads what nextLink made.
func parseSkipToken(token string) (*cursor, error) {
	place, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, err
	}
	var nanos int64
	c := &cursor{}
	if _, err := fmt.Sscanf(string(place), "%d.%d.%d", &nanos, &c.sequence, &c.skip); err != nil {
		return nil, err
	}
	c.at = time.Unix(0, nanos).UTC()
	return c, nil
}
