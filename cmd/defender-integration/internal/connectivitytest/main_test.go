package connectivitytest_test

import (
	"context"
	"flag"
	"net"
	"testing"

	"go.uber.org/goleak"
)

// update writes the golden files instead of comparing with them.
var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	flag.Parse()
	// No name server is asked: what resolves, and what does not, is the same wherever the tests run.
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return askNames(), nil }}
	goleak.VerifyTestMain(m)
}
