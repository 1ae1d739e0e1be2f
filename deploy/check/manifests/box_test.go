package manifests_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
)

// box stands for a pod: a folder for each of its volumes, filled as Kubernetes fills them.
type box struct {
	dir     string
	objects []object
	// replace has, in pairs, a path in the container and the folder that stands for it.
	replace []string
}

// newBox makes the folders of a container's volumes.
func newBox(t *testing.T, objects []object, pod *corev1.PodTemplateSpec, container corev1.Container) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "pod") // short, for the unix socket
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	b := &box{dir: dir, objects: objects}
	for i, mount := range container.VolumeMounts {
		folder := filepath.Join(dir, fmt.Sprint(i))
		must(t, os.Mkdir(folder, 0o700))
		for _, volume := range pod.Spec.Volumes {
			if volume.Name == mount.Name {
				b.fill(t, folder, volume)
			}
		}
		b.replace = append(b.replace, mount.MountPath, folder)
	}
	return b
}

// path puts the box's folders into a text that names paths in the container.
func (b *box) path(text string) string { return strings.NewReplacer(b.replace...).Replace(text) }

// fill fills a folder as its volume says.
func (b *box) fill(t *testing.T, folder string, volume corev1.Volume) {
	t.Helper()
	if volume.ConfigMap != nil {
		b.configMap(t, folder, volume.ConfigMap.Name)
	}
	if volume.Secret != nil {
		b.secret(t, folder, volume.Secret.SecretName)
	}
	if volume.Projected == nil {
		return
	}
	for _, source := range volume.Projected.Sources {
		if source.ConfigMap != nil {
			b.configMap(t, folder, source.ConfigMap.Name)
		}
		if source.Secret != nil {
			b.secret(t, folder, source.Secret.Name)
		}
		if source.ServiceAccountToken != nil {
			must(t, os.WriteFile(filepath.Join(folder, source.ServiceAccountToken.Path), []byte("header.payload.signature"), 0o600))
		}
	}
}

// configMap writes what a ConfigMap has.
func (b *box) configMap(t *testing.T, folder, name string) {
	t.Helper()
	for _, one := range of[*corev1.ConfigMap](b.objects) {
		if one.Name != name {
			continue
		}
		for key, text := range one.Data {
			must(t, os.WriteFile(filepath.Join(folder, key), []byte(text), 0o600))
		}
	}
}

// secret writes what a secret has: of cert-manager a certificate with its key and its authority, else what the page says.
func (b *box) secret(t *testing.T, folder, name string) {
	t.Helper()
	for _, certificate := range of[*certmanagerv1.Certificate](b.objects) {
		if certificate.Spec.SecretName == name {
			writeCertificate(t, folder, certificate.Spec.DNSNames)
			return
		}
	}
	page := readFile(t, filepath.Join(deploy, "kubernetes", "README.md"))
	for _, file := range strings.Split(page, "--from-file=")[1:] {
		key, _, _ := strings.Cut(file, "=")
		must(t, os.WriteFile(filepath.Join(folder, key), []byte("a secret"), 0o600))
	}
}

// writeCertificate writes the three files of a secret of cert-manager: here a certificate that is its own authority.
func writeCertificate(t *testing.T, folder string, names []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for file, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: certificate},
		"ca.crt":  {Type: "CERTIFICATE", Bytes: certificate},
		"tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		must(t, os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(block), 0o600))
	}
}
