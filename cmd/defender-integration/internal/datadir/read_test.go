package datadir_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// versions are the folders of the formats that were ever released, and of the one to be.
func versions(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("testdata/v*")
	must(t, err)
	if len(found) == 0 {
		t.Fatal("there is no data directory")
	}
	return found
}

// What an earlier version stored is read as it was stored, and goes on: the journal keeps its identity, its bounds and its floor.
func TestWhatWasStoredIsRead(t *testing.T) {
	for _, version := range versions(t) {
		t.Run(filepath.Base(version), func(t *testing.T) {
			dir := copied(t, version)
			var want golden
			readJSON(t, filepath.Join(version, "stored.json"), &want)
			s := openStore(t, dir)
			defer func() { must(t, s.Close()) }()
			wantRegistry(t, s, dir, want)
			wantJournal(t, s, want)
		})
	}
}

// wantRegistry wants the records, with their secrets, the ledger and the last test.
func wantRegistry(t *testing.T, s store.Store, dir string, want golden) {
	t.Helper()
	sealer, err := store.OpenSealer(filepath.Join(dir, keyFile), false)
	must(t, err)
	found, err := s.Records(t.Context(), "", 10)
	must(t, err)
	if len(found) != len(want.Records) {
		t.Fatalf("%d records, want %d", len(found), len(want.Records))
	}
	for i, one := range found {
		secrets, err := sealer.Open(one.Record.GetSealedSecrets(), one.Record.GetUid())
		must(t, err)
		if !proto.Equal(secrets, opened[one.Record.GetIntegration().GetIntegrationId()]) {
			t.Errorf("the secrets of %s are others", one.Record.GetIntegration().GetIntegrationId())
		}
		record := proto.CloneOf(one.Record)
		record.Format, record.SealedSecrets = 0, nil
		wantEqual(t, record, want.Records[i])
	}
	spent, _, err := s.Ledger(t.Context(), ledgerKey)
	must(t, err)
	spent.Format = 0
	wantEqual(t, spent, want.Ledger)
	test, err := s.LastTest(t.Context(), contosoJournal)
	must(t, err)
	wantEqual(t, test, want.LastTest)
}

// wantJournal wants the checkpoint and the entries, and that the journal goes on behind them.
func wantJournal(t *testing.T, s store.Store, want golden) {
	t.Helper()
	journal, err := s.Journal(t.Context(), contosoJournal)
	must(t, err)
	identity := journal.Checkpoint().GetIdentity()
	recovered, err := journal.Recover(t.Context())
	must(t, err)
	if recovered.GetIdentity() != identity {
		t.Fatal("the journal was taken for damaged")
	}
	last := want.First + uint64(len(want.Entries)) - 1
	stats, err := journal.Stats(t.Context())
	must(t, err)
	if stats.First != want.First || stats.Last != last {
		t.Fatalf("it has the entries %d through %d, want %d through %d", stats.First, stats.Last, want.First, last)
	}
	got := proto.CloneOf(recovered)
	got.Format, got.Identity = 0, ""
	wantEqual(t, got, want.Checkpoint)
	next := 0
	for p, err := range journal.Read(t.Context(), want.First, last) {
		must(t, err)
		wantEqual(t, p.Entry, want.Entries[next])
		next++
	}
	if next != len(want.Entries) {
		t.Errorf("%d entries were read, want %d", next, len(want.Entries))
	}
	if _, err := journal.Get(t.Context(), want.First-1); !errors.Is(err, store.ErrTrimmed) {
		t.Errorf("the entry before the first: %v", err)
	}
	appended, err := journal.Append(t.Context(), entries()[:1])
	must(t, err)
	if appended != last+1 {
		t.Errorf("the next entry is %d, want %d", appended, last+1)
	}
	got = proto.CloneOf(recovered)
	got.LastSequence = appended
	must(t, journal.SaveCheckpoint(t.Context(), got))
	if p, err := journal.Get(t.Context(), appended); err != nil || !proto.Equal(p.Entry, entries()[0]) {
		t.Errorf("the next entry is %v, %v", p, err)
	}
}

// Every resume token that an earlier version gave out is honoured exactly: it gives the events that came after it then.
func TestTokensThatWereGivenOut(t *testing.T) {
	for _, version := range versions(t) {
		h := openHouse(t, copied(t, version))
		defer h.close()
		streams, err := os.ReadDir(filepath.Join(version, streamsFolder))
		must(t, err)
		for _, one := range streams {
			t.Run(filepath.Base(version)+"/"+one.Name(), func(t *testing.T) {
				dir := filepath.Join(version, streamsFolder, one.Name())
				request := &integrationv1.StreamAlertsRequest{}
				readProto(t, readFile(t, filepath.Join(dir, "request.json")), request)
				tokens := strings.Fields(string(readFile(t, filepath.Join(dir, "tokens.txt"))))
				var want []json.RawMessage
				readJSON(t, filepath.Join(dir, "events.json"), &want)
				if len(tokens) != len(want)+1 || len(want) < 2 {
					t.Fatalf("%d tokens for %d events", len(tokens), len(want))
				}
				for i, token := range tokens {
					if i == len(want) && request.GetWindow().GetEndTime() != nil {
						break // The token of a completed asks for another judgement, by what comes.
					}
					request.ResumeToken = token
					_, got := h.read(t, request)
					wantEvents(t, i, got, want[i:])
				}
			})
		}
	}
}

// wantEvents wants all that the golden events say. A later version may say more.
func wantEvents(t *testing.T, after int, got []*integrationv1.StreamAlertsResponse, want []json.RawMessage) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("behind event %d came %d, want %d", after, len(got), len(want))
		return
	}
	for i, text := range want {
		event := &integrationv1.StreamAlertsResponse{}
		readProto(t, text, event)
		// A later version may write its tokens in another way.
		event.ResumeToken = ""
		if path := lacks(event.ProtoReflect(), got[i].ProtoReflect()); path != "" {
			t.Errorf("behind event %d, event %d differs in %s: %v, want %v", after, after+i+1, path, got[i], event)
		}
	}
}

// wantEqual wants a message to be what its golden JSON says.
func wantEqual[M proto.Message](t *testing.T, got M, golden []byte) {
	t.Helper()
	want := got.ProtoReflect().New().Interface()
	readProto(t, golden, want)
	if !proto.Equal(got, want) {
		t.Errorf("read was %v, want %v", got, want)
	}
}

func readProto(t *testing.T, text []byte, m proto.Message) {
	t.Helper()
	must(t, protojson.Unmarshal(text, m))
}

func readJSON(t *testing.T, path string, value any) {
	t.Helper()
	must(t, json.Unmarshal(readFile(t, path), value))
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func stampOf(at time.Time) *timestamppb.Timestamp { return timestamppb.New(at) }
