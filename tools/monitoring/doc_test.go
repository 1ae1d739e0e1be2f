// Package monitoring_test holds deploy/monitoring to the metrics that there are, and runs the tests of its rules with Prometheus' own
// parser and engine. It is a module of its own, so that Prometheus stays out of the service's.
//
// promtool itself takes minutes to build, most of them for the clouds that it can discover; make rules runs it.
package monitoring_test
