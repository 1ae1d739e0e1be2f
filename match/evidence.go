package match

import (
	"fmt"
	"iter"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// located is a piece of evidence and where it stands.
type located struct {
	evidence *integrationv1.Evidence
	// within is the evidence that it stands inside of; nil where it stands by itself.
	within *integrationv1.Evidence
	// index is that of the alert's evidence; inside is where in it, such as `/files/0`, or empty.
	index  int
	inside string
}

// path returns where the evidence stands, as a JSON Pointer into the element.
func (l located) path() string { return fmt.Sprintf("/evidence/%d%s", l.index, l.inside) }

// device returns the id, as compared, of the device that the evidence is about; empty where it bears none.
func (l located) device() string {
	switch detail := l.evidence.GetDetail().(type) {
	case *integrationv1.Evidence_Device:
		return foldID(detail.Device.GetMdeDeviceId())
	case *integrationv1.Evidence_Process:
		return foldID(detail.Process.GetMdeDeviceId())
	case *integrationv1.Evidence_File:
		return foldID(detail.File.GetMdeDeviceId())
	case *integrationv1.Evidence_RegistryValue:
		return foldID(detail.RegistryValue.GetMdeDeviceId())
	case *integrationv1.Evidence_User:
		// Who logged on to a host is about the host.
		return foldID(l.within.GetHostLogonSession().GetHost().GetDevice().GetMdeDeviceId())
	}
	return ""
}

// eachEvidence yields the evidence of an alert in Microsoft's order, each followed by what stands inside of it: the files and
// processes of malware, the account and the host of a logon session. It goes no deeper, since Microsoft's types do not.
func eachEvidence(alert *integrationv1.Alert) iter.Seq[located] {
	return func(yield func(located) bool) {
		for i, evidence := range alert.GetEvidence() {
			if !yield(located{evidence: evidence, index: i}) {
				return
			}
			inside := func(one *integrationv1.Evidence, where string) bool {
				return one == nil || yield(located{evidence: one, within: evidence, index: i, inside: where})
			}
			for j, file := range evidence.GetMalware().GetFiles() {
				if !inside(file, fmt.Sprintf("/files/%d", j)) {
					return
				}
			}
			for j, process := range evidence.GetMalware().GetProcesses() {
				if !inside(process, fmt.Sprintf("/processes/%d", j)) {
					return
				}
			}
			session := evidence.GetHostLogonSession()
			if !inside(session.GetAccount(), "/account") || !inside(session.GetHost(), "/host") {
				return
			}
		}
	}
}
