package reading

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/page"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Elements gives the elements of one read on, each once, and takes down what the read's result tells. It is not safe for
// concurrent use.
type Elements struct {
	// NotFoundIsEmpty says that the API answers a list without elements with the status 404 and an error code of its own, as
	// Defender for Endpoint does (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines). A 404 without a code comes
	// from somewhere else, one of a retired API tells of that, and one after elements were read is no empty list unless MayBeEmpty:
	// all three are errors. It is set before the first Fetch.
	NotFoundIsEmpty bool
	// MayBeEmpty says that the next Fetch does not ask for what was given already, so that its answer may have nothing.
	MayBeEmpty bool

	client  *rest.Client
	decoder Decoder
	known   defender.KnownFunc
	yield   func(*defender.Element) error

	result defender.Read
	// date is when the read began by Microsoft's clock, received by this machine's, roundTrip how long the first answer took.
	date      time.Time
	received  time.Time
	roundTrip time.Duration
	// given has the bytes that were given already and can come again, with their last update (zero where it cannot be read).
	given map[[sha256.Size]byte]time.Time
}

// NewElements returns what gives the elements of one read to yield; known may be nil. See [defender.AlertSource].
func NewElements(client *rest.Client, decoder Decoder, known defender.KnownFunc, yield func(*defender.Element) error) *Elements {
	if known == nil {
		known = func([sha256.Size]byte) (defender.Known, bool) { return defender.Known{}, false }
	}
	return &Elements{client: client, decoder: decoder, known: known, yield: yield, given: map[[sha256.Size]byte]time.Time{}}
}

// Fetch calls an address and reads its answer: split takes the body apart and gives each element to the function that it is
// handed, which is element. split returns what that function or the body returned, or an error of package page; such an error is
// told as Microsoft's, or the network's. An answer without a Date is an error, since completeness would be a guess.
func (e *Elements) Fetch(
	ctx context.Context, target *url.URL, split func(body io.Reader, element func(raw []byte) error) error, element func(raw []byte) error,
) error {
	answer, calls, err := e.client.Get(ctx, target)
	e.result.Calls += calls
	if err != nil {
		if e.NotFoundIsEmpty && (e.result.Elements == 0 || e.MayBeEmpty) && isNotFound(err) {
			return e.begin(answer)
		}
		return err
	}
	defer answer.Close()
	if err := e.begin(answer); err != nil {
		return err
	}
	var elementErr error
	err = split(answer.Body, func(raw []byte) error {
		elementErr = element(raw)
		return elementErr
	})
	switch {
	case err == nil:
		return nil
	case elementErr != nil:
		return elementErr
	case page.IsUnusable(err):
		return e.client.Invalid(answer, e.client.Name()+" answered what cannot be used: "+err.Error()+".", err)
	default:
		return e.client.BodyError(ctx, answer, err)
	}
}

// isNotFound says whether err is the API's own 404, and not one that tells that the API is gone.
func isNotFound(err error) bool {
	told, ok := errors.AsType[*defender.Error](err)
	return ok && told.Problem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED &&
		told.Problem.GetHttpStatus() == http.StatusNotFound && told.Problem.GetUpstreamCode() != ""
}

// begin works out, at the first answer, when the read began by Microsoft's clock.
func (e *Elements) begin(answer *rest.Answer) error {
	if !e.date.IsZero() {
		return nil
	}
	if answer.Date.IsZero() {
		// Completeness is told by Microsoft's clock; by ours it would be a guess.
		return e.client.Invalid(answer, e.client.Name()+" answered with no Date, so it cannot be told through when it is complete.", nil)
	}
	e.date, e.received, e.roundTrip = answer.Date.UTC(), answer.Received, answer.RoundTrip
	// The header has whole seconds, cut or rounded: a second covers both.
	e.result.Through = e.date.Add(-answer.RoundTrip - time.Second)
	e.result.Asked = answer.Received.Add(-answer.RoundTrip)
	return nil
}

// Given is what paging needs to know of an element.
type Given struct {
	// Again says that its bytes had been given before, and were not given again; Key is not set then.
	Again bool
	// Key is what the revisions of one alert share.
	Key string
	// Updated is its last update; zero where it cannot be read.
	Updated time.Time
}

// Give gives an element on, unless its bytes were given already. The error is yield's, or tells that the element is no JSON.
func (e *Elements) Give(raw []byte) (Given, error) {
	element := &defender.Element{Raw: raw, RawHash: sha256.Sum256(raw)}
	if updated, again := e.given[element.RawHash]; again {
		return Given{Again: true, Updated: updated}, nil
	}
	updated, err := e.fill(element)
	if err != nil {
		return Given{}, err
	}
	e.given[element.RawHash] = updated
	e.result.Elements++
	return Given{Key: element.Key, Updated: updated}, e.yield(element)
}

// fill sets what an element is, by what is known of its bytes or by decoding them, and returns its last update; zero where it
// cannot be read.
func (e *Elements) fill(element *defender.Element) (time.Time, error) {
	if known, ok := e.known(element.RawHash); ok {
		element.Known, element.Key = true, known.Key
		e.update(element, known.Updated)
		return known.Updated, nil
	}
	decoded, err := e.decoder.Decode(element.Raw)
	if err != nil {
		return time.Time{}, e.Invalid("holds an element that is no JSON.")
	}
	element.Key, element.ContentHash, element.Alert = decoded.Key, decoded.ContentHash, decoded.Alert
	element.WithoutEvidence = decoded.WithoutEvidence
	var updated time.Time
	if at := decoded.Alert.GetLastUpdateTime(); at != nil {
		updated = at.AsTime()
	}
	e.update(element, updated)
	return updated, nil
}

// update sets an element's last update; where that cannot be read, to when it was read.
func (e *Elements) update(element *defender.Element, updated time.Time) {
	element.Updated = updated
	if updated.IsZero() {
		element.Updated, element.ReadTime = time.Now().UTC(), true
	}
}

// Forget drops what was last updated before a time from what is remembered as given: it will not come again.
func (e *Elements) Forget(before time.Time) {
	for hash, updated := range e.given {
		if !updated.IsZero() && updated.Before(before) {
			delete(e.given, hash)
		}
	}
}

// Invalid is the error of answers that are not what the API answers. complaint goes on from the list's name, and ends the sentence.
func (e *Elements) Invalid(complaint string) error {
	return e.client.Invalid(nil, e.client.Name()+" "+complaint, nil)
}

// Result returns what is known of the read so far.
func (e *Elements) Result() defender.Read { return e.result }

// Now returns the time, by Microsoft's clock where it was told.
func (e *Elements) Now() time.Time {
	if e.date.IsZero() {
		return time.Now().UTC()
	}
	return e.date.Add(time.Since(e.received))
}

// Probed returns what the read found out, as of a probe.
func (e *Elements) Probed() defender.Probed {
	return defender.Probed{Elements: int(e.result.Elements), Date: e.date, Received: e.received, RoundTrip: e.roundTrip}
}
