package connectivitytest_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/collector"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

// siemCalls is how many calls of the SIEM API the service allows itself in a minute: few, for a set-up that spends them.
const siemCalls = 2

// serve runs the service until t ends, as the operator of all these worlds starts it, and returns a client of it.
func serve(t *testing.T, secretsDir string, worlds ...*world) integrationv1.IntegrationServiceClient {
	t.Helper()
	settings := collector.DefaultSettings()
	settings.Budgets[defender.LimitSIEM] = []collector.Allowance{{Period: time.Minute, Calls: siemCalls}}
	options := app.Options{
		Server: server.Options{Address: "127.0.0.1:0"}, Store: store.Options{Dir: filepath.Join(t.TempDir(), "data")}, AllowHTTP: true,
		SecretsDir: secretsDir, Collecting: settings, Version: "v0.0.0-test", Logger: slog.New(slog.DiscardHandler),
	}
	trusts := ""
	for _, w := range worlds {
		trusts += strings.Join(w.operatorTrusts, "")
		options.AllowEndpoints = append(options.AllowEndpoints, w.allowed...)
		options.SecretVariables = append(options.SecretVariables, w.listed...)
		options.ProxyRules = append(options.ProxyRules, w.rules...)
	}
	if trusts != "" {
		options.TrustedCAFile = filepath.Join(t.TempDir(), "authorities.pem")
		if err := os.WriteFile(options.TrustedCAFile, []byte(trusts), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := app.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	conn, err := grpc.NewClient("passthrough:///"+a.Addresses()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // nothing is asked any more
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return integrationv1.NewIntegrationServiceClient(conn)
}
