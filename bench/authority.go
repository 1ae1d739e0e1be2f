package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authorityFiles are the PEM files of an authority, a server on loopback and a client.
type authorityFiles struct {
	authority, server, serverKey, client, clientKey string
}

// newAuthority makes an authority and what it signs, for an hour. remove removes the files.
func newAuthority() (files authorityFiles, remove func(), err error) {
	dir, remove, err := temporary()
	if err != nil {
		return files, nil, err
	}
	name := func(name string) string { return filepath.Join(dir, name) }
	files = authorityFiles{
		authority: name("authority.pem"), server: name("server.pem"), serverKey: name("server.key"),
		client: name("client.pem"), clientKey: name("client.key"),
	}
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		}
	}
	root := template(1, "bench authority")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	server, director := template(2, "bench server"), template(3, "bench director")
	server.DNSNames, server.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	server.ExtKeyUsage, director.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	director.DNSNames = []string{"director.bench.test"}

	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		err = errors.Join(
			sign(root, root, &rootKey.PublicKey, rootKey, files.authority),
			issue(server, root, rootKey, files.server, files.serverKey), issue(director, root, rootKey, files.client, files.clientKey),
		)
	}
	if err != nil {
		remove()
		return files, nil, err
	}
	return files, remove, nil
}

// issue makes a key and its certificate, and writes both.
func issue(template, root *x509.Certificate, rootKey *ecdsa.PrivateKey, certificateFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(sign(template, root, &key.PublicKey, rootKey, certificateFile), writePEM(keyFile, "PRIVATE KEY", der))
}

// sign makes a certificate and writes it.
func sign(template, root *x509.Certificate, key *ecdsa.PublicKey, rootKey *ecdsa.PrivateKey, file string) error {
	der, err := x509.CreateCertificate(rand.Reader, template, root, key, rootKey)
	if err != nil {
		return err
	}
	return writePEM(file, "CERTIFICATE", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
