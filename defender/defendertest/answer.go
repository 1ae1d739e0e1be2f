package defendertest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Answer is what a request is answered with.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Header are the headers. Date and the request ids are set when it is sent, where they are not given.
	Header http.Header
	// Body is the body in pieces, so that elements are sent without being copied.
	Body [][]byte
	// Cut says that the connection is cut after CutAfter bytes of the body, or at the body's end where it is shorter. The reader
	// sees an answer that breaks off. Where CutAfter is negative, not even the headers are sent.
	Cut      bool
	CutAfter int
	// Reset says that the connection is cut by a reset (RST), and not by closing it.
	Reset bool
	// Pause, where it is not nil, makes the answer stop after PauseAfter bytes of the body until Pause is closed.
	Pause      <-chan struct{}
	PauseAfter int
	// Spoiled says that a caller cannot make use of the answer as it is sent: the alerts in it do not count as served, though all of it
	// was sent.
	Spoiled bool

	// held are the revisions in the body; size is the body's length with them. They count as served when all of it was sent.
	held []*revision
	size int
	// noise says that the body is sent without a status and headers.
	noise bool
}

// NewAnswer makes an answer with a JSON body, for a [Fault].
func NewAnswer(status int, body string) *Answer {
	a := &Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}}
	if body != "" {
		a.Body = [][]byte{[]byte(body)}
	}
	return a
}

// jsonAnswer makes an answer of a value that can be encoded.
func jsonAnswer(status int, v any) *Answer {
	body, err := json.Marshal(v)
	if err != nil {
		return NewAnswer(http.StatusInternalServerError, fmt.Sprintf("{%q:%q}", "error", err.Error()))
	}
	return NewAnswer(status, string(body))
}

// bodySize is the body's length in bytes.
func (a *Answer) bodySize() int {
	n := 0
	for _, piece := range a.Body {
		n += len(piece)
	}
	return n
}

// delivers tells whether sending the answer serves the revisions that it was made with: not when a fault changed or cut it.
func (a *Answer) delivers() bool {
	return !a.Cut && !a.Spoiled && a.Status == http.StatusOK && len(a.held) > 0 && a.bodySize() == a.size
}

// truncate drops what is beyond n bytes of the body.
func (a *Answer) truncate(n int) {
	for i, piece := range a.Body {
		if len(piece) >= n {
			a.Body = append(a.Body[:i:i], piece[:n])
			return
		}
		n -= len(piece)
	}
}
