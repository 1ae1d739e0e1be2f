// Package acceptance_test tests the whole house from outside: the built program as a process, over real sockets, with the
// simulated Microsoft at the other end. What is expected comes from the simulated side's record of what it held and served, never
// from the side under test.
//
// Longer runs are asked for by environment variables: see killSettings and sampleFolder.
package acceptance_test
