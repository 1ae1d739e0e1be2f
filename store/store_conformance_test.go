package store

import (
	"testing"
	"testing/synctest"
)

// harness gives a conformance test the store, and other processes on the same data.
type harness struct {
	store Store
	// peer opens the store as a second process has it, while the first goes on.
	peer func(t *testing.T) Store
	// reopen closes the store and opens it again.
	reopen func(t *testing.T) Store
}

// conformance is what holds for every store.
var conformance = []struct {
	name string
	test func(t *testing.T, h *harness)
}{
	{"Registry", testRegistry},
	{"RegistryPages", testRegistryPages},
	{"RegistryWatch", testRegistryWatch},
	{"Ledgers", testLedgers},
	{"Tests", testTests},
	{"Keys", testKeys},
	{"Notes", testNotes},
	{"NotesLapse", testNotesLapse},
	{"JournalAppendsAndReads", testJournal},
	{"JournalIsShared", testJournalShared},
	{"ReadersStopAtTheCheckpoint", testReadersStop},
	{"EntriesTooLarge", testTooLarge},
	{"SaveCheckpoint", testSaveCheckpoint},
	{"Wait", testWait},
	{"WaitAcrossProcesses", testWaitAcross},
	{"Refresh", testRefresh},
	{"Trim", testTrim},
	{"TrimAll", testTrimAll},
	{"RecentEntries", testRecent},
	{"RecentEntriesOfAnother", testRecentOfAnother},
	{"RecentEntriesOfOneJournal", testRecentIsOfOneJournal},
	{"Fencing", testFencing},
	{"RecoverTakesTheRest", testRecoverTakesTheRest},
	{"SealMark", testSealMark},
	{"DeleteJournal", testDeleteJournal},
	{"DeleteJournalOfAnother", testDeleteAcross},
	{"Reopen", testReopen},
	{"Closed", testClosed},
}

func TestMemoryConforms(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := NewMemory()
				t.Cleanup(func() { closeStore(t, memory) })
				c.test(t, &harness{
					store: memory,
					peer: func(t *testing.T) Store {
						peer := memory.Peer()
						t.Cleanup(func() { closeStore(t, peer) })
						return peer
					},
					reopen: func(t *testing.T) Store {
						closeStore(t, memory)
						memory = memory.Peer()
						return memory
					},
				})
			})
		})
	}
}

func TestJetStreamConforms(t *testing.T) {
	t.Parallel() // It waits for notes to lapse.
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openDir(t, dir)
			c.test(t, &harness{
				store: s,
				peer:  func(t *testing.T) Store { return peerOf(t, s) },
				reopen: func(t *testing.T) Store {
					closeStore(t, s)
					s = openDir(t, dir)
					return s
				},
			})
		})
	}
}

func TestJetStreamOnAServerConforms(t *testing.T) {
	t.Parallel() // It waits for notes to lapse.
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			url := startServer(t)
			open := func(t *testing.T) Store { return openURL(t, url) }
			s := open(t)
			c.test(t, &harness{
				store: s,
				peer:  open,
				reopen: func(t *testing.T) Store {
					closeStore(t, s)
					s = open(t)
					return s
				},
			})
		})
	}
}
