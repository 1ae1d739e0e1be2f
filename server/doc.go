// Package server is the gRPC edge: listeners, interceptors, the method policy, the RPCs of IntegrationService, and how an error
// becomes a status. Nothing below it knows gRPC.
//
// A call's way: a listener accepts it (listen.go), the handshake tells who calls (transport.go), the interceptors take it in the
// order of the one list in interceptors.go, and the RPC answers or returns a [failure.Error], which errors.go turns into a
// status.
package server
