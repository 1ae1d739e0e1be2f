// Package origin_test holds the whole service, in one process and through its gRPC API, to two promises: with every credential and by
// every way out a token is asked for once for each application and target, renewed in time and got anew when it is refused or its
// secret was rotated; and no token, secret or assertion leaves the origin that was configured, whatever Microsoft's side answers and
// whatever a caller asks for.
//
// Microsoft is a defendertest.Server, which speaks TLS but where a managed identity's endpoint is in clear. Each test has a house of
// its own, and with it a listener that nobody may connect to. When a house is closed, all that the service logged, answered and wrote
// to disk is searched for each secret and token that the house knows.
package origin_test
