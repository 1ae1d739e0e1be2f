package acceptance_test

import (
	"bufio"
	"errors"
	"os"
	"testing"

	"defender-integration/acceptance/process"
)

// life is one run of the announcing program, from its start to its end.
type life struct {
	*process.Process
	// points tells each point that the service has come to. It waits there until passed is called.
	points  chan string
	answers *os.File
}

// start starts the announcing service.
func (h *house) start(t *testing.T, flags ...string) *life {
	t.Helper()
	return startAnnouncing(t, func(files []*os.File) *process.Process { return h.serve(t, files, flags...) })
}

// startAnnouncing starts an announcing program, which is passed the files.
func startAnnouncing(t *testing.T, start func(files []*os.File) *process.Process) *life {
	t.Helper()
	points, theirPoints, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirAnswers, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(errors.Join(err, points.Close(), theirPoints.Close()))
	}
	l := &life{points: make(chan string), answers: answers}
	l.Process = start([]*os.File{theirPoints, theirAnswers})
	// Only the child has these ends open now, so that reading ends with it.
	if err := errors.Join(theirPoints.Close(), theirAnswers.Close()); err != nil {
		t.Fatal(err)
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		lines := bufio.NewScanner(points)
		for lines.Scan() {
			select {
			case l.points <- lines.Text():
			case <-l.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		l.Kill()
		<-reading
		_, _ = points.Close(), answers.Close()
	})
	return l
}

// passed lets the service go on. That it was killed meanwhile is no error.
func (l *life) passed() { _, _ = l.answers.Write([]byte{'.'}) }
