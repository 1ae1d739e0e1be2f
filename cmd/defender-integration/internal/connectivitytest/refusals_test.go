package connectivitytest_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// refusal is settings that both RegisterIntegration and TestConnectivity refuse before anything is tried.
type refusal struct {
	name, is string
	change   func(*world)
	code     codes.Code
	reason   integrationv1.ErrorReason
	// words are part of the message, field is the metadata's.
	words, field string
	// onlyRegistering says that only RegisterIntegration refuses: the test tells it in a stage.
	onlyRegistering bool
}

// Short names for what the table says again and again.
const (
	invalidRequest = integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	notAllowed     = integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED
)

func refusals() []refusal {
	return []refusal{
		{
			name: "refused-api-host", is: "The operator does not allow the API's host.",
			change: func(w *world) { w.settings.Endpoint.Host = "graph.contoso.invalid" },
			code:   codes.FailedPrecondition, reason: notAllowed, words: "have the service's operator start it with --allow-endpoint graph.contoso.invalid:", field: "endpoint.host",
		},
		{
			name: "refused-login-host", is: "The operator does not allow the authorization host.",
			change: func(w *world) {
				w.settings.Authentication.AuthorizationUrl = "https://login.contoso.invalid/contoso/oauth2/v2.0/token"
			},
			code: codes.FailedPrecondition, reason: notAllowed, words: "this service does not allow login.contoso.invalid:443", field: "authentication.authorization_url",
		},
		{
			name: "refused-devices-host", is: "The operator does not allow the device source's host.",
			change: func(w *world) { w.settings.DeviceSource.Endpoint.Host = "devices.contoso.invalid" },
			code:   codes.FailedPrecondition, reason: notAllowed, words: "this service does not allow devices.contoso.invalid:", field: "device_source.endpoint.host",
		},
		{
			name: "refused-retired-api", is: "Microsoft Graph's older list of alerts is asked for, which is gone.",
			change: func(w *world) { w.settings.Api = integrationv1.Api_API_GRAPH_SECURITY_LEGACY },
			code:   codes.FailedPrecondition, reason: retired, words: "gone since 15 October 2026. Use API_GRAPH_SECURITY",
		},
		{
			name: "refused-empty-secret", is: "The client secret is empty.",
			change: func(w *world) { w.setSecret("") },
			code:   codes.InvalidArgument, reason: invalidRequest, words: "a client secret must be given, or the file or environment variable that it is in", field: "integration.authentication.client_secret.value",
		},
		{
			name: "refused-secret-file-elsewhere", is: "The file with the secret is outside the folder for secrets.",
			change: func(w *world) {
				w.setSecretFile("../etc/shadow")
				w.distrust()
			},
			code: codes.InvalidArgument, reason: invalidRequest, words: "leads out of a folder", field: "integration.authentication.client_secret.file",
		},
		{
			name: "refused-certificate-without-key", is: "The certificate comes without its private key.",
			change: func(w *world) { w.setCertificate(w.certificate(certificateOptions{withoutKey: true})) },
			code:   codes.InvalidArgument, reason: invalidRequest, words: "it holds a certificate without its private key", field: "integration", onlyRegistering: true,
		},
		{
			name: "refused-trust-with-file", is: "An authority comes with a credential that the request does not bring.",
			change: func(w *world) {
				w.settings.Trust = &integrationv1.Trust{CaPem: w.trusted[0]}
				w.setSecretFile("contoso/client-secret")
			},
			code: codes.InvalidArgument, reason: invalidRequest, words: "put the authority into a file and name it in ca_file", field: "integration.trust.ca_pem",
		},
		{
			name: "refused-proxy-url", is: "The proxy's name and password stand in its URL.",
			change: func(w *world) {
				w.settings.Proxy = &integrationv1.Proxy{Url: "http://contoso:" + plantedPassword + "@proxy.contoso.invalid:8080"}
			},
			code: codes.InvalidArgument, reason: invalidRequest, words: "without user and password: those have fields of their own", field: "integration.proxy.url",
		},
		{
			name: "refused-tenant", is: "The tenant is `common`.",
			change: func(w *world) { w.settings.TenantId = "common" },
			code:   codes.InvalidArgument, reason: invalidRequest, words: "must be the tenant's GUID or one of its verified domains", field: "integration.tenant_id",
		},
		{
			name: "refused-scope-and-resource", is: "Both a scope and a resource are given.",
			change: func(w *world) {
				w.settings.Authentication.Scope, w.settings.Authentication.Resource = "https://graph.microsoft.com/.default", "https://graph.microsoft.com"
			},
			code: codes.InvalidArgument, reason: invalidRequest, words: "can be given, not both", field: "integration.authentication",
		},
		{
			name: "refused-device-source", is: "Advanced hunting does not go with Defender for Endpoint's API.",
			change: func(w *world) {
				w.settings.Api = integrationv1.Api_API_DEFENDER_FOR_ENDPOINT
				w.settings.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}
			},
			code: codes.InvalidArgument, reason: invalidRequest, words: "KIND_HUNTING does not go with API_DEFENDER_FOR_ENDPOINT", field: "integration.device_source.kind",
		},
	}
}

func TestRefusals(t *testing.T) {
	secretsDir := t.TempDir()
	rows := refusals()
	worlds := make([]*world, len(rows))
	for i, row := range rows {
		worlds[i] = newWorld(t, row.name, i, secretsDir)
		row.change(worlds[i])
	}
	// The operator allows where the simulated Microsofts are, and nothing else.
	client := serve(t, secretsDir, worlds...)
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			settings := worlds[i].integration()
			_, tested := client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
				Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: settings},
			})
			registered := proto.CloneOf(settings)
			registered.IntegrationId = row.name
			_, err := client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: registered})
			info := row.check(t, err)
			switch {
			case row.onlyRegistering && tested != nil:
				t.Errorf("the test is refused: %v", tested)
			case !row.onlyRegistering && (status.Code(tested) != row.code || status.Convert(tested).Message() != status.Convert(err).Message()):
				t.Errorf("the test is refused with %v, registering with %v", tested, err)
			}
			if calls := worlds[i].microsoft.Calls(nil); len(calls) > 0 && !row.onlyRegistering {
				t.Errorf("Microsoft was called: %v", calls)
			}
			golden(t, row.name, worlds[i].writtenRefusal(row.is, err, info))
		})
	}
}

// check compares a refusal with what is expected of it, and returns what it says for programs.
func (row refusal) check(t *testing.T, err error) *errdetails.ErrorInfo {
	t.Helper()
	told := status.Convert(err)
	info := &errdetails.ErrorInfo{}
	for _, detail := range told.Details() {
		if found, ok := detail.(*errdetails.ErrorInfo); ok {
			info = found
		}
	}
	if told.Code() != row.code || info.GetReason() != row.reason.String() || !strings.Contains(told.Message(), row.words) || info.GetMetadata()["field"] != row.field {
		t.Errorf("it is refused with %s, %s of the field %q: %s\nwant %s, %s of %q: %s", told.Code(), info.GetReason(), info.GetMetadata()["field"],
			told.Message(), row.code, row.reason, row.field, row.words)
	}
	if text := fmt.Sprint(told.Proto()); strings.Contains(text, plantedSecret) || strings.Contains(text, plantedPassword) {
		t.Errorf("a secret is in the refusal: %s", text)
	}
	return info
}

// writtenRefusal writes a refusal for a golden file.
func (w *world) writtenRefusal(setUp string, err error, info *errdetails.ErrorInfo) string {
	var b strings.Builder
	w.paragraph(&b, "", setUp)
	b.WriteString("\n")
	w.paragraph(&b, "", "REFUSED. "+status.Convert(err).Message())
	w.paragraph(&b, "    code: ", status.Code(err).String())
	w.paragraph(&b, "    reason: ", strings.TrimPrefix(info.GetReason(), "ERROR_REASON_"))
	for _, key := range slices.Sorted(maps.Keys(info.GetMetadata())) {
		w.paragraph(&b, "    "+key+": ", info.GetMetadata()[key])
	}
	return b.String()
}
