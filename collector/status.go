package collector

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// Snapshot is what is so at present: what *actors* and *progress* tell, and an integration's status. It rests on no entry, and
// nothing that a stream must repeat may rest on it. Nothing in it may be modified.
type Snapshot struct {
	// Pairs are the newest pair of each depth.
	Pairs []PairAt
	// Problem is what is wrong upstream; nil while nothing is.
	Problem *integrationv1.Problem
	// NextPoll is when the next poll is due; zero where none is.
	NextPoll time.Time
	// ThrottledUntil is until when nothing is called, where Microsoft said so or the budget is spent; else zero.
	ThrottledUntil time.Time
	// Paused says that nothing is called.
	Paused bool
	// Devices is what the last whole look-up found; nil before the first.
	Devices *Devices
	// DeviceProblem is why devices could not be looked up last time.
	DeviceProblem *integrationv1.Problem
	// DeviceSource is the kind of the integration's device source.
	DeviceSource integrationv1.DeviceSource_Kind
	// Budget is what was left of the limits that the integration spends when it last read.
	Budget []*integrationv1.BudgetLeft
	// Covered is since when everything was read without a break; zero before the first read.
	Covered time.Time
	// ReadingBack is where to the collector reads back, since streams ask for alerts from before Covered; zero where none does.
	ReadingBack time.Time
	// Elsewhere is what is known of the devices where another server looked them up last; nil where this one did. Devices is nil then.
	Elsewhere *LookUp

	lookUp     LookUp // what other servers are told of looking devices up
	unattended bool   // Problem is that nobody collects

	state    integrationv1.IntegrationStatus_State
	since    time.Time
	lastGood time.Time
	pausedAt time.Time
}

// PairAt is a pair, and the journal's identity and last sequence when it was made: all that the read returned lies at or before it.
type PairAt struct {
	Pair     *integrationv1.Pair
	Identity string
	Sequence uint64
}

// Snapshot returns the present, and a channel that is closed when it is another.
func (c *Collector) Snapshot() (Snapshot, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.now
	s.Paused = c.record.GetIntegration().GetPaused()
	s.DeviceSource = c.record.GetIntegration().GetDeviceSource().GetKind()
	return s, c.changed
}

// Collects says whether this server collects for the integration; another one does otherwise, or will.
func (c *Collector) Collects() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cluster == nil || c.holding
}

// Status returns how the integration does.
func (c *Collector) Status() *integrationv1.IntegrationStatus {
	s, _ := c.Snapshot()
	status := &integrationv1.IntegrationStatus{
		State:            s.state,
		StateSince:       timestamppb.New(s.since),
		LastGoodReadTime: stampOf(s.lastGood),
		Problem:          s.Problem,
		NextPollTime:     stampOf(s.NextPoll),
		ThrottledUntil:   stampOf(s.ThrottledUntil),
	}
	for _, p := range s.Pairs {
		status.Pairs = append(status.Pairs, p.Pair)
	}
	if status.Budget = s.Budget; c.Collects() {
		status.Budget = c.budgetLeft()
	}
	if status.GetProblem() == nil {
		status.Problem = s.DeviceProblem
	}
	return status
}

// budgetLeft tells what is left of the limits that the integration spends.
func (c *Collector) budgetLeft() []*integrationv1.BudgetLeft {
	c.mu.Lock()
	integration := c.record.GetIntegration()
	c.mu.Unlock()
	return c.budgets.left(application(integration), defender.LimitsOf(integration)...)
}

// update changes the present and tells who waits for it.
func (c *Collector) update(f func(*Snapshot)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.now)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Collector) setState(state integrationv1.IntegrationStatus_State) {
	c.update(func(s *Snapshot) {
		if s.state != state {
			s.state, s.since = state, time.Now()
		}
		if state == integrationv1.IntegrationStatus_STATE_PAUSED {
			s.NextPoll, s.ThrottledUntil = time.Time{}, time.Time{}
		}
	})
}

// setProblem tells what is wrong with collecting, until when nothing is called where Microsoft said so, and when the next poll is
// due.
func (c *Collector) setProblem(problem *integrationv1.Problem, until, nextPoll time.Time) {
	state := integrationv1.IntegrationStatus_STATE_FAILING
	switch problem.GetReason() {
	case integrationv1.ErrorReason_ERROR_REASON_THROTTLED, integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT:
		state = integrationv1.IntegrationStatus_STATE_THROTTLED
	case integrationv1.ErrorReason_ERROR_REASON_API_RETIRED:
		state, nextPoll = integrationv1.IntegrationStatus_STATE_RETIRED, time.Time{}
	}
	budget := c.budgetLeft()
	c.update(func(s *Snapshot) {
		s.Budget = budget
		s.Problem = since(problem, s.Problem)
		s.ThrottledUntil, s.NextPoll = until, nextPoll
		if s.state != state {
			s.state, s.since = state, time.Now()
		}
	})
}

// since dates a problem: from when it began, where it was there before.
func since(problem, before *integrationv1.Problem) *integrationv1.Problem {
	dated := proto.CloneOf(problem)
	if dated.Since = timestamppb.Now(); before.GetReason() == dated.GetReason() && before.GetSince() != nil {
		dated.Since = before.GetSince()
	}
	return dated
}

// setGood tells of a good read.
func (c *Collector) setGood(pair *integrationv1.Pair) {
	made, nextPoll, budget := PairAt{pair, c.checkpoint.GetIdentity(), c.checkpoint.GetLastSequence()}, c.nextPoll(), c.budgetLeft()
	state := integrationv1.IntegrationStatus_STATE_ACTIVE
	if c.missing != nil {
		state = integrationv1.IntegrationStatus_STATE_FAILING
	}
	var before Snapshot
	c.update(func(s *Snapshot) {
		before = *s
		s.Budget = budget
		pairs := []PairAt{made}
		for _, p := range s.Pairs {
			if p.Pair.GetDepth() != pair.GetDepth() {
				pairs = append(pairs, p)
			}
		}
		s.Pairs = pairs
		s.Problem, s.ThrottledUntil, s.NextPoll, s.lastGood = c.missing, time.Time{}, nextPoll, pair.GetThrough().AsTime()
		if s.state != state {
			s.state, s.since = state, time.Now()
		}
	})
	if before.Problem != nil && state == integrationv1.IntegrationStatus_STATE_ACTIVE {
		c.log.Info("reading alerts works again", "reason", before.Problem.GetReason().String(), "lasted", time.Since(before.Problem.GetSince().AsTime()).String())
	}
}

// problemOf returns what an operator is told of a failure upstream.
func problemOf(err error) *integrationv1.Problem {
	if e, ok := errors.AsType[*defender.Error](err); ok {
		return e.Problem
	}
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrVersion) {
		// The budget's ledger: no call is made that cannot be counted.
		return storeProblem(err)
	}
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
		Message: "Reading from Microsoft failed.",
		Remedy:  "Read the service's log. It is tried again by itself.",
	}
}

// connectProblem returns what an operator is told where the adapter could not be made: it is the settings' fault, or a file's.
func connectProblem(err error) *integrationv1.Problem {
	if e, ok := errors.AsType[*defender.NotAllowedError](err); ok {
		return e.Problem()
	}
	if e, ok := errors.AsType[*defender.Error](err); ok {
		return e.Problem
	}
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID,
		Message: "The connection to Microsoft cannot be made.",
		Remedy:  "Read the service's log. It is tried again by itself.",
	}
}

func stateOf(record *storev1.Record) integrationv1.IntegrationStatus_State {
	if record.GetIntegration().GetPaused() {
		return integrationv1.IntegrationStatus_STATE_PAUSED
	}
	return integrationv1.IntegrationStatus_STATE_ACTIVE
}

func stampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
