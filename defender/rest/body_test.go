package rest

import (
	"context"
	"errors"
	"io"
	"log"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// slow gives a byte after each pause, and ends with its context.
type slow struct {
	ctx   context.Context //nolint:containedctx // It is the life of the body.
	pause time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-time.After(s.pause):
		p[0] = 'x'
		return 1, nil
	}
}

func (slow) Close() error { return nil }

func TestBodyTimeLimits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pause time.Duration
		after time.Duration
	}{
		{"nothing comes", time.Hour, stallTimeout},
		{"a byte now and then", 20 * time.Second, bodyTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				body := newBody(slow{ctx, tt.pause}, cancel)
				began := time.Now()
				_, err := io.Copy(io.Discard, body)
				var stalled *StallError
				if !errors.As(err, &stalled) {
					t.Fatalf("error is %v, want a *StallError", err)
				}
				if took := time.Since(began); took != tt.after {
					t.Errorf("it ended after %s, want %s", took, tt.after)
				}
				if _, again := body.Read(make([]byte, 1)); !errors.As(again, &stalled) {
					t.Errorf("the next read says %v", again)
				}
			})
		})
	}
}

func TestReadersTimeDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := newBody(io.NopCloser(strings.NewReader("abc")), func(error) { t.Error("the call was ended") })
		one := make([]byte, 1)
		for range 3 {
			if _, err := body.Read(one); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // fake: the reader's own work
		}
	})
}

func TestBodyIsBounded(t *testing.T) {
	body := newBody(io.NopCloser(strings.NewReader("abcdef")), func(error) {})
	body.left = 4
	got, err := io.ReadAll(body)
	if string(got) != "abcd" || !errors.Is(err, errBodyTooLarge) {
		t.Errorf("read %q with error %v, want the bound", got, err)
	}
}
