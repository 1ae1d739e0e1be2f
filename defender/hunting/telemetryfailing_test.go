package hunting

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// questionsOf returns n questions, each about a device of its own, on which the attack's process did one thing.
func questionsOf(tenant *defendertest.Tenant, n int) []*defender.TelemetryQuestion {
	var questions []*defender.TelemetryQuestion
	for i := range n {
		name := fmt.Sprintf("ws-%03d.contoso.test", i)
		question := about(processTraces())
		question.DeviceIDs = []string{defendertest.DeviceID(name)}
		questions = append(questions, question)
		tenant.PutEvent(onAttacked(defendertest.Event{DNSName: name, Action: "DriverLoad", By: defendertest.EventProcess{ID: attackID, Created: began}}))
	}
	return questions
}

// answered returns for each answer how many rows it has, and the reason of its problem.
func answered(answers []*integrationv1.Telemetry) string {
	var all []string
	for _, answer := range answers {
		text := fmt.Sprint(len(answer.GetRows()))
		if p := answer.GetProblem(); p != nil {
			text += " " + strings.TrimPrefix(p.GetReason().String(), "ERROR_REASON_")
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// What keeps all questions from being answered is the error, in words, with what to do; nothing is asked again for it.
func TestWhatCannotBeAsked(t *testing.T) {
	const anything = `{"error":{"code":"UnknownError","message":""}}`
	tests := []struct {
		name    string
		roles   []string
		respond defendertest.Responder
		quota   bool
		reason  integrationv1.ErrorReason
		words   string
		calls   int
		retry   bool
	}{
		{name: "no permission", reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, words: "ThreatHunting.Read.All", calls: 1},
		{name: "quota", roles: []string{defendertest.RoleThreatHuntingRead}, quota: true, reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, words: "called less often", calls: 1, retry: true},
		{name: "processor time", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Respond(429, nil, `{"error":{"code":"TooManyRequests","message":"This query exceeded processing resources"}}`),
			reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, words: "processing resources", calls: 1, retry: true},
		{name: "a mistake of ours", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Respond(400, nil, refused("'where' operator: Failed to resolve scalar expression named 'X'. Fix semantic errors in your query.")),
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, words: "refused the query as wrong", calls: 1},
		{name: "a server error that stays", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Respond(504, nil, anything),
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, words: "failed (HTTP status 504)", calls: 7},
		{name: "too heavy whatever is asked", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Respond(400, nil, refused("Query execution has exceeded the allowed limits.")),
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, words: "found the query too heavy, though it asks for few events", calls: 7},
		{name: "the connection breaks off", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Cut(),
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, words: "", calls: 1},
		{name: "no table", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Respond(200, nil, `{"ok":true}`),
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, words: "no table", calls: 1},
		{name: "a row that is none", roles: []string{defendertest.RoleThreatHuntingRead}, respond: defendertest.Respond(200, nil, `{"results":[nonsense]}`),
			reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, words: "no table", calls: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			options := unlimited
			if tt.quota {
				options.Limits.Hunting = []defendertest.Rate{{Calls: 0, Period: time.Minute}}
			}
			server, tenant, source := newSimulationOf(t, options, tt.roles...)
			if tt.respond != nil {
				server.Inject(defendertest.Fault{Route: defendertest.RouteHunting, Times: -1, Respond: tt.respond})
			}
			answers, err := source.FindTraces(t.Context(), questionsOf(tenant, 8))
			e := wantReason(t, err, tt.reason, tt.words)
			calls := len(server.Calls(defendertest.OnRoute(defendertest.RouteHunting)))
			if answers != nil || e.RetryAt.IsZero() == tt.retry || calls != tt.calls {
				t.Errorf("answers %v, to be tried again at %v, %d calls; want none and %d", answers, e.RetryAt, calls, tt.calls)
			}
		})
	}
}

// An end of the context is told as such, with what was answered before it.
func TestTimeRunsOut(t *testing.T) {
	server, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	questions := questionsOf(tenant, 2)
	server.Inject(defendertest.Fault{Route: defendertest.RouteHunting, Times: -1, Respond: defendertest.Hang()})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := source.FindTraces(ctx, questions)
	wantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, "in the time that there was")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the cause is %v", err)
	}
}

// apart gives each question so many traces that a query has no room for two of them.
func apart(questions []*defender.TelemetryQuestion) []*defender.TelemetryQuestion {
	for i, q := range questions {
		q.Since = q.Since.Add(time.Duration(i) * time.Second)
		for j := range maxValues {
			q.Traces.Files = append(q.Traces.Files, &integrationv1.FileTrace{FileName: fmt.Sprintf("f%d-%04d", i, j)})
		}
	}
	return questions
}

// What is not of one query, such as a quota, keeps the rest from being asked; what was answered before stays.
func TestQuotaInBetween(t *testing.T) {
	options := unlimited
	options.Limits.Hunting = []defendertest.Rate{{Calls: 1, Period: time.Hour}}
	_, tenant, source := newSimulationOf(t, options, defendertest.RoleThreatHuntingRead)
	answers, err := source.FindTraces(t.Context(), apart(questionsOf(tenant, 4)))
	if got := answered(answers); err != nil || got != "1, 0 THROTTLED, 0 THROTTLED, 0 THROTTLED" {
		t.Errorf("answers are %s, error %v", got, err)
	}
	if calls := len(tenant.HuntingCalls()); calls != 2 {
		t.Errorf("%d calls, want two", calls)
	}
}

// What is asked for before the time runs out is answered.
func TestWhatWasAnsweredBefore(t *testing.T) {
	server, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	questions := apart(questionsOf(tenant, 2))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server.Inject(defendertest.Fault{Route: defendertest.RouteHunting, After: 1, Respond: func(ctx context.Context, _ *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
		cancel()
		<-ctx.Done()
		return nil
	}})
	answers, err := source.FindTraces(ctx, questions)
	if got := answered(answers); err != nil || got != "1, 0 UPSTREAM_FAILED" {
		t.Errorf("answers are %s, error %v", got, err)
	}
}

// What is too heavy is asked in halves of the questions, then of the time, and fewer are asked together for an hour.
func TestNarrowingOfTraces(t *testing.T) {
	blocking := len(blockingActions(controlsByAction()))
	tests := []struct {
		name    string
		options defendertest.HuntingOptions
		n       int
		want    string
		calls   int
	}{
		// A question has two values: a device's id, and the process id, which all have in common.
		{"too many values", defendertest.HuntingOptions{MaxValues: blocking + 3}, 4, "1, 1, 1, 1", 3},
		{"too many in halves", defendertest.HuntingOptions{MaxValues: blocking + 2}, 4, "1, 1, 1, 1", 7},
		{"too long", defendertest.HuntingOptions{MaxSpan: 6 * time.Minute}, 1, "1", 3},
		{"too long in halves", defendertest.HuntingOptions{MaxSpan: 3 * time.Minute}, 1, "1", 7},
		{"too large an answer", defendertest.HuntingOptions{MaxBytes: 4 << 10}, 4, "1, 1, 1, 1", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			options := unlimited
			options.Hunting = tt.options
			_, tenant, source := newSimulationOf(t, options, defendertest.RoleThreatHuntingRead)
			answers, err := source.FindTraces(t.Context(), questionsOf(tenant, tt.n))
			if got := answered(answers); err != nil || got != tt.want {
				t.Errorf("answers are %s, error %v; want %s", got, err, tt.want)
			}
			if calls := len(tenant.HuntingCalls()); calls != tt.calls {
				t.Errorf("%d calls, want %d", calls, tt.calls)
			}
		})
	}
}

// What was too heavy is remembered: the next search begins with fewer questions together.
func TestTooHeavyIsRemembered(t *testing.T) {
	options := unlimited
	options.Hunting.MaxValues = 400
	_, tenant, source := newSimulationOf(t, options, defendertest.RoleThreatHuntingRead)
	questions := questionsOf(tenant, 600)
	first, err := source.FindTraces(t.Context(), questions)
	if err != nil || strings.Contains(answered(first), "UPSTREAM") {
		t.Fatalf("answers are %s, error %v", answered(first), err)
	}
	if _, err := source.FindTraces(t.Context(), questions); err != nil {
		t.Fatal(err)
	}
	var statuses []int
	for _, call := range tenant.HuntingCalls() {
		statuses = append(statuses, call.Status)
	}
	if !slices.Equal(statuses, []int{400, 200, 200, 200, 200}) {
		t.Errorf("calls were answered %v; want the first alone refused", statuses)
	}
}

// A search makes no more queries than the budget of a minute holds: what is left is told as such.
func TestTooManyQueries(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	answers, err := source.FindTraces(t.Context(), apart(questionsOf(tenant, maxTraceQueries+1)))
	want := strings.Repeat("1, ", maxTraceQueries) + "0 BUDGET_SPENT"
	if got := answered(answers); err != nil || got != want || len(tenant.HuntingCalls()) != maxTraceQueries {
		t.Errorf("answers are %s, error %v, %d calls; want %s", got, err, len(tenant.HuntingCalls()), want)
	}
}

// A tenant that lacks tables is answered from the others, and told which; that is remembered.
func TestMissingTables(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	questions := questionsOf(tenant, 2)
	tenant.RemoveTable(defendertest.TableNetworkEvents)
	tenant.RemoveTable(defendertest.TableFileEvents)
	for _, calls := range []int{3, 4} {
		answers, err := source.FindTraces(t.Context(), questions)
		if got := answered(answers); err != nil || got != "1 UPSTREAM_REFUSED, 1 UPSTREAM_REFUSED" {
			t.Fatalf("answers are %s, error %v", got, err)
		}
		p := answers[0].GetProblem()
		if !strings.Contains(p.GetMessage(), "DeviceFileEvents") || !strings.Contains(p.GetMessage(), "DeviceNetworkEvents") ||
			strings.Contains(p.GetMessage(), "DeviceProcessEvents") || p.GetRemedy() == "" {
			t.Errorf("the problem is %v", p)
		}
		if made := len(tenant.HuntingCalls()); made != calls {
			t.Errorf("%d calls, want %d", made, calls)
		}
	}
}

func TestNoTableLeft(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	for _, table := range []string{defendertest.TableEvents, defendertest.TableProcessEvents, defendertest.TableFileEvents, defendertest.TableNetworkEvents} {
		tenant.RemoveTable(table)
	}
	for range 2 {
		_, err := source.FindTraces(t.Context(), questionsOf(tenant, 1))
		wantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, "no table of events")
	}
	if calls := len(tenant.HuntingCalls()); calls != 8 {
		t.Errorf("%d calls, want four each time", calls)
	}
}

// Of more rows than are read at once the oldest are looked at, and that is told.
func TestTooManyRows(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	for i := range legRows {
		tenant.PutEvent(onAttacked(defendertest.Event{
			Table: defendertest.TableNetworkEvents, Time: began.Add(time.Duration(i) * time.Microsecond), RemoteIP: remoteIPv4,
		}))
	}
	answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(addressTraces(remoteIPv4))})
	if err != nil {
		t.Fatal(err)
	}
	if answer := answers[0]; len(answer.GetRows()) != 20 || answer.GetMoreRows() != legRows-20 ||
		!strings.Contains(answer.GetProblem().GetMessage(), "the oldest 10000") {
		t.Errorf("%d rows, %d more, problem %v", len(answer.GetRows()), answer.GetMoreRows(), answer.GetProblem())
	}
}

// What cannot be asked of one Actor does not keep others from being asked.
func TestUnaskable(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	question := func(change func(*defender.TelemetryQuestion)) *defender.TelemetryQuestion {
		q := about(processTraces())
		change(q)
		return q
	}
	tenant.PutEvent(onAttacked(defendertest.Event{By: defendertest.EventProcess{ID: attackID, Created: began}}))
	questions := []*defender.TelemetryQuestion{
		question(func(q *defender.TelemetryQuestion) { q.DeviceIDs = nil }),
		question(func(q *defender.TelemetryQuestion) { q.DeviceIDs = []string{`x") or true`} }),
		question(func(q *defender.TelemetryQuestion) { q.Traces = nil }),
		question(func(q *defender.TelemetryQuestion) {
			q.Traces = &integrationv1.Traces{Users: []string{"alex"}, ExpectedTitles: []string{"x"}, Processes: []*integrationv1.ProcessTrace{{CommandLine: "cmd.exe", ProcessId: 7}}}
		}),
		question(func(q *defender.TelemetryQuestion) { q.Since, q.Through = q.Through, q.Since }),
		question(func(q *defender.TelemetryQuestion) { q.Since = q.Since.Add(-31 * 24 * time.Hour) }),
		question(func(q *defender.TelemetryQuestion) {
			q.Traces.Files = []*integrationv1.FileTrace{{FileName: "\u202etxt.exe"}}
		}),
		about(processTraces()),
	}
	answers, err := source.FindTraces(t.Context(), questions)
	const want = "0 INVALID_REQUEST, 0 INVALID_REQUEST, 0 INVALID_REQUEST, 0 INVALID_REQUEST, 0 INVALID_REQUEST, 1 HISTORY_GONE, 1 INVALID_REQUEST, 1"
	if got := answered(answers); err != nil || got != want {
		t.Errorf("answers are %s, error %v; want %s", got, err, want)
	}
	for i, answer := range answers {
		if answer.GetAskedTime() == nil || answer.GetProblem() != nil && (answer.GetProblem().GetMessage() == "" || answer.GetProblem().GetRemedy() == "") {
			t.Errorf("answer %d is %v", i, answer)
		}
	}
	if answers, err := source.FindTraces(t.Context(), questions[:1]); err != nil || len(answers) != 1 {
		t.Errorf("nothing to ask: answers %v, error %v", answers, err)
	}
	if answers, err := source.FindTraces(t.Context(), nil); err != nil || len(answers) != 0 {
		t.Errorf("no questions: answers %v, error %v", answers, err)
	}
	if calls := len(tenant.HuntingCalls()); calls != 1 {
		t.Errorf("%d calls, want one", calls)
	}
}

// Rows are read as Graph writes them, and odd ones cost nothing but themselves.
func TestOddRows(t *testing.T) {
	at := began.Add(time.Minute)
	row := func(members string) string {
		return `{"SourceTable":"DeviceEvents","DeviceId":"` + attackedID + `","Timestamp":"` + at.Format(time.RFC3339) + `"` + members + `}`
	}
	acted := `,"InitiatingProcessId":4711,"InitiatingProcessCreationTime":"` + began.Format("2006-01-02T15:04:05.0000000Z") + `"`
	tests := []struct {
		name, row string
		fits      bool
	}{
		{"as Graph writes it", row(`,"InitiatingProcessId@odata.type":"#Int64"` + acted + `,"ProcessCreationTime":{},"ProcessId":null,"SHA1":"","AdditionalFields":{}`), true},
		{"a number as text", row(strings.Replace(acted, "4711", `"4711"`, 1)), true},
		{"names in small letters", strings.Replace(row(acted), "InitiatingProcessId", "initiatingprocessid", 1), true},
		{"unknown members", row(acted + `,"New":[1,{"x":2}]`), true},
		{"a fraction of an id", row(strings.Replace(acted, "4711", "4711.5", 1)), false},
		{"no time of the event", strings.Replace(row(acted), "Timestamp", "Time", 1), false},
		{"a time that is none", strings.Replace(row(acted), at.Format(time.RFC3339), "soon", 1), false},
		{"a list", `[1]`, false},
		{"null", `null`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, func(string) (int, string) { return http.StatusOK, table(tt.row, row(acted)) })
			answers, err := s.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(processTraces())})
			want := 1
			if tt.fits {
				want = 2
			}
			if err != nil || len(answers[0].GetRows()) != want {
				t.Errorf("found %v, error %v; want %d rows", answers, err, want)
			}
		})
	}
	long := row(acted + `,"AdditionalFields":"` + strings.Repeat("ä", 10_000) + `"`)
	s := newService(t, func(string) (int, string) { return http.StatusOK, table(long) })
	answers, err := s.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(processTraces())})
	if err != nil {
		t.Fatal(err)
	}
	if kept := answers[0].GetRows()[0].GetRowJson(); len(kept) > maxRow || len(kept) < maxRow-2 || !strings.HasPrefix(long, kept) {
		t.Errorf("%d bytes of a row are kept", len(kept))
	}
}

// The tables are asked whether they are there with one call, and one more for each that is not.
func TestProbeTables(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	tenant.PutEvent(defendertest.Event{Table: defendertest.TableFileEvents, DNSName: attackedName})
	if missing, err := source.ProbeTables(t.Context()); err != nil || len(missing) != 0 || len(tenant.HuntingCalls()) != 1 {
		t.Errorf("missing %q, error %v, %d calls", missing, err, len(tenant.HuntingCalls()))
	}
	if calls := tenant.HuntingCalls(); calls[0].Elements != 1 {
		t.Errorf("%d tables answered, want one", calls[0].Elements)
	}
	tenant.RemoveTable(defendertest.TableProcessEvents)
	if missing, err := source.ProbeTables(t.Context()); err != nil || !slices.Equal(missing, []string{"DeviceProcessEvents"}) || len(tenant.HuntingCalls()) != 3 {
		t.Errorf("missing %q, error %v, %d calls", missing, err, len(tenant.HuntingCalls()))
	}
	for _, table := range []string{defendertest.TableEvents, defendertest.TableFileEvents, defendertest.TableNetworkEvents} {
		tenant.RemoveTable(table)
	}
	_, err := source.ProbeTables(t.Context())
	wantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, "no table of events")
}

// The query is what advanced hunting is asked, to the letter.
func TestTracesQuery(t *testing.T) {
	given := &defender.TelemetryQuestion{
		Since: time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC), Through: time.Date(2026, 11, 20, 12, 30, 0, 0, time.FixedZone("", 3600)),
		DeviceIDs: []string{"0A1B"}, Traces: &integrationv1.Traces{
			Processes:       []*integrationv1.ProcessTrace{{ProcessId: 4711, ProcessCreationTime: timestamppb.New(began), CommandLine: attackLine}},
			RemoteAddresses: []string{remoteIPv4},
		},
	}
	q := newQuestion(given, given.Through)
	got := tracesQuery(eventTables()[2:], []string{"AsrRansomwareBlocked"}, valuesOfAll([]*question{q}), q.since, q.through)
	want := `let DeviceIds = dynamic(["0a1b"]);
let ProcessIds = dynamic([4711]);
let Terms = dynamic(["noprofile"]);
let RemoteIPs = dynamic(["203.0.113.7", "::ffff:203.0.113.7"]);
let Blocking = dynamic(["AsrRansomwareBlocked"]);
union
(DeviceFileEvents
| where Timestamp between (datetime(2026-11-20T10:00:00.1234567Z) .. datetime(2026-11-20T11:30:00.0000000Z))
| where DeviceId in (DeviceIds)
| where InitiatingProcessId in (ProcessIds) or InitiatingProcessParentId in (ProcessIds) or InitiatingProcessCommandLine has_any (Terms)
| top 10000 by Timestamp asc
| project SourceTable = "DeviceFileEvents", Timestamp, DeviceId, DeviceName, ActionType, FileName, FolderPath, SHA1, SHA256, MD5, InitiatingProcessId, InitiatingProcessCommandLine, InitiatingProcessCreationTime, InitiatingProcessFileName, InitiatingProcessFolderPath, InitiatingProcessSHA1, InitiatingProcessSHA256, InitiatingProcessMD5, InitiatingProcessAccountDomain, InitiatingProcessAccountName, InitiatingProcessAccountSid, InitiatingProcessAccountUpn, InitiatingProcessParentId, InitiatingProcessParentCreationTime, InitiatingProcessParentFileName, ReportId),
(DeviceNetworkEvents
| where Timestamp between (datetime(2026-11-20T10:00:00.1234567Z) .. datetime(2026-11-20T11:30:00.0000000Z))
| where DeviceId in (DeviceIds)
| where InitiatingProcessId in (ProcessIds) or InitiatingProcessParentId in (ProcessIds) or InitiatingProcessCommandLine has_any (Terms) or RemoteIP in~ (RemoteIPs)
| top 10000 by Timestamp asc
| project SourceTable = "DeviceNetworkEvents", Timestamp, DeviceId, DeviceName, ActionType, RemoteIP, RemoteUrl, InitiatingProcessId, InitiatingProcessCommandLine, InitiatingProcessCreationTime, InitiatingProcessFileName, InitiatingProcessFolderPath, InitiatingProcessSHA1, InitiatingProcessSHA256, InitiatingProcessMD5, InitiatingProcessAccountDomain, InitiatingProcessAccountName, InitiatingProcessAccountSid, InitiatingProcessAccountUpn, InitiatingProcessParentId, InitiatingProcessParentCreationTime, InitiatingProcessParentFileName, ReportId)`
	if got != want {
		t.Errorf("the query is\n%s\nwant\n%s", got, want)
	}
	onlyAddresses := valuesOfAll([]*question{newQuestion(&defender.TelemetryQuestion{DeviceIDs: []string{"0a"}, Traces: addressTraces(remoteIPv4)}, time.Now())})
	if query := tracesQuery(eventTables()[1:3], nil, onlyAddresses, began, began); query != "" {
		t.Errorf("tables without addresses are asked for them:\n%s", query)
	}
}
