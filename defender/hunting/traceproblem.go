package hunting

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// ofTraces are the words of a search for traces.
func ofTraces() subject {
	return subject{
		rows: "the events", heavy: "though it asks for few events",
		heavyRemedy: "or give fewer traces", noTable: "has no table of events in this tenant",
		noTableRemedy: "or do not ask for telemetry: verdicts then rest on alerts alone",
	}
}

// missingTable returns the table that a refusal says is missing; empty where it says something else.
func missingTable(err error) string {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED {
		return ""
	}
	// The engine's words, as users report them.
	named := regexp.MustCompile(`(?i)failed to resolve table[^']*'(Device\w+)'`)
	if found := named.FindStringSubmatch(e.Problem.GetMessage()); found != nil {
		return found[1]
	}
	return ""
}

// lacks is the problem of an answer that lacks what some tables would have told.
func lacks(tables []string) *integrationv1.Problem {
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED,
		Message: "Advanced hunting has no " + strings.Join(tables, " and no ") + " in this tenant; the other tables were asked.",
		Remedy:  "Check that the tenant has Defender for Endpoint Plan 2, and that a device is onboarded that reports such events.",
	}
}

// noTables is the error of a search that has no table left that could answer.
func noTables(tables []string) *defender.Error {
	p := lacks(tables)
	p.Message = "Advanced hunting has no " + strings.Join(tables, " and no ") + " in this tenant, and no other table tells what was asked for."
	return &defender.Error{Problem: p, Permanent: true}
}

// tooEarly is the problem of a question that begins before what Microsoft keeps.
func tooEarly() *integrationv1.Problem {
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_HISTORY_GONE,
		Message: "Advanced hunting reaches 30 days back, and the window begins before that.",
		Remedy:  "Ask for attacks of the last 30 days.",
	}
}

// unaskable is the problem of what a question does not give.
func unaskable(message, remedy string) *integrationv1.Problem {
	return &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, Message: message, Remedy: remedy}
}

// severalMachines is the problem of a question by a short name, of which events of several machines fit.
func severalMachines(names []string) *integrationv1.Problem {
	slices.Sort(names)
	return unaskable("Telemetry holds such events of several machines that bear the Actor's short name, as "+strings.Join(names, " and ")+
		", and nothing tells which it is.", "Give the Actor's full name or device id.")
}

// tooManyRows is the error of an answer that has as many rows of a table as were asked for: there may be more.
func tooManyRows() *defender.Error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
			Message: "Telemetry holds more events that share something with the attack than are read at once: of some tables the oldest " +
				formatInt(legRows) + " were looked at.",
			Remedy: "Give a shorter window, or traces that less else shares, such as the attack's own processes and hashes.",
		},
		Err: errPart,
	}
}

// tooManyTraceQueries is the error of a search that would take more queries than one may make.
func tooManyTraceQueries() *defender.Error {
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT,
		Message: "Asking for the traces of all attacks takes more queries of advanced hunting than can be made in a minute.",
		Remedy:  "Let fewer attacks end at once, or give fewer traces.",
	}}
}

// noTime is the error of a search that was ended before it was answered.
func noTime(cause error) *defender.Error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
			Message: "Advanced hunting did not answer in the time that there was for it.",
			Remedy: "If it stays, look in the portal, under Hunting > Advanced hunting > Query resources report, for what else uses the tenant's " +
				"share, or let more time be taken for telemetry.",
		},
		Err: cause,
	}
}
