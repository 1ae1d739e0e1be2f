package defendertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// ProxyKind is how a [Proxy] is spoken to.
type ProxyKind string

// The kinds.
const (
	// ProxyHTTP is spoken to in clear, and asked for a tunnel by CONNECT (https://www.rfc-editor.org/rfc/rfc9110#name-connect).
	ProxyHTTP ProxyKind = "http"
	// ProxyHTTPS is asked likewise, over TLS.
	ProxyHTTPS ProxyKind = "https"
	// ProxySOCKS5 speaks SOCKS 5 (https://www.rfc-editor.org/rfc/rfc1928).
	ProxySOCKS5 ProxyKind = "socks5"
)

const (
	// maxTunnels is how many connections a proxy has at a time; what comes beyond them is hung up on.
	maxTunnels = 256
	// proxyTimeout is how long a client may take to ask, and a target to be connected to.
	proxyTimeout = 10 * time.Second
)

// ProxyOptions are the settings of a [Proxy]. The zero value is an HTTP proxy on a free port of the loopback that lets everyone
// through.
type ProxyOptions struct {
	// Addr is where to listen, host and port. Default: 127.0.0.1:0, a free port.
	Addr string
	// Kind is how it is spoken to. Default: [ProxyHTTP].
	Kind ProxyKind
	// Names are names and addresses for the certificate of an https:// proxy, besides localhost, 127.0.0.1 and ::1.
	Names []string
	// Username and Password must be given where Username is set: by Basic (https://www.rfc-editor.org/rfc/rfc7617), or as SOCKS has
	// it (https://www.rfc-editor.org/rfc/rfc1929).
	Username, Password string
	// Schemes are what an HTTP proxy wants to be authenticated to by, such as Negotiate. It plays none of them: where there are some,
	// everyone is answered 407.
	Schemes []string
	// Refuse is what is answered in place of a tunnel: an HTTP status such as 403, or a reply of SOCKS such as 2, not allowed by the
	// rules. Default: nothing is refused.
	Refuse int
	// Inspect makes it a man in the middle: it speaks TLS with both sides, and shows the client a certificate for the target's name
	// that its own authority signed; see [Proxy.CAPEM]. It verifies nothing of the target.
	Inspect bool
	// Hosts are the names that it resolves itself: `name:port`, in lower case, to `address:port`. What is not there is connected to
	// as it was asked for.
	Hosts map[string]string
}

// Proxy is a simulated forward proxy. It is safe for concurrent use. Close it after use.
type Proxy struct {
	options   ProxyOptions
	listener  net.Listener
	authority *signer // nil where it has no use for one
	requests  proxyRecord

	closing context.Context //nolint:containedctx // It is the life of the proxy, which Close ends.
	close   context.CancelFunc
	served  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{} // to clients and to targets
}

// NewProxy starts a proxy. It fails where the options make none, and where the address cannot be listened on.
func NewProxy(options ProxyOptions) (*Proxy, error) {
	options.Addr = cmp.Or(options.Addr, "127.0.0.1:0")
	options.Kind = cmp.Or(options.Kind, ProxyHTTP)
	socks := options.Kind == ProxySOCKS5
	switch {
	case !socks && options.Kind != ProxyHTTP && options.Kind != ProxyHTTPS:
		return nil, fmt.Errorf("simulated proxy: there is no kind %q", options.Kind)
	case socks && len(options.Schemes) > 0:
		return nil, errors.New("simulated proxy: SOCKS has no schemes of HTTP")
	case options.Refuse != 0 && (socks && (options.Refuse < 0 || options.Refuse > 0xff) || !socks && (options.Refuse < 200 || options.Refuse > 599)):
		return nil, fmt.Errorf("simulated proxy: %d is not what such a proxy answers", options.Refuse)
	}
	p := &Proxy{options: options, open: make(map[net.Conn]struct{})}
	var err error
	if options.Inspect || options.Kind == ProxyHTTPS {
		if p.authority, err = newSigner("Simulated proxy (test authority)"); err != nil {
			return nil, fmt.Errorf("simulated proxy: make an authority: %w", err)
		}
	}
	serve := p.serveHTTP
	switch options.Kind {
	case ProxySOCKS5:
		serve = p.serveSOCKS
	case ProxyHTTPS:
		if serve, err = p.overTLS(p.serveHTTP); err != nil {
			return nil, fmt.Errorf("simulated proxy: make a certificate: %w", err)
		}
	}
	if p.listener, err = net.Listen("tcp", options.Addr); err != nil {
		return nil, fmt.Errorf("simulated proxy: listen on %s: %w", options.Addr, err)
	}
	p.closing, p.close = context.WithCancel(context.Background())
	p.served.Go(func() { p.accept(serve) })
	return p, nil
}

// Addr is where the proxy listens, host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is the proxy's address, such as http://127.0.0.1:40123, without name and password.
func (p *Proxy) URL() string { return string(p.options.Kind) + "://" + p.Addr() }

// CAPEM is the certificate of the proxy's authority in PEM, for a client to trust: it signs the certificate of an https:// proxy,
// and those that an inspecting proxy shows in its targets' place. It is nil where the proxy is neither.
func (p *Proxy) CAPEM() []byte {
	if p.authority == nil {
		return nil
	}
	return p.authority.pem
}

// Close stops listening and ends every tunnel. It returns when nothing of the proxy runs any more.
func (p *Proxy) Close() error {
	p.close()
	err := p.listener.Close()
	p.mu.Lock()
	for connection := range p.open {
		_ = connection.Close() // whoever speaks over it sees that it ends
	}
	p.mu.Unlock()
	p.served.Wait()
	return err
}

// accept serves each connection until the listener is closed.
func (p *Proxy) accept(serve func(*heard)) {
	slots := make(chan struct{}, maxTunnels)
	for {
		connection, err := p.listener.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = connection.Close() // there are too many
			continue
		}
		p.served.Go(func() {
			defer func() { <-slots }()
			defer p.keep(connection)()
			// It is for asking; a tunnel has none.
			_ = connection.SetDeadline(time.Now().Add(proxyTimeout))
			serve(&heard{Conn: connection})
		})
	}
}

// keep has Close end a connection, until the function that it returns ends it.
func (p *Proxy) keep(connection net.Conn) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[connection] = struct{}{}
	if p.closing.Err() != nil {
		_ = connection.Close() // Close was there before
	}
	return func() {
		_ = connection.Close() // perhaps again
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, connection)
	}
}

// dial connects to a target as the proxy resolves it.
func (p *Proxy) dial(target string) (net.Conn, error) {
	address := cmp.Or(p.options.Hosts[strings.ToLower(target)], target)
	dialer := net.Dialer{Timeout: proxyTimeout}
	return dialer.DialContext(p.closing, "tcp", address)
}
