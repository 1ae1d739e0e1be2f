package server

import (
	"cmp"
	"crypto/subtle"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// secretKind is one of the secrets that an integration can have.
type secretKind struct {
	// field is its path in an integration.
	field string
	// given returns what a caller sent.
	given func(*integrationv1.Integration) string
	// stored is where it is kept.
	stored func(*storev1.Secrets) *string
	// use says what settings need it for; empty where they do not. A stored secret is kept for the same use alone.
	use func(*integrationv1.Integration) string
	// credential says that it proves who we are to Microsoft, and cannot be left out; what it is called, in words.
	credential string
}

// secretKinds are all that there are.
func secretKinds() []secretKind {
	return []secretKind{
		{
			field:  "authentication.client_secret.value",
			given:  func(i *integrationv1.Integration) string { return i.GetAuthentication().GetClientSecret().GetValue() },
			stored: func(s *storev1.Secrets) *string { return &s.ClientSecret },
			use: func(i *integrationv1.Integration) string {
				secret := i.GetAuthentication().GetClientSecret()
				return useWhere(secret != nil && secret.GetFile() == "" && secret.GetEnvVariable() == "")
			},
			credential: "a client secret",
		},
		{
			field: "authentication.client_certificate.pem",
			given: func(i *integrationv1.Integration) string {
				return i.GetAuthentication().GetClientCertificate().GetPem()
			},
			stored: func(s *storev1.Secrets) *string { return &s.ClientCertificate },
			use: func(i *integrationv1.Integration) string {
				certificate := i.GetAuthentication().GetClientCertificate()
				return useWhere(certificate != nil && certificate.GetFile() == "" && certificate.GetEnvVariable() == "")
			},
			credential: "a certificate with its private key",
		},
		{
			field:  "proxy.password",
			given:  func(i *integrationv1.Integration) string { return i.GetProxy().GetPassword() },
			stored: func(s *storev1.Secrets) *string { return &s.ProxyPassword },
			use: func(i *integrationv1.Integration) string {
				proxy := i.GetProxy()
				if proxy.GetUsername() == "" || proxy.GetPasswordFile() != "" || proxy.GetPasswordEnvVariable() != "" {
					return ""
				}
				// Who adds an authority could stand in the place of an https:// proxy.
				return proxy.GetUsername() + " at " + proxy.GetUrl() + " by " + i.GetTrust().GetCaPem() + i.GetTrust().GetCaFile()
			},
		},
	}
}

func useWhere(used bool) string {
	if used {
		return "to authenticate"
	}
	return ""
}

// secretsOf returns the secrets that a caller sent.
func secretsOf(integration *integrationv1.Integration) *storev1.Secrets {
	secrets := &storev1.Secrets{}
	for _, kind := range secretKinds() {
		*kind.stored(secrets) = kind.given(integration)
	}
	return secrets
}

// sameSecrets compares in a time that does not depend on where they differ.
func sameSecrets(a, b *storev1.Secrets) bool {
	same := 1
	for _, kind := range secretKinds() {
		same &= subtle.ConstantTimeCompare([]byte(*kind.stored(a)), []byte(*kind.stored(b)))
	}
	return same == 1
}

// needSecrets returns a failure where settings need a credential that the caller did not send.
func needSecrets(settings *integrationv1.Integration, given *storev1.Secrets) error {
	for _, kind := range secretKinds() {
		if kind.credential != "" && kind.use(settings) != "" && *kind.stored(given) == "" {
			return kind.missing()
		}
	}
	return nil
}

// missing is the failure of settings without a credential.
func (k secretKind) missing() error {
	return failure.Invalid("integration."+k.field, "%s must be given, or the file or environment variable that it is in", k.credential)
}

// mergeSecrets returns the secrets of an updated integration: those given, and of the stored ones those that are used as before.
// Where the update leads somewhere else than before, what leads there must be given anew: a stored secret never goes where whoever
// gave it did not send it.
func mergeSecrets(before, after *integrationv1.Integration, stored, given *storev1.Secrets) (*storev1.Secrets, error) {
	led := redirected(before, after)
	merged := &storev1.Secrets{}
	for _, kind := range secretKinds() {
		use, value := kind.use(after), *kind.stored(given)
		kept := *kind.stored(stored)
		switch {
		case value != "":
			*kind.stored(merged) = value
		case use == "":
		case kind.credential != "" && led != "" && kind.use(before) == use:
			return nil, required(kind.field, led)
		case kind.use(before) == use:
			*kind.stored(merged) = kept
		case kind.credential != "":
			return nil, kind.missing()
		case kept != "":
			return nil, required(kind.field, cmp.Or(led, "proxy"))
		}
	}
	return merged, nil
}

// required is the failure of an update that changes where a secret goes without bringing it.
func required(secret, changed string) error {
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED,
		"a change of %s decides where credentials and tokens are sent, so the same request must bring %s, and name it in update_mask",
		changed, secret).With("field", secret)
}
