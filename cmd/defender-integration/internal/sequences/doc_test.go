// Package sequences_test holds the whole service but for HTTP to a model, over random sequences of what can happen to it: alerts
// appear, change, come late and are shown in older versions; devices appear, are renamed, merged and gone; Microsoft fails,
// throttles, breaks off in the middle and is slow; the store fails at each write; the process is killed; the journal is damaged and
// trimmed; callers cut their streams and resume with the last token or an older one; the integration is paused and changed.
//
// A sequence is a list of steps that a seed makes (script_test.go), so it can be played again and shortened. What is played with:
//
//   - [microsoft] shows alerts and devices, and writes down what it showed to which read;
//   - [witness] stands between the service and its store, makes writes fail, and writes down what became readable in the journal;
//   - [house] is the process: collectors, streams and the gRPC server over connections in memory, killed and started again;
//   - [director] is a caller with one stream, who keeps events and tokens.
//
// What is checked, by rules that are worked out here from what was written down, and from nothing that the service says of itself:
//
//   - the journal (journal_test.go) has each revision that a whole read returned, none twice, none older than one before it, none
//     below the floor, and each pair in it is true;
//   - each stream (model_test.go, check_test.go) sends every revision of the journal that concerns it once, in order, over all its
//     resumes, NEW where it is the first and UPDATED where not; ends where it must; and is told no pair before all that it covers;
//   - two streams of one request say the same, whether they were cut or not, and so does one that is read again from an older token.
//
// TestSequences plays in fake time on the store in memory, TestSequencesOnTheEngine in real time on the real one. Their numbers and
// the first seed are SEQUENCES, SEQUENCES_ENGINE and SEQUENCES_SEED. A sequence that fails is shortened as long as it still fails,
// and printed. Who runs first of several that can run is not in the seed, so a rare failure may take a few tries to show again.
package sequences_test
