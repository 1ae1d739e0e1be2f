package collector_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// hunted is a telemetry that counts what it is asked.
type hunted struct {
	mu     sync.Mutex
	calls  []int // how many questions each had
	times  []time.Time
	answer func(ctx context.Context, call int) error
}

func (h *hunted) find(ctx context.Context, questions []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
	h.mu.Lock()
	h.calls, h.times = append(h.calls, len(questions)), append(h.times, time.Now())
	call := len(h.calls)
	h.mu.Unlock()
	if h.answer != nil {
		if err := h.answer(ctx, call); err != nil {
			return nil, err
		}
	}
	answers := make([]*integrationv1.Telemetry, len(questions))
	for i, q := range questions {
		answers[i] = &integrationv1.Telemetry{AskedTime: timestamppb.Now(), Rows: []*integrationv1.TelemetryRow{{Table: q.DeviceIDs[0]}}}
	}
	return answers, nil
}

func (h *hunted) asked() (calls, questions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.calls {
		questions += n
	}
	return len(h.calls), questions
}

func askOf(device string) collector.Question {
	q := collector.Question{Asks: &defender.TelemetryQuestion{DeviceIDs: []string{device}}}
	copy(q.ID[:], device)
	return q
}

// answers returns the answers of the journal, by the question's text.
func (b *bench) answers() map[string]*storev1.TelemetryAnswer {
	b.t.Helper()
	all := map[string]*storev1.TelemetryAnswer{}
	for _, p := range b.entries() {
		if a := p.Entry.GetTelemetryAnswer(); a != nil {
			key := string(a.GetQuestion())
			if all[key] != nil {
				b.t.Errorf("%q was answered twice", key)
			}
			all[key] = a
		}
	}
	return all
}

func (b *bench) member() *collector.Member {
	b.t.Helper()
	m, _, err := b.collector().Join(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// What two hundred streams ask within a minute takes three calls, each question its own answer, those that ask the same one answer; and a
// day of such minutes stays within the budget.
func TestTelemetryIsAskedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		h := &hunted{}
		b.source.SetTraces(h.find)
		var running sync.WaitGroup
		for i := range 200 {
			running.Go(func() {
				m := b.member()
				defer m.Leave()
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				m.Ask([]collector.Question{askOf(fmt.Sprintf("%016d", i)), askOf("shared by all...")})
				time.Sleep(2 * time.Minute)
			})
		}
		running.Wait()
		calls, _ := h.asked()
		if answers := b.answers(); len(answers) < 201 || calls > 3 {
			t.Errorf("%d answers in %d calls", len(answers), calls)
		}
	})
}

// A day on which streams close all the time stays within what is allowed of telemetry, at every moment, also where the process is killed
// every 37 minutes; and every question is answered, by telemetry or by why it was not asked.
func TestTelemetryForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.HuntingInterval = time.Second // So that the budget alone holds it back.
		b := newBench(t, settings)
		defer func() { b.stop() }()
		h := &hunted{}
		b.source.SetTraces(h.find)
		asked := 0
		for began := time.Now(); time.Since(began) < 24*time.Hour; {
			m := b.member()
			for lived := time.Now(); time.Since(lived) < 37*time.Minute; asked++ {
				m.Ask([]collector.Question{askOf(fmt.Sprintf("%016d", asked))})
				time.Sleep(4 * time.Second)
			}
			time.Sleep(settings.HuntingLimit + time.Minute)
			m.Leave()
			b.stop()
			b.start(settings)
		}
		if got := len(b.answers()); got != asked {
			t.Errorf("%d of %d questions were answered", got, asked)
		}
		for _, allowed := range settings.Budgets[defender.LimitTelemetry] {
			for i := range h.times {
				if n := i + allowed.Calls; n < len(h.times) && h.times[n].Sub(h.times[i]) < allowed.Period {
					t.Fatalf("%d calls within %v", allowed.Calls+1, h.times[n].Sub(h.times[i]))
				}
			}
		}
		if len(h.times) < 1000 {
			t.Errorf("%d calls in a day", len(h.times))
		}
	})
}

// A question that telemetry does not answer in its time has an answer that says why; then nothing more is asked for it.
func TestTelemetryThatDoesNotAnswer(t *testing.T) {
	const limit = 3 * time.Minute
	reasons := integrationv1.ErrorReason_name
	tests := map[string]struct {
		answer func(ctx context.Context, call int) error
		setUp  func(b *bench)
		reason integrationv1.ErrorReason
		within time.Duration
		rows   int
	}{
		"it answers": {within: 5 * time.Second, rows: 1},
		"no telemetry": {
			setUp: func(b *bench) { b.source.SetTraces(nil) }, reason: integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID, within: 5 * time.Second,
		},
		"not permitted": {
			answer: func(context.Context, int) error {
				return &defender.Error{Permanent: true, Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING}}
			},
			reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, within: 5 * time.Second,
		},
		"throttled for an hour": {
			answer: func(context.Context, int) error {
				return &defender.Error{RetryAt: time.Now().Add(time.Hour), Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED}}
			},
			reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, within: 5 * time.Second,
		},
		"throttled for a minute": {
			answer: func(_ context.Context, call int) error {
				if call > 1 {
					return nil
				}
				return &defender.Error{RetryAt: time.Now().Add(time.Minute), Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED}}
			},
			within: 70 * time.Second, rows: 1,
		},
		"it fails all the time": {
			answer: func(context.Context, int) error { return errors.New("broken") },
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, within: limit + 5*time.Second,
		},
		"it hangs": {
			answer: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, within: limit + 20*time.Second,
		},
		"paused": {
			setUp: func(b *bench) {
				b.change(func(i *integrationv1.Integration) { i.Paused = true })
			},
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, within: limit + 5*time.Second,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, collector.DefaultSettings())
				b.t = t
				defer func() { b.stop() }()
				h := &hunted{answer: test.answer}
				b.source.SetTraces(h.find)
				time.Sleep(time.Minute)
				if test.setUp != nil {
					test.setUp(b)
					time.Sleep(time.Second)
				}
				m := b.member()
				defer m.Leave()
				polls := len(b.source.Reads())
				m.Ask([]collector.Question{askOf("question.........")})
				time.Sleep(test.within)
				answers := b.answers()
				if len(answers) != 1 {
					t.Fatalf("%d answers within %v", len(answers), test.within)
				}
				for _, a := range answers {
					if got := a.GetTelemetry(); got.GetProblem().GetReason() != test.reason || len(got.GetRows()) != test.rows || got.GetAskedTime() == nil {
						t.Errorf("answered with %v, want %s and %d rows", got, reasons[int32(test.reason)], test.rows)
					}
				}
				if made := len(b.source.Reads()) - polls; test.within > time.Minute && made < 5 && name != "paused" {
					t.Errorf("%d polls while telemetry was asked", made)
				}
				calls, _ := h.asked()
				time.Sleep(time.Hour)
				if again, _ := h.asked(); again != calls || len(b.answers()) != 1 {
					t.Errorf("asked %d times more, %d answers", again-calls, len(b.answers()))
				}
			})
		})
	}
}

// What nobody waits for any more is not asked; and what a process had not answered is asked again of the next.
func TestTelemetryNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		h := &hunted{answer: func(ctx context.Context, call int) error {
			if call > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		b.source.SetTraces(h.find)
		m := b.member()
		m.Ask([]collector.Question{askOf("left............")})
		m.Leave()
		time.Sleep(time.Minute)
		if calls, _ := h.asked(); calls != 0 {
			t.Errorf("%d calls for nobody", calls)
		}
		m = b.member()
		m.Ask([]collector.Question{askOf("stays...........")})
		time.Sleep(10 * time.Second)
		b.stop()
		if n := len(b.answers()); n != 0 {
			t.Errorf("%d answers while telemetry hangs", n)
		}
		b.start(collector.DefaultSettings())
		m = b.member()
		defer m.Leave()
		m.Ask([]collector.Question{askOf("stays...........")})
		time.Sleep(10 * time.Second)
		calls, _ := h.asked()
		if answers := b.answers(); len(answers) != 1 || len(answers["stays..........."].GetTelemetry().GetRows()) != 1 {
			t.Errorf("answers = %v after %d calls", answers, calls)
		}
	})
}

// While telemetry is asked beyond the time of a question, polls go on: the collector does not spin for an answer that is still to come.
func TestTelemetryThatIsAskedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		b := newBench(t, settings)
		defer func() { b.stop() }()
		h := &hunted{answer: func(ctx context.Context, call int) error {
			if call == 1 {
				return &defender.Error{
					RetryAt: time.Now().Add(settings.HuntingLimit - 5*time.Second),
					Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED},
				}
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		b.source.SetTraces(h.find)
		m := b.member()
		defer m.Leave()
		m.Ask([]collector.Question{askOf("question........")})
		time.Sleep(settings.HuntingLimit + 30*time.Second)
		if calls, _ := h.asked(); calls != 2 || len(b.answers()) != 1 {
			t.Errorf("%d calls, %d answers", calls, len(b.answers()))
		}
	})
}

// What is asked while telemetry is not to be asked again before its time is over waits for nothing.
func TestTelemetryThatCannotBeAskedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		h := &hunted{answer: func(context.Context, int) error {
			return &defender.Error{RetryAt: time.Now().Add(time.Hour), Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED}}
		}}
		b.source.SetTraces(h.find)
		m := b.member()
		defer m.Leave()
		m.Ask([]collector.Question{askOf("first...........")})
		time.Sleep(5 * time.Minute)
		m.Ask([]collector.Question{askOf("second..........")})
		time.Sleep(time.Second)
		answers := b.answers()
		if calls, _ := h.asked(); calls != 1 || len(answers) != 2 ||
			answers["second.........."].GetTelemetry().GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_THROTTLED {
			t.Errorf("%d calls, answers %v", calls, answers)
		}
	})
}

// Pausing ends the asking that is under way; what was asked is asked again once it is resumed, and that it was ended keeps nothing back.
func TestTelemetryWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		var ended atomic.Bool
		h := &hunted{answer: func(ctx context.Context, call int) error {
			if call > 1 {
				return nil
			}
			<-ctx.Done()
			ended.Store(true)
			return ctx.Err()
		}}
		b.source.SetTraces(h.find)
		m := b.member()
		defer m.Leave()
		m.Ask([]collector.Question{askOf("question........")})
		time.Sleep(10 * time.Second)
		b.change(func(i *integrationv1.Integration) { i.Paused = true })
		time.Sleep(time.Second)
		if !ended.Load() {
			t.Error("telemetry is still asked of a paused integration")
		}
		time.Sleep(time.Minute)
		if calls, _ := h.asked(); calls != 1 || len(b.answers()) != 0 {
			t.Errorf("%d calls, %d answers while paused", calls, len(b.answers()))
		}
		b.change(func(i *integrationv1.Integration) { i.Paused = false })
		time.Sleep(time.Second)
		if answers := b.answers(); len(answers) != 1 || len(answers["question........"].GetTelemetry().GetRows()) != 1 {
			t.Errorf("answers after it was resumed: %v", answers)
		}
	})
}
