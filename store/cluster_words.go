package store

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// explain returns what an error of the cluster means and what to do about it: ErrSetup where an operator has to mend it,
// ErrUnavailable where it may pass.
func (s *JetStream) explain(err error) error {
	if words, mendable := s.words(err); words != "" {
		if mendable {
			return fmt.Errorf("%w: %s: %w", ErrSetup, words, err)
		}
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, words, err)
	}
	return unavailable(err)
}

// noJetStream is told where nothing answers for JetStream.
const noJetStream = "JetStream does not answer: see that the servers are started with JetStream, and that a majority of them runs"

// words returns what an error of the cluster means; nothing where it explains itself. Mendable says that waiting does not help.
func (s *JetStream) words(err error) (text string, mendable bool) {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return s.apiWords(server.ErrorIdentifier(e.ErrorCode))
	}
	// The client's watches have an error of their own.
	if e, ok := errors.AsType[*nats.APIError](err); ok {
		return s.apiWords(server.ErrorIdentifier(e.ErrorCode))
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var remote *net.OpError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrNkeysNotSupported), errors.Is(err, nats.ErrNoUserCB):
		return "it does not let the service in: see that --nats-creds, --nats-nkey, --nats-cert or the user in --nats-url are what it knows", true
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "its server speaks in clear, and a cluster on other machines is spoken to over TLS: set up TLS there, or allow it with --nats-insecure", true
	case errors.As(err, &unknown):
		return "its certificate is of an authority that is not trusted: name the authority's file with --nats-ca", true
	case errors.As(err, &name), errors.As(err, &invalid):
		return "its certificate does not fit the host in --nats-url, or is not valid now", true
	case errors.Is(err, nats.ErrTLS), errors.As(err, &remote) && remote.Op == "remote error": // So crypto/tls tells an alert.
		return "it refuses the TLS handshake: see whether it wants a certificate, which --nats-cert and --nats-key give", true
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return noJetStream, false
	}
	return "", false
}

// apiWords is words for what JetStream answers.
func (s *JetStream) apiWords(code server.ErrorIdentifier) (text string, mendable bool) {
	switch code {
	case server.JSNotEnabledErr:
		return noJetStream, false
	case server.JSNotEnabledForAccountErr, server.JSNoLimitsErr:
		return "JetStream is not enabled for the account: enable it there", true
	case server.JSStreamReplicasNotSupportedErr:
		return fmt.Sprintf("its server is alone, and %d replicas need a cluster: set --nats-replicas to 1, or name a cluster", s.options.Replicas), true
	case server.JSClusterNoPeersErrF, server.JSInsufficientResourcesErr:
		return fmt.Sprintf("fewer of its servers than the %d of --nats-replicas run, have room and fit --nats-placement-cluster and --nats-placement-tag",
			s.options.Replicas), false
	case server.JSStorageResourcesExceededErr:
		return "the account's storage is used up, or smaller than what is asked for: raise its limit, or lower --nats-max-bytes", true
	case server.JSStreamMaxStreamBytesExceeded:
		return "the account allows smaller streams only: lower --nats-max-bytes", true
	case server.JSStreamMaxBytesRequired:
		return "the account demands a size limit of each stream: set --nats-max-bytes", true
	case server.JSMaximumStreamsLimitErr:
		return "the account may have no more streams: raise its limit; each integration takes one, and the service a few", true
	case server.JSClusterNotAvailErr, server.JSClusterNotActiveErr:
		return "JetStream has no leader now: a majority of the servers has to run", false
	}
	return "", false
}
