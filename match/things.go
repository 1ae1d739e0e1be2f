package match

import (
	"slices"
	"strconv"
	"strings"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// piece is a piece of evidence of a file or process, and the outcome that it tells.
type piece struct {
	located
	outcome integrationv1.Outcome
	// added is when it was added to the alert; of a piece inside of malware that does not say it, when the malware was. Zero where that
	// is not known.
	added time.Time
	// place is its place among the alert's evidence.
	place int
	// device is the id of the device that it is about, as compared; empty where that is not told.
	device string
}

// process returns the process that the piece is about; none of a file.
func (p *piece) process() process {
	told := p.evidence.GetProcess()
	return process{told.GetProcessId(), timeOf(told.GetProcessCreationTime())}
}

// key names what the piece is about, the same for all pieces about it: a process by its id and creation time, a file by its hash, else
// by its whole path, each on its device. It is empty where that is not told: then the piece is about a thing of its own.
func (p *piece) key() string {
	if p.evidence.GetProcess() != nil {
		one := p.process()
		if !one.told() || one.created.IsZero() {
			return ""
		}
		return strings.Join([]string{"process", p.device, strconv.FormatInt(one.id, 10), one.created.UTC().Format(time.RFC3339Nano)}, "|")
	}
	file := p.evidence.GetFile().GetFileDetails()
	for _, hash := range []string{file.GetSha256(), file.GetSha1(), file.GetMd5()} {
		if folded := foldHash(hash); folded != "" {
			return strings.Join([]string{"hash", p.device, folded}, "|")
		}
	}
	if path := foldPath(wholePath(file)); path != "" {
		return strings.Join([]string{"path", p.device, path}, "|")
	}
	return ""
}

// thing is a file or process that an alert is about.
type thing struct {
	// piece is the one that tells: of those that tell an outcome, the one that was added last. Where none does, the first.
	piece
	// telling is how many pieces tell an outcome.
	telling int
	// incriminated says that Defender takes it for malicious or suspicious, by any of its pieces.
	incriminated bool
}

// told says that an outcome is told of it.
func (t *thing) told() bool { return t.telling > 0 }

// add adds a piece that was added to the alert later than those before.
func (t *thing) add(p piece) {
	t.incriminated = t.incriminated || isIncriminated(p.evidence)
	if p.outcome == integrationv1.Outcome_OUTCOME_UNKNOWN {
		return
	}
	t.piece = p
	t.telling++
}

// weakerThan says that the outcome is weaker, or as weak and told earlier; of two told at one time, the one that stands first.
func (t *thing) weakerThan(other *thing) bool {
	if t.outcome != other.outcome {
		return t.outcome > other.outcome // The enumeration lists them from the strongest.
	}
	if !t.added.Equal(other.added) {
		return !t.added.IsZero() && (other.added.IsZero() || t.added.Before(other.added))
	}
	return t.place < other.place
}

// thingsOf returns the files and processes of an alert, those inside of malware too, each once, in the order in which they were first
// told of: what was added at one time in Microsoft's order, what does not say when before the rest.
func thingsOf(alert *integrationv1.Alert) []*thing {
	var all []piece
	for l := range eachEvidence(alert) {
		if !isFileOrProcess(l.evidence) {
			continue
		}
		added := timeOf(l.evidence.GetCreatedTime())
		if added.IsZero() {
			added = timeOf(l.within.GetCreatedTime())
		}
		all = append(all, piece{located: l, outcome: outcomeOfEvidence(l.evidence), added: added, place: len(all), device: l.device()})
	}
	slices.SortStableFunc(all, func(x, y piece) int { return x.added.Compare(y.added) })
	var things []*thing
	byKey := make(map[string]*thing)
	for _, p := range all {
		key := p.key()
		one := byKey[key]
		if one == nil || key == "" {
			one = &thing{piece: p}
			things = append(things, one)
			byKey[key] = one
		}
		one.add(p)
	}
	return things
}
