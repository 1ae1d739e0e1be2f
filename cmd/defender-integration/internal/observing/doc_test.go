// Package observing_test runs the service through a typical day, against a simulated Microsoft, and looks at what an operator sees of
// it: its metrics, which docs/metrics.md lists, the lines of its log and its traces.
package observing_test
