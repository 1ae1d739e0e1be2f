package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// errBodyTooLarge says that a body passes maxBody.
var errBodyTooLarge = errors.New("the answer is too large")

// StallError says that a body sent nothing for too long, or took too long as a whole.
type StallError struct {
	// After is the time limit that passed.
	After time.Duration
}

// Error tells the time limit.
func (e *StallError) Error() string { return fmt.Sprintf("nothing came within %s", e.After) }

// Body is an answer's body with its bounds: in size, in how long it may send nothing, and in how long it may take. The time
// that the reader takes between reads does not count.
type Body struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	left   int64
	time   time.Duration
	err    error
}

// newBody bounds a body. cancel ends the call, and with it a read that hangs.
func newBody(body io.ReadCloser, cancel context.CancelCauseFunc) *Body {
	return &Body{body: body, cancel: cancel, left: maxBody, time: bodyTimeout}
}

// Read reads at most the body's bound. After an error it returns the same one.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left <= 0 || b.time <= 0 {
		b.err = errBodyTooLarge
		if b.time <= 0 {
			b.err = &StallError{After: bodyTimeout}
		}
		return 0, b.err
	}
	limit := min(stallTimeout, b.time)
	stalled := make(chan struct{})
	timer := time.AfterFunc(limit, func() {
		close(stalled)
		b.cancel(context.DeadlineExceeded)
	})
	began := time.Now()
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.time -= time.Since(began)
	b.left -= int64(n)
	if !timer.Stop() {
		<-stalled
		if err != nil && !errors.Is(err, io.EOF) {
			err = &StallError{After: limit}
		}
	}
	b.err = err
	return n, err
}

// close ends the call. What closing a body says is no one's concern: what was read was read.
func (b *Body) close() {
	_ = b.body.Close()
	b.cancel(nil)
}
