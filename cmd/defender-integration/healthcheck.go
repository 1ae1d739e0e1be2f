package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthcheckFlags say which server to ask. --listen and --unix-socket have the names that they have for serve, so that one
// environment configures both.
type healthcheckFlags struct {
	listen, unixSocket        string
	ca, certificate, key, sni string
	service                   string
	timeout                   time.Duration
}

func healthcheckCommand() command {
	return command{
		name:    "healthcheck",
		summary: "ask a running server whether it serves, and end with 0 if so",
		about: "healthcheck asks a running server on this machine whether it serves, over its unix socket where one is named, else over TCP.\n" +
			"It ends with 0 if it does, else with 1 and a line that says why not. It reads the same variables as serve.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			f := &healthcheckFlags{}
			flags.StringVar(&f.listen, "listen", defaultListen, "the `address` that the server listens on; asked where no unix socket is named")
			flags.StringVar(&f.unixSocket, "unix-socket", "", "the `path` of the server's unix socket")
			flags.StringVar(&f.ca, "tls-ca", "", "over TCP: speak TLS, and trust a server with a certificate of the authorities in this PEM `file`")
			flags.StringVar(&f.sni, "tls-server-name", "", "the `name` that the server's certificate must have. Default: the address's host")
			flags.StringVar(&f.certificate, "client-cert", "", "the PEM `file` with the certificate to present, where the server wants one")
			flags.StringVar(&f.key, "client-key", "", "the PEM `file` with that certificate's key")
			flags.StringVar(&f.service, "service", "", "ask for this gRPC `service`; empty: the server as a whole")
			flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long the server has to answer")
			return f.run
		},
	}
}

// run asks once.
func (f *healthcheckFlags) run(ctx context.Context, s streams) error {
	target, err := f.target()
	if err != nil {
		return err
	}
	security, err := f.credentials()
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(target, passthrough)
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(security))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: f.service})
	if err != nil {
		return fmt.Errorf("%s does not answer: %s%s", name, status.Convert(err).Message(), f.hint())
	}
	if answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s answers %s", name, answer.GetStatus())
	}
	_, err = fmt.Fprintf(s.out, "%s is serving\n", name)
	return err
}

// passthrough makes gRPC dial an address as it stands.
const passthrough = "passthrough:///"

// hint says what else may be wrong where the server does not answer.
func (f *healthcheckFlags) hint() string {
	switch {
	case f.unixSocket != "":
		return ""
	case f.ca == "":
		return " (spoken to in clear; a server with TLS needs --tls-ca)"
	case f.sni == "":
		return " (the name that its certificate must have is set with --tls-server-name)"
	}
	return ""
}

// target returns what to dial, as gRPC names it.
func (f *healthcheckFlags) target() (string, error) {
	if f.unixSocket != "" {
		path, err := filepath.Abs(f.unixSocket)
		return "unix://" + path, err
	}
	host, port, err := net.SplitHostPort(f.listen)
	if err != nil {
		return "", usagef("--listen is %q and must be HOST:PORT", f.listen)
	}
	// A server that listens on every address is asked on this machine's own.
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return passthrough + net.JoinHostPort(host, port), nil
}

// credentials returns how to secure the connection.
func (f *healthcheckFlags) credentials() (credentials.TransportCredentials, error) {
	switch {
	case f.unixSocket != "" || (f.ca == "" && f.certificate == "" && f.key == ""):
		return insecure.NewCredentials(), nil
	case f.ca == "":
		return nil, usagef("--client-cert and --client-key need --tls-ca")
	case (f.certificate == "") != (f.key == ""):
		return nil, usagef("--client-cert and --client-key go together")
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: f.sni, MinVersion: tls.VersionTLS13}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New(f.ca + " holds no PEM certificate")
	}
	if f.certificate != "" {
		pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
		if err != nil {
			return nil, fmt.Errorf("%s with %s: %w", f.certificate, f.key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
