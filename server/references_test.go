package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// An operator of one integration gives it what is its own, and one of all gives it anything.
func TestWhoMayNameWhichCredential(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	s, _ := start(t, server.Options{
		Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file}, PolicyFile: writePolicy(t, policy),
	})
	admin := dialed(t, tcp(s), ca.presenting(ca.pair(t, "admin", dns("admin.example.org"))))
	operator := dialed(t, tcp(s), ca.presenting(ca.pair(t, "operator", dns("operator.example.org"))))

	secret := func(secret *integrationv1.ClientSecret) func(*integrationv1.Integration) {
		return func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: secret}
		}
	}
	for _, test := range []struct {
		name string
		// field is what is refused to an operator of contoso alone; empty where nothing is.
		field  string
		change func(*integrationv1.Integration)
	}{
		{"a value", "", func(*integrationv1.Integration) {}},
		{"its file", "", secret(&integrationv1.ClientSecret{File: "contoso/secret"})},
		{"another's file", "authentication.client_secret.file", secret(&integrationv1.ClientSecret{File: "fabrikam/secret"})},
		{"a file of no folder", "authentication.client_secret.file", secret(&integrationv1.ClientSecret{File: "contoso"})},
		{"a folder that begins alike", "authentication.client_secret.file", secret(&integrationv1.ClientSecret{File: "contoso-2/secret"})},
		{"a variable", "authentication.client_secret.env_variable", secret(&integrationv1.ClientSecret{EnvVariable: "CONTOSO_SECRET"})},
		{"another's certificate", "authentication.client_certificate.file", func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{
				ClientCertificate: &integrationv1.ClientCertificate{File: "fabrikam/certificate"},
			}
		}},
		{"its token", "", func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{
				WorkloadIdentity: &integrationv1.WorkloadIdentity{TokenFile: "contoso/token"},
			}
		}},
		{"the service's token", "authentication.workload_identity", func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{}}
		}},
		{"the service's identity", "authentication.managed_identity", func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
		}},
		{"another's proxy password", "proxy.password_file", func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://proxy.example.com:3128", Username: "u", PasswordFile: "fabrikam/password"}
		}},
		{"another's authorities", "trust.ca_file", func(i *integrationv1.Integration) {
			i.Trust = &integrationv1.Trust{CaFile: "fabrikam/ca.pem"}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := named("contoso")
			test.change(settings)
			request := &integrationv1.RegisterIntegrationRequest{Integration: settings, ValidateOnly: true}
			_, err := integrationv1.NewIntegrationServiceClient(operator).RegisterIntegration(t.Context(), request)
			if test.field == "" {
				if isDenied(err) {
					t.Errorf("the operator of contoso: %v", err)
				}
			} else {
				info := wantFailure(t, err, codes.PermissionDenied, integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED, test.field)
				if info.GetMetadata()["field"] != test.field {
					t.Errorf("the metadata are %v", info.GetMetadata())
				}
			}
			if _, err := integrationv1.NewIntegrationServiceClient(admin).RegisterIntegration(t.Context(), request); isDenied(err) {
				t.Errorf("the operator of all: %v", err)
			}
			tested := &integrationv1.TestConnectivityRequest{Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: settings}}
			if _, err := integrationv1.NewIntegrationServiceClient(operator).TestConnectivity(t.Context(), tested); isDenied(err) != (test.field != "") {
				t.Errorf("tested without being saved: %v", err)
			}
		})
	}
}

func isDenied(err error) bool { return status.Code(err) == codes.PermissionDenied }
