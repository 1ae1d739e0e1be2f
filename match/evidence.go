package match

import (
	"fmt"
	"iter"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// located is a piece of evidence and where it stands.
type located struct {
	evidence *integrationv1.Evidence
	// index is that of the alert's evidence; inside is where in it, such as `/files/0`, or empty.
	index  int
	inside string
}

// path returns where the evidence stands, as a JSON Pointer into the element.
func (l located) path() string { return fmt.Sprintf("/evidence/%d%s", l.index, l.inside) }

// eachEvidence yields the evidence of an alert in Microsoft's order, each followed by what stands inside of it: the files and
// processes of malware, the host of a logon session. It goes no deeper, since Microsoft's types do not.
func eachEvidence(alert *integrationv1.Alert) iter.Seq[located] {
	return func(yield func(located) bool) {
		for i, evidence := range alert.GetEvidence() {
			if !yield(located{evidence: evidence, index: i}) {
				return
			}
			if malware := evidence.GetMalware(); malware != nil {
				for j, file := range malware.GetFiles() {
					if !yield(located{file, i, fmt.Sprintf("/files/%d", j)}) {
						return
					}
				}
				for j, process := range malware.GetProcesses() {
					if !yield(located{process, i, fmt.Sprintf("/processes/%d", j)}) {
						return
					}
				}
			}
			if host := evidence.GetHostLogonSession().GetHost(); host != nil {
				if !yield(located{host, i, "/host"}) {
					return
				}
			}
		}
	}
}
