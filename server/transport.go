package server

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// callerKind is what the handshake learned of a caller.
type callerKind int

const (
	// callerUnknown did not prove who it is, and is not on this machine.
	callerUnknown callerKind = iota
	// callerLocal came over the unix socket or the loopback interface: it is on this machine.
	callerLocal
	// callerCertified presented a certificate that the client CA signed.
	callerCertified
)

// caller is who calls.
type caller struct {
	kind callerKind
	// name is for the log: the certificate's subject, or `local/` and the network that a local caller came over.
	name string
	// conn is the connection that the call came over, without TLS; nil where it did not come through a handshake of ours.
	conn net.Conn
}

// callerFrom returns who calls, going by what the handshake learned. What did not come through a handshake of ours is unknown.
func callerFrom(ctx context.Context) caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{name: "unknown"}
	}
	own, ok := p.AuthInfo.(connInfo)
	if !ok {
		return caller{name: "unknown"}
	}
	switch info := own.AuthInfo.(type) {
	case localInfo:
		return caller{kind: callerLocal, name: "local/" + info.network, conn: own.conn}
	case credentials.TLSInfo:
		if chains := info.State.VerifiedChains; len(chains) > 0 && len(chains[0]) > 0 {
			return caller{kind: callerCertified, name: chains[0][0].Subject.String(), conn: own.conn}
		}
		// TLS without client certificates is served on the loopback interface only; listen sees to it.
		if address, ok := p.LocalAddr.(*net.TCPAddr); ok && address.IP.IsLoopback() {
			return caller{kind: callerLocal, name: "local/tcp", conn: own.conn}
		}
	}
	return caller{name: "unknown", conn: own.conn}
}

// connInfo is the AuthInfo of every connection: what the handshake learned, and the connection itself, without TLS. gRPC offers no
// other way from a call to its connection.
type connInfo struct {
	credentials.AuthInfo
	conn net.Conn
}

// localInfo is the AuthInfo of a connection without TLS, which can only come from this machine.
type localInfo struct {
	credentials.CommonAuthInfo
	network string
}

// AuthType names the way of authentication.
func (localInfo) AuthType() string { return "local" }

// transport chooses the handshake by the listener: TLS on TCP where it is configured, none on a unix socket or in memory. One
// gRPC server can so serve both.
type transport struct {
	// tls is nil where TLS is not configured.
	tls credentials.TransportCredentials
}

// ServerHandshake does the handshake of a connection that a listener accepted.
func (t *transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	network := conn.LocalAddr().Network()
	if t.tls != nil && network == "tcp" {
		secured, info, err := t.tls.ServerHandshake(conn)
		if err != nil {
			return nil, nil, err
		}
		return secured, connInfo{info, conn}, nil
	}
	return conn, connInfo{localInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity},
		network:        network,
	}, conn}, nil
}

// ClientHandshake is refused: these credentials are a server's.
func (t *transport) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for a server")
}

// Info describes the protocol.
func (t *transport) Info() credentials.ProtocolInfo {
	if t.tls != nil {
		return t.tls.Info()
	}
	return credentials.ProtocolInfo{SecurityProtocol: "insecure"}
}

// Clone returns a copy.
func (t *transport) Clone() credentials.TransportCredentials {
	if t.tls == nil {
		return &transport{}
	}
	return &transport{tls: t.tls.Clone()}
}

// OverrideServerName concerns clients only; there is nothing to override.
func (t *transport) OverrideServerName(string) error { return nil }
