package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Access says how a NATS cluster is reached and trusted. All of them are paths of files, which are read again with each connection;
// empty where they are not used.
type Access struct {
	// CA has the authorities, in PEM, that the cluster's certificates are of; empty: the system's.
	CA string
	// Certificate and Key are what the service shows the cluster, in PEM.
	Certificate, Key string
	// Credentials is a NATS credentials file: a user's JWT and its key.
	Credentials string
	// NKey has the seed of a user's nkey.
	NKey string
	// Insecure lets a cluster on other machines be spoken to in clear.
	Insecure bool
}

const (
	// dialTimeout bounds how long one server of a cluster may take to be connected to, before the next is tried.
	dialTimeout = 2 * time.Second
	// pingInterval and pingsUnanswered find within three seconds a server that is gone without a word, or stopped: the connection
	// then moves to another one.
	pingInterval    = time.Second
	pingsUnanswered = 2
)

// clusterOptions returns how to connect to a cluster. No error of it quotes the URL, which may hold a password.
func (s *JetStream) clusterOptions() ([]nats.Option, error) {
	secure, err := needsTLS(s.options.URL)
	if err != nil {
		return nil, err
	}
	options := []nats.Option{
		nats.Timeout(min(dialTimeout, s.options.Timeout)),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsUnanswered),
		// Credentials that are refused may be mended, or the cluster may: it goes on by itself.
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(s.disconnected),
		nats.ReconnectHandler(s.reconnected),
		// While it is checked what the service may, check tells what it may not.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
	access := s.options.Access
	if err := access.readable(); err != nil {
		return nil, err
	}
	if secure && !access.Insecure || access.CA != "" || access.Certificate != "" {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if access.CA != "" {
		options = append(options, nats.RootCAs(access.CA))
	}
	if (access.Certificate == "") != (access.Key == "") {
		return nil, fmt.Errorf("%w: --nats-cert and --nats-key go together", ErrSetup)
	}
	if access.Certificate != "" {
		options = append(options, nats.ClientCert(access.Certificate, access.Key))
	}
	if access.Credentials != "" && access.NKey != "" {
		return nil, fmt.Errorf("%w: --nats-creds and --nats-nkey are two ways to say who the service is: give one", ErrSetup)
	}
	if access.Credentials != "" {
		options = append(options, nats.UserCredentials(access.Credentials))
	}
	if access.NKey != "" {
		seed, err := nats.NkeyOptionFromSeed(access.NKey)
		if err != nil {
			return nil, fmt.Errorf("%w: --nats-nkey: %s holds no seed of a user's nkey (it begins with SU), or cannot be read", ErrSetup, access.NKey)
		}
		options = append(options, seed)
	}
	return options, nil
}

// readable returns an error where a file cannot be read.
func (a Access) readable() error {
	for _, file := range []struct{ flag, path string }{
		{"--nats-ca", a.CA}, {"--nats-cert", a.Certificate}, {"--nats-key", a.Key}, {"--nats-creds", a.Credentials}, {"--nats-nkey", a.NKey},
	} {
		if file.path == "" {
			continue
		}
		if _, err := os.ReadFile(file.path); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSetup, file.flag, err)
		}
	}
	return nil
}

// needsTLS says whether one of the URLs, with commas between them, leads to another machine.
func needsTLS(urls string) (bool, error) {
	secure := false
	for text := range strings.SplitSeq(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return false, fmt.Errorf("%w: --nats-url holds something that is no URL such as tls://nats.example.com:4222", ErrSetup)
		}
		ip := net.ParseIP(u.Hostname())
		secure = secure || u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
	}
	return secure, nil
}

// disconnected logs that the connection was lost.
func (s *JetStream) disconnected(_ *nats.Conn, err error) {
	if err == nil || s.closing.Err() != nil {
		return // It is being closed.
	}
	s.logger.Warn("the connection to the NATS cluster is lost; it is tried again until it is back", slog.String("error", err.Error()))
}

// reconnected logs that the connection is back.
func (s *JetStream) reconnected(conn *nats.Conn) {
	s.logger.Info("connected to the NATS cluster again", slog.String("server", conn.ConnectedServerName()))
}

// complained logs what the cluster says of what was asked of it, such as that there is no right to it.
func (s *JetStream) complained(_ *nats.Conn, _ *nats.Subscription, err error) {
	_, mismatch := errors.AsType[*nats.ErrConsumerSequenceMismatch](err)
	if s.closing.Err() == nil && !mismatch && !errors.Is(err, nats.ErrConsumerNotActive) { // Watches begin anew by themselves.
		s.logger.Warn("the NATS cluster complains", slog.String("error", err.Error()))
	}
}
