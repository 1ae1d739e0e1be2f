package match

import (
	"net/netip"
	"strings"
	"unicode"
)

// name is a host name, in the form that is compared and as it was given.
type name struct {
	folded, given string
}

// parseName reads a host name: without case (by Unicode's simple folding, as strings.EqualFold compares), without spaces around
// it, without trailing dots. The empty name, the loopback's own, which every machine has, and an address are none.
func parseName(given string) (name, bool) {
	folded := foldName(given)
	if folded == "" || folded[0] == '.' || firstLabel(folded) == "localhost" {
		return name{}, false
	}
	if _, err := netip.ParseAddr(folded); err == nil {
		return name{}, false
	}
	return name{folded: folded, given: given}, true
}

// full says that the name is fully qualified: that it has a domain.
func (n name) full() bool { return strings.Contains(n.folded, ".") }

// label returns the name's first label, under which short names are compared.
func (n name) label() name { return name{folded: firstLabel(n.folded), given: n.given} }

func firstLabel(folded string) string {
	label, _, _ := strings.Cut(folded, ".")
	return label
}

func foldName(given string) string {
	trimmed := strings.TrimLeftFunc(given, unicode.IsSpace)
	trimmed = strings.TrimRightFunc(trimmed, func(r rune) bool { return r == '.' || unicode.IsSpace(r) })
	return strings.Map(foldRune, trimmed)
}

// foldRune returns one and the same rune for all that differ only in case.
func foldRune(r rune) rune {
	if r < unicode.MaxASCII {
		// The other members of such a letter's orbit (the Kelvin sign, the long s) come here by the loop below.
		if 'A' <= r && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	if 'A' <= least && least <= 'Z' {
		return least - 'A' + 'a'
	}
	return least
}

// address is an IP address, parsed and as it was given.
type address struct {
	addr  netip.Addr
	given string
}

// parseAddress reads an IP address. An IPv4 address that is mapped into IPv6 is the IPv4 address, and a zone is dropped: it has a
// meaning only on the machine that it was read on. Loopback and unspecified addresses, which every machine has, are none.
func parseAddress(given string) (address, bool) {
	addr, err := netip.ParseAddr(strings.TrimSpace(given))
	if err != nil {
		return address{}, false
	}
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() || addr.IsUnspecified() {
		return address{}, false
	}
	return address{addr: addr, given: given}, true
}

// foldID returns a device id in the form that is compared: without case. An id of zeros only, which some products write for
// none, is empty.
func foldID(id string) string {
	folded := strings.ToLower(strings.TrimSpace(id))
	if strings.Trim(folded, "0-") == "" {
		return ""
	}
	return folded
}

// identity is what a machine can be known by: names and addresses.
type identity struct {
	// full are the fully qualified names.
	full []name
	// labels are the first labels of all names, full and short.
	labels []name
	// addresses are the addresses.
	addresses []address
}

// addName adds a host name. Where an address stands in its place, as it does for machines without a name, it adds that.
func (i *identity) addName(given string) {
	n, ok := parseName(given)
	if !ok {
		i.addAddress(given)
		return
	}
	if n.full() {
		i.full = appendName(i.full, n)
	}
	i.labels = appendName(i.labels, n.label())
}

func (i *identity) addAddress(given string) {
	a, ok := parseAddress(given)
	if !ok {
		return
	}
	for _, have := range i.addresses {
		if have.addr == a.addr {
			return
		}
	}
	i.addresses = append(i.addresses, a)
}

// appendName appends a name that is not there yet.
func appendName(names []name, n name) []name {
	if _, found := findName(names, n.folded); found {
		return names
	}
	return append(names, n)
}

func findName(names []name, folded string) (name, bool) {
	for _, n := range names {
		if n.folded == folded {
			return n, true
		}
	}
	return name{}, false
}

// sameName says that the two have a name in common: a full name where both have full names, a first label otherwise.
func (i *identity) sameName(other *identity) bool {
	if len(i.full) > 0 && len(other.full) > 0 {
		return i.sameFullName(other)
	}
	return commonName(i.labels, other.labels)
}

// sameFullName says that the two have a full name in common.
func (i *identity) sameFullName(other *identity) bool { return commonName(i.full, other.full) }

func commonName(mine, others []name) bool {
	for _, n := range mine {
		if _, found := findName(others, n.folded); found {
			return true
		}
	}
	return false
}

func (i *identity) hasAddress(addr netip.Addr) bool {
	for _, a := range i.addresses {
		if a.addr == addr {
			return true
		}
	}
	return false
}
