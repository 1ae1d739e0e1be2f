package defendertest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// MachinesOptions are the settings of the list of machines.
type MachinesOptions struct {
	// PageSize is how many machines a page holds when the request has no $top. Default: 10,000, which is also the largest $top.
	PageSize int
	// EmptyList makes a tenant without machines an empty list. By default it is 404, as documented.
	EmptyList bool
}

const machinesMaxPage = 10_000

// listMachines plays `GET /api/machines` (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines). $top caps the
// answer and no next link comes with it; without $top pages are linked by $skip, as users observe it. $filter is not played.
func (s *Server) listMachines(x *exchange) *Answer {
	values, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil {
		return endpointError(x, http.StatusBadRequest, "BadRequest", "The query string cannot be read.")
	}
	top, skip := 0, 0
	for option, given := range values {
		switch option {
		case "$top":
			if top, err = strconv.Atoi(given[0]); err != nil || top < 1 || top > machinesMaxPage {
				return endpointError(x, http.StatusBadRequest, "ODataError", fmt.Sprintf("$top must be a number from 1 to %d.", machinesMaxPage))
			}
		case "$skip":
			if skip, err = strconv.Atoi(given[0]); err != nil || skip < 0 {
				return endpointError(x, http.StatusBadRequest, "ODataError", "$skip must be a number that is not negative.")
			}
		default:
			return endpointError(x, http.StatusBadRequest, "ODataError", fmt.Sprintf("The query option '%s' is not supported.", option))
		}
	}

	size := top
	if size == 0 {
		size = s.options.Machines.PageSize
	}
	page, total := x.tenant.machines(skip, size)
	if total == 0 && !s.options.Machines.EmptyList {
		return endpointError(x, http.StatusNotFound, "ResourceNotFound", "No recent machines were found.")
	}

	elements := make([][]byte, len(page))
	for i, d := range page {
		elements[i] = d.raw
	}
	link := ""
	if next := skip + len(page); top == 0 && next < total {
		link = x.link("$skip=" + strconv.Itoa(next))
	}
	return endpointPage(x, "Machines", elements, link)
}

// machines returns a page of the list, and how long the list is.
func (t *Tenant) machines(skip, size int) ([]device, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := min(skip, len(t.devices))
	page := t.devices[from:min(from+size, len(t.devices))]
	return append([]device(nil), page...), len(t.devices)
}
