package server

import (
	"regexp"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	// The stored formats, so that their fields are checked too.
	_ "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// secretName matches the names of fields that sound like a secret's.
var secretName = regexp.MustCompile(`(^|_)(secret|secrets|password|passphrase|token|key|credential|credentials|assertion|certificate|pem)(_|$)`)

// notSecret are the fields that only sound like one.
var notSecret = map[protoreflect.FullName]string{
	"defender.integration.v1.ListIntegrationsRequest.page_token":       "an opaque position",
	"defender.integration.v1.ListIntegrationsResponse.next_page_token": "an opaque position",
	"defender.integration.v1.StreamAlertsRequest.resume_token":         "an opaque position, of which forging gains nothing",
	"defender.integration.v1.StreamAlertsResponse.resume_token":        "an opaque position, of which forging gains nothing",
	"defender.integration.v1.Authentication.client_secret":             "a message, whose value is redacted",
	"defender.integration.v1.Authentication.client_certificate":        "a message, whose text is redacted",
	"defender.integration.v1.WorkloadIdentity.token_file":              "a file's name",
	"defender.integration.v1.Proxy.password_file":                      "a file's name",
	"defender.integration.v1.Proxy.password_env_variable":              "a variable's name",
	"defender.integration.v1.Trust.ca_pem":                             "certificates without keys",
	"defender.integration.store.v1.Record.sealed_secrets":              "sealed",
	"defender.integration.v1.Evidence.registry_key":                    "a key of the Windows registry",
	"defender.integration.v1.RegistryKeyEvidence.registry_key":         "a key of the Windows registry",
	"defender.integration.v1.RegistryValueEvidence.registry_key":       "a key of the Windows registry",
	"defender.integration.store.v1.Revision.key":                       "an alert's id or hash",
}

func TestEveryFieldThatSoundsSecretIsRedacted(t *testing.T) {
	checked := 0
	seen := make(map[protoreflect.FullName]bool)
	var check func(messages protoreflect.MessageDescriptors)
	check = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			message := messages.Get(i)
			for j := range message.Fields().Len() {
				field := message.Fields().Get(j)
				checked++
				if !secretName.MatchString(string(field.Name())) || redacted(field) {
					continue
				}
				if notSecret[field.FullName()] == "" {
					t.Errorf("%s sounds secret and has no debug_redact; give it the option, or say here why not", field.FullName())
				}
				seen[field.FullName()] = true
			}
			check(message.Messages())
		}
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if regexp.MustCompile(`^defender\.`).MatchString(string(file.Package())) {
			check(file.Messages())
		}
		return true
	})
	if checked < 100 {
		t.Errorf("only %d fields were checked", checked)
	}
	for name := range notSecret {
		if !seen[name] {
			t.Errorf("%s is listed here and is not there, or is redacted", name)
		}
	}
}

func TestRedactClearsOnlySecrets(t *testing.T) {
	request := &integrationv1.RegisterIntegrationRequest{
		Integration: &integrationv1.Integration{
			IntegrationId: "contoso",
			Authentication: &integrationv1.Authentication{
				ClientId:   "client",
				Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: "secret"}},
			},
		},
	}
	list := &integrationv1.ListIntegrationsResponse{Integrations: []*integrationv1.Integration{proto.CloneOf(request.GetIntegration())}}
	want := proto.CloneOf(request)
	want.Integration.Authentication.GetClientSecret().Value = ""

	redact(request.ProtoReflect())
	redact(list.ProtoReflect())
	if !proto.Equal(request, want) {
		t.Errorf("%v, want %v", request, want)
	}
	if !proto.Equal(list.GetIntegrations()[0], want.GetIntegration()) {
		t.Errorf("%v in a list, want %v", list.GetIntegrations()[0], want.GetIntegration())
	}
}
