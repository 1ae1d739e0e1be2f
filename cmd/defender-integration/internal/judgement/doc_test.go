// Package judgement_test judges the cases of its testdata, which read like a specification: what Defender shows, and what a stream
// must make of it. Each case is played through each API in which it can be shown: the simulated Microsoft writes its alerts and
// devices, the API's own adapter reads them over HTTP, and the whole service collects, matches and judges what was read, in fake
// time, from its registration to the `completed` event of a stream over gRPC. testdata/README.md says how a case is written.
package judgement_test
