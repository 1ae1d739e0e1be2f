package defendertest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// userAssignedID is the client id of a user-assigned managed identity.
const userAssignedID = "33333333-aaaa-4bbb-8ccc-000000000003"

// newIdentities is a world whose machine has a system-assigned identity and a user-assigned one.
func newIdentities(t *testing.T, options Options) *world {
	t.Helper()
	w := newWorld(t, options)
	w.app.SetManagedIdentity()
	w.tenant.AddApplication(userAssignedID, testSecret, RoleSecurityAlertRead).AssignToMachine()
	w.tenant.AddApplication("no-identity", testSecret)
	return w
}

// identityBody is what the endpoints answer.
type identityBody struct {
	AccessToken string `json:"access_token"`
	ClientID    string `json:"client_id"`
	ExpiresIn   string `json:"expires_in"`
	ExpiresOn   string `json:"expires_on"`
	Resource    string `json:"resource"`
	TokenType   string `json:"token_type"`
	Description string `json:"error_description"`
	Message     string `json:"message"`
}

func TestManagedIdentity(t *testing.T) {
	w := newIdentities(t, Options{})
	const imds, appService = metadataPath + "?api-version=2018-02-01", appServicePath + "?api-version=2019-08-01"
	metadata, identity := http.Header{"Metadata": {"true"}}, http.Header{"X-Identity-Header": {IdentityHeader}}
	graph := "&resource=" + string(Graph)
	tests := []struct {
		name   string
		path   string
		header http.Header
		status int
		client string // whose token it is
		words  string
	}{
		{"system-assigned", imds + graph, metadata, 200, testAppID, ""},
		{"user-assigned", imds + graph + "&client_id=" + userAssignedID, metadata, 200, userAssignedID, ""},
		{"system-assigned by its id", imds + graph + "&client_id=" + testAppID, metadata, 200, testAppID, ""},
		{"no header", imds + graph, nil, 400, "", "Required metadata header"},
		{"other version", metadataPath + "?api-version=1" + graph, metadata, 400, "", "api-version"},
		{"unknown", imds + graph + "&client_id=nobody", metadata, 400, "", "Identity not found"},
		{"no identity", imds + graph + "&client_id=no-identity", metadata, 400, "", "Identity not found"},
		{"no resource", imds, metadata, 400, "", "AADSTS900144"},
		{"a scope for a resource", imds + graph + "/.default", metadata, 400, "", "AADSTS500011"},
		{"App Service", appService + graph, identity, 200, testAppID, ""},
		{"App Service, user-assigned", appService + graph + "&client_id=" + userAssignedID, identity, 200, userAssignedID, ""},
		{"App Service, wrong header", appService + graph, metadata, 401, "", "identity header"},
		{"App Service, other version", appServicePath + "?api-version=2017-09-01" + graph, identity, 400, "", "api-version"},
		{"App Service, unknown", appService + graph + "&client_id=nobody", identity, 400, "", "No User Assigned"},
		{"App Service, no resource", appService, identity, 400, "", "resource"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL()+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = tt.header.Clone()
			got := w.do(r)
			body := decode[identityBody](t, got.body)
			if got.status != tt.status || !strings.Contains(body.Description+body.Message, tt.words) {
				t.Fatalf("%d %s, want %d and %q", got.status, got.body, tt.status, tt.words)
			}
			if tt.status != http.StatusOK {
				return
			}
			if body.ClientID != tt.client || body.ExpiresOn != "1795172399" || body.TokenType != "Bearer" || body.Resource != string(Graph) {
				t.Errorf("answer is %+v", body)
			}
			if strings.HasPrefix(tt.path, metadataPath) != (body.ExpiresIn == "3599") {
				t.Errorf("expires_in is %q", body.ExpiresIn)
			}
			checkError(t, w.get(body.AccessToken, alertsPath), http.StatusOK, "", "")
		})
	}
}

func TestSystemAssignedIdentityIsOne(t *testing.T) {
	w := newIdentities(t, Options{})
	other := w.server.AddTenant("other").AddApplication("other-app", testSecret)
	other.SetManagedIdentity()
	if got := w.server.identityOf(""); got != other {
		t.Errorf("the system-assigned identity is %v, want the newest", got)
	}
	if w.server.identityOf(testAppID) != nil {
		t.Error("the one before is still an identity of the machine")
	}
	if w.server.identityOf(userAssignedID) == nil {
		t.Error("the user-assigned identity is gone")
	}
}

// TestMicrosoftsLibraryWithManagedIdentity holds App Service's endpoint to what Microsoft's own library asks and understands.
func TestMicrosoftsLibraryWithManagedIdentity(t *testing.T) {
	w := newIdentities(t, Options{TLS: true, Clock: systemClock{}})
	t.Setenv("IDENTITY_ENDPOINT", w.server.IdentityEndpoint())
	t.Setenv("IDENTITY_HEADER", IdentityHeader)
	for _, id := range []azidentity.ManagedIDKind{nil, azidentity.ClientID(userAssignedID)} {
		credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ID: id, ClientOptions: azcore.ClientOptions{Transport: w.client},
		})
		if err != nil {
			t.Fatal(err)
		}
		// The library keeps tokens for the whole process, those of an earlier run of this test too. With claims it asks anew.
		token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{string(Graph) + "/.default"}, Claims: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(token.ExpiresOn); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the token is good for %s", left)
		}
		checkError(t, w.get(token.Token, alertsPath), http.StatusOK, "", "")
	}
	if got := len(w.server.Calls(OnRoute(RouteIdentity))); got != 2 {
		t.Errorf("%d calls, want 2", got)
	}
}
