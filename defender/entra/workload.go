package entra

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"defender-integration/defender/rest"
	"defender-integration/defender/secretsdir"
)

// tokenFileVariable is what names the file with the federated token where the integration does not: Azure's workload identity for
// Kubernetes sets it (https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html).
const tokenFileVariable = "AZURE_FEDERATED_TOKEN_FILE"

// workload is the token of another identity provider that the application trusts by a federated credential
// (https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation). Whoever runs the service renews the file.
type workload struct {
	endless
	authority       authority
	clientID, scope string
	// file is relative to the folder; empty is the one that the environment names.
	file  string
	files *secretsdir.Dir
}

func (w *workload) ask(ctx context.Context, client *http.Client) error {
	assertion, _, err := w.read()
	if err != nil {
		return err
	}
	// A new one each time, for its cache.
	asker, err := azidentity.NewClientAssertionCredential(w.authority.tenant, w.clientID,
		func(context.Context) (string, error) { return assertion, nil },
		&azidentity.ClientAssertionCredentialOptions{
			ClientOptions: w.authority.options(client), DisableInstanceDiscovery: true,
		})
	if err != nil {
		return unusable("The federated token cannot be sent.", urlRemedy)
	}
	_, err = asker.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{w.scope}})
	return err
}

// federated is what a federated token says about itself. It is not verified: Entra does that.
type federated struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	Expires  float64         `json:"exp"`
}

// end is when the token expires; zero where it does not say.
func (f *federated) end() time.Time {
	const last = 1 << 40 // far beyond any, and still a time
	if f.Expires <= 0 || f.Expires > last {
		return time.Time{}
	}
	return time.Unix(int64(f.Expires), 0)
}

// name is the token's file; empty where nothing names one.
func (w *workload) name() string { return cmp.Or(w.file, os.Getenv(tokenFileVariable)) }

// read returns the token as it is now, and what it says.
func (w *workload) read() (string, *federated, error) {
	var content []byte
	var err error
	name := w.name()
	switch {
	case w.file != "":
		content, err = w.files.Read(name)
	case name != "":
		content, err = secretsdir.ReadFile(name)
	default:
		return "", nil, unusable("There is no federated token: the integration names no file, and neither does this service's environment.",
			"Give a file in authentication.workload_identity.token_file, or run the service where "+tokenFileVariable+
				" is set, as in a Kubernetes pod with the label azure.workload.identity/use.")
	}
	if err != nil {
		return "", nil, err
	}
	assertion := strings.TrimSpace(string(content))
	said := &federated{}
	if decodeClaims(assertion, said) != nil {
		return "", nil, unusable(fmt.Sprintf("The file %q holds no federated token: it is not a JSON Web Token.", rest.Excerpt(name)),
			"Check that the file is the one that the other identity provider's token is written to.")
	}
	if end := said.end(); !end.IsZero() && time.Now().After(end) {
		return "", nil, expired(fmt.Sprintf("The federated token in the file %q", rest.Excerpt(name)), end,
			"Check what renews that file: in Kubernetes, that the pod's service account token is projected and its node is well.")
	}
	return assertion, said, nil
}

func (w *workload) inspect() (Inspection, error) {
	found := Inspection{Kind: "a federated token (workload identity)", File: w.name()}
	_, said, err := w.read()
	if err != nil {
		return found, err
	}
	found.Issuer, found.Subject, found.Expires = rest.Excerpt(said.Issuer), rest.Excerpt(said.Subject), said.end()
	// It is a text or a list of texts (https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3).
	var list []string
	if json.Unmarshal(said.Audience, &list) != nil {
		list = []string{unquote(said.Audience)}
	}
	found.Audience = rest.Excerpt(strings.Join(list, ", "))
	return found, nil
}
