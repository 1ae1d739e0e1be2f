// Package connectivitytest_test tests the connectivity test as an operator meets it: through the RPC, with the whole service behind it,
// real sockets, and the simulated Microsoft at the other end. It is a table of set-ups that are broken in one place each. What must
// fail, why, and what to do about it stands in the table, written by hand; the whole answer of each is a golden file in testdata, which
// is there to be read.
//
//	go test ./cmd/defender-integration/internal/connectivitytest -update
//
// writes the golden files anew. Read what changed in them as an operator would who knows nothing of this code: they are what the
// service says in its worst hour.
//
// The tables: links_test.go (from here to the hosts), proxies_test.go, credentials_test.go, tokens_test.go, reads_test.go (roles,
// alerts, devices, clock, calls left), healthy_test.go (what must not fail), environment_test.go (what the service's environment says)
// and refusals_test.go (what is refused before anything is tried).
package connectivitytest_test
