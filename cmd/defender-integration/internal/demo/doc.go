// Package demo is the demonstration: a scripted campaign of attacks, watched by a person.
//
// One process runs a simulated Microsoft (package defendertest), the service (package app, the code of `serve`, with shorter
// settings and no special path) with its data in a temporary folder, and a Director that knows the service by its gRPC API alone.
// The script says what Defender does and what the service should make of it. Everything that is printed about alerts and verdicts
// came over gRPC; the script is only compared with it.
//
//	run.go       the whole demonstration, from the first line to the last
//	script.go    what happens, and when
//	campaign.go  the attacks of the demonstration: seen.go those that Defender saw, logged.go those that its
//	             telemetry alone tells of, unseen.go those of which nothing counts
//	finding.go   what Defender finds, and what the Director knows of an attack
//	expect.go    what is expected, and what is other; telemetry.go of what raised no alert
//	house.go     the simulated Microsoft and the service, started and stopped
//	way.go       through which API it is run, and what that changes of what is expected
//	line.go      the Director's connection, which can be cut
//	director.go  registers, tests, asks for streams
//	watch.go     follows one attack's stream, and what came of it
//	narrator.go  prints: opening.go what comes before the campaign, told.go its time line, closing.go what comes after; table.go and style.go how
package demo
