package connectivitytest_test

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// brokenCredentials are set-ups in which the credential cannot be used at all: no token is asked for with it.
func brokenCredentials() []setUp {
	const certificateRemedy = "Give the certificate and its RSA private key, not encrypted, in PEM"
	return []setUp{
		{
			name: "secret-file-missing", is: "The file with the client secret does not exist.",
			change: func(w *world) { w.setSecretFile("contoso/client-secret") },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: `The file "contoso/client-secret" in the folder for secrets cannot be read: it does not exist.`,
				remedy: "Put it there, or correct its name.", reason: unusable,
			},
		},
		{
			name: "secret-file-empty", is: "The file with the client secret holds white space alone.",
			change: func(w *world) { w.setSecretFile(w.file("client-secret", " \n")) },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "holds no client secret: it has white space alone",
				remedy: "Write the secret's Value into it.", reason: unusable,
			},
		},
		{
			name: "secret-file-folder", is: "What should be the file with the client secret is a folder.",
			change: func(w *world) {
				w.file("client-secret/value", plantedSecret)
				w.setSecretFile(w.name + "/client-secret")
			},
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "cannot be read: it is no regular file", remedy: "Give the name of a file, not of a folder",
				reason: unusable,
			},
		},
		{
			name: "secret-file-link", is: "The file with the client secret is a link that leads out of the folder for secrets.",
			change: func(w *world) {
				outside := filepath.Join(w.t.TempDir(), "client-secret")
				link := w.file("client-secret", "")
				path := filepath.Join(w.secretsDir, link)
				if err := errors.Join(os.WriteFile(outside, []byte(plantedSecret), 0o600), os.Remove(path), os.Symlink(outside, path)); err != nil {
					w.t.Fatal(err)
				}
				w.setSecretFile(link)
			},
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "cannot be read: a link leads out of the folder", remedy: "Put the file itself into the folder",
				reason: unusable,
			},
		},
		{
			name: "secret-variable-empty", is: "The environment variable with the client secret is empty.",
			change: func(w *world) { w.setSecretVariable(w.variable("SECRET", "")) },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: `The environment variable "SECRET_VARIABLE_EMPTY_SECRET" cannot be used: it is empty.`,
				remedy: "Have the service's operator set it to the value and start the service again", reason: unusable,
			},
		},
		{
			name: "secret-variable-missing", is: "The environment variable with the client secret is not set.",
			change: func(w *world) {
				w.setSecretVariable("SECRET_VARIABLE_MISSING")
				w.listed = append(w.listed, "SECRET_VARIABLE_MISSING")
			},
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: `The environment variable "SECRET_VARIABLE_MISSING" cannot be used: it is not set.`,
				remedy: "Have the service's operator set it to the value and start the service again", reason: unusable,
			},
		},
		{
			name: "secret-variable-blank", is: "The environment variable with the client secret holds white space alone.",
			change: func(w *world) { w.setSecretVariable(w.variable("SECRET", " \n")) },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "holds no client secret: it has white space alone",
				remedy: "Have the service's operator set it to the secret's Value", reason: unusable,
			},
		},
		{
			name: "certificate-without-key", is: "The client certificate comes without its private key.",
			change: func(w *world) { w.setCertificate(w.certificate(certificateOptions{withoutKey: true})) },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "The client certificate cannot be used: it holds a certificate without its private key.",
				remedy: certificateRemedy, reason: unusable,
			},
		},
		{
			name: "certificate-with-other-key", is: "The private key is that of another certificate.",
			change: func(w *world) { w.setCertificate(w.certificate(certificateOptions{withOtherKey: true})) },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "the private key is that of another certificate",
				remedy: "Give the private key that belongs to the certificate.", reason: unusable,
			},
		},
		{
			name: "certificate-key-encrypted", is: "The private key is encrypted.",
			change: func(w *world) {
				w.setCertificateFile(w.file("client.pem", w.certificate(certificateOptions{encrypted: true})))
			},
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "the private key is encrypted", remedy: certificateRemedy, reason: unusable,
			},
		},
		{
			name: "client-certificate-expired", is: "The client certificate has expired.",
			change: func(w *world) {
				w.setCertificate(w.certificate(certificateOptions{until: time.Now().AddDate(0, 0, -1)}))
			},
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "expired at", remedy: "upload a new certificate", reason: unusable,
			},
		},
		{
			name: "client-certificate-expires-soon", is: "The client certificate expires in ten days.",
			change: func(w *world) {
				w.setCertificate(w.certificate(certificateOptions{until: time.Now().AddDate(0, 0, 10)}))
			},
			want: want{
				warns: []string{"CREDENTIAL AUTHORIZATION"}, seen: "It is good until", remedy: "Renew it before then", reason: unusable,
			},
		},
		{
			name: "workload-identity-expired", is: "The federated token has expired: whatever renews its file does so no more.",
			change: func(w *world) {
				w.app.AddFederatedCredential(cluster(w.t), serviceAccount)
				w.setTokenFile(w.file("token", w.federatedToken(serviceAccount, -time.Minute)))
			},
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "expired at", remedy: "Check what renews that file", reason: unusable,
			},
		},
		{
			name: "workload-identity-without-file", is: "Nothing names the file with the federated token.",
			change: func(w *world) { w.setTokenFile("") },
			want: want{
				fails: "CREDENTIAL AUTHORIZATION", seen: "There is no federated token", remedy: "AZURE_FEDERATED_TOKEN_FILE", reason: unusable,
			},
		},
		{
			name: "certificate-at-v1", is: "A certificate goes with the v2.0 token endpoint alone, and the authorization URL is a v1 one.",
			change: func(w *world) {
				w.setCertificate(w.certificate(certificateOptions{}))
				w.settings.Authentication.AuthorizationUrl = w.microsoft.TokenURLV1(w.tenant.ID())
			},
			want: want{
				fails: "CONFIGURATION", seen: "The authorization URL is not that of a tenant's v2.0 token endpoint", remedy: "Give authentication.authorization_url as",
				reason: misconfigured,
			},
		},
		{
			name: "trust-damaged", is: "What is to be trusted is no certificate.",
			change: func(w *world) { w.settings.Trust = &integrationv1.Trust{CaPem: "to be filled in"} },
			want: want{
				fails: "CONFIGURATION", seen: "The integration's trust cannot be used: there is no certificate in PEM",
				remedy: "Give the certificates of the authorities in PEM", reason: misconfigured,
			},
		},
	}
}
