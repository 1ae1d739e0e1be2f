package outbound

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// pattern says which hosts an exception or a rule is for:
//
//   - a name, `login.example.com`: that name and no other;
//   - a domain, `.example.com`: the name and all below it; `*.example.com`: those below it alone;
//   - an address, `10.1.2.3` or `2001:db8::1`, or a block of them, `10.0.0.0/8`: hosts that are given by such an address. Names are
//     not looked up for it: behind a proxy that is left to the proxy.
//
// Each may end in `:PORT`, an IPv6 address in brackets then, and fits that port alone. Case and a name's last dot do not count.
//
// The matcher of golang.org/x/net/http/httpproxy is left to the environment: in it a name stands for all below it, no exception can
// be taken from loopback, a block cannot have a port, and what it cannot read it passes over in silence.
type pattern struct {
	text string
	// name fits itself; suffix, which begins with a dot, fits what ends in it. Either may be empty.
	name, suffix string
	// block fits addresses, where it is valid.
	block netip.Prefix
	// port is empty where any will do.
	port string
}

func parsePattern(text string) (*pattern, error) {
	p := &pattern{text: text}
	host, err := p.cutPort(strings.ToLower(text))
	if err != nil {
		return nil, err
	}
	if block, err := netip.ParsePrefix(host); err == nil {
		p.block = block.Masked()
		return p, nil
	}
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap()
		p.block = netip.PrefixFrom(address, address.BitLen())
		return p, nil
	}
	p.name = strings.TrimSuffix(host, ".")
	if below, ok := strings.CutPrefix(p.name, "*."); ok {
		p.name, p.suffix = "", "."+below
	} else if domain, ok := strings.CutPrefix(p.name, "."); ok {
		p.name, p.suffix = domain, "."+domain
	}
	if !isName(p.name + p.suffix) {
		return nil, errors.New("it is neither a name nor a domain, an address or a block of addresses")
	}
	return p, nil
}

// cutPort takes the port from a pattern, and an IPv6 address out of its brackets.
func (p *pattern) cutPort(text string) (host string, err error) {
	host, port, found := text, "", false
	if inside, ok := strings.CutPrefix(text, "["); ok {
		var rest string
		if host, rest, ok = strings.Cut(inside, "]"); !ok {
			return "", errors.New("its bracket does not close")
		}
		if port, found = strings.CutPrefix(rest, ":"); !found && rest != "" {
			return "", errors.New("something other than a port stands behind its bracket")
		}
	} else if strings.Count(text, ":") == 1 {
		host, port, found = strings.Cut(text, ":")
	}
	if !found {
		return host, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", errors.New("its port is not a number from 1 to 65535")
	}
	p.port = strconv.FormatUint(number, 10)
	return host, nil
}

// isName says whether a text is made of labels as host names are. What it lets through besides fits nothing.
func isName(text string) bool {
	for label := range strings.SplitSeq(strings.TrimPrefix(text, "."), ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// fits says whether the pattern is for a target.
func (p *pattern) fits(t target) bool {
	if p.port != "" && p.port != t.port {
		return false
	}
	if t.address.IsValid() {
		return p.block.Contains(t.address)
	}
	return t.host == p.name || (p.suffix != "" && strings.HasSuffix(t.host, p.suffix))
}
