package defendertest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Options are the settings of a [Server]. The zero value is a server in clear on a free port of the loopback, with Microsoft's
// limits and this machine's clock.
type Options struct {
	// Addr is where to listen, host and port. Default: 127.0.0.1:0, a free port.
	Addr string
	// Clock is what Microsoft's clock goes by. Default: this machine's.
	Clock Clock
	// TLS makes the server speak HTTPS, with a certificate of its own authority; see [Server.CAPEM].
	TLS bool
	// Hosts are names and addresses for the certificate, besides localhost, 127.0.0.1 and ::1.
	Hosts []string
	// TokenLifetime is how long an access token is valid. Default: 3599 seconds, as in Microsoft's samples.
	TokenLifetime time.Duration
	// Limits are how many calls each API takes. Default: Microsoft's.
	Limits Limits
	// Graph are the settings of Graph's alerts.
	Graph GraphOptions
	// Hunting are the settings of advanced hunting.
	Hunting HuntingOptions
	// Machines are the settings of the list of machines.
	Machines MachinesOptions
	// EndpointAlerts are the settings of Defender for Endpoint's list of alerts.
	EndpointAlerts EndpointAlertsOptions
	// SIEM are the settings of the alert exporter.
	SIEM SIEMOptions
	// Log takes what net/http has to say, such as failed TLS handshakes. Default: nowhere.
	Log *slog.Logger
}

// Server is a simulated Microsoft. It is safe for concurrent use. Close it after use.
type Server struct {
	options  Options
	clock    *movableClock
	listener *doorway
	http     *http.Server
	served   chan struct{}   // closed when http.Serve has returned
	closing  context.Context //nolint:containedctx // It is the life of the server, which Close ends.
	close    context.CancelFunc
	ca       *signer // nil without TLS

	limiter *limiter
	faults  faults
	calls   calls

	mu      sync.Mutex
	tenants []*Tenant
	grants  grants
}

// New starts a server. It fails when the address cannot be listened on.
func New(options Options) (*Server, error) {
	options.Addr = cmp.Or(options.Addr, "127.0.0.1:0")
	options.TokenLifetime = cmp.Or(options.TokenLifetime, 3599*time.Second)
	options.Limits = options.Limits.withDefaults()
	options.Graph.PageSize = cmp.Or(options.Graph.PageSize, graphDefaultPage)
	options.Hunting.MaxRows = cmp.Or(options.Hunting.MaxRows, huntingMaxRows)
	options.Hunting.MaxBytes = cmp.Or(options.Hunting.MaxBytes, huntingMaxBytes)
	options.Machines.PageSize = cmp.Or(options.Machines.PageSize, machinesMaxPage)
	options.EndpointAlerts.PageSize = cmp.Or(options.EndpointAlerts.PageSize, endpointMaxTop)
	if options.Clock == nil {
		options.Clock = systemClock{}
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}

	s := &Server{
		options: options,
		clock:   &movableClock{base: options.Clock},
		served:  make(chan struct{}),
		limiter: newLimiter(),
		grants:  grants{},
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),
		ConnContext:       withConnection,
	}

	listener, err := net.Listen("tcp", options.Addr)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("simulated Microsoft: listen on %s: %w", options.Addr, err)
	}
	if options.TLS {
		var certificate tls.Certificate
		if s.ca, err = newSigner("Simulated Microsoft (test authority)"); err == nil {
			certificate, err = s.ca.issue(append([]string{"localhost", "127.0.0.1", "::1"}, options.Hosts...)...)
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("simulated Microsoft: make a certificate: %w", errors.Join(err, listener.Close()))
		}
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	s.listener = newDoorway(listener)
	go func() {
		defer close(s.served)
		// Both return ErrServerClosed after Close; a listener that fails by itself shows in every caller's test.
		if options.TLS {
			_ = s.http.ServeTLS(s.listener, "", "")
		} else {
			_ = s.http.Serve(s.listener)
		}
	}()
	return s, nil
}

// Close ends every request, those that hang too, and stops listening. It returns when nothing of the server runs any more
// but handlers on their way out.
func (s *Server) Close() error {
	s.close()
	err := s.http.Close()
	<-s.served
	return err
}

// URL is the server's address, such as http://127.0.0.1:40123, without a path.
func (s *Server) URL() string {
	scheme := "http"
	if s.options.TLS {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String()
}

// TokenURL is the v2.0 token endpoint of a tenant.
func (s *Server) TokenURL(tenant string) string { return s.URL() + "/" + tenant + "/oauth2/v2.0/token" }

// TokenURLV1 is the v1 token endpoint of a tenant.
func (s *Server) TokenURLV1(tenant string) string { return s.URL() + "/" + tenant + "/oauth2/token" }

// Host is the address that the server listens on, without the port.
func (s *Server) Host() string {
	host, _, _ := net.SplitHostPort(s.listener.Addr().String())
	return host
}

// Port is the port that the server listens on.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	n, _ := strconv.Atoi(port)
	return n
}

// CAPEM is the certificate of the server's authority in PEM, for a client to trust; nil without TLS.
func (s *Server) CAPEM() []byte {
	if s.ca == nil {
		return nil
	}
	return s.ca.pem
}

// Client returns an HTTP client that trusts the server. Its idle connections are the caller's to close.
func (s *Server) Client() *http.Client {
	transport := &http.Transport{}
	if s.options.TLS {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(s.ca.pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		transport.ForceAttemptHTTP2 = true
	}
	return &http.Client{Transport: transport}
}

// Now is the time by Microsoft's clock, in UTC.
func (s *Server) Now() time.Time { return s.clock.Now() }

// SetClockOffset sets how far Microsoft's clock is ahead of Options.Clock; behind where it is negative.
func (s *Server) SetClockOffset(offset time.Duration) { s.clock.set(offset) }

// AdvanceClock moves Microsoft's clock on.
func (s *Server) AdvanceClock(by time.Duration) { s.clock.advance(by) }
