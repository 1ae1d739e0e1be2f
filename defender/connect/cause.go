package connect

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net"

	"defender-integration/defender/outbound"
)

// unreached is a host that was not reached.
type unreached struct {
	hostPort string
	route    outbound.Route
	// stage is the one that failed, err why.
	stage *stage
	err   error
}

// fail tells why the host was not reached, but only once for a cause: where another host was not reached for the same one, the stage
// is skipped and names that. An operator who mends what is told then mends both.
func (h *hostTest) fail(s *stage, err error) {
	for _, before := range h.test.unreached {
		sameHost := before.hostPort == h.hostPort && before.route == h.route && before.stage.GetLink() == s.GetLink()
		if sameHost || sameCause(before.err, err) {
			skip(s, before.stage, "It fails for the same cause")
			return
		}
	}
	fail(s, outbound.Problem("The host", h.hostPort, err))
	h.test.unreached = append(h.test.unreached, unreached{hostPort: h.hostPort, route: h.route, stage: s, err: err})
}

// sameCause says whether two hosts were not reached for one cause: the same proxy, name servers that do not do their part, or an
// authority that nobody trusts, such as that of a proxy that inspects TLS.
func sameCause(a, b error) bool {
	if proxyA, proxyB := as[*outbound.ProxyError](a), as[*outbound.ProxyError](b); proxyA != nil && proxyB != nil {
		// What a proxy forbids, and what it cannot reach, is a matter of the host.
		ofHost := proxyA.Fault == outbound.FaultForbidden || proxyA.Fault == outbound.FaultTarget
		return !ofHost && proxyA.Route == proxyB.Route && proxyA.Fault == proxyB.Fault && proxyA.Status == proxyB.Status
	}
	if namesA, namesB := as[*net.DNSError](a), as[*net.DNSError](b); namesA != nil && namesB != nil {
		return !namesA.IsNotFound && !namesB.IsNotFound
	}
	signerA, signerB := as[x509.UnknownAuthorityError](a).Cert, as[x509.UnknownAuthorityError](b).Cert
	return signerA != nil && signerB != nil && bytes.Equal(signerA.RawIssuer, signerB.RawIssuer)
}

// as returns the error of a type among those that err wraps; the zero value where there is none.
func as[E error](err error) E {
	found, _ := errors.AsType[E](err)
	return found
}
