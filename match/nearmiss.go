package match

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxStrangers is how many alerts are kept that may be near misses of Actors with which they share nothing: the nearest ones, each at
// most a few kilobytes. Beyond them alerts are only counted.
const maxStrangers = 2000

// NearMisses gathers why collected alerts do not count for the Actors of a request. What it keeps is bounded by the Actors and by what
// matched them, whatever the number of alerts; and an alert that shares no name and no address with an Actor is not compared with it.
// It is not safe for concurrent use.
type NearMisses struct {
	window        Window
	tolerance     time.Duration
	minConfidence integrationv1.Confidence
	most          int

	actors    map[string]*nearActor
	byLabel   map[string][]*nearActor
	byAddress map[netip.Addr][]*nearActor
	// alerts is how many were added.
	alerts int64
	// strangers are those that share nothing with some Actor; the nearest maxStrangers, and up to as many more that were not sorted yet.
	strangers []*candidate
	settled   bool
}

// nearActor is an Actor and what does not count for it.
type nearActor struct {
	*Actor
	// seen is the last alert that shares something with the Actor, by its number.
	seen int64
	// matched are the alerts that match it, whether they count or not.
	matched map[string]bool
	// failed is how many of those do not count, by the first criterion that failed.
	failed map[integrationv1.CountingCriterion]int64
	// nearest are the nearest alerts that share something with it and do not count, the nearest first.
	nearest []miss
}

// candidate is what is kept of an alert that may be a near miss.
type candidate struct {
	id, title string
	created   time.Time
	span      span
	activity  integrationv1.Activity
	// distance is how far its activity lies from the window.
	distance time.Duration
	// machines are the devices that the alert is about. The alert itself is not kept: it may be large.
	machines []*machine
}

// miss is an alert that does not count for an Actor.
type miss struct {
	*candidate
	criterion integrationv1.CountingCriterion
	// related says that it shares the first label of a name, or an address, with the Actor, and does not match it.
	related bool
	// match is how it matched, where it did.
	match *integrationv1.ActorMatch
}

// NewNearMisses returns what gathers the near misses of these Actors for a window with its tolerance, at most `most` of each Actor.
// minConfidence is what alerts must reach to count.
func NewNearMisses(actors []*Actor, window Window, tolerance time.Duration, minConfidence integrationv1.Confidence, most int) *NearMisses {
	n := &NearMisses{
		window: window, tolerance: tolerance, minConfidence: max(minConfidence, DefaultMinConfidence), most: most,
		actors: make(map[string]*nearActor, len(actors)), byLabel: map[string][]*nearActor{}, byAddress: map[netip.Addr][]*nearActor{},
	}
	for _, actor := range actors {
		a := &nearActor{Actor: actor, matched: map[string]bool{}, failed: map[integrationv1.CountingCriterion]int64{}}
		n.actors[actor.ID()] = a
		for _, label := range a.firstLabels() {
			n.byLabel[label] = append(n.byLabel[label], a)
		}
		for _, address := range a.addresses {
			n.byAddress[address.addr] = append(n.byAddress[address.addr], a)
		}
	}
	return n
}

// Add adds an alert by its last revision. id is what its revisions share; matches are the Actors that it matched, with their `counts`;
// activity is how its activity lies to the window. Each alert is added once; the order does not matter.
func (n *NearMisses) Add(id string, alert *integrationv1.Alert, matches []*integrationv1.ActorMatch, activity integrationv1.Activity) {
	n.alerts++
	c := &candidate{
		id: id, title: cutText(alert.GetTitle()), created: createdTime(alert), span: spanOf(alert), activity: activity,
		machines: DevicesOf(alert).machines,
	}
	c.distance = n.window.distance(c.span)
	sharing := 0
	for _, m := range matches {
		a := n.actors[m.GetActorId()]
		if a == nil || a.seen == n.alerts {
			continue
		}
		a.seen = n.alerts
		sharing++
		a.matched[id] = true
		if criterion := failedBy(m, activity, n.minConfidence); !m.GetCounts() {
			a.failed[criterion]++
			a.offer(miss{candidate: c, criterion: criterion, match: m}, n.most)
		}
	}
	for a := range n.sharing(c.machines) {
		if a.seen == n.alerts {
			continue
		}
		a.seen = n.alerts
		sharing++
		a.offer(miss{candidate: c, criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE, related: true}, n.most)
	}
	if sharing < len(n.actors) {
		n.addStranger(c)
	}
}

// failedBy returns the first criterion by which an alert that matches and does not count fails. Where all else holds, it was other devices'
// evidence that reactivated it.
func failedBy(m *integrationv1.ActorMatch, activity integrationv1.Activity, minConfidence integrationv1.Confidence) integrationv1.CountingCriterion {
	switch {
	case m.GetAmbiguous():
		return integrationv1.CountingCriterion_COUNTING_CRITERION_UNAMBIGUOUS
	case !inside(activity), reaches(m, minConfidence):
		return integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY
	default:
		return integrationv1.CountingCriterion_COUNTING_CRITERION_CONFIDENCE
	}
}

// sharing yields the Actors that share the first label of a name, or an address, with a machine. One may come several times.
func (n *NearMisses) sharing(machines []*machine) func(yield func(*nearActor) bool) {
	return func(yield func(*nearActor) bool) {
		for _, m := range machines {
			for _, label := range m.labels {
				for _, a := range n.byLabel[label.folded] {
					if !yield(a) {
						return
					}
				}
			}
			for _, address := range m.addresses {
				for _, a := range n.byAddress[address.addr] {
					if !yield(a) {
						return
					}
				}
			}
		}
	}
}

// addStranger keeps an alert that shares nothing with some Actor, as long as it is one of the nearest.
func (n *NearMisses) addStranger(c *candidate) {
	n.settled = false
	if n.strangers = append(n.strangers, c); len(n.strangers) >= 2*maxStrangers {
		n.settle()
	}
}

// settle sorts the strangers, once for all Actors, and lets go of those that are too many.
func (n *NearMisses) settle() {
	if n.settled {
		return
	}
	slices.SortFunc(n.strangers, compareCandidates)
	clear(n.strangers[min(len(n.strangers), maxStrangers):])
	n.strangers = n.strangers[:min(len(n.strangers), maxStrangers)]
	n.settled = true
}

// offer keeps a miss if it is one of the nearest.
func (a *nearActor) offer(m miss, most int) {
	at, _ := slices.BinarySearchFunc(a.nearest, m, compareMisses)
	if at >= most {
		return
	}
	if len(a.nearest) == most {
		a.nearest = a.nearest[:most-1]
	}
	a.nearest = slices.Insert(a.nearest, at, m)
}

// compareMisses orders misses of one Actor, the nearest first: the later the criterion that failed, then the surer it is about the attack
// where that was what failed, then what shares something with it, then by the distance in time, then by id.
func compareMisses(x, y miss) int {
	if c := cmp.Compare(y.criterion, x.criterion); c != 0 {
		return c
	}
	if x.criterion == integrationv1.CountingCriterion_COUNTING_CRITERION_CONFIDENCE {
		if c := cmp.Compare(y.match.GetAttribution().GetConfidence(), x.match.GetAttribution().GetConfidence()); c != 0 {
			return c
		}
	}
	if x.related != y.related {
		if x.related {
			return -1
		}
		return 1
	}
	return compareCandidates(x.candidate, y.candidate)
}

func compareCandidates(x, y *candidate) int {
	return cmp.Or(cmp.Compare(x.distance, y.distance), cmp.Compare(x.id, y.id))
}

// Of returns the near misses of an Actor, the nearest first, and how many more alerts do not count for it, by what failed.
func (n *NearMisses) Of(actorID string) ([]*integrationv1.NearMiss, []*integrationv1.Uncounted) {
	a := n.actors[actorID]
	if a == nil {
		return nil, nil
	}
	left := maps.Clone(a.failed)
	left[integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE] = n.alerts - int64(len(a.matched))
	var misses []*integrationv1.NearMiss
	for _, m := range n.nearestOf(a) {
		misses = append(misses, n.tell(a, m))
		left[m.criterion]--
	}
	return misses, UncountedOf(left)
}

// nearestOf returns the nearest misses of an Actor: those that share something with it, then the strangers.
func (n *NearMisses) nearestOf(a *nearActor) []miss {
	n.settle()
	nearest := slices.Clone(a.nearest)
	for _, c := range n.strangers {
		if len(nearest) >= n.most {
			break
		}
		// What shares something with it stands among its own, all of them where these are fewer than the most.
		if !a.matched[c.id] && !a.shares(c.machines) {
			nearest = append(nearest, miss{candidate: c, criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE})
		}
	}
	return nearest
}

// UncountedOf lists how many alerts failed by each criterion, those of none left out.
func UncountedOf(alerts map[integrationv1.CountingCriterion]int64) []*integrationv1.Uncounted {
	var list []*integrationv1.Uncounted
	for criterion := integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE; criterion <= integrationv1.CountingCriterion_COUNTING_CRITERION_CONFIDENCE; criterion++ {
		if alerts[criterion] > 0 {
			list = append(list, &integrationv1.Uncounted{Criterion: criterion, Alerts: alerts[criterion]})
		}
	}
	return list
}

// firstLabels returns the first labels of all of the Actor's names, each once.
func (a *Actor) firstLabels() []string {
	var labels []string
	for _, n := range slices.Concat(a.labels, a.alternates) {
		if label := firstLabel(n.folded); !slices.Contains(labels, label) {
			labels = append(labels, label)
		}
	}
	return labels
}

// shares says that the Actor shares the first label of a name, or an address, with one of the machines.
func (a *Actor) shares(machines []*machine) bool {
	for _, m := range machines {
		if label, address := a.common(m); label != "" || address != "" {
			return true
		}
	}
	return false
}

// common returns the first label and the address, as Defender tells it, that the Actor shares with a machine; empty where it shares none.
func (a *Actor) common(m *machine) (label, given string) {
	for _, mine := range a.firstLabels() {
		if _, found := findName(m.labels, mine); found {
			label = mine
			break
		}
	}
	for _, mine := range m.addresses {
		if a.hasAddress(mine.addr) {
			given = mine.given
			break
		}
	}
	return label, given
}

// span is when an alert's activity began and ended; zero where nothing tells it.
type span struct {
	first, last time.Time
	// byCreation says that the alert tells no activity, and that this is its creation.
	byCreation bool
}

// spanOf returns an alert's activity, as [ActivityOf] goes by it.
func spanOf(alert *integrationv1.Alert) span {
	first, last := timeOf(alert.GetFirstActivityTime()), timeOf(alert.GetLastActivityTime())
	if first.IsZero() {
		first = last
	}
	if first.IsZero() {
		created := timeOf(alert.GetCreatedTime())
		return span{created, created, true}
	}
	if last.IsZero() || last.Before(first) {
		last = first
	}
	return span{first, last, false}
}

// distance returns how far activity lies from the window: zero where they overlap, the longest there is where nothing tells a time.
func (w Window) distance(s span) time.Duration {
	switch {
	case s.first.IsZero():
		return math.MaxInt64
	case !w.Start.IsZero() && s.last.Before(w.Start):
		return w.Start.Sub(s.last)
	case !w.End.IsZero() && s.first.After(w.End):
		return s.first.Sub(w.End)
	}
	return 0
}
