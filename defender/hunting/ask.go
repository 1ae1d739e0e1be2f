package hunting

import (
	"context"
	"encoding/json"
	"time"

	"defender-integration/defender/page"
)

// maxRows is how many rows an answer has at most: one with so many may lack some
// (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview).
const maxRows = 100_000

// ran is what is known of a query that was run.
type ran struct {
	// calls is how many calls it took.
	calls int
	// answered says that an answer came, and the rest tells of it: see [defender.Probed].
	answered  bool
	date      time.Time
	received  time.Time
	roundTrip time.Duration
}

// ask runs one query and gives each row of its answer to row, exactly as it stands there, with the time of the answer: Microsoft's,
// or this machine's where it does not tell one. about says in what words a refusal is told. The error is row's, the end of ctx, or a
// *defender.Error; what row was given before is good.
func (s *Source) ask(ctx context.Context, query string, about subject, row func(raw []byte, now time.Time) error) (ran, error) {
	body, err := json.Marshal(struct {
		Query string `json:"Query"`
	}{query})
	if err != nil {
		return ran{}, err
	}
	answer, calls, err := s.client.Post(ctx, s.run, body)
	if err != nil {
		return ran{calls: calls}, s.refusal(err, about)
	}
	defer answer.Close()
	result := ran{calls: calls, answered: true, date: answer.Date, received: answer.Received, roundTrip: answer.RoundTrip}
	now := answer.Received
	if !answer.Date.IsZero() {
		now = answer.Date
	}
	var rowErr error
	read, err := page.ReadMember(answer.Body, "results", func(raw []byte) error {
		rowErr = row(raw, now)
		return rowErr
	})
	switch {
	case rowErr != nil:
		return result, rowErr
	case page.IsUnusable(err):
		return result, s.client.Invalid(answer, "Advanced hunting answered what is no table: "+err.Error()+".", nil)
	case err != nil:
		return result, s.client.BodyError(ctx, answer, err)
	case read.Elements >= maxRows, read.NextLink != "":
		return result, s.client.Invalid(answer, "Advanced hunting answered with a part of "+about.rows+".", errPart)
	}
	return result, nil
}

// noJSON is the error of an answer with a row that cannot be read.
func (s *Source) noJSON() error {
	return s.client.Invalid(nil, "Advanced hunting answered with a row that is no JSON.", nil)
}
