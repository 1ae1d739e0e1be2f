package entra

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// credential is what proves that we are the application, and how a token is asked for with it.
type credential interface {
	// ask asks for a token, anew each time: neither the credential's own caches nor a library's are used. All requests are made by
	// client. What they are answered with is not the credential's business; it returns an error where it could not ask, which is told
	// when it is a *defender.Error, and dropped otherwise.
	ask(ctx context.Context, client *http.Client) error
	// inspect says what the credential is, and sends nothing.
	inspect() (Inspection, error)
	// until is when the client certificate ends that was last asked with; zero before, and where the credential is none.
	until() time.Time
}

// endless is for credentials that are no certificate.
type endless struct{}

func (endless) until() time.Time { return time.Time{} }

// Inspection is what can be said of a credential without sending anything. It holds no secret.
type Inspection struct {
	// Kind is what it is, in words that complete "The credential is ...": such as "a client secret".
	Kind string
	// File is the file and Variable the environment variable that it is read from, as it was named; empty where it is none.
	File, Variable string
	// Expires is until when it is good: a certificate's end, or that of a federated token. Zero where that cannot be known.
	Expires time.Time
	// Subject is a certificate's subject or a federated token's; Thumbprint is a certificate's, SHA-1 in hexadecimal as Entra's
	// portal shows it.
	Subject, Thumbprint string
	// Issuer and Audience are a federated token's. They and the subject must be those of a federated credential of the application.
	Issuer, Audience string
}

// newCredential returns the credential of an integration, and how its requests are made.
func newCredential(config Config) (credential, wireConfig, error) {
	a := config.Authentication
	w := wireConfig{http: config.HTTP, userAgent: config.UserAgent}
	if (config.Scope == "") == (config.Resource == "") {
		return nil, w, invalid("There is neither a scope nor a resource to ask tokens for, or both.",
			"Give authentication.scope with an authorization URL that ends in /oauth2/v2.0/token, or authentication.resource with one that ends in /oauth2/token.")
	}
	if config.Resource != "" && a.GetClientSecret() == nil {
		return nil, w, invalid("A resource goes with a client secret alone: other credentials are for the v2.0 token endpoint.",
			"Give authentication.scope in its place, such as "+config.Resource+"/.default.")
	}
	if a.GetManagedIdentity() != nil {
		m := newManaged(a.GetClientId(), config.Scope)
		w.http, w.host, w.managed = m.http, "the managed identity endpoint", m
		return m, w, nil
	}

	if a.GetClientId() == "" {
		return nil, w, invalid("The application's (client's) id is empty.", "Give it in authentication.client_id.")
	}
	endpoint, err := url.Parse(a.GetAuthorizationUrl())
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http" || endpoint.User != nil {
		return nil, w, invalid("The authorization URL cannot be used.", urlRemedy)
	}
	w.origin = &url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host}
	w.host = endpoint.Host
	switch kind := a.GetCredential().(type) {
	case *integrationv1.Authentication_ClientSecret:
		where := config.kept(config.Secrets.GetClientSecret(), kind.ClientSecret.GetFile(), kind.ClientSecret.GetEnvVariable())
		if where.empty() {
			return nil, w, invalid("The client secret is empty.", "Give the secret's Value in authentication.client_secret.value, or a file in authentication.client_secret.file.")
		}
		return &secret{
			endpoint: endpoint.String(), clientID: a.GetClientId(), scope: config.Scope, resource: config.Resource, kept: where,
		}, w, nil
	case *integrationv1.Authentication_ClientCertificate:
		certificateKept := config.kept(
			config.Secrets.GetClientCertificate(), kind.ClientCertificate.GetFile(), kind.ClientCertificate.GetEnvVariable())
		if certificateKept.empty() {
			return nil, w, invalid("The client certificate is empty.", "Give it with its private key in authentication.client_certificate.pem, or a file in authentication.client_certificate.file.")
		}
		where, err := newAuthority(endpoint)
		return &certificate{authority: where, clientID: a.GetClientId(), scope: config.Scope, kept: certificateKept}, w, err
	case *integrationv1.Authentication_WorkloadIdentity:
		where, err := newAuthority(endpoint)
		return &workload{
			authority: where, clientID: a.GetClientId(), scope: config.Scope, file: kind.WorkloadIdentity.GetTokenFile(), files: config.Files,
		}, w, err
	default:
		return nil, w, invalid("The integration has no credential.",
			"Give one of client_secret, client_certificate, workload_identity and managed_identity in authentication.")
	}
}

// kept is a secret of the integration's, with the file and the variable that are named in its place.
func (c *Config) kept(value, file, variable string) kept {
	return kept{value: value, file: file, variable: variable, files: c.Files, variables: c.Variables}
}

const urlRemedy = "Give authentication.authorization_url as https://login.microsoftonline.com/TENANT/oauth2/v2.0/token, with your cloud's host, or leave it out for the default."

// authority is where a certificate or a federated token is sent: the v2.0 token endpoint of a tenant.
type authority struct {
	// host is the origin with https, tenant the tenant's id or domain.
	host, tenant string
}

// newAuthority takes an authorization URL apart. The library that asks with certificates and federated tokens works its addresses out
// from host and tenant, so that the URL must be just of that form.
func newAuthority(endpoint *url.URL) (authority, error) {
	tenant, isV2 := strings.CutSuffix(strings.TrimPrefix(endpoint.Path, "/"), "/oauth2/v2.0/token")
	wrongTenant := tenant == "" || strings.Trim(tenant, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-") != ""
	switch strings.ToLower(tenant) {
	case "common", "organizations", "consumers", // no tenants
		"adfs", "dstsv2": // other kinds of authorities to the library
		wrongTenant = true
	}
	if endpoint.Scheme != "https" || !isV2 || wrongTenant {
		return authority{}, invalid("The authorization URL is not that of a tenant's v2.0 token endpoint over HTTPS, the only one that certificates and workload identity go with.",
			urlRemedy)
	}
	return authority{host: "https://" + endpoint.Host, tenant: tenant}, nil
}

// invalid is the error of settings that do not go together.
func invalid(message, remedy string) *defender.Error {
	return told(integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID, message, remedy)
}

// unusable is the error of a credential that cannot be used as it is.
func unusable(message, remedy string) *defender.Error {
	return told(integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE, message, remedy)
}

func told(reason integrationv1.ErrorReason, message, remedy string) *defender.Error {
	return &defender.Error{
		Problem:   &integrationv1.Problem{Reason: reason, Message: message, Remedy: remedy},
		Permanent: true,
	}
}

// expired says that a credential is good no more. This machine's clock is gone by: a token is not asked for with what is seen to have
// ended, since the refusal would say less.
func expired(what string, end time.Time, remedy string) *defender.Error {
	return unusable(fmt.Sprintf("%s expired at %s.", what, end.UTC().Format(time.RFC3339)), remedy)
}
