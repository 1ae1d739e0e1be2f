package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/access"
	"defender-integration/server/failure"
)

// guard says who may call what, by the certificates and the policy that are in force at the time. It is safe for concurrent use.
type guard struct {
	// certificates are nil where there is no TLS.
	certificates *certificates
	// policy is nil where there is no policy file. Then callers of this machine may do all, and all others where the server is insecure.
	policy   atomic.Pointer[access.Policy]
	insecure bool
	// clock tells the time that certificates are held against.
	clock func() time.Time

	connections *connections
	streams     *openStreams
	// closeLimit is how long the calls have to end on a connection that is to be closed.
	closeLimit time.Duration
	logger     *slog.Logger
	metrics    *metrics
}

// verification is whether a connection's certificate verifies: by what, and for how long.
type verification struct {
	by    *tlsState
	until time.Time
	// failed is why it does not, nil where it does.
	failed *failure.Error
}

// granting is what a connection's caller holds by a policy.
type granting struct {
	by     *access.Policy
	grants access.Grants
}

// watch takes what is in the files that the options name, and returns what looks at them from then on. It returns an error where anything
// about them is not right: a server never begins with less than it was told to.
func (g *guard) watch(options Options) (*watcher, error) {
	w := &watcher{interval: options.ReloadInterval, each: g.recheck, logger: options.Logger, metrics: g.metrics}
	if options.TLS.enabled() {
		var err error
		if g.certificates, err = newCertificates(options.TLS, options.TLSMinVersion, g.clock, g.metrics.expiry); err != nil {
			return nil, err
		}
		w.files = append(w.files, &watched{name: "tls", paths: options.TLS.paths(), take: g.takeTLS})
	}
	if path := options.PolicyFile; path != "" {
		take := func(contents [][]byte) error {
			if err := g.takePolicy(contents[0]); err != nil {
				return fmt.Errorf("the policy file %s: %w", path, err)
			}
			return nil
		}
		w.files = append(w.files, &watched{name: "policy", paths: []string{path}, take: take})
	}
	for _, files := range w.files {
		if err := files.begin(); err != nil {
			return nil, err
		}
		g.metrics.reloadFailing.WithLabelValues(files.name).Set(0)
	}
	return w, nil
}

// takePolicy takes the contents of the policy file. Streams that it no longer allows have been ended when it returns.
func (g *guard) takePolicy(data []byte) error {
	policy, err := access.Parse(data)
	if err != nil {
		return err
	}
	g.policy.Store(policy)
	g.recheck()
	return nil
}

// takeTLS takes the contents of the files for TLS. Connections that they no longer vouch for carry no call when it returns.
func (g *guard) takeTLS(contents [][]byte) error {
	if err := g.certificates.take(contents); err != nil {
		return err
	}
	g.recheck()
	return nil
}

// recheck holds what is open against what is in force: connections whose certificate does not verify are closed, and streams end that
// are not allowed.
func (g *guard) recheck() {
	now := g.clock()
	for _, conn := range g.connections.all() {
		_ = g.verify(conn, now) // It sees to a connection that fails.
	}
	g.streams.endWhere(func(c *call) *failure.Error {
		conn, need := c.needs()
		if conn == nil {
			return nil
		}
		if failed := g.verify(conn, now); failed != nil {
			return failed
		}
		return g.allow(conn, need)
	})
}

// verify returns why a connection's certificate does not verify now, nil where it does, or where there is none. A connection that fails
// is closed, once its calls have ended, and so it has failed for good, though an authority comes back meanwhile.
func (g *guard) verify(conn *connection, now time.Time) *failure.Error {
	if len(conn.certificates) == 0 {
		return nil
	}
	state, last := g.certificates.current.Load(), conn.verified.Load()
	if last != nil && (last.failed != nil || last.by == state && now.Before(last.until)) {
		return last.failed
	}
	result := verifyCertificates(conn.certificates, state, now)
	conn.verified.Store(result)
	if result.failed != nil && conn.expel(g.closeLimit) {
		g.metrics.expelled.Inc()
		g.logger.LogAttrs(context.Background(), slog.LevelWarn,
			"the certificate of a connection does not verify any more: its calls are refused, its streams end, and it is closed",
			slog.String("caller", conn.identities[0]), slog.String("peer", conn.RemoteAddr().String()),
			slog.String("cause", result.failed.Message))
	}
	return result.failed
}

// verifyCertificates verifies a client's certificate, the first of those that it sent, as the handshake does.
func verifyCertificates(sent []*x509.Certificate, by *tlsState, now time.Time) *verification {
	result := &verification{by: by}
	intermediates := x509.NewCertPool()
	for _, certificate := range sent[1:] {
		intermediates.AddCert(certificate)
	}
	chains, err := sent[0].Verify(x509.VerifyOptions{
		Roots: by.clientCAs, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		result.failed = unauthenticated(sent[0], now).Because(err)
		return result
	}
	for _, chain := range chains {
		if end := endOf(chain); end.After(result.until) {
			result.until = end
		}
	}
	return result
}

// endOf returns when the first certificate of a chain expires.
func endOf(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, certificate := range chain[1:] {
		if certificate.NotAfter.Before(end) {
			end = certificate.NotAfter
		}
	}
	return end
}

// unauthenticated is the failure of a call over a connection whose certificate does not verify.
func unauthenticated(leaf *x509.Certificate, now time.Time) *failure.Error {
	why := "is not signed by the client CA that the service trusts now"
	if now.After(leaf.NotAfter) {
		why = "expired at " + leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED,
		"the certificate of this connection %s; connect again with one that verifies", why)
}

// grants returns what the caller at the other end of a connection holds now.
func (g *guard) grants(conn *connection) access.Grants {
	policy := g.policy.Load()
	if policy == nil {
		if conn.local || g.insecure {
			return access.Everything()
		}
		return access.Grants{}
	}
	last := conn.granted.Load()
	if last == nil || last.by != policy {
		last = &granting{by: policy, grants: policy.Grants(conn.identities)}
		conn.granted.Store(last)
	}
	return last.grants
}

// allow returns why a call with this need is not allowed now, nil where it is.
func (g *guard) allow(conn *connection, need need) *failure.Error {
	grants := g.grants(conn)
	switch {
	case need.policy.callers == callersKnown && conn.identities[0] == access.Anonymous && !grants.AllowSome(access.All):
		return failure.New(integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED,
			"%s may not call %s: it is for callers of whom it is known who they are", access.Anonymous, need.method).
			With("caller", access.Anonymous).With("method", need.method)
	case need.policy.callers != callersInRole:
		return nil
	}
	if need.policy.named && grants.Allow(need.policy.roles, need.integration) || !need.policy.named && grants.AllowSome(need.policy.roles) {
		return nil
	}
	return notAllowed(conn.identities[0], need)
}

// notAllowed is the failure of a call that no rule allows. It is the same whether there is such an integration or not.
func notAllowed(who string, need need) *failure.Error {
	where := ""
	switch {
	case need.policy.named && need.integration == "":
		where = " for every integration, as a request without an id needs it"
	case need.policy.named:
		where = fmt.Sprintf(" for the integration %q", need.integration)
	}
	f := failure.New(integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED,
		"%s may not call %s: the service's policy gives it no role %s%s; who runs the service can change that",
		who, need.method, need.policy.roles, where).
		With("caller", who).With("method", need.method).With("role", need.policy.roles.String())
	if need.integration != "" {
		f = f.With("integration_id", need.integration)
	}
	return f
}
