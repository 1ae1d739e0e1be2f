package defendertest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// tunnel hands on what is said between a client, of which read holds what it said already, and a target, until one of them ends it
// or the proxy is closed.
func (p *Proxy) tunnel(client *heard, read io.Reader, target net.Conn, name string) {
	defer p.keep(target)()
	var near, far net.Conn = &ahead{Conn: client, read: read}, target
	if p.options.Inspect {
		var err error
		if near, far, err = p.inspect(near, far, name); err != nil {
			return
		}
	}
	_ = client.SetDeadline(time.Time{})
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // the end of one side is the end of both
			_ = near.Close()
			_ = far.Close()
		})
	}
	both.Wait()
}

// ahead is a connection of which a reader holds what was read ahead of use.
type ahead struct {
	net.Conn
	read io.Reader
}

// Read reads what was read ahead, then on.
func (a *ahead) Read(b []byte) (int, error) { return a.read.Read(b) }

// inspect speaks TLS with both sides, in the protocol of the client's offer that the target takes.
func (p *Proxy) inspect(client, target net.Conn, name string) (near, far net.Conn, err error) {
	ctx, cancel := context.WithTimeout(p.closing, proxyTimeout)
	defer cancel()
	var onward *tls.Conn
	secured := tls.Server(client, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name := cmp.Or(hello.ServerName, name)
		// It is a simulation, between simulations: whom it speaks to is of no matter.
		onward = tls.Client(target, &tls.Config{ServerName: name, NextProtos: hello.SupportedProtos, InsecureSkipVerify: true})
		if err := onward.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		certificate, err := p.authority.issue(name)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		if protocol := onward.ConnectionState().NegotiatedProtocol; protocol != "" {
			config.NextProtos = []string{protocol}
		}
		return config, nil
	}})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	if onward == nil {
		return nil, nil, errors.New("the client said nothing of whom it speaks to")
	}
	return secured, onward, nil
}
