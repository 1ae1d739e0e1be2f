package hunting

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The bounds of what an answer holds.
const (
	// keptRows is how many rows are told of a question.
	keptRows = 20
	// maxTold is how much is told of a value, in bytes.
	maxTold = 512
	// maxRow is how much is told of a row, in bytes.
	maxRow = 8 << 10
)

// ranking keeps the first rows of a question: blocks first, then by what fits, then the oldest. However many blocks there are, the first of
// the other rows is among them: blocks may fit too weakly to decide, where that does not. The zero value is ready for use.
type ranking struct {
	rows []*integrationv1.TelemetryRow
	all  int64
}

// add takes a row in.
func (r *ranking) add(row *integrationv1.TelemetryRow) {
	r.all++
	r.keep(row)
}

// merge takes in what another has.
func (r *ranking) merge(other *ranking) {
	r.all += other.all
	for _, row := range other.rows {
		r.keep(row)
	}
}

func (r *ranking) keep(row *integrationv1.TelemetryRow) {
	at, _ := slices.BinarySearchFunc(r.rows, row, compareRows)
	r.rows = slices.Insert(r.rows, at, row)
	if len(r.rows) <= keptRows {
		return
	}
	last := len(r.rows) - 1
	if !r.rows[last].GetBlocked() && r.rows[last-1].GetBlocked() {
		last--
	}
	r.rows = slices.Delete(r.rows, last, last+1)
}

// result returns the rows, and how many more there are.
func (r *ranking) result() (rows []*integrationv1.TelemetryRow, more int64) {
	return r.rows, r.all - int64(len(r.rows))
}

// compareRows orders rows; the text makes the order one, whatever the order of an answer.
func compareRows(x, y *integrationv1.TelemetryRow) int {
	rank := func(r *integrationv1.TelemetryRow) int {
		if r.GetBlocked() {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.GetCriterion(), y.GetCriterion()),
		x.GetEventTime().AsTime().Compare(y.GetEventTime().AsTime()), cmp.Compare(x.GetTable(), y.GetTable()), cmp.Compare(x.GetRowJson(), y.GetRowJson()))
}

// newRow makes what is told of a row.
func newRow(e *event, by control, blocked bool, fit fit, raw []byte) *integrationv1.TelemetryRow {
	return &integrationv1.TelemetryRow{
		Table: cut(e.table, maxTold), ActionType: cut(e.action, maxTold), Control: by.name, Blocked: blocked, EventTime: timestamppb.New(e.at),
		MdeDeviceId: strings.ToLower(cut(e.deviceID, maxTold)), Criterion: fit.criterion,
		TraceValue: cut(fit.trace, maxTold), DefenderValue: cut(fit.defenderHas, maxTold), RowJson: cut(string(raw), maxRow),
	}
}

// cut returns at most so many bytes of a text, as valid UTF-8, and never half a character.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text[:min(len(text), most+utf8.UTFMax)], "\uFFFD")
	if len(text) > most {
		for !utf8.RuneStart(text[most]) {
			most--
		}
		text = text[:most]
	}
	return text
}
