package hunting

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// How long to wait where a refusal for a quota does not say: a minute where calls were counted, and until the next quarter of an
// hour where it was the processor's time (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview).
const (
	afterCalls    = time.Minute
	afterResource = 15 * time.Minute
)

// errPart says that an answer may lack rows, though it is a good one.
var errPart = errors.New("the answer is at a bound of rows, or names a further page")

// subject is what a query asks about, in the words in which its refusals are told.
type subject struct {
	// rows are what the answer's rows are.
	rows string
	// heavy follows on "found the query too heavy", heavyRemedy on what to look at in the portal.
	heavy, heavyRemedy string
	// noTable says that one of the subject's tables is missing, and noTableRemedy follows on what to check.
	noTable, noTableRemedy string
}

// ofDevices are the words of a look-up of devices.
func ofDevices() subject {
	return subject{
		rows: "the devices", heavy: "though it asks for few devices", heavyRemedy: "or set device_source.kind to KIND_MACHINES",
		noTable: "has no table of devices in this tenant", noTableRemedy: "or set device_source.kind to KIND_MACHINES",
	}
}

// refusal makes of the client's error what advanced hunting means by it. It answers 400 alike for a query that is wrong, for one that
// is too heavy or has too large an answer, and for a table that the tenant does not have; the words tell them apart. They are
// documented (https://learn.microsoft.com/en-us/defender-endpoint/api/run-advanced-query-api) or seen in public reports.
func (s *Source) refusal(err error, about subject) error {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		return err
	}
	_, said, _ := strings.Cut(e.Problem.GetMessage(), " Microsoft says: ")
	words := strings.ToLower(said)
	tell := func(reason integrationv1.ErrorReason, message, remedy string) {
		e.Problem.Reason, e.Problem.Remedy = reason, remedy
		e.Problem.Message = s.client.Name() + " " + message + " Microsoft says: " + said
	}
	switch {
	case e.Problem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_THROTTLED && e.RetryAt.IsZero():
		e.RetryAt = time.Now().Add(afterCalls)
		if strings.Contains(words, "processing resources") || strings.Contains(words, "cpu") {
			e.RetryAt = time.Now().Truncate(afterResource).Add(afterResource)
		}
	case e.Problem.GetHttpStatus() != http.StatusBadRequest:
	case strings.Contains(words, "exceeded the allowed"):
		e.Permanent = false
		tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, "found the query too heavy, "+about.heavy+".",
			"It is tried again. If it stays, look in the portal, under Hunting > Advanced hunting > Query resources report, for what else uses the "+
				"tenant's share, "+about.heavyRemedy+".")
	case strings.Contains(words, "failed to resolve table") && strings.Contains(words, "'device"):
		tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, about.noTable+".",
			"Check that the tenant has Defender for Endpoint Plan 2 (Defender for Business has no advanced hunting) and that a device is onboarded, "+
				about.noTableRemedy+".")
	}
	return e
}

// tooMuch says whether err is a failure that a narrower query may avoid: one that is too heavy, a part of an answer, or what
// [rest.LessMayHelp] says.
func tooMuch(err error) bool {
	return errors.Is(err, errPart) || rest.LessMayHelp(err)
}

// tooManyQueries is the error of a look-up that would take more queries than a read may make.
func tooManyQueries() error {
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT,
		Message: "Looking up the devices of all Actors takes more queries of advanced hunting than can be made in a minute.",
		Remedy: "Let fewer Actors be asked for at once, or set device_source.kind to KIND_MACHINES, which takes as many calls however many " +
			"Actors there are.",
	}}
}
