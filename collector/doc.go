// Package collector reads the alerts of the integrations: one [Collector] for each, which every stream shares.
//
// A collector decides when to read and what to ask for, drops the revisions that the journal has, appends the rest, and says
// what is complete since when and through when. It never waits for a stream. Streams tell it what they wait for by [Collector.Join];
// what it learned reaches them through the journal alone, but for the [Snapshot] of the present.
package collector
