package server

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"defender-integration/server/access"
)

// caller is who calls.
type caller struct {
	// name is the identity that the caller is called by, as package access writes it; `unknown` where the call did not come through a
	// handshake of ours.
	name string
	// conn is the connection that the call came over; nil where the caller is unknown.
	conn *connection
}

// callerFrom returns who calls, going by what the handshake learned.
func callerFrom(ctx context.Context) caller {
	if p, ok := peer.FromContext(ctx); ok {
		if conn, ok := p.AuthInfo.(*connection); ok {
			return caller{name: conn.identities[0], conn: conn}
		}
	}
	return caller{name: "unknown"}
}

// learn fills in who is at the other end of a connection, going by what its TLS handshake told; nil where there was none.
func (c *connection) learn(info credentials.AuthInfo) {
	c.local = isLocal(c.raw)
	if secured, ok := info.(credentials.TLSInfo); ok {
		c.certificates = secured.State.PeerCertificates
	}
	network := c.raw.LocalAddr().Network()
	uid, gid, known := peerUser(c.raw)
	switch {
	case len(c.certificates) > 0:
		c.identities = access.OfCertificate(c.certificates[0])
	case known:
		c.identities = access.OfUser(uid, gid)
	case c.local:
		c.identities = []string{access.Local(network)}
	default:
		c.identities = []string{access.Anonymous}
	}
}

// isLocal says whether the other end of a connection is on this machine: it came over the loopback interface, or over what no other
// machine reaches.
func isLocal(conn net.Conn) bool {
	own, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return true
	}
	other, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && own.IP.IsLoopback() && other.IP.IsLoopback()
}
