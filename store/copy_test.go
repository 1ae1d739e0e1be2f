package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// copiedEntries is how many entries the longest journal has that the tests copy: 1,000, or what STORE_COPY_ENTRIES says.
func copiedEntries(t *testing.T) int {
	t.Helper()
	text := os.Getenv("STORE_COPY_ENTRIES")
	if text == "" {
		return 1000
	}
	count, err := strconv.Atoi(text)
	must(t, err)
	return count
}

// filled is what a store was filled with.
type filled struct {
	records     map[string]uint64 // by id, the revision
	ledger      uint64            // its revision
	checkpoints map[string]*storev1.Checkpoint
	last        map[string]uint64 // by journal, beyond the checkpoint
}

// fillStore fills a store with what a service leaves there: journals long and short, trimmed and cut off behind the checkpoint.
func fillStore(t *testing.T, s *JetStream) filled {
	t.Helper()
	ctx := t.Context()
	f := filled{records: map[string]uint64{}, checkpoints: map[string]*storev1.Checkpoint{}, last: map[string]uint64{}}
	for i := range 5 {
		revision, err := s.CreateRecord(ctx, record(fmt.Sprint("i-", i), fmt.Sprint("uid-", i)))
		must(t, err)
		if i == 1 { // Its etag is not that of a new one.
			revision, err = s.UpdateRecord(ctx, record("i-1", "uid-1"), revision)
			must(t, err)
		}
		f.records[fmt.Sprint("i-", i)] = revision
	}
	must(t, s.DeleteRecord(ctx, "i-4", f.records["i-4"]))
	delete(f.records, "i-4")
	var err error
	f.ledger, err = s.PutLedger(ctx, "tenant/app/graph", &storev1.Ledger{Blocks: []*storev1.Ledger_Block{{Calls: 7}}}, 0)
	must(t, err)
	must(t, s.SaveTest(ctx, "uid-1", &integrationv1.ConnectivityTest{Health: integrationv1.ConnectivityTest_HEALTH_HEALTHY}))

	for i, count := range []int{copiedEntries(t), 40, 0, 3} {
		uid := fmt.Sprint("uid-", i)
		j, checkpoint := writer(t, s, uid)
		for first := 1; first <= count; first += 5000 {
			_, err := j.Append(ctx, entries(first, min(count, first+4999)))
			must(t, err)
		}
		end := uint64(count)
		if count > 0 && i < 3 {
			save(t, j, end)
		}
		if i == 1 {
			must(t, j.Trim(ctx, 11, time.Unix(50, 0)))
		}
		f.checkpoints[uid], f.last[uid] = proto.CloneOf(j.Checkpoint()), end
		_ = checkpoint
	}
	return f
}

// want compares a store with what another was filled with, whose copy it is.
func (f filled) want(t *testing.T, s *JetStream) {
	t.Helper()
	ctx := t.Context()
	records, err := s.Records(ctx, "", 100)
	must(t, err)
	if len(records) != len(f.records) {
		t.Errorf("%d records, want %d", len(records), len(f.records))
	}
	for _, r := range records {
		if id := r.Record.GetIntegration().GetIntegrationId(); r.Revision != f.records[id] {
			t.Errorf("%s has the etag %d, want %d", id, r.Revision, f.records[id])
		}
	}
	if ledger, revision, err := s.Ledger(ctx, "tenant/app/graph"); err != nil || revision != f.ledger || ledger.GetBlocks()[0].GetCalls() != 7 {
		t.Errorf("the ledger is %v at %d, %v", ledger, revision, err)
	}
	if test, err := s.LastTest(ctx, "uid-1"); err != nil || test.GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
		t.Errorf("the last test is %v, %v", test, err)
	}
	for uid, checkpoint := range f.checkpoints {
		j, err := s.Journal(ctx, uid)
		must(t, err)
		if !proto.Equal(j.Checkpoint(), checkpoint) {
			t.Errorf("%s has %v, want %v", uid, j.Checkpoint(), checkpoint)
		}
	}
	j, err := s.Journal(ctx, "uid-1")
	must(t, err)
	wantEntries(t, j, 11, 40, 11, 40)
	for _, err := range j.Read(ctx, 10, 40) {
		wantError(t, err, ErrTrimmed)
	}
}

// goesOn recovers every journal of a store and appends to it where it ended.
func (f filled) goesOn(t *testing.T, s *JetStream) {
	t.Helper()
	for uid, last := range f.last {
		j, checkpoint := writer(t, s, uid)
		if checkpoint.GetIdentity() != f.checkpoints[uid].GetIdentity() || checkpoint.GetLastSequence() != last {
			t.Errorf("%s is recovered as %v, and ended at %d", uid, checkpoint, last)
		}
		if next, err := j.Append(t.Context(), entries(int(last)+1, int(last)+2)); err != nil || next != last+2 {
			t.Errorf("%s is appended to through %d, %v", uid, next, err)
		}
		save(t, j, last+2)
		f.checkpoints[uid], f.last[uid] = proto.CloneOf(j.Checkpoint()), last+2
	}
}

// quiet hears of copied journals.
func quiet(int, int, uint64) {}

// copied is Copy.
func copied(t *testing.T, from, to Options) (report CopyReport, err error) {
	t.Helper()
	err = unlessLate(t, func() error {
		report, err = Copy(t.Context(), from, to, quiet)
		return err
	})
	return report, err
}

// awaitNobody waits until a server that was closed has left no watch in the engine.
func awaitNobody(t *testing.T, options Options) {
	t.Helper()
	var s *JetStream
	must(t, unlessLate(t, func() (err error) {
		s, err = openSide(t.Context(), options, true)
		return err
	}))
	defer closeStore(t, s)
	eventually(t, "nobody to use the store", func() bool {
		for _, name := range durable() {
			stream, err := s.js.Stream(t.Context(), "KV_"+options.Prefix+"-"+name)
			if err != nil || stream.CachedInfo().State.Consumers > 0 {
				return false
			}
		}
		return true
	})
}

// testCopyThere copies a data directory into a cluster that keeps everything three times, goes on there, and copies it back.
func testCopyThere(t *testing.T, n *nodes) {
	copyThereAndBack(t, Options{URL: n.urls(), Prefix: "Copy", Replicas: 3, Logger: logger(t)})
}

func TestCopy(t *testing.T) {
	copyThereAndBack(t, Options{URL: startServer(t), Prefix: "Copy", Logger: logger(t)})
}

func copyThereAndBack(t *testing.T, cluster Options) {
	first := Options{Dir: t.TempDir(), Prefix: "Copy", Logger: logger(t)}
	s, err := OpenJetStream(t.Context(), first)
	must(t, err)
	f := fillStore(t, s)
	if _, err := copied(t, first, cluster); err == nil || !strings.Contains(err.Error(), "is in use by") {
		t.Errorf("a directory that a server runs on: %v", err)
	}
	closeStore(t, s)

	began := time.Now()
	report, err := copied(t, first, cluster)
	must(t, err)
	if report.Integrations != len(f.records) || report.Journals != len(f.checkpoints) || report.Entries != uint64(copiedEntries(t)+30+3) || report.Bytes == 0 {
		t.Errorf("the report is %+v", report)
	}
	t.Logf("copied %+v in %s", report, time.Since(began))
	s = openCluster(t, cluster)
	f.want(t, s)
	if got := s.streamNamed(t, "KV_Copy-records").Replicas; got != max(1, cluster.Replicas) {
		t.Errorf("the copy has %d replicas", got)
	}
	if _, err := copied(t, cluster, Options{Dir: t.TempDir(), Prefix: "Copy"}); err == nil || !strings.Contains(err.Error(), "stop all servers") {
		t.Errorf("a cluster that a server runs on: %v", err)
	}
	f.goesOn(t, s)
	closeStore(t, s)
	if _, err := copied(t, first, cluster); err == nil || !strings.Contains(err.Error(), "it holds something already, and is left as it is: Copy-journal-") {
		t.Errorf("a cluster that holds something: %v", err)
	}

	awaitNobody(t, cluster)
	back := Options{Dir: t.TempDir(), Prefix: "Copy", Logger: logger(t)}
	began = time.Now()
	report, err = copied(t, cluster, back)
	must(t, err)
	t.Logf("copied %+v back in %s", report, time.Since(began))
	s, err = OpenJetStream(t.Context(), back)
	must(t, err)
	f.want(t, s)
	f.goesOn(t, s)
	closeStore(t, s)
}

// A copy that ended early is told from a whole one, and the next one begins anew.
func TestACopyThatEndedEarly(t *testing.T) {
	from := Options{Dir: t.TempDir(), Logger: logger(t)}
	to := Options{URL: startServer(t), Logger: logger(t)}
	s, err := OpenJetStream(t.Context(), from)
	must(t, err)
	f := fillStore(t, s)
	closeStore(t, s)

	ctx, cancel := context.WithCancel(t.Context())
	wantError(t, unlessLate(t, func() error {
		_, err := Copy(ctx, from, to, func(int, int, uint64) { cancel() })
		return err
	}), context.Canceled)
	wantError(t, openRefused(t, to), errCopying)
	if _, err := copied(t, to, Options{Dir: t.TempDir()}); !errors.Is(err, errCopying) {
		t.Errorf("what is not whole is copied: %v", err)
	}
	_, err = copied(t, from, to)
	must(t, err)
	f.want(t, openCluster(t, to))
}

func TestWhatCannotBeCopied(t *testing.T) {
	dir := t.TempDir()
	closeStore(t, openDir(t, dir))
	url := startServer(t)
	for name, test := range map[string]struct {
		from, to Options
		words    string
	}{
		"no directory":    {Options{Dir: dir + "-nowhere"}, Options{URL: url}, "the store to copy from: it holds no data"},
		"another prefix":  {Options{Dir: dir, Prefix: "other"}, Options{URL: url, Prefix: "other"}, `with the prefix "other" of --nats-prefix`},
		"an empty server": {Options{URL: url}, Options{Dir: t.TempDir()}, "it holds no bucket of tests"},
		"no cluster":      {Options{Dir: dir}, Options{URL: "nats://127.0.0.1:1", Timeout: time.Second}, "the store to copy to: the store is unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := copied(t, test.from, test.to); err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%v, want the words %q", err, test.words)
			}
		})
	}
}

// What is damaged on the way is found: the copy is compared with what was copied.
func TestACopyThatDiffersIsFound(t *testing.T) {
	a, b := openURL(t, startServer(t)), openURL(t, startServer(t))
	for i, s := range []*JetStream{a, b} {
		_, err := s.CreateRecord(t.Context(), record("one", fmt.Sprint("uid-", i)))
		must(t, err)
		j, _ := writer(t, s, "uid")
		_, err = j.Append(t.Context(), entries(1, 5+i))
		must(t, err)
	}
	_, err := compareBuckets(t.Context(), a, b, "KV_defender-records")
	wantError(t, err, errDiffers)
	if count, err := compareBuckets(t.Context(), a, a, "KV_defender-records"); err != nil || count != 1 {
		t.Errorf("%d, %v", count, err)
	}
	ja, err := a.Journal(t.Context(), "uid")
	must(t, err)
	jb, err := b.Journal(t.Context(), "uid")
	must(t, err)
	from, to := ja.(*jetJournal), jb.(*jetJournal)
	identity := from.Checkpoint().GetIdentity()
	must(t, compareJournals(t.Context(), from, from, identity, Stats{First: 1, Last: 5}, 5))
	wantError(t, compareJournals(t.Context(), from, from, identity, Stats{First: 1, Last: 6}, 6), errDiffers)
	// The other journal, taken for one of this identity, has other entries.
	same := &jetJournal{store: b, uid: "uid", view: to.view}
	must(t, b.ensureStream(t.Context(), same.journalConfig(identity)))
	wantError(t, compareJournals(t.Context(), from, same, identity, Stats{First: 1, Last: 5}, 5), errDiffers)
}
