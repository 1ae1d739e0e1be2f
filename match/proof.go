package match

import (
	"fmt"
	"strings"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Proof is what proves that collecting was complete.
type Proof struct {
	// Pair is the read that completed the stream; nil where none did.
	Pair *integrationv1.Pair
	// Incomplete says in words why the proof does not hold, such as that no closing read succeeded, or that history is gone;
	// empty where it holds.
	Incomplete string
	// Remedy says in words what an operator can do about Incomplete; empty where nothing is known.
	Remedy string
	// Again says that another closing read may prove it, once that was done.
	Again bool
}

// obstacle is what keeps something from being said, in words, and what an operator can do about it.
type obstacle struct{ why, remedy string }

// judgeAgain is what to do where another judgement of the same window helps.
const judgeAgain = "Resume with the token of this event: the window is judged again, after another closing read."

// gap returns why the proof does not hold for the window, nil where it does: the read must begin no later than the window less the
// tolerance, and must have been made no earlier than its end.
func (p Proof) gap(window Window, tolerance time.Duration) *obstacle {
	since, through := timeOf(p.Pair.GetSince()), timeOf(p.Pair.GetThrough())
	switch {
	case p.Incomplete != "":
		remedy := p.Remedy
		if p.Again {
			remedy = strings.TrimSpace(remedy + " " + judgeAgain)
		}
		return &obstacle{p.Incomplete, remedy}
	case p.Pair == nil:
		return &obstacle{"no closing read succeeded", judgeAgain}
	case window.Start.IsZero() || window.End.IsZero():
		return &obstacle{"the window is open", "Ask for a window with a start and an end."}
	case since.After(window.Start.Add(-tolerance)) || through.Before(window.End):
		return &obstacle{
			fmt.Sprintf("the closing read covers only what was last updated from %s through %s", clock(since), clock(through)), judgeAgain,
		}
	}
	return nil
}
