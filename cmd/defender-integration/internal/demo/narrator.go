package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// narrator prints what a person watches. It is safe for concurrent use. Where printing fails, it goes on in silence and keeps the
// error.
type narrator struct {
	out     io.Writer
	colours bool
	now     func() time.Time

	mu    sync.Mutex
	began time.Time // the campaign's beginning, from which the time line counts
	// phases are what each Actor's stream was last told to do, devices what was last told of its device.
	phases, devices map[string]string
	err             error
}

func newNarrator(out io.Writer, colours bool) *narrator {
	return &narrator{out: out, colours: colours, now: time.Now, phases: map[string]string{}, devices: map[string]string{}}
}

// print prints text as it is. The caller holds mu.
func (n *narrator) print(text string) {
	if n.err != nil {
		return
	}
	if _, err := io.WriteString(n.out, text); err != nil {
		n.err = fmt.Errorf("print: %w", err)
	}
}

// heading begins a part. The caller holds mu.
func (n *narrator) heading(text string) { n.print("\n" + n.paint(bold, text) + "\n") }

// paragraph prints text, indented and broken into lines. The caller holds mu.
func (n *narrator) paragraph(c colour, text string) {
	for _, line := range wrap(text, width-2) {
		n.print("  " + n.paint(c, line) + "\n")
	}
}

// The columns of the time line.
const (
	whoColumns  = 6
	kindColumns = 9
	// textColumn is where its text begins: behind the seconds, who and kind, and the blanks between.
	textColumn = 2 + 6 + 2 + whoColumns + 2 + kindColumns + 2
)

// moment prints a line of the time line: when, about whom, of what kind. Further texts stand below it, dimmed.
func (n *narrator) moment(who, kind string, c colour, text string, below ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.momentLocked(who, kind, c, text, below...)
}

func (n *narrator) momentLocked(who, kind string, c colour, text string, below ...string) {
	seconds := fmt.Sprintf("%5.1fs", n.now().Sub(n.began).Seconds())
	head := "  " + n.paint(dim, seconds) + "  " + pad(who, whoColumns) + "  " + n.paint(c, pad(kind, kindColumns)) + "  "
	blank := strings.Repeat(" ", textColumn)
	textColour := plain
	if c == dim {
		textColour = dim
	}
	for i, line := range wrap(text, width-textColumn) {
		if i > 0 {
			head = blank
		}
		n.print(head + n.paint(textColour, line) + "\n")
	}
	for _, text := range below {
		for _, line := range wrap(text, width-textColumn) {
			n.print(blank + n.paint(dim, line) + "\n")
		}
	}
}

// news prints a moment where it is other than what was last told of the Actor.
func (n *narrator) news(last map[string]string, a *attack, kind string, c colour, text string, below ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := a.actor.GetActorId()
	told := strings.Join(append([]string{text}, below...), "\n")
	if last[id] == told {
		return
	}
	last[id] = told
	n.momentLocked(id, kind, c, text, below...)
}

// since tells a time as the time line does.
func (n *narrator) since(t time.Time) string { return fmt.Sprintf("%.1fs", t.Sub(n.began).Seconds()) }

// clock tells a time of day, in UTC.
func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) }

// day tells a time as clock does, with the day where it is not that of the campaign's beginning.
func (n *narrator) day(t time.Time) string {
	if day := t.UTC().Format(time.DateOnly); day != n.began.UTC().Format(time.DateOnly) {
		return day + " " + clock(t)
	}
	return clock(t)
}
