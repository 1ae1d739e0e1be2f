package demo

import (
	"fmt"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// welcome says what this is, and above all that Microsoft is simulated.
func (n *narrator) welcome(h *house, way Way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.print(n.paint(bold, "Microsoft Defender integration: a demonstration, through "+way.name()) + "\n\n")
	n.paragraph(yellow, "Microsoft is SIMULATED.")
	n.paragraph(plain, "Entra, Graph and Defender for Endpoint are played by this process at "+h.microsoft.URL()+". Nothing reaches "+
		"Microsoft; tenant, devices, attacks and alerts are made up. The service is the real one, as `serve` runs it, only with "+
		"shorter intervals. The Director talks to it over gRPC at "+h.address+", and all that is said below of alerts and verdicts "+
		"came that way.")
	n.paragraph(dim, "Data is in "+h.dir+" until this ends.")
}

// registered tells of the registration.
func (n *narrator) registered(i *integrationv1.Integration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heading("Register the tenant")
	n.print(fmt.Sprintf("  %s  integration %q: tenant %s, %s\n", n.paint(green, "[ok]"), i.GetIntegrationId(), i.GetTenantId(), wordOf(i.GetApi())))
	secret := "it comes back without its secret"
	if i.GetAuthentication().GetClientSecret().GetValue() != "" {
		secret = "its SECRET came back"
	}
	n.print("        " + n.paint(dim, "devices from "+wordOf(i.GetDeviceSource().GetKind())+"; "+secret) + "\n")
}

// tested prints the stages of a connectivity test as a check-list.
func (n *narrator) tested(response *integrationv1.TestConnectivityResponse) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heading("Test its connectivity")
	for _, s := range response.GetTest().GetStages() {
		mark, c := "[??]", magenta
		switch s.GetResult() {
		case integrationv1.ConnectivityStage_RESULT_PASSED:
			mark, c = "[ok]", green
		case integrationv1.ConnectivityStage_RESULT_WARNED:
			mark, c = "[!!]", yellow
		case integrationv1.ConnectivityStage_RESULT_FAILED:
			mark, c = "[NO]", red
		case integrationv1.ConnectivityStage_RESULT_SKIPPED:
			mark, c = "[--]", dim
		}
		target := ""
		if s.GetTarget() != integrationv1.ConnectivityStage_TARGET_UNSPECIFIED {
			target = inWords(wordOf(s.GetTarget()))
		}
		took := ""
		if s.GetTook() != nil {
			took = fmt.Sprintf("%.1f ms", s.GetTook().AsDuration().Seconds()*1000)
		}
		const columns = 2 + 4 + 2 + 13 + 2 + 13 + 2 + 8 + 2
		head := "  " + n.paint(c, mark) + "  " + pad(wordOf(s.GetLink()), 13) + "  " + pad(target, 13) + "  " + fmt.Sprintf("%8s", took) + "  "
		seen := s.GetSeen()
		if s.GetRemedy() != "" {
			seen += " " + s.GetRemedy()
		}
		for i, line := range wrap(seen, width-columns) {
			if i > 0 {
				head = pad("", columns)
			}
			n.print(head + n.paint(dim, line) + "\n")
		}
	}
	c := green
	if response.GetTest().GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
		c = red
	}
	n.print("  " + n.paint(c, wordOf(response.GetTest().GetHealth())) + ": " + response.GetTechnology() + ". " + response.GetTest().GetSummary() + "\n")
}

// campaign begins the time line.
func (n *narrator) campaign(s *script, began time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.began = began
	clear(n.phases)
	clear(n.devices)
	n.heading(fmt.Sprintf("Attack %d Actors, and see what Defender makes of it", len(s.attacks)))
	n.paragraph(plain, fmt.Sprintf("Each attack lasts %s and has a bounded stream: it waits %s for late alerts, then for a closing read "+
		"that proves that nothing is missing, and ends with a verdict. An alert is late when Defender creates it more than %s after the "+
		"attack. In earnest these are minutes to hours. The time line begins at %s UTC.", s.window, s.wait, s.onTime, clock(began)))
	n.print("\n")
}
