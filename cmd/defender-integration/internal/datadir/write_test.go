package datadir_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// TestWrite writes the folder of the newest format, where it is asked to.
func TestWrite(t *testing.T) {
	if !*write {
		t.Skip("it writes the fixture only with -write")
	}
	if err := os.RemoveAll(newest); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(newest, dataFolder)
	writeStore(t, data)
	// The streams begin in the middle of the journal, as streams do.
	before := map[string][]*integrationv1.StreamAlertsResponse{}
	tokens := map[string][]string{}
	h := openHouse(t, data)
	names := slices.Sorted(maps.Keys(requests()))
	for _, name := range names {
		first, events := h.read(t, requests()[name])
		before[name], tokens[name] = events, tokensOf(first, events)
	}
	h.close()
	writeRest(t, data)
	h = openHouse(t, data)
	for _, name := range names {
		request := requests()[name]
		request.ResumeToken = tokens[name][len(tokens[name])-1]
		_, events := h.read(t, request)
		tokens[name] = append(tokens[name], tokensOf(nil, events)...)
		writeStream(t, name, tokens[name], append(before[name], events...))
	}
	h.close()
	if err := os.Remove(filepath.Join(data, "lock")); err != nil {
		t.Fatal(err)
	}
	writeGolden(t)
}

// tokensOf are the tokens of events: of the first of all, where it is given, and of those that rest on the journal.
func tokensOf(first *integrationv1.StreamAlertsResponse, events []*integrationv1.StreamAlertsResponse) []string {
	var tokens []string
	if first != nil {
		tokens = append(tokens, first.GetResumeToken())
	}
	for _, e := range events {
		tokens = append(tokens, e.GetResumeToken())
	}
	return tokens
}

// writeStore writes the registry and all beside the journals, and contoso's journal up to where the streams begin.
func writeStore(t *testing.T, data string) {
	t.Helper()
	s := openStore(t, data)
	sealer, err := store.OpenSealer(filepath.Join(data, keyFile), true)
	must(t, err)
	for _, r := range records() {
		r.SealedSecrets, err = sealer.Seal(opened[r.GetIntegration().GetIntegrationId()], r.GetUid())
		must(t, err)
		_, err = s.CreateRecord(t.Context(), r)
		must(t, err)
	}
	_, err = s.PutLedger(t.Context(), ledgerKey, ledger(), 0)
	must(t, err)
	must(t, s.SaveTest(t.Context(), contosoJournal, lastTest()))
	appendEntries(t, s, 1, begun)
	journal, err := s.Journal(t.Context(), contosoJournal)
	must(t, err)
	must(t, journal.Trim(t.Context(), firstKept, floor))
	must(t, s.Close())
}

// writeRest appends the rest of contoso's journal.
func writeRest(t *testing.T, data string) {
	t.Helper()
	s := openStore(t, data)
	appendEntries(t, s, begun+1, len(entries()))
	must(t, s.Close())
}

func appendEntries(t *testing.T, s store.Store, from, through int) {
	t.Helper()
	journal, err := s.Journal(t.Context(), contosoJournal)
	must(t, err)
	_, err = journal.Recover(t.Context())
	must(t, err)
	_, err = journal.Append(t.Context(), entries()[from-1:through])
	must(t, err)
	must(t, journal.SaveCheckpoint(t.Context(), checkpoint(uint64(through))))
}

// writeStream writes a stream's request, its tokens and its events. The token of line n gives the events from the n-th on, both counted
// from one: the first stands before them all.
func writeStream(t *testing.T, name string, tokens []string, events []*integrationv1.StreamAlertsResponse) {
	t.Helper()
	if len(tokens) != len(events)+1 {
		t.Fatalf("%s: %d tokens for %d events", name, len(tokens), len(events))
	}
	request := requests()[name]
	dir := filepath.Join(newest, streamsFolder, name)
	must(t, os.MkdirAll(dir, 0o750))
	writeFile(t, filepath.Join(dir, "request.json"), encodeJSON(t, request))
	writeFile(t, filepath.Join(dir, "tokens.txt"), []byte(strings.Join(tokens, "\n")+"\n"))
	var all []json.RawMessage
	for _, e := range events {
		all = append(all, encodeJSON(t, e))
	}
	writeJSON(t, filepath.Join(dir, "events.json"), all)
}

// golden is what is stored, as it must be read.
type golden struct {
	Records    []json.RawMessage `json:"records"`
	Ledger     json.RawMessage   `json:"ledger"`
	LastTest   json.RawMessage   `json:"lastTest"`
	Checkpoint json.RawMessage   `json:"checkpoint"`
	// Entries are those from First on.
	First   uint64            `json:"first"`
	Entries []json.RawMessage `json:"entries"`
}

// writeGolden writes what is stored by what it was made from, never by reading it.
func writeGolden(t *testing.T) {
	t.Helper()
	g := golden{First: firstKept, Ledger: encodeJSON(t, ledger()), LastTest: encodeJSON(t, lastTest())}
	for _, r := range records() {
		g.Records = append(g.Records, encodeJSON(t, r))
	}
	last := checkpoint(uint64(len(entries())))
	last.FloorTime = stampOf(floor)
	g.Checkpoint = encodeJSON(t, last)
	for _, e := range entries()[firstKept-1:] {
		g.Entries = append(g.Entries, encodeJSON(t, e))
	}
	writeJSON(t, filepath.Join(newest, "stored.json"), g)
}

func encodeJSON(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	must(t, err)
	return data
}

// writeJSON writes JSON in lines, since protojson puts its white space at random.
func writeJSON(t *testing.T, path string, value any) {
	t.Helper()
	data, err := json.MarshalIndent(value, "", " ")
	must(t, err)
	writeFile(t, path, append(data, '\n'))
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The fixture has a body for each kind of entry that there is, so that a new kind is not forgotten.
func TestEveryKindOfEntryIsThere(t *testing.T) {
	kinds := map[string]bool{}
	for _, e := range entries() {
		kinds[fmt.Sprintf("%T", e.GetBody())] = true
	}
	// Answers of telemetry, and that another server collects, came after it was written, and it stays as it was: what it holds must be
	// read by all that comes later.
	const since = 2
	if want := (&storev1.Entry{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields().Len() - since; len(kinds) != want {
		t.Errorf("%d kinds of entries, there are %d: %v", len(kinds), want, slices.Sorted(maps.Keys(kinds)))
	}
}
