package defendertest

import (
	"context"
	"crypto/tls"
)

// overTLS returns what serves a client over TLS.
func (p *Proxy) overTLS(serve func(*heard)) (func(*heard), error) {
	certificate, err := p.authority.issue(append([]string{"localhost", "127.0.0.1", "::1"}, p.options.Names...)...)
	if err != nil {
		return nil, err
	}
	// HTTP/2 is offered, as some proxies do.
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	return func(client *heard) {
		ctx, cancel := context.WithTimeout(p.closing, proxyTimeout)
		defer cancel()
		secured := tls.Server(client.Conn, config)
		defer func() { _ = secured.Close() }() // it tells the client that this is the end, where that is still there
		// Who takes HTTP/2 has to ask in it too, which is not played.
		if err := secured.HandshakeContext(ctx); err != nil || secured.ConnectionState().NegotiatedProtocol == "h2" {
			return
		}
		serve(&heard{Conn: secured})
	}, nil
}
