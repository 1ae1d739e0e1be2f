package acceptance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"defender-integration/acceptance/process"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
)

// killSettings are how often the service is killed, and the seed of everything that is random. ACCEPTANCE_KILLS and
// ACCEPTANCE_SEED set them: more kills for a longer run, the seed of a failed run to see it again.
func killSettings(t *testing.T) (kills int, seed uint64) {
	t.Helper()
	kills, seed = 32, rand.Uint64()
	var err error
	if text := os.Getenv("ACCEPTANCE_KILLS"); text != "" {
		if kills, err = strconv.Atoi(text); err != nil || kills < 5*len(killPoints()) {
			t.Fatalf("ACCEPTANCE_KILLS is %q and must be at least %d", text, 5*len(killPoints()))
		}
	}
	if text := os.Getenv("ACCEPTANCE_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("ACCEPTANCE_SEED is %q: %v", text, err)
		}
	}
	t.Logf("ACCEPTANCE_KILLS=%d ACCEPTANCE_SEED=%d", kills, seed)
	return kills, seed
}

// killPoints are the announced points.
func killPoints() []string {
	return []string{announce.Poll, announce.Append, announce.Checkpoint, announce.Send}
}

// stepsPerLife is after how many steps in one life the script slows down to a tenth, so that a slow machine does not have to catch up
// with much more than a fast one.
const stepsPerLife = 60

// killPlan is when a life ends: when the service comes to a point for the nth time in that life, or after a time.
type killPlan struct {
	point string // "" for after a time
	nth   int
	after time.Duration
}

// killPlans makes a plan for each life: a sixth at each point, the rest at random, in random order.
func killPlans(rng *rand.Rand, kills int) []killPlan {
	var plans []killPlan
	for _, point := range killPoints() {
		for range max(kills/6, 5) {
			nth := 1 + rng.IntN(6)
			if point == announce.Send {
				nth = 1 + rng.IntN(40)
			}
			plans = append(plans, killPlan{point: point, nth: nth})
		}
	}
	for len(plans) < kills {
		plans = append(plans, killPlan{after: time.Duration(rng.Int64N(int64(1500 * time.Millisecond)))})
	}
	rng.Shuffle(len(plans), func(i, j int) { plans[i], plans[j] = plans[j], plans[i] })
	// Where the third Actor gets its device, many events are sent for one entry: let some kills come among them.
	for i := kills / 2; i < kills/2+2; i++ {
		j := slices.IndexFunc(plans[i:], func(p killPlan) bool { return p.point == announce.Send })
		if j < 0 {
			j = slices.IndexFunc(plans[:i], func(p killPlan) bool { return p.point == announce.Send }) - i
		}
		plans[i], plans[i+j] = plans[i+j], plans[i]
	}
	return plans
}

// TestKill kills the service and its reader again and again, with SIGKILL, while alerts arrive and change. Every revision that the
// simulated Microsoft held is delivered exactly once, in the journal's order.
func TestKill(t *testing.T) {
	t.Parallel()
	kills, seed := killSettings(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := &killRun{t: t, rng: rng, house: newHouse(t, announcing(t))}
	r.script = newScript(t, rng, r.house)
	r.streams()

	r.begin()
	r.house.register(t, r.house.connect(t), integrationv1.DeviceSource_KIND_MACHINES)
	r.reader = startReader(t, r.house.socket, r.requests)
	r.readerKill = time.After(r.untilReaderKill())
	for i, plan := range killPlans(rng, kills) {
		if i > 0 {
			r.begin()
		}
		if i == kills/2 {
			r.rename()
		}
		r.live(plan)
		r.life.Kill()
		r.inspect()
		r.count(plan)
	}
	r.begin()
	r.finish()
	r.verify()
	t.Logf("killed the service %d times (%v) and the reader %d times; %d revisions of the simulated side",
		kills, r.killed, r.readers, len(r.house.tenant.Revisions()))
}

// killRun is one run of the kill test. One goroutine does all of it.
type killRun struct {
	t      *testing.T
	rng    *rand.Rand
	house  *house
	script *script

	requests map[string]*integrationv1.StreamAlertsRequest // by notebook
	all, one string                                        // the notebooks
	reader   *process.Process
	life     *life
	fresh    bool // the life has not read yet
	steps    int  // of the script, in this life

	readerKill <-chan time.Time
	readers    int
	killed     map[string]int
	read       map[string]readCount // by notebook
}

// streams says what the reader reads: everything, and what concerns three Actors. One of them is known by an alternate name, one by
// a name that its device bears only later.
func (r *killRun) streams() {
	devices := defendertest.SampleDevices()
	actors := []*integrationv1.Actor{
		{ActorId: "first", FqHostName: devices[0].DNSName},
		{ActorId: "second", HostName: "unknown", AlternateHostNames: []string{devices[1].DNSName}},
		{ActorId: "third", HostName: lateName},
	}
	began := r.house.microsoft.Now()
	r.all, r.one = filepath.Join(r.house.dir, "all"), filepath.Join(r.house.dir, "actors")
	r.requests = map[string]*integrationv1.StreamAlertsRequest{r.all: following(began), r.one: following(began, actors...)}
	r.killed, r.read = map[string]int{}, map[string]readCount{}
}

// lateName is what the third Actor's device is called in the second half of the run.
const lateName = "renamed"

// rename gives the third Actor its device. The alerts about it are delivered from then on, those of the first half too, all at the
// place of one device fact.
func (r *killRun) rename() {
	device := defendertest.SampleDevices()[2]
	device.ID, device.DNSName = defendertest.DeviceID(device.DNSName), lateName+".corp.contoso.test"
	device.LastSeen = r.house.microsoft.Now()
	r.house.tenant.AddDevice(device)
}

// begin starts a life. The overlap is short, or it would make good what a defect loses.
func (r *killRun) begin() {
	r.life = r.house.start(r.t, "--poll-fast", "60ms", "--poll-slow", "60ms", "--poll-overlap", "100ms", "--log-level", "warn")
	r.fresh, r.steps = true, 0
}

func (r *killRun) untilReaderKill() time.Duration {
	return time.Duration(r.rng.Int64N(int64(3 * time.Second)))
}

// inspect looks whether the service complained of a fault of its own. What fails upstream it only warns of.
func (r *killRun) inspect() {
	for line := range strings.Lines(r.life.Output()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
			r.t.Errorf("the service wrote: %s", line)
		}
	}
}

// count takes a kill down.
func (r *killRun) count(plan killPlan) {
	if plan.point == "" {
		plan.point = "random"
	}
	r.killed[plan.point]++
}

// live lets the service live until its plan is fulfilled, while the script goes on and the reader is killed now and then.
func (r *killRun) live(plan killPlan) {
	var over <-chan time.Time
	if plan.point == "" {
		over = time.After(plan.after)
	}
	left := plan.nth
	limit := time.After(2 * patience)
	for {
		select {
		case <-limit:
			r.t.Fatalf("the service does not come to %q so often", plan.point)
		default:
		}
		point, ok := r.next(over)
		if !ok {
			return
		}
		if point == plan.point {
			if left--; left == 0 {
				return // where it stands
			}
		}
		r.pass(point)
	}
}

// next does what is to be done until the service comes to a point, or over comes.
func (r *killRun) next(over <-chan time.Time) (point string, ok bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		select {
		case point := <-r.life.points:
			return point, true
		case <-over:
			return "", false
		case <-tick.C:
			if r.steps++; r.steps <= stepsPerLife || r.steps%10 == 0 {
				r.script.step()
			}
		case <-r.readerKill:
			r.reader.Kill()
			r.readers++
			r.reader = startReader(r.t, r.house.socket, r.requests)
			r.readerKill = time.After(r.untilReaderKill())
		case <-r.life.Done():
			r.t.Fatalf("the service ended by itself: %v", r.life.Err())
		case <-r.reader.Done():
			r.t.Fatalf("the reader ended by itself: %v", r.reader.Err())
		case <-limit:
			r.t.Fatal("the service comes to no point")
		}
	}
}

// pass lets the service go on from a point.
func (r *killRun) pass(point string) {
	if point == announce.Poll {
		r.script.polling(r.fresh)
		r.fresh = false
	}
	r.life.passed()
}

// finish lets the service and the reader live, with the script at rest, until everything is delivered, and for a few polls more:
// what would be delivered a second time is, then. It gives up when nothing more comes.
func (r *killRun) finish() {
	const morePolls = 5
	expected := r.expected()
	want := len(expected[r.all]) + len(expected[r.one])
	have, polls, quiet := 0, 0, time.After(patience)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for polls < morePolls {
		select {
		case point := <-r.life.points:
			if point == announce.Poll && have >= want {
				polls++
			}
			r.pass(point)
		case <-look.C:
			if now := r.alerts(r.all) + r.alerts(r.one); now > have {
				have, quiet = now, time.After(patience)
			}
		case <-r.life.Done():
			r.t.Fatalf("the service ended by itself: %v", r.life.Err())
		case <-r.reader.Done():
			r.t.Fatalf("the reader ended by itself: %v", r.reader.Err())
		case <-quiet:
			r.t.Errorf("of %d revisions only %d are delivered, and nothing more comes", want, have)
			polls = morePolls
		}
	}
	r.reader.Kill()
	r.life.Kill()
	r.inspect()
}

// alerts counts the alerts in a notebook. It reads no more than what came since it was last asked, since the service waits meanwhile.
func (r *killRun) alerts(path string) int {
	data, err := readFrom(path, r.read[path].offset)
	if err != nil {
		r.t.Fatal(err)
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	count := r.read[path]
	count.offset += int64(len(data))
	count.alerts += bytes.Count(data, []byte(`"alert":true`))
	r.read[path] = count
	return count.alerts
}

// readCount is how far a notebook was read, and how many alerts there were.
type readCount struct {
	offset int64
	alerts int
}

// readFrom returns what a file has from an offset on.
func readFrom(path string, offset int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.NewSectionReader(file, offset, math.MaxInt64-offset))
	return data, errors.Join(err, file.Close())
}

// delivered returns the alerts in a notebook.
func (r *killRun) delivered(path string) []note {
	notes, _, err := readNotes(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.DeleteFunc(notes, func(n note) bool { return !n.Alert })
}

// expected returns for each notebook the revisions that belong into it, by the record of the simulated side. Of an alert that comes
// to match, that is what follows; of one that no longer does, as well.
func (r *killRun) expected() map[string][]defendertest.Revision {
	devices := defendertest.SampleDevices()
	result := map[string][]defendertest.Revision{r.all: r.house.tenant.Revisions()}
	matched := map[string]bool{}
	thirdID := defendertest.DeviceID(devices[2].DNSName)
	for _, revision := range result[r.all] {
		for _, identity := range []string{devices[0].DNSName, devices[1].DNSName, thirdID} {
			matched[revision.Key] = matched[revision.Key] || bytes.Contains(revision.Raw, []byte(identity))
		}
		if matched[revision.Key] {
			result[r.one] = append(result[r.one], revision)
		}
	}
	return result
}

// verify compares what was delivered with what was expected.
func (r *killRun) verify() {
	for path, revisions := range r.expected() {
		name := filepath.Base(path)
		byHash := map[string]defendertest.Revision{}
		for _, revision := range revisions {
			byHash[string(revision.Raw)] = revision
		}
		times, last := map[string]int{}, map[string]int{}
		var before place
		within := 0
		for i, n := range r.delivered(path) {
			at, err := placeOf(n.Token)
			if err != nil {
				r.t.Fatal(err)
			}
			if i > 0 && (at.journal != before.journal || at.sequence < before.sequence ||
				at.sequence == before.sequence && at.ordinal <= before.ordinal) {
				r.t.Errorf("%s: after %v comes %v", name, before, at)
			}
			before = at
			if at.ordinal != math.MaxUint32 {
				within++
			}
			revision, ok := byHash[string(n.Raw)]
			if !ok {
				r.t.Errorf("%s: %s came at %v with bytes that Microsoft never held for this stream: %.300s", name, n.ID, at, n.Raw)
				continue
			}
			times[string(n.Raw)]++
			if revision.Number <= last[n.ID] {
				r.t.Errorf("%s: of %s revision %d comes after revision %d", name, n.ID, revision.Number, last[n.ID])
			}
			wantKind := integrationv1.AlertEvent_KIND_UPDATED
			if last[n.ID] == 0 {
				wantKind = integrationv1.AlertEvent_KIND_NEW
			}
			if n.Kind != wantKind {
				r.t.Errorf("%s: revision %d of %s is told as %s, not %s", name, revision.Number, n.ID, n.Kind, wantKind)
			}
			last[n.ID] = revision.Number
		}
		for _, revision := range revisions {
			if got := times[string(revision.Raw)]; got != 1 {
				r.t.Errorf("%s: revision %d of %s (%s) was delivered %d times; it was %s", name, revision.Number, revision.Key, titleOf(revision.Raw), got, history(revision))
			}
		}
		r.t.Logf("%s: %d revisions expected, %d delivered, %d of them for an entry with several", name, len(revisions), len(r.delivered(path)), within)
		if path == r.one && within == 0 {
			r.t.Errorf("%s: no entry made several events", name)
		}
	}
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
