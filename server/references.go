package server

import (
	"fmt"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/access"
	"defender-integration/server/failure"
)

// reference is a place of the operator's that an integration names instead of bringing what is there.
type reference struct {
	// field is its path in an integration.
	field string
	// name is the file's, relative to the folder for secrets, or the environment variable's; empty where none is named.
	name string
	// variable says that it is an environment variable.
	variable bool
}

// references returns all the places that an integration can name.
func references(settings *integrationv1.Integration) []reference {
	a, proxy := settings.GetAuthentication(), settings.GetProxy()
	return []reference{
		{"authentication.client_secret.file", a.GetClientSecret().GetFile(), false},
		{"authentication.client_secret.env_variable", a.GetClientSecret().GetEnvVariable(), true},
		{"authentication.client_certificate.file", a.GetClientCertificate().GetFile(), false},
		{"authentication.client_certificate.env_variable", a.GetClientCertificate().GetEnvVariable(), true},
		{"authentication.workload_identity.token_file", a.GetWorkloadIdentity().GetTokenFile(), false},
		{"proxy.password_file", proxy.GetPasswordFile(), false},
		{"proxy.password_env_variable", proxy.GetPasswordEnvVariable(), true},
		{"trust.ca_file", settings.GetTrust().GetCaFile(), false},
	}
}

// foreign returns the field by which an integration would be given what is not its own, and what its own would be; empty where it
// takes none. Its own are the files below the folder of its id. What the service authenticates with itself, and a variable, is for every
// integration, and so nobody's own.
func foreign(settings *integrationv1.Integration) (field, own string) {
	folder := settings.GetIntegrationId() + "/"
	own = fmt.Sprintf("a file below %s", folder)
	a := settings.GetAuthentication()
	switch {
	case a.GetManagedIdentity() != nil:
		return "authentication.managed_identity", own
	case a.GetWorkloadIdentity() != nil && a.GetWorkloadIdentity().GetTokenFile() == "":
		return "authentication.workload_identity", own
	}
	for _, r := range references(settings) {
		if r.name != "" && (r.variable || !strings.HasPrefix(r.name, folder)) {
			return r.field, own
		}
	}
	return "", ""
}

// ownCredentials returns a failure where a caller that is not an operator of every integration gives one what is not its own: it could
// read with it what another's credential lets it read. In the folder for secrets no name leads out of a folder below.
func ownCredentials(grants access.Grants, who string, need need, request any) *failure.Error {
	carrier, ok := request.(integrationCarrier)
	if !ok || grants.Allow(access.Operator, "") {
		return nil
	}
	field, own := foreign(carrier.GetIntegration())
	if field == "" {
		return nil
	}
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED,
		"%s may give the integration %q only what is its own, %s or a value, and %s names something else; an operator of all integrations may",
		who, need.integration, own, field).
		With("caller", who).With("method", need.method).With("role", access.Operator.String()).
		With("integration_id", need.integration).With("field", field)
}
