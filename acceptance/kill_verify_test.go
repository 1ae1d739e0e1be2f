package acceptance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// expected returns the revisions that belong into the notebooks of everything and of the Actors, by the record of the simulated
// side. Of an alert that comes to match, that is what follows; of one that no longer does, as well.
func (r *killRun) expected() (all, one []defendertest.Revision) {
	devices := defendertest.SampleDevices()
	all = r.house.tenant.Revisions()
	matched := map[string]bool{}
	thirdID := defendertest.DeviceID(devices[2].DNSName)
	for _, revision := range all {
		for _, identity := range []string{devices[0].DNSName, devices[1].DNSName, thirdID} {
			matched[revision.Key] = matched[revision.Key] || bytes.Contains(revision.Raw, []byte(identity))
		}
		if matched[revision.Key] {
			one = append(one, revision)
		}
	}
	return all, one
}

// verify compares what was delivered with what was expected.
func (r *killRun) verify() {
	all, one := r.expected()
	for _, reader := range r.readers {
		r.verifyNotebook(reader.all.path, all)
		if within := r.verifyNotebook(reader.one.path, one); within == 0 {
			r.t.Errorf("%s: no entry made several events", filepath.Base(reader.one.path))
		}
	}
}

// delivered returns the alerts in a notebook.
func (r *killRun) delivered(path string) []note {
	notes, _, err := readNotes(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.DeleteFunc(notes, func(n note) bool { return !n.Alert })
}

// verifyNotebook compares what a notebook holds with the revisions that belong into it. It returns how many came within an entry that
// made several events.
func (r *killRun) verifyNotebook(path string, revisions []defendertest.Revision) (within int) {
	name := filepath.Base(path)
	byHash := map[string]defendertest.Revision{}
	for _, revision := range revisions {
		byHash[string(revision.Hash[:])] = revision
	}
	times, last := map[string]int{}, map[string]int{}
	front := map[string]bool{} // the alerts that were sent last by an entry that sent several
	var before place
	delivered := r.delivered(path)
	for i, n := range delivered {
		at, err := placeOf(n.Token)
		if err != nil {
			r.t.Fatal(err)
		}
		if i > 0 && !at.follows(before) {
			r.t.Errorf("%s: after %v comes %v", name, before, at)
		}
		several := at.ordinal != math.MaxUint32 || i > 0 && at.sequence == before.sequence
		before = at
		if at.ordinal != math.MaxUint32 {
			within++
		}
		revision, ok := byHash[string(n.Hash)]
		if !ok {
			r.t.Errorf("%s: %s came at %v with bytes that Microsoft never held for this stream", name, n.ID, at)
			continue
		}
		times[string(n.Hash)]++
		if revision.Number <= last[n.ID] {
			r.t.Errorf("%s: of %s revision %d comes after revision %d", name, n.ID, revision.Number, last[n.ID])
		}
		wantKind := integrationv1.AlertEvent_KIND_UPDATED
		if last[n.ID] == 0 {
			wantKind = integrationv1.AlertEvent_KIND_NEW
		}
		// What a device fact, or what an alert shows of a device, sends lies at the journal's front. Where that is trimmed before the stream
		// goes on, or before the next revision comes, nothing tells any more that it was sent.
		if n.Kind != wantKind && (!several && !front[n.ID] || n.Kind != integrationv1.AlertEvent_KIND_NEW) {
			r.t.Errorf("%s: revision %d of %s is told as %s, not %s", name, revision.Number, n.ID, n.Kind, wantKind)
		}
		last[n.ID], front[n.ID] = revision.Number, several
	}
	for _, revision := range revisions {
		if got := times[string(revision.Hash[:])]; got != 1 {
			r.t.Errorf("%s: revision %d of %s (%s) was delivered %d times; it was %s",
				name, revision.Number, revision.Key, titleOf(revision.Raw), got, history(revision))
		}
	}
	r.t.Logf("%s: %d revisions expected, %d delivered, %d of them for an entry with several", name, len(revisions), len(delivered), within)
	return within
}

// history tells what the record knows of a revision's time.
func history(r defendertest.Revision) string {
	const clock = "15:04:05.000"
	return fmt.Sprintf("visible from %s, served %d times, first at %s and last at %s, replaced at %s",
		r.VisibleAt.Format(clock), r.Served, r.FirstServed.Format(clock), r.LastServed.Format(clock), r.Replaced.Format(clock))
}

// titleOf reads an alert's title.
func titleOf(raw []byte) string {
	var alert struct {
		Title string `json:"title"`
	}
	if err := json.Unmarshal(raw, &alert); err != nil {
		return err.Error()
	}
	return alert.Title
}
