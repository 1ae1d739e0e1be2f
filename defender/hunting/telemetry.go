package hunting

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// lookBack is how far back the tables reach (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview).
const lookBack = 30 * 24 * time.Hour

var _ defender.TelemetrySource = (*Source)(nil)

// FindTraces looks for what fits the questions; see [defender.TelemetrySource], and [attack.fits] for what fits. One query asks for as
// many questions as have at most 5,000 values together, or 128 KiB: 200 of the usual size are one call. What Microsoft finds too much is
// asked for in halves of the questions, then of the time, and fewer are asked for at once for an hour.
//
// A block that a control only audited is none, and a connection that was told as successful is no proof that it was: the block's own row
// decides. Of what only antivirus tells, what it remediated before it ran is a block.
func (s *Source) FindTraces(ctx context.Context, questions []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
	h := s.newHunt(ctx)
	all := make([]*question, len(questions))
	var open []*question
	for i, q := range questions {
		all[i] = newQuestion(q, time.Now())
		if all[i].problem == nil {
			open = append(open, all[i])
		}
	}
	slices.SortStableFunc(open, func(x, y *question) int { return x.since.Compare(y.since) })
	asked := len(open) > 0
	for len(open) > 0 {
		n := together(open, s.traceSize.most(time.Now()))
		h.narrowing(open[:n], span{}, maxTraceSplits)
		open = open[n:]
	}
	if asked && !h.answered {
		return nil, h.failure
	}
	answers := make([]*integrationv1.Telemetry, len(questions))
	for i, q := range all {
		answers[i] = h.answer(q)
	}
	return answers, nil
}

// question is one question while it is being answered.
type question struct {
	attack *attack
	// devices are the ids in lower case; where there are none, names are whole names and labels first labels of any.
	devices, names, labels map[string]bool
	// values are by what its events are asked for, devices first.
	values         []value
	since, through time.Time
	// leftOut is how many of the attack's values are not asked for; early says that it begins before what the tables reach back to.
	leftOut int
	early   bool

	// askedAt is when it was asked last.
	askedAt time.Time
	problem *integrationv1.Problem
	// machines are the full names, at most two, of those whose rows fit where the question has but a short name.
	machines []string
	rows     ranking
}

// newQuestion prepares a question. One that cannot be asked has a problem.
func newQuestion(q *defender.TelemetryQuestion, now time.Time) *question {
	out := &question{attack: newAttack(q.Traces), since: q.Since.UTC().Truncate(tick), through: q.Through.UTC().Truncate(tick), askedAt: now}
	out.early = out.since.Before(now.Add(-lookBack))
	devices := deviceValues(q)
	traces, leftOut := traceValues(q.Traces)
	out.leftOut = leftOut
	switch {
	case len(devices) == 0:
		out.problem = unaskable("Telemetry was not asked: it is asked for by a device's id or name, and none of this Actor's is known.",
			"Give the Actor's name or device id as Defender knows them.")
	case len(traces) == 0:
		out.problem = unaskable("Telemetry was not asked: the Actor's traces hold nothing that events can be found by.",
			"Give the attack's processes with their creation times, command lines with arguments, hashes, file names or remote addresses.")
	case out.through.Before(out.since):
		out.problem = unaskable("Telemetry was not asked: the time that it is to be asked for ends before it begins.", "Give a window that ends after it begins.")
	}
	out.values = slices.Concat(devices, traces)
	out.devices, out.names, out.labels = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range devices {
		if v.kind == deviceID {
			out.devices[v.text] = true
		}
	}
	for _, full := range q.FullNames {
		full = foldName(full)
		out.names[full] = true
		// A device may have reported without its domain.
		out.names[firstLabel(full)] = true
	}
	for _, short := range q.ShortNames {
		out.labels[foldName(short)] = true
	}
	return out
}

// foldName returns a device's name in the form that is compared.
func foldName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// tick is the least span of time that the tables tell apart.
const tick = 100 * time.Nanosecond

// together returns how many of the questions, at least one, go into one query of at most so many values.
func together(questions []*question, most int) int {
	values := map[value]bool{}
	text := 0
	for i, q := range questions {
		for _, v := range q.values {
			if !values[v] {
				values[v] = true
				text += len(v.text)
			}
		}
		if i > 0 && (len(values) > most || text > maxText) {
			return i
		}
	}
	return len(questions)
}

// about says whether a row is of one of the question's devices, and within its time.
func (q *question) about(e *event) bool {
	if e.at.IsZero() || e.at.Before(q.since) || e.at.After(q.through) {
		return false
	}
	if len(q.devices) > 0 {
		return q.devices[strings.ToLower(e.deviceID)]
	}
	name := foldName(e.device)
	return name != "" && (q.names[name] || q.labels[firstLabel(name)])
}

// noteMachine takes note of whose row fits, where machines of several domains may bear the name that is asked for.
func (q *question) noteMachine(e *event) {
	name := foldName(e.device)
	if len(q.devices) > 0 || q.names[name] || !strings.Contains(name, ".") || slices.Contains(q.machines, name) || len(q.machines) > 1 {
		return
	}
	q.machines = append(q.machines, cut(name, maxTold))
}

// answer returns what a question came to.
func (h *hunt) answer(q *question) *integrationv1.Telemetry {
	answer := &integrationv1.Telemetry{AskedTime: timestamppb.New(q.askedAt), Problem: proto.CloneOf(q.problem)}
	if len(q.machines) > 1 {
		answer.Problem = severalMachines(q.machines)
		return answer
	}
	answer.Rows, answer.MoreRows = q.rows.result()
	switch {
	case answer.GetProblem() != nil:
	case len(h.lacking) > 0:
		answer.Problem = lacks(h.lacking)
	case q.early:
		answer.Problem = tooEarly()
	case q.leftOut > 0:
		answer.Problem = unaskable(formatInt(int64(q.leftOut))+" of the traces' file names hold characters that do not show, or are too long, and were not asked for.",
			"Nothing, where other traces are given. What else fits the attack was found all the same.")
	}
	return answer
}
