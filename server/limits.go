package server

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// Limits are what callers may take, one of them and all together, so that one that runs wild leaves something to the others and to the
// machine. Health is not limited. Where a number is zero, there is no limit.
type Limits struct {
	// Streams is how many streams all callers together may have open, StreamsPerCaller how many one may.
	Streams, StreamsPerCaller int
	// CallsPerSecond is how many unary calls all callers together may make, CallsPerSecondPerCaller how many one may. Who made none for
	// a second may make those of a second at once.
	CallsPerSecond, CallsPerSecondPerCaller float64
	// RequestBytes is how large a request may be, in bytes. [MaxRequestBytes] bounds it in any case.
	RequestBytes int
}

// MaxRequestBytes is the largest request that the server reads at all, in bytes. gRPC itself refuses what is larger, with the code
// RESOURCE_EXHAUSTED and neither a reason nor a time to come again.
const MaxRequestBytes = 16 << 20

// DefaultLimits returns limits that no Director comes to that does its work: one with 10,000 streams, all of which begin again at once
// after a restart, and hundreds of calls a second.
func DefaultLimits() Limits {
	return Limits{
		Streams: 40_000, StreamsPerCaller: 20_000,
		CallsPerSecond: 2000, CallsPerSecondPerCaller: 1000,
		// A valid request with 1,000 Actors that are full of names and addresses has 6 MB.
		RequestBytes: 8 << 20,
	}
}

// Check returns an error that names the flag whose value cannot be.
func (l Limits) Check() error {
	for _, flag := range []struct {
		name  string
		limit float64
	}{
		{"max-streams", float64(l.Streams)}, {"max-streams-per-caller", float64(l.StreamsPerCaller)},
		{"calls-per-second", l.CallsPerSecond}, {"calls-per-second-per-caller", l.CallsPerSecondPerCaller},
		{"max-request-bytes", float64(l.RequestBytes)},
	} {
		if math.IsNaN(flag.limit) || math.IsInf(flag.limit, 0) || flag.limit < 0 {
			return fmt.Errorf("--%s is %v and must be a number from 0 on; 0 means no limit", flag.name, flag.limit)
		}
	}
	if l.RequestBytes > MaxRequestBytes {
		return fmt.Errorf("--max-request-bytes is %d, and the service reads no request of more than %d", l.RequestBytes, MaxRequestBytes)
	}
	return nil
}

// When to come again.
const (
	// retryAfterStreams is when a stream may have ended. Nobody knows when one will, and who waits for one costs a call each time.
	retryAfterStreams = 10 * time.Second
	// retryAfterCalls is at least when a call may be made again: if all that were refused wait that long, there is room for as many as
	// may be made in a second.
	retryAfterCalls = time.Second
)

// limitName and limitScope are what the metadata and the metrics call a limit.
type (
	limitName  string
	limitScope string
)

const (
	limitStreams limitName = "streams"
	limitCalls   limitName = "calls"
	limitRequest limitName = "request_bytes"

	scopeCaller limitScope = "caller"
	scopeServer limitScope = "server"
)

// limitScopes are the limits that there are, each with whom it may be a limit of.
func limitScopes() map[limitName][]limitScope {
	return map[limitName][]limitScope{
		limitStreams: {scopeCaller, scopeServer}, limitCalls: {scopeCaller, scopeServer}, limitRequest: {scopeServer},
	}
}

// limiter counts what callers take. It is safe for concurrent use.
type limiter struct {
	limits  Limits
	metrics *metrics

	mu sync.Mutex
	// all is what all callers take together, callers what each takes, by name.
	all     *taken
	callers map[string]*taken
	// sweepAt is from how many callers on those are looked for that take nothing any more.
	sweepAt int
}

// taken is what somebody takes.
type taken struct {
	streams int
	// calls has a token for each call that may be made; nil where there is no limit.
	calls *rate.Limiter
	// lines has a token for each refused call that the log tells of, untold is how many it did not tell of since.
	lines  *rate.Limiter
	untold int
}

// refusedTold and refusedAtOnce bound the lines of the log about one caller's refused calls, which cost it nothing: so many a second, and
// so many at once.
const (
	refusedTold   = 10
	refusedAtOnce = 1000
)

// tell says whether the log tells of a refused call of a caller, and how many it did not tell of before.
func (l *limiter) tell(name string) (untold int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	own := l.of(name, now)
	if !own.lines.AllowN(now, 1) {
		own.untold++
		l.metrics.untold.Inc()
		return 0, false
	}
	untold, own.untold = own.untold, 0
	return untold, true
}

// leastCallers is how many callers are kept without looking whether they take anything.
const leastCallers = 1024

func newLimiter(limits Limits, m *metrics) *limiter {
	return &limiter{
		limits: limits, metrics: m, all: newTaken(limits.CallsPerSecond), callers: map[string]*taken{}, sweepAt: leastCallers,
	}
}

// newTaken returns what somebody has taken who may make so many calls a second and has not come yet.
func newTaken(callsPerSecond float64) *taken {
	t := &taken{lines: rate.NewLimiter(refusedTold, refusedAtOnce)}
	if callsPerSecond > 0 {
		t.calls = rate.NewLimiter(rate.Limit(callsPerSecond), int(math.Ceil(callsPerSecond)))
	}
	return t
}

// idle says whether nothing of it differs from what [newTaken] returns.
func (t *taken) idle(now time.Time) bool {
	full := func(bucket *rate.Limiter) bool {
		return bucket == nil || bucket.TokensAt(now) >= float64(bucket.Burst())
	}
	return t.streams == 0 && full(t.calls) && full(t.lines)
}

// of returns what a caller takes. Callers come and go without end, so those that take nothing are forgotten, whenever there are twice as
// many as were left the last time. It needs the lock.
func (l *limiter) of(name string, now time.Time) *taken {
	if t := l.callers[name]; t != nil {
		return t
	}
	if len(l.callers) >= l.sweepAt {
		for name, t := range l.callers {
			if t.idle(now) {
				delete(l.callers, name)
			}
		}
		l.sweepAt = max(leastCallers, 2*len(l.callers))
	}
	t := newTaken(l.limits.CallsPerSecondPerCaller)
	l.callers[name] = t
	return t
}

// openStream counts a stream of a caller until closeStream is called with the result, or returns why there may be none more.
func (l *limiter) openStream(name string) (*taken, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.of(name, time.Now())
	if most := l.limits.StreamsPerCaller; most > 0 && own.streams >= most {
		return nil, l.refuse(limitStreams, scopeCaller, strconv.Itoa(most),
			"the caller %q has %d streams open and may have no more; end some of them, or raise --max-streams-per-caller", name, most).
			After(retryAfterStreams)
	}
	if most := l.limits.Streams; most > 0 && l.all.streams >= most {
		return nil, l.refuse(limitStreams, scopeServer, strconv.Itoa(most),
			"all callers together have %d streams open, and there may be no more; come again later, or raise --max-streams", most).
			After(retryAfterStreams)
	}
	own.streams++
	l.all.streams++
	l.metrics.streams.Inc()
	return own, nil
}

// closeStream says that a stream has ended, of whom openStream said.
func (l *limiter) closeStream(own *taken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own.streams--
	l.all.streams--
	l.metrics.streams.Dec()
}

// call counts a unary call of a caller, or returns why it may not be made now, and when it may be.
func (l *limiter) call(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	own := l.of(name, now)
	mine, wait := take(own.calls, now)
	if wait > 0 {
		return l.refuse(limitCalls, scopeCaller, number(l.limits.CallsPerSecondPerCaller),
			"the caller %q makes more than %s calls a second; come again in %s, or raise --calls-per-second-per-caller",
			name, number(l.limits.CallsPerSecondPerCaller), wait).After(wait)
	}
	if _, wait := take(l.all.calls, now); wait > 0 {
		if mine != nil {
			mine.CancelAt(now)
		}
		return l.refuse(limitCalls, scopeServer, number(l.limits.CallsPerSecond),
			"all callers together make more than %s calls a second; come again in %s, or raise --calls-per-second",
			number(l.limits.CallsPerSecond), wait).After(wait)
	}
	return nil
}

// take takes one call out of a bucket, nil for a bottomless one. Where it has none left, nothing is taken and the wait is more than zero.
func take(bucket *rate.Limiter, now time.Time) (taken *rate.Reservation, wait time.Duration) {
	if bucket == nil {
		return nil, 0
	}
	taken = bucket.ReserveN(now, 1)
	if wait = taken.DelayFrom(now); wait > 0 {
		taken.CancelAt(now)
		return nil, max(wait, retryAfterCalls)
	}
	return taken, 0
}

// request returns why a request of so many bytes is too large; nil where it is not.
func (l *limiter) request(size int) error {
	if most := l.limits.RequestBytes; most > 0 && size > most {
		return l.refuse(limitRequest, scopeServer, strconv.Itoa(most),
			"the request has %d bytes, and may have %d; ask for fewer Actors at once, or raise --max-request-bytes", size, most)
	}
	return nil
}

// refuse counts a refusal and returns it. It says nothing of when to come again.
func (l *limiter) refuse(limit limitName, scope limitScope, allowed, format string, args ...any) *failure.Error {
	l.metrics.refused.WithLabelValues(string(limit), string(scope)).Inc()
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT, format, args...).
		With("limit", string(limit)).With("scope", string(scope)).With("allowed", allowed)
}

// number writes a number as a person does.
func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
