package reading

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	"defender-integration/defender/page"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// decoder reads elements such as `{"id":"a","updated":"2026-01-01T00:00:00Z"}`, and counts them.
type decoder struct{ decoded int }

func (d *decoder) Decode(raw []byte) (Decoded, error) {
	var element struct {
		ID      string     `json:"id"`
		Updated *time.Time `json:"updated"`
	}
	if err := json.Unmarshal(raw, &element); err != nil {
		return Decoded{}, err
	}
	d.decoded++
	alert := &integrationv1.Alert{Id: element.ID}
	if element.Updated != nil {
		alert.LastUpdateTime = timestamppb.New(*element.Updated)
	}
	return NewDecoded(alert, sha256.Sum256(raw)), nil
}

// collected are the elements of one read.
type collected struct {
	*Elements

	decoder *decoder
	given   []*defender.Element
}

func newCollected(t *testing.T, known defender.KnownFunc, handler http.HandlerFunc) *collected {
	t.Helper()
	c := &collected{decoder: &decoder{}}
	c.Elements = NewElements(readingtest.NewClient(t, "The list", handler), c.decoder, known, func(e *defender.Element) error {
		e.Raw = bytes.Clone(e.Raw)
		c.given = append(c.given, e)
		return nil
	})
	return c
}

// fetch reads an OData list, and gives its elements on.
func (c *collected) fetch(ctx context.Context) error {
	return c.Fetch(ctx, c.client.Base(), func(body io.Reader, element func([]byte) error) error {
		_, err := page.Read(body, element)
		return err
	}, func(raw []byte) error {
		_, err := c.Give(raw)
		return err
	})
}

func TestGive(t *testing.T) {
	const (
		early   = `{"id":"a","updated":"2026-01-01T00:00:00Z"}`
		late    = `{"id":"b","updated":"2026-01-02T00:00:00Z"}`
		timed   = "2026-01-02T00:00:00Z"
		noTime  = `{"id":"c"}`
		noID    = `{"updated":"2026-01-03T00:00:00Z"}`
		another = `{"id":"a","updated":"2026-01-01T00:00:00Z","more":true}`
	)
	midnight, err := time.Parse(time.RFC3339, timed)
	if err != nil {
		t.Fatal(err)
	}
	c := newCollected(t, nil, nil)
	for _, tt := range []struct {
		raw     string
		again   bool
		key     string
		updated string
	}{
		{early, false, "a", "2026-01-01T00:00:00Z"},
		{early, true, "", "2026-01-01T00:00:00Z"},
		{another, false, "a", "2026-01-01T00:00:00Z"},
		{late, false, "b", timed},
		{noTime, false, "c", "0001-01-01T00:00:00Z"},
		{noTime, true, "", "0001-01-01T00:00:00Z"},
		{noID, false, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(noID))), "2026-01-03T00:00:00Z"},
	} {
		given, err := c.Give([]byte(tt.raw))
		if err != nil || given.Again != tt.again || given.Key != tt.key || given.Updated.Format(time.RFC3339) != tt.updated {
			t.Errorf("%s is given as %+v with error %v, want %+v", tt.raw, given, err, tt)
		}
	}
	if len(c.given) != 5 || c.Result().Elements != 5 || c.decoder.decoded != 5 {
		t.Errorf("%d were given, %d are told and %d were decoded, want 5", len(c.given), c.Result().Elements, c.decoder.decoded)
	}
	if e := c.given[3]; !e.ReadTime || time.Since(e.Updated) > time.Minute {
		t.Errorf("an element without a time is %+v, want it updated now", e)
	}

	// What can come again is remembered, and so is what has no time.
	c.Forget(midnight)
	for raw, again := range map[string]bool{early: false, late: true, noTime: true, noID: true} {
		if given, err := c.Give([]byte(raw)); err != nil || given.Again != again {
			t.Errorf("after forgetting, %s is given again: %t, want %t", raw, !given.Again, !again)
		}
	}
	if _, err := c.Give([]byte(`{`)); err == nil || !strings.Contains(err.Error(), "The list holds an element that is no JSON") {
		t.Errorf("what is no JSON gives %v", err)
	}
}

func TestGiveKnown(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	known := map[string]defender.Known{`{"id":1}`: {Key: "a", Updated: at}, `{"id":2}`: {Key: "b"}}
	c := newCollected(t, func(hash [32]byte) (defender.Known, bool) {
		for raw, k := range known {
			if sha256.Sum256([]byte(raw)) == hash {
				return k, true
			}
		}
		return defender.Known{}, false
	}, nil)
	for raw, k := range known {
		given, err := c.Give([]byte(raw))
		if err != nil || given.Key != k.Key || !given.Updated.Equal(k.Updated) {
			t.Errorf("%s is given as %+v with error %v, want %+v", raw, given, err, k)
		}
		e := c.given[len(c.given)-1]
		if !e.Known || e.Alert != nil || e.Key != k.Key || e.ReadTime != k.Updated.IsZero() || e.Updated.IsZero() {
			t.Errorf("%s is %+v", raw, e)
		}
	}
	if c.decoder.decoded != 0 {
		t.Error("known elements were decoded")
	}
}

func TestFetchBeginsAtTheFirstAnswer(t *testing.T) {
	dates := []string{"Sun, 22 Nov 2026 10:00:00 GMT", "Sun, 22 Nov 2026 11:00:00 GMT"}
	c := newCollected(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", dates[0])
		dates = dates[1:]
		_, _ = w.Write([]byte(`{"value":[{"id":"a"}]}`))
	})
	for range 2 {
		if err := c.fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	probed, result := c.Probed(), c.Result()
	if !probed.Date.Equal(want) || probed.Elements != 1 || probed.RoundTrip <= 0 || probed.Received.IsZero() {
		t.Errorf("probed %+v, want the first answer's times", probed)
	}
	if asked := probed.Received.Add(-probed.RoundTrip); !result.Asked.Equal(asked) {
		t.Errorf("it is asked at %s, want %s", result.Asked, asked)
	}
	if !result.Through.Equal(want.Add(-probed.RoundTrip-time.Second)) || result.Calls != 2 || result.Elements != 1 {
		t.Errorf("%+v is told, want a second and the round trip before %s", result, want)
	}
}

func TestFetchFails(t *testing.T) {
	respond := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		reason  integrationv1.ErrorReason
		words   string
	}{
		"no list":         {respond(http.StatusOK, `[]`), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "The list answered what cannot be used: "},
		"cut":             {respond(http.StatusOK, `{"value":[`), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, "broke off"},
		"an element":      {respond(http.StatusOK, `{"value":[{"id":7}]}`), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, "no JSON"},
		"failed":          {respond(http.StatusInternalServerError, ``), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, "500"},
		"not found there": {respond(http.StatusNotFound, `{"error":{"code":"NotFound"}}`), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, "not found"},
	} {
		c := newCollected(t, nil, tt.handler)
		err := c.fetch(t.Context())
		e, ok := errors.AsType[*defender.Error](err)
		if !ok || e.Problem.GetReason() != tt.reason || !strings.Contains(e.Problem.GetMessage(), tt.words) || e.Problem.GetRemedy() == "" {
			t.Errorf("%s: error is %v, want %s that says %q", name, err, tt.reason, tt.words)
		}
		if c.Result().Calls != 1 {
			t.Errorf("%s: %d calls are told, want 1", name, c.Result().Calls)
		}
	}
}

func TestNotFoundIsTheAPIsOwn(t *testing.T) {
	const (
		refused = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED
		retired = integrationv1.ErrorReason_ERROR_REASON_API_RETIRED
	)
	for _, tt := range []struct {
		problem *integrationv1.Problem
		want    bool
	}{
		{&integrationv1.Problem{Reason: refused, HttpStatus: http.StatusNotFound, UpstreamCode: "ResourceNotFound"}, true},
		{&integrationv1.Problem{Reason: refused, HttpStatus: http.StatusNotFound}, false},
		{&integrationv1.Problem{Reason: refused, HttpStatus: http.StatusBadRequest, UpstreamCode: "BadRequest"}, false},
		{&integrationv1.Problem{Reason: retired, HttpStatus: http.StatusNotFound, UpstreamCode: "NotFound"}, false},
	} {
		if got := isNotFound(fmt.Errorf("wrapped: %w", &defender.Error{Problem: tt.problem})); got != tt.want {
			t.Errorf("%v is taken for an empty list: %t, want %t", tt.problem, got, tt.want)
		}
	}
	if isNotFound(errors.New("404")) {
		t.Error("any error is taken for an empty list")
	}
}
