package defendertest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// EndpointAlertsOptions are the settings of Defender for Endpoint's list of alerts.
type EndpointAlertsOptions struct {
	// PageSize is how many alerts a page holds when the request has no $top. Default: 10,000, which is also the largest $top.
	PageSize int
	// EmptyIsNotFound answers 404 in place of an empty list, as the list of machines does. Whether the one of alerts ever does is
	// not documented.
	EmptyIsNotFound bool
}

// endpointMaxTop is the largest $top.
const endpointMaxTop = 10_000

// endpointWords are the names that Defender for Endpoint's $filter and $orderby take. Of the properties that its page lists, those
// are played that the service could ask for.
func endpointWords() vocabulary {
	spelling := func(members ...string) map[string]string {
		graphs := make(map[string]string, len(members))
		for _, member := range members {
			graphs[member] = lowerFirst(member)
		}
		return graphs
	}
	severities := spelling("Informational", "Low", "Medium", "High")
	severities["UnSpecified"] = "unknown"
	return vocabulary{
		properties: map[string]property{
			"lastUpdateTime": propertyUpdated, "alertCreationTime": propertyCreated,
			"status": propertyStatus, "severity": propertySeverity,
		},
		members: map[property]map[string]string{
			propertyStatus: spelling("Unknown", "New", "InProgress", "Resolved"), propertySeverity: severities,
		},
	}
}

// listEndpointAlerts plays `GET /api/alerts` (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts). $top caps the
// answer and no next link comes with it; without $top pages are linked by $skip, as users observe it. So rows that appear between
// two pages shift the second.
func (s *Server) listEndpointAlerts(x *exchange) *Answer {
	query, refusal := parseEndpointQuery(x)
	if refusal != nil {
		return refusal
	}
	size := query.top
	if size == 0 {
		size = s.options.EndpointAlerts.PageSize
	}
	page, _, more := x.tenant.selectAlerts(query, size, x.now, x.asOf)
	if len(page) == 0 && s.options.EndpointAlerts.EmptyIsNotFound {
		return endpointError(x, http.StatusNotFound, "ResourceNotFound", "No alerts were found.")
	}
	link := ""
	if more && query.top == 0 {
		values := x.request.URL.Query()
		values.Set("$skip", strconv.Itoa(query.skip+len(page)))
		link = x.link(values.Encode())
	}
	elements := make([][]byte, len(page))
	for i, r := range page {
		elements[i] = r.endpointBytes(query.expand)
	}
	a := endpointPage(x, "Alerts", elements, link)
	a.held, a.size = page, a.bodySize()
	return a
}

// endpointPage makes the answer of one page of a list. The elements' bytes are not copied.
func endpointPage(x *exchange, set string, elements [][]byte, link string) *Answer {
	body := make([][]byte, 0, 2*len(elements)+2)
	body = append(body, []byte(`{"@odata.context":"https://api.securitycenter.microsoft.com/api/$metadata#`+set+`","value":[`))
	for i, element := range elements {
		if i > 0 {
			body = append(body, []byte{','})
		}
		body = append(body, element)
	}
	tail := &jsonWriter{b: []byte{']'}}
	if link != "" {
		tail.text("@odata.nextLink", link)
	}
	tail.b = append(tail.b, '}')
	x.call.Elements = len(elements)
	return &Answer{
		Status: http.StatusOK,
		Header: http.Header{"Content-Type": {"application/json; odata.metadata=minimal"}},
		Body:   append(body, tail.b),
	}
}

// parseEndpointQuery reads the query options, and refuses what Defender for Endpoint refuses or is not played.
func parseEndpointQuery(x *exchange) (alertQuery, *Answer) {
	refuse := func(format string, values ...any) *Answer {
		return endpointError(x, http.StatusBadRequest, "ODataError", fmt.Sprintf(format, values...))
	}
	// `$top=10` is documented as the 10 latest; by which time is not. $orderby is not documented: the two times are what production
	// code orders by.
	query, words := alertQuery{api: DefenderForEndpoint, by: propertyCreated, desc: true}, endpointWords()
	values, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil {
		return query, endpointError(x, http.StatusBadRequest, "BadRequest", "The query string cannot be read.")
	}
	for option, given := range values {
		if len(given) > 1 {
			return query, refuse("Query option '%s' was specified more than once, but it must be specified at most once.", option)
		}
		value := given[0]
		switch option {
		case "$filter":
			if query.filter, err = words.parseFilter(value); err != nil {
				return query, refuse("Invalid filter clause: %v", err)
			}
		case "$orderby":
			var ok bool
			if query.by, query.desc, ok = words.parseOrder(value); !ok {
				return query, refuse("The $orderby '%s' cannot be used.", value)
			}
		case "$top":
			if query.top, err = strconv.Atoi(value); err != nil || query.top < 1 || query.top > endpointMaxTop {
				return query, refuse("$top must be a number from 1 to %d.", endpointMaxTop)
			}
		case "$skip":
			if query.skip, err = strconv.Atoi(value); err != nil || query.skip < 0 {
				return query, refuse("$skip must be a number that is not negative.")
			}
		case "$expand":
			if query.expand = value == "evidence"; !query.expand {
				return query, refuse("Could not find a property named '%s' to expand.", value)
			}
		default:
			return query, refuse("The query option '%s' is not supported.", option)
		}
	}
	return query, nil
}
