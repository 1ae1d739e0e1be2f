package readingtest

import (
	"math/rand/v2"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
)

// Simulated returns elements as the simulated Microsoft serves them over an API: seeds for fuzzing that have the make-up of a real
// tenant's. They are the same each time.
func Simulated(tb testing.TB, api defendertest.Resource) [][]byte {
	tb.Helper()
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() })
	tenant := server.AddTenant("11111111-2222-4333-8444-555555555555")
	const alerts = 12
	tenant.AddAlerts(defendertest.Generate(rand.New(rand.NewPCG(1, 2)), alerts, defendertest.Shape{
		First: time.Date(2026, time.November, 1, 9, 0, 0, 0, time.UTC), Step: time.Minute,
	}))
	var elements [][]byte
	for _, revision := range tenant.Revisions() {
		elements = append(elements, revision.Elements(api)...)
	}
	if len(elements) < alerts/2 {
		tb.Fatalf("%d elements of %d alerts", len(elements), alerts)
	}
	return elements
}
