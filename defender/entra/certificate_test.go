package entra

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
)

func TestCertificateThatCannotBeUsed(t *testing.T) {
	month, yesterday := time.Now().AddDate(0, 1, 0), time.Now().AddDate(0, 0, -1)
	certificate := certificatePEM(newCertificate(t, rsaSigner{firstKey()}, month))
	old := certificatePEM(newCertificate(t, rsaSigner{firstKey()}, yesterday))
	short := certificatePEM(newCertificate(t, rsaSigner{shortKey()}, month))
	curved := certificatePEM(newCertificate(t, curveSigner{curveKey()}, month))
	key, other := keyPEM(t, firstKey()), keyPEM(t, secondKey())
	sec1, err := x509.MarshalECPrivateKey(curveKey())
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, content []byte, header map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content, Headers: header}))
	}
	tests := []struct {
		name, pem, words string
	}{
		{"no PEM", plantedSecret, "neither a certificate nor a private key"},
		{"PKCS #12", "\x30\x82\x01\x00", "neither a certificate nor a private key"},
		{"no key", certificate, "a certificate without its private key"},
		{"no certificate", key, "a private key without a certificate"},
		{"another key", certificate + other, "that of another certificate"},
		{"two keys", certificate + key + other, "more than one private key"},
		{"key encrypted", certificate + block("ENCRYPTED PRIVATE KEY", []byte("x"), nil), "encrypted"},
		{"key encrypted as of old", certificate + block("RSA PRIVATE KEY", []byte("x"), map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}), "encrypted"},
		{"key on a curve", curved + block("EC PRIVATE KEY", sec1, nil), "not an RSA key"},
		{"key on a curve, PKCS #8", curved + keyPEM(t, curveKey()), "not an RSA key"},
		{"key damaged", certificate + block("PRIVATE KEY", []byte("x"), nil), "damaged"},
		{"certificate damaged", block("CERTIFICATE", []byte("x"), nil) + key, "damaged"},
		{"key short", short + keyPEM(t, shortKey()), "1024 bits"},
		{"expired", old + key, "expired at " + yesterday.UTC().Format(time.DateOnly)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{TLS: true})
			w.withCertificate("")
			w.config.Secrets = &storev1.Secrets{ClientCertificate: tt.pem}
			source := w.source()
			_, err := source.Token(t.Context())
			e := wantError(t, err, tt.pem)
			if e.Problem.GetReason() != notUsable || !e.Permanent || !strings.Contains(e.Problem.GetMessage(), tt.words) {
				t.Errorf("problem is %v, want it to say %q", e.Problem, tt.words)
			}
			if _, inspected := source.Inspect(t.Context()); inspected == nil || inspected.Error() != err.Error() {
				t.Errorf("Inspect says %v, want %v", inspected, err)
			}
			if calls := w.server.Calls(nil); len(calls) != 0 {
				t.Errorf("it called %v", calls)
			}

			w.withCertificate("client.pem")
			w.write("client.pem", tt.pem)
			_, err = w.source().Token(t.Context())
			if e := wantError(t, err, tt.pem); tt.name != "expired" && !strings.Contains(e.Problem.GetMessage(), `"client.pem"`) {
				t.Errorf("problem is %v, want it to name the file", e.Problem)
			}
		})
	}
}

// TestCertificateForms takes certificate and key in each order and form, and a chain behind.
func TestCertificateForms(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	own := newCertificate(t, rsaSigner{firstKey()}, time.Now().AddDate(0, 1, 0))
	w.app.AddCertificate(own)
	above := certificatePEM(newCertificate(t, rsaSigner{secondKey()}, time.Now().AddDate(0, 1, 0)))
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(firstKey())}))
	pkcs8 := keyPEM(t, firstKey())
	for name, content := range map[string]string{
		"PKCS #8": certificatePEM(own) + pkcs8, "PKCS #1": certificatePEM(own) + pkcs1, "key first": pkcs8 + certificatePEM(own),
		"chain": certificatePEM(own) + above + pkcs8, "chain turned round": above + certificatePEM(own) + pkcs8,
		"words between": "Bag Attributes\n" + certificatePEM(own) + "\r\nKey Attributes\n" + pkcs8,
	} {
		w.withCertificate("")
		w.config.Secrets = &storev1.Secrets{ClientCertificate: content}
		if _, err := w.source().Token(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCertificateFileIsReadAgain(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withCertificate("client.pem")
	w.write("client.pem", w.newPEM(firstKey()))
	source := w.source()
	if _, err := source.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.app.RemoveCertificates()
	_, err := source.Fresh(t.Context())
	if e := wantError(t, err); e.Problem.GetUpstreamCode() != "AADSTS700027" || !strings.Contains(e.Problem.GetMessage(), "key was not found") {
		t.Errorf("problem is %v", e.Problem)
	}
	w.write("client.pem", w.newPEM(secondKey()))
	if _, err := source.Fresh(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCertificateWithAClockThatIsOff has Entra's clock ahead of ours.
func TestCertificateWithAClockThatIsOff(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withCertificate("client.pem")
	w.write("client.pem", w.newPEM(firstKey()))
	w.server.SetClockOffset(time.Hour)
	_, err := w.source().Token(t.Context())
	if e := wantError(t, err); e.Problem.GetUpstreamCode() != "AADSTS700024" || !strings.Contains(e.Problem.GetRemedy(), "clock") {
		t.Errorf("problem is %v", e.Problem)
	}
}

func TestInspectCertificate(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.config.Authentication.AuthorizationUrl = "https://login.test/" + tenantID + "/oauth2/v2.0/token"
	w.withCertificate("client.pem")
	own := newCertificate(t, rsaSigner{firstKey()}, time.Now().AddDate(0, 1, 0))
	w.write("client.pem", certificatePEM(own)+keyPEM(t, firstKey()))
	found, err := w.source().Inspect(t.Context())
	want := Inspection{Kind: "a client certificate", File: "client.pem", Expires: own.NotAfter, Subject: "CN=contoso-defender", Thumbprint: thumbprint(own)}
	if err != nil || found != want || len(found.Thumbprint) != 40 {
		t.Errorf("found %+v, error %v; want %+v", found, err, want)
	}
	if calls := w.server.Calls(nil); len(calls) != 0 {
		t.Errorf("it called %v", calls)
	}
}
