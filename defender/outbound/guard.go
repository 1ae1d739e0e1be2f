package outbound

import (
	"fmt"
	"net/netip"
)

// AddressError says that a host is at an address that this service does not call: loopback, unspecified, link-local, multicast, or a
// cloud's metadata service, each also where an IPv6 address carries it as an IPv4 address. Whoever configures an integration
// could otherwise have the service call what only this machine can reach. Private networks are called: Private Link, proxies.
type AddressError struct {
	// HostPort is what was dialled, in lower case.
	HostPort string
	// Address is where that is.
	Address netip.Addr
	// Kind tells what is wrong with it, such as "a loopback address".
	Kind string
	// Proxy says that the host is a proxy.
	Proxy bool
}

// Error names host and address.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%s is at %s, %s, which this service does not call", e.HostPort, e.Address, e.Kind)
}

// guard looks at a resolved address, `ip:port`, just before it is connected to.
func guard(hostPort, resolved string, isProxy bool) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("%s is at an address that cannot be read: %w", hostPort, err)
	}
	if kind := forbidden(at.Addr()); kind != "" {
		return &AddressError{HostPort: hostPort, Address: at.Addr(), Kind: kind, Proxy: isProxy}
	}
	return nil
}

// forbidden tells which kind of address it is that is not called; empty for one that is.
func forbidden(address netip.Addr) string {
	address = address.WithZone("").Unmap()
	if kind := forbiddenItself(address); kind != "" {
		return kind
	}
	if carried, ok := carriedIPv4(address); ok {
		return forbiddenItself(carried)
	}
	return ""
}

func forbiddenItself(address netip.Addr) string {
	// The whole of 0.0.0.0/8 is "this host on this network" (https://www.rfc-editor.org/rfc/rfc6890#section-2.2.2).
	thisNetwork := netip.PrefixFrom(netip.IPv4Unspecified(), 8)
	switch {
	case isMetadata(address):
		return "the address of a cloud's metadata service"
	case address.IsLoopback():
		return "a loopback address"
	case address.IsUnspecified(), thisNetwork.Contains(address):
		return "an unspecified address"
	case address.IsLinkLocalUnicast():
		return "a link-local address"
	case address.IsMulticast():
		return "a multicast address"
	default:
		return ""
	}
}

// isMetadata recognises the services that clouds offer to their machines alone, metadata and tokens among them.
func isMetadata(address netip.Addr) bool {
	for _, block := range []string{
		// AWS, Azure, Google and most others
		// (https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service).
		"169.254.169.254/32",
		// AWS over IPv6: metadata at fd00:ec2::254, and beside it the other services of the machine's own
		// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html).
		"fd00:ec2::/32",
		// Google over IPv6 (https://cloud.google.com/compute/docs/metadata/querying-metadata).
		"fd20:ce::254/128",
		// Azure's platform (https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16).
		"168.63.129.16/32",
		// Alibaba (https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata).
		"100.100.100.200/32",
		// Oracle's older service, beside 169.254.169.254.
		"192.0.0.192/32",
	} {
		if netip.MustParsePrefix(block).Contains(address) {
			return true
		}
	}
	return false
}

// carriedIPv4 returns the IPv4 address that an IPv6 address carries, to which a gateway or the system may take it.
func carriedIPv4(address netip.Addr) (netip.Addr, bool) {
	if !address.Is6() {
		return netip.Addr{}, false
	}
	const last = 12
	for _, form := range []struct {
		block string
		at    int
	}{
		// IPv4-compatible, deprecated (https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.1).
		{"::/96", last},
		// IPv4-translated (https://www.rfc-editor.org/rfc/rfc2765#section-2.1).
		{"::ffff:0:0:0/96", last},
		// NAT64: the well-known prefix (https://www.rfc-editor.org/rfc/rfc6052#section-2.1), and the one for local use
		// (https://www.rfc-editor.org/rfc/rfc8215).
		{"64:ff9b::/96", last},
		{"64:ff9b:1::/48", last},
		// 6to4 (https://www.rfc-editor.org/rfc/rfc3056#section-2).
		{"2002::/16", 2},
	} {
		if netip.MustParsePrefix(form.block).Contains(address) {
			bytes := address.As16()
			return netip.AddrFrom4([4]byte(bytes[form.at:])), true
		}
	}
	return netip.Addr{}, false
}
