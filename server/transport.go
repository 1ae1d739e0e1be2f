package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"

	"defender-integration/server/access"
)

// refusalsTold and refusalsAtOnce bound the lines of the log about refused handshakes, which anyone can cause who reaches the listener:
// so many a second, and so many at once.
const (
	refusalsTold   = 1
	refusalsAtOnce = 50
)

// transport chooses the handshake by the listener: TLS on TCP where it is configured, none on a unix socket or in memory. One
// gRPC server can so serve both.
type transport struct {
	// tls is nil where TLS is not configured.
	tls         credentials.TransportCredentials
	connections *connections
	logger      *slog.Logger
	metrics     *metrics
	told        *rate.Limiter
}

func newTransport(connections *connections, logger *slog.Logger, metrics *metrics) *transport {
	return &transport{
		connections: connections, logger: logger, metrics: metrics, told: rate.NewLimiter(refusalsTold, refusalsAtOnce),
	}
}

// ServerHandshake does the handshake of a connection that a listener accepted.
func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := &connection{Conn: raw, raw: raw, home: t.connections}
	if t.tls == nil || raw.LocalAddr().Network() != "tcp" {
		conn.learn(nil)
		return conn, conn, nil
	}
	secured, info, err := t.tls.ServerHandshake(raw)
	if err != nil {
		t.refused(raw, err)
		return nil, nil, err
	}
	conn.Conn = secured
	conn.learn(info)
	return conn, conn, nil
}

// refused tells of a handshake that failed. What only connects and goes, as probes of the network do, is not worth a line.
func (t *transport) refused(raw net.Conn, cause error) {
	if errors.Is(cause, io.EOF) {
		return
	}
	t.metrics.handshakes.Inc()
	if !t.told.Allow() {
		return
	}
	attrs := []slog.Attr{slog.String("peer", raw.RemoteAddr().String()), slog.String("cause", clip(cause.Error()))}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](cause); ok && len(bad.UnverifiedCertificates) > 0 {
		// Nobody vouches for it, but it helps to find who has the wrong certificate.
		attrs = append(attrs, slog.String("claims", clip(access.OfCertificate(bad.UnverifiedCertificates[0])[0])))
	}
	t.logger.LogAttrs(context.Background(), slog.LevelWarn, "audit: a connection was refused at its TLS handshake", attrs...)
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
	clone := *t
	if t.tls != nil {
		clone.tls = t.tls.Clone()
	}
	return &clone
}

// OverrideServerName concerns clients only; there is nothing to override.
func (t *transport) OverrideServerName(string) error { return nil }
