package entra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The time limits of a managed identity's endpoint. It is on this machine or next to it: one that is not there must be told soon.
const (
	managedDialTimeout   = 3 * time.Second
	managedHeaderTimeout = 20 * time.Second
	managedMaxHeader     = 64 << 10
)

// managed is the managed identity of the Azure resource that the service runs on
// (https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/overview). Which endpoint is asked for tokens is
// the environment's to say, as the library reads it: App Service, Container Apps, Azure Arc and others name theirs, a virtual machine
// has the Instance Metadata Service at 169.254.169.254. The one of Service Fabric is not supported: its certificate would have to be
// pinned in a transport of the library's own.
type managed struct {
	endless
	// clientID is the user-assigned identity's; empty is the system-assigned one.
	clientID, scope string
	// http makes the requests. It is apart from that of integrations: nothing that a caller configures, such as a proxy, has a say in
	// it, and only here are link-local addresses called.
	http *http.Client
}

func newManaged(clientID, scope string) *managed {
	return &managed{clientID: clientID, scope: scope, http: rest.NewHTTPClient(&http.Transport{
		DialContext:            (&net.Dialer{Timeout: managedDialTimeout}).DialContext,
		TLSHandshakeTimeout:    managedDialTimeout,
		ResponseHeaderTimeout:  managedHeaderTimeout,
		MaxResponseHeaderBytes: managedMaxHeader,
		// Tokens are asked for a few times a day: no connection is worth keeping, and none has to be closed.
		DisableKeepAlives: true,
	})}
}

// unneeded is a claim that asks for nothing. With claims, the library passes by its cache, which all credentials of the process share and
// which would otherwise give the token again that was refused. They are not sent.
const unneeded = "{}"

func (m *managed) ask(ctx context.Context, client *http.Client) error {
	options := &azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: azcore.ClientOptions{
			Transport: client,
			Retry:     policy.RetryOptions{MaxRetries: -1},
			Telemetry: policy.TelemetryOptions{Disabled: true},
		},
	}
	if m.clientID != "" {
		options.ID = azidentity.ClientID(m.clientID)
	}
	asker, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		return unusable("The managed identity cannot be used: the kind of Azure resource that this service runs on is not supported, or has no user-assigned identities.",
			"Leave authentication.client_id empty for the system-assigned identity. On Service Fabric, use workload identity or a certificate instead.")
	}
	_, err = asker.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{m.scope}, Claims: unneeded})
	return err
}

func (m *managed) inspect() (Inspection, error) {
	return Inspection{Kind: m.what()}, nil
}

// what names the identity.
func (m *managed) what() string {
	if m.clientID == "" {
		return "the system-assigned managed identity"
	}
	return "the user-assigned managed identity " + rest.Excerpt(m.clientID)
}

// unreachable tells why the endpoint gave no answer.
func (m *managed) unreachable(err error) error {
	e := rest.Unreachable("The managed identity endpoint", "this machine", err)
	e.Problem.Message = "No managed identity endpoint answers on this machine."
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		e.Problem.Message = "No managed identity endpoint answers on this machine in time."
	}
	e.Problem.Remedy = "Managed identities are there on Azure resources alone, and their endpoint must be reachable from this service: " +
		"in a container or pod, check that its network lets it reach 169.254.169.254. Elsewhere use workload identity or a certificate."
	return e
}

// refusal tells what a refusal of the endpoint means, by its status
// (https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling).
func (m *managed) refusal(e *defender.Error, status int) {
	p := e.Problem
	switch {
	case status >= 500, status == http.StatusNotFound, status == http.StatusGone:
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
		p.Message = fmt.Sprintf("The managed identity endpoint gave no token: it failed (HTTP status %d).", status)
		p.Remedy = "It is tried again: the endpoint does so while Azure updates it. If it stays, check that the Azure resource has a managed identity."
	case status == http.StatusUnauthorized:
		e.Permanent = true
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
		p.Message = "The managed identity endpoint does not let this service ask for tokens (HTTP status 401)."
		p.Remedy = "Restart the service, so that it has the environment's newest IDENTITY_HEADER. On Azure Arc, this service's user must be in the group himds."
	case status == http.StatusBadRequest:
		e.Permanent = true
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
		p.Message = "The managed identity endpoint gave no token: " + m.what() + " is not assigned to the Azure resource that this service runs on, or the scope is wrong."
		p.Remedy = "In Azure, open the resource > Identity and switch the system-assigned identity on, or assign the user-assigned one and give its client id in authentication.client_id."
	default:
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
		p.Message = fmt.Sprintf("Asked for a token, the managed identity endpoint answered HTTP status %d.", status)
		p.Remedy = "Check that what answers there is the machine's managed identity endpoint, and no proxy."
	}
}
