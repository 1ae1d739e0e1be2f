package judgement_test

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// eventSpec is a row of a table of events.
type eventSpec struct {
	// Table is where it stands, DeviceEvents where it is not told; Action what happened.
	Table, Action string
	// At is when it happened, 12:10 where it is not told; From when it can be read.
	At, From *moment
	// On is the device, a word as a device's id or its name; the usual one where it is not told.
	On string
	// File and Process are what it is about, By is the process that did it.
	File    fileSpec
	Process processSpec
	By      processSpec
	// RemoteIP is what was spoken to.
	RemoteIP string `yaml:"remote_ip"`
	// Details are the AdditionalFields, a JSON object.
	Details string
}

// eventTables are the tables in which events may stand.
func eventTables() []string {
	return []string{
		defendertest.TableEvents, defendertest.TableProcessEvents, defendertest.TableFileEvents, defendertest.TableNetworkEvents,
	}
}

// event is the row as the simulated Microsoft has it.
func (e *eventSpec) event() defendertest.Event {
	on := cmp.Or(e.On, usualName)
	return defendertest.Event{
		Table: e.Table, Action: e.Action, Time: e.At.or(at("12:10")), DeviceID: deviceID(on), DNSName: on,
		File: e.File.ofEvent(), Process: e.Process.ofEvent(), By: e.By.ofEvent(), RemoteIP: e.RemoteIP, AdditionalFields: e.Details,
	}
}

func (p *processSpec) ofEvent() defendertest.EventProcess {
	made := defendertest.EventProcess{
		ID: p.ID, CommandLine: p.CommandLine, User: p.User.user(), Image: p.Image.ofEvent(), ParentID: p.Parent, ParentName: p.ParentImage.Name,
	}
	if p.Started != nil {
		made.Created = p.Started.Time
	}
	if p.ParentStarted != nil {
		made.ParentCreated = p.ParentStarted.Time
	}
	return made
}

func (f fileSpec) ofEvent() defendertest.EventFile {
	return defendertest.EventFile{
		Name: f.Name, Folder: f.Folder,
		MD5: hashOf(f.MD5, 2*md5.Size), SHA1: hashOf(f.SHA1, 2*sha1.Size), SHA256: hashOf(f.SHA256, 2*sha256.Size),
	}
}

// telemetry is the simulated Microsoft of a case that asks for telemetry. Unlike alerts and devices, which are read before, it is asked
// from within fake time: what is asked depends on what the stream made of them.
type telemetry struct {
	spec      *spec
	hours     *calendar
	microsoft *defendertest.Server
	tenant    *defendertest.Tenant
}

// FindTraces asks through the API's adapter, over HTTP. Time stands still meanwhile, as it does for all that waits for a socket; so that
// it passes again afterwards, no socket stays open.
func (m *telemetry) FindTraces(ctx context.Context, questions []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
	now := time.Now()
	m.hours.set(now)
	m.tenant.RemoveEvents()
	for _, e := range m.spec.Events {
		if !e.From.or(now).After(now) {
			m.tenant.PutEvent(e.event())
		}
	}
	if refusal(m.spec.HuntingFails) != nil {
		defer m.microsoft.Inject(defendertest.Fault{Route: defendertest.RouteHunting, Times: -1, Respond: overQuota})()
	}
	connection, err := connectTo(m.microsoft, integrationv1.Api_API_GRAPH_SECURITY, integrationv1.DeviceSource_KIND_NONE)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.Telemetry().FindTraces(ctx, questions)
}

// overQuota answers that too many calls were made.
func overQuota(context.Context, *http.Request, func() *defendertest.Answer) *defendertest.Answer {
	return defendertest.NewAnswer(http.StatusTooManyRequests,
		`{"error":{"code":"TooManyRequests","message":"API calls quota exceeded! maximum allowed 45 per 00:01:00"}}`)
}

// telemetryWant is what must be said of telemetry.
type telemetryWant struct {
	// Unasked says that it was not asked.
	Unasked bool
	// Problem is why it could not be asked, or not wholly: none where it is not set. Says is what its words have.
	Problem word[integrationv1.ErrorReason]
	Says    []string
	// Rows are the rows that fit, in their order.
	Rows []rowWant
}

// rowWant is a row that fits.
type rowWant struct {
	// Table is where it stands, DeviceEvents where it is not told.
	Table, Action, Control string
	Blocked                bool
	// Decides says that the verdict rests on it; where no row says so, it rests on the first.
	Decides    bool
	On         string // its device, the usual one where it is not told
	Criterion  word[integrationv1.TraceCriterion]
	Trace, Has string // what the Director's value and Defender's have
}

func (w *telemetryWant) check(f *findings, got *integrationv1.ActorVerdict) {
	if w == nil {
		return
	}
	t := got.GetTelemetry()
	if w.Unasked || t == nil {
		same(f, "telemetry asked", t != nil, !w.Unasked)
		return
	}
	if asked := t.GetAskedTime(); asked == nil || asked.AsTime().Before(at("12:00")) {
		f.add("when telemetry was asked", asked, "a time after the window")
	}
	same(f, "problem of telemetry", spell(t.GetProblem().GetReason()), w.Problem.String())
	has(f, "the problem's words", t.GetProblem().GetMessage()+" "+t.GetProblem().GetRemedy(), w.Says...)
	same(f, "more rows of telemetry", t.GetMoreRows(), 0)
	if len(t.GetRows()) != len(w.Rows) {
		f.add("rows of telemetry", t.GetRows(), len(w.Rows))
		return
	}
	for i, row := range w.Rows {
		row.check(f, fmt.Sprintf("row %d of telemetry: ", i), t.GetRows()[i])
	}
	for _, words := range w.inWords(got.GetVerdict()) {
		has(f, "the verdict's words", got.GetExplanation(), words)
	}
}

// inWords is what the verdict's words must have, whatever the case.
func (w *telemetryWant) inWords(verdict integrationv1.Verdict) []string {
	var deciding rowWant
	if len(w.Rows) > 0 {
		deciding = w.Rows[max(slices.IndexFunc(w.Rows, func(row rowWant) bool { return row.Decides }), 0)]
	}
	switch {
	case verdict == integrationv1.Verdict_VERDICT_PREVENTED:
		return []string{"blocked the attack by " + deciding.Control, deciding.Action}
	case verdict == integrationv1.Verdict_VERDICT_LOGGED:
		return []string{"recorded the attack", deciding.Action}
	case len(w.Rows) > 0:
		return []string{"Telemetry was asked at", "none of what it holds is as surely about the attack"}
	case w.Problem.set():
		return []string{"Telemetry could not be asked"}
	}
	return []string{"Telemetry was asked at", "no proof"}
}

func (w *rowWant) check(f *findings, what string, got *integrationv1.TelemetryRow) {
	same(f, what+"table", got.GetTable(), cmp.Or(w.Table, defendertest.TableEvents))
	same(f, what+"action", got.GetActionType(), w.Action)
	same(f, what+"control", got.GetControl(), w.Control)
	same(f, what+"blocked", got.GetBlocked(), w.Blocked)
	same(f, what+"device", got.GetMdeDeviceId(), strings.ToLower(deviceID(cmp.Or(w.On, usualName))))
	sameWord(f, what+"criterion", got.GetCriterion(), w.Criterion)
	has(f, what+"the trace's value", got.GetTraceValue(), w.Trace)
	has(f, what+"Defender's value", got.GetDefenderValue(), w.Has)
	var served map[string]any
	if err := json.Unmarshal([]byte(got.GetRowJson()), &served); err != nil {
		f.add(what+"as served", got.GetRowJson(), "an object")
	}
	same(f, what+"action as served", fmt.Sprint(served["ActionType"]), w.Action)
}
