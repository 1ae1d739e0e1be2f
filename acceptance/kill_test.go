package acceptance_test

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
)

// leastKills are enough for a few kills at each point.
const leastKills = 32

// killSettings are how often the service is killed, and the seed of everything that is random. ACCEPTANCE_KILLS and
// ACCEPTANCE_SEED set them: more kills for a longer run, the seed of a failed run to see it again.
func killSettings(t *testing.T) (kills int, seed uint64) {
	t.Helper()
	kills, seed = leastKills, rand.Uint64()
	var err error
	if text := os.Getenv("ACCEPTANCE_KILLS"); text != "" {
		if kills, err = strconv.Atoi(text); err != nil || kills < leastKills {
			t.Fatalf("ACCEPTANCE_KILLS is %q and must be at least %d", text, leastKills)
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

// killPoints are the announced points that each life comes to, and those that it comes to only where the journal is trimmed.
func killPoints() (always, trimming []string) {
	return []string{announce.Start, announce.Recovered, announce.Poll, announce.Append, announce.Checkpoint, announce.Send},
		[]string{announce.Trim, announce.Purge}
}

// When, in kills of the whole run, the third Actor gets its device, and from when on the journal is trimmed: only later, since what
// is then sent at the place of the device's fact lies anywhere in the journal, and is to be there.
func renameAt(kills int) int { return kills / 8 }
func trimAt(kills int) int   { return kills / 4 }

// stepsPerLife is after how many steps in one life the script slows down to a tenth, so that a slow machine does not have to catch up
// with much more than a fast one.
const stepsPerLife = 60

// The journal is trimmed to about 350 entries. That is more than streams need: the script changes an alert only for changeable steps
// after it was added, and goes on only while no reader is further behind than farthest.
const (
	keptBytes  = 1_200_000
	changeable = 100
	farthest   = 60
)

// killPlan is when a life ends: when the service comes to a point for the nth time in that life, or after a time.
type killPlan struct {
	point string // "" for after a time
	nth   int
	after time.Duration
}

// killPlans makes a plan for each life: a tenth at each point, the rest at random, in random order.
func killPlans(rng *rand.Rand, kills int) []killPlan {
	at := func(points []string) (plans []killPlan) {
		for _, point := range points {
			for range max(kills/10, 3) {
				plans = append(plans, killPlan{point: point, nth: nthOf(rng, point)})
			}
		}
		return plans
	}
	always, trimming := killPoints()
	plans, trims := at(always), at(trimming)
	for len(plans)+len(trims) < kills {
		plans = append(plans, killPlan{after: time.Duration(rng.Int64N(int64(1500 * time.Millisecond)))})
	}
	shuffle := func(plans []killPlan) {
		rng.Shuffle(len(plans), func(i, j int) { plans[i], plans[j] = plans[j], plans[i] })
	}
	shuffle(plans)
	plans = append(plans, trims...)
	shuffle(plans[trimAt(kills):])
	// Where the third Actor gets its device, many events are sent for one entry: let some kills come among them.
	sends := func(p killPlan) bool { return p.point == announce.Send }
	for i := renameAt(kills); i < renameAt(kills)+2; i++ {
		j := slices.IndexFunc(plans[i:], sends) + i
		if j < i {
			j = slices.IndexFunc(plans[:i], sends)
		}
		plans[i], plans[j] = plans[j], plans[i]
	}
	return plans
}

// nthOf says how often a life comes to a point before it ends there.
func nthOf(rng *rand.Rand, point string) int {
	switch point {
	case announce.Start, announce.Recovered:
		return 1
	case announce.Trim:
		return 1 + rng.IntN(2)
	case announce.Purge:
		// The first is when the journal is recovered.
		return 1 + rng.IntN(3)
	case announce.Send:
		return 1 + rng.IntN(200)
	}
	return 1 + rng.IntN(6)
}

// TestKill kills the service and its three readers again and again, with SIGKILL, while alerts arrive and change and the journal is
// trimmed behind them. Every revision that the simulated Microsoft held is delivered to each exactly once, in the journal's order.
func TestKill(t *testing.T) {
	t.Parallel()
	kills, seed := killSettings(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := &killRun{t: t, rng: rng, house: newHouse(t, announcing(t)), killed: map[string]int{}}
	r.script = newScript(t, rng, r.house)

	r.begin()
	r.house.register(t, r.house.connect(t), integrationv1.DeviceSource_KIND_MACHINES)
	began := r.house.microsoft.Now()
	for i := range readers {
		r.readers = append(r.readers, newKilledReader(t, rng, r.house, i, began))
	}
	for i, plan := range killPlans(rng, kills) {
		switch i {
		case 0:
		case trimAt(kills):
			// What the third Actor's device makes is delivered before any of it may be trimmed.
			r.begin()
			r.deliver()
			r.end()
			r.trimming = true
			fallthrough
		default:
			r.begin()
		}
		if i == renameAt(kills) {
			r.rename()
		}
		r.live(plan)
		r.end()
		r.count(plan)
	}
	r.begin()
	r.deliver()
	for _, reader := range r.readers {
		reader.process.Kill()
	}
	r.end()
	r.verify()
	if r.trims == 0 {
		t.Error("the journal was never trimmed")
	}
	t.Logf("killed the service %d times (%v) and the readers %v times; the journal was trimmed %d times; %d revisions of the simulated side",
		kills, r.killed, r.readersKilled(), r.trims, len(r.house.tenant.Revisions()))
}

// killRun is one run of the kill test. One goroutine does all of it.
type killRun struct {
	t      *testing.T
	rng    *rand.Rand
	house  *house
	script *script

	readers  []*killedReader
	life     *life
	trimming bool // the journal is trimmed in lives to come
	fresh    bool // the life has not read yet
	steps    int  // of the script, in this life

	killed map[string]int // the service, by point
	trims  int
}

// lateName is what the third Actor's device is called once it was renamed.
const lateName = "renamed"

// rename gives the third Actor its device. The alerts about it are delivered from then on, those from before too, all at the place
// of one device fact.
func (r *killRun) rename() {
	device := defendertest.SampleDevices()[2]
	device.ID, device.DNSName = defendertest.DeviceID(device.DNSName), lateName+".corp.contoso.test"
	device.LastSeen = r.house.microsoft.Now()
	r.house.tenant.AddDevice(device)
}

// begin starts a life. The overlap is short, or it would make good what a defect loses.
func (r *killRun) begin() {
	flags := []string{"--poll-fast", "60ms", "--poll-slow", "60ms", "--poll-overlap", "100ms", "--trim-interval", "100ms"}
	if r.trimming {
		flags = append(flags, "--retention-bytes", strconv.Itoa(keptBytes))
	}
	r.life = r.house.start(r.t, flags...)
	r.fresh, r.steps = true, 0
}

// end kills the service, and looks whether it complained of a fault of its own. What fails upstream it only warns of.
func (r *killRun) end() {
	r.life.Kill()
	for line := range strings.Lines(r.life.Output()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
			r.t.Errorf("the service wrote: %s", line)
		}
		if first := trimmed.FindStringSubmatch(line); first != nil {
			r.trims++
			sequence, err := strconv.ParseUint(first[1], 10, 64)
			if err != nil {
				r.t.Fatal(err)
			}
			if kept := int(r.newest()+1) - int(sequence); kept < changeable+farthest {
				r.t.Errorf("the journal was trimmed to %d entries, and the streams may need %d", kept, changeable+farthest)
			}
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

// live lets the service live until its plan is fulfilled, while the script goes on and the readers are killed now and then.
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
			for _, reader := range r.readers {
				reader.killWhenDue()
			}
			if r.steps++; r.steps <= stepsPerLife || r.steps%10 == 0 {
				r.step()
			}
		case <-r.life.Done():
			r.t.Fatalf("the service ended by itself: %v", r.life.Err())
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

// step does a step of the script, unless it has to wait for a reader. It looks for that at every fifth.
func (r *killRun) step() {
	if r.script.number%5 == 0 && r.behind() > farthest {
		return
	}
	r.script.step()
}

// behind says how many entries of the journal the reader that is furthest behind has not passed yet.
func (r *killRun) behind() int {
	newest, most := r.newest(), 0
	for _, reader := range r.readers {
		most = max(most, r.script.number-reader.all.alerts, int(newest-reader.all.last.sequence), int(newest-reader.one.last.sequence))
	}
	return most
}

// newest returns the newest place in the journal that a reader came to.
func (r *killRun) newest() uint64 {
	var newest uint64
	for _, reader := range r.readers {
		newest = max(newest, reader.all.read(r.t).last.sequence, reader.one.read(r.t).last.sequence)
	}
	return newest
}

// trimmed is what the service logs of a trimming.
var trimmed = regexp.MustCompile(`"msg":"journal trimmed".*"first_sequence":(\d+)`)

// deliver lets the service and the readers live, with the script at rest, until everything is delivered, and for a few polls more:
// what would be delivered a second time is, then. It gives up when nothing more comes.
func (r *killRun) deliver() {
	const morePolls = 5
	all, one := r.expected()
	want := len(r.readers) * (len(all) + len(one))
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
			now := 0
			for _, reader := range r.readers {
				now += reader.all.read(r.t).alerts + reader.one.read(r.t).alerts
				reader.check()
			}
			if now > have {
				have, quiet = now, time.After(patience)
			}
		case <-r.life.Done():
			r.t.Fatalf("the service ended by itself: %v", r.life.Err())
		case <-quiet:
			r.t.Errorf("of %d revisions only %d are delivered, and nothing more comes", want, have)
			polls = morePolls
		}
	}
}

// readersKilled tells how often each reader was killed.
func (r *killRun) readersKilled() []int {
	var times []int
	for _, reader := range r.readers {
		times = append(times, reader.times)
	}
	return times
}
