// Package readingtest is what the tests of the adapters for different APIs share: a client that is answered by a function, what
// every source of alerts promises, and a message taken apart into its fields. It does not know package reading, which tests with
// it too.
package readingtest
