package observing_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain takes away what this machine's environment says of proxies, identities and traces: the service would go by it.
func TestMain(m *testing.M) {
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		upper := strings.ToUpper(name)
		if !strings.HasSuffix(upper, "_PROXY") && !strings.HasPrefix(upper, "OTEL_") && !strings.HasPrefix(upper, "AZURE_") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}
