package demo

import (
	"fmt"
	"strings"
	"text/template"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// results prints the table of what was expected and what came, and says whether all is as scripted.
func (n *narrator) results(results []*result) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heading("What came of it")
	t := table{head: []string{"", "attack", "Actor", "verdict", "confidence", "it rests on"}}
	good, revisions, repeated, resumed := 0, 0, 0, 0
	for _, r := range results {
		v := r.verdict()
		as := r.attack.want.differs(r) == ""
		if as {
			good++
		}
		revisions += r.revisions()
		repeated += r.repeated
		if r.resumed {
			resumed++
		}
		said := saying(v.GetVerdict(), v.GetOutcome())
		if before := v.GetAmendment(); before != nil {
			said += ", was " + saying(before.GetVerdict(), before.GetOutcome())
		}
		confidence := ""
		if v.GetConfidence() != 0 {
			confidence = wordOf(v.GetConfidence())
		}
		t.add(mark(as), cell{text: r.attack.title}, cell{text: r.attack.actor.GetActorId()},
			cell{said, verdictColour(v.GetVerdict())}, cell{text: confidence}, cell{text: restsOn(r)})
	}
	n.table(t)
	n.print("\n")
	for _, r := range results {
		if differs := r.attack.want.differs(r); differs != "" {
			n.paragraph(red, fmt.Sprintf("%s: %s.", r.attack.title, differs))
		}
	}
	c := green
	if good < len(results) {
		c = red
	}
	n.paragraph(c, fmt.Sprintf("%d of %d verdicts are the scripted ones.", good, len(results)))
	text := fmt.Sprintf("%s of alerts came over %s, ", count(int64(revisions), "revision"), count(int64(len(results)), "stream"))
	if repeated == 0 {
		text += "none twice"
	} else {
		text += fmt.Sprintf("%d TWICE", repeated)
	}
	switch resumed {
	case 0:
	case 1:
		text += "; 1 stream was cut and resumed"
	default:
		text += fmt.Sprintf("; %d streams were cut and resumed", resumed)
	}
	n.paragraph(plain, text+".")
	n.latencies(results)
	return good == len(results)
}

// latencies prints how long the deciding alert of each Actor took, step by step. The caller holds mu.
func (n *narrator) latencies(results []*result) {
	n.heading("How long it took")
	n.paragraph(plain, "From the first activity that the deciding alert is about until Defender created it, from there until it could be read, and "+
		"from there until it was sent. Of the time until it could be read, nobody read for the last one.")
	t := table{head: []string{"attack", "Actor", "created", "visible", "delivered", "away"}}
	for _, r := range results {
		if l := r.verdict().GetLatencies(); l != nil {
			t.add(cell{text: r.attack.title}, cell{text: r.attack.actor.GetActorId()}, cell{text: took(l.GetActivityToCreated())},
				cell{text: took(l.GetCreatedToVisible())}, cell{text: took(l.GetVisibleToDelivered())}, cell{text: took(l.GetAway())})
		}
	}
	n.table(t)
}

// took tells a length of time; "-" where it is not known.
func took(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	if hours := d.AsDuration().Hours(); hours >= 1 {
		return fmt.Sprintf("%.1fh", hours)
	}
	return fmt.Sprintf("%.1fs", d.AsDuration().Seconds())
}

// restsOn tells in a few words what a verdict rests on.
func restsOn(r *result) string {
	v := r.verdict()
	switch v.GetVerdict() {
	case integrationv1.Verdict_VERDICT_MISSED:
		p := r.completed.GetPair()
		return fmt.Sprintf("%s read at %s, device's report at %s", inWords(wordOf(p.GetDepth())), clock(p.GetThrough().AsTime()),
			clock(v.GetDevice().GetLastSeenTime().AsTime())) + askedOfTelemetry(v)
	case integrationv1.Verdict_VERDICT_CANNOT_JUDGE:
		return inWords(wordOf(v.GetCannotJudgeReason())) + askedOfTelemetry(v)
	}
	e := r.deciding()
	if rows := v.GetTelemetry().GetRows(); e == nil && len(rows) > 0 {
		return restsOnTelemetry(r, rows[0])
	}
	if e == nil {
		return "alert " + v.GetDecidingAlertId()
	}
	at := e.GetAlert().GetCreatedTime()
	if at == nil {
		// A detection of the SIEM API tells only when it was processed.
		at = e.GetAlert().GetLastUpdateTime()
	}
	after := at.AsTime().Sub(r.began)
	text := fmt.Sprintf("alert after %.1fs", after.Seconds())
	if after < 0 {
		text = fmt.Sprintf("alert of %.0f hours before", -after.Hours())
	}
	if m := matchesOf(e); len(m) > 0 {
		text += ", machine by " + nameCriterion(m)
	}
	if found := met(attributionOf(e)); len(found) > 0 {
		text += ", attack by " + inWords(wordOf(found[0]))
	}
	return text
}

// nameCriterion tells by what an alert matched in the alert's own words where it can.
func nameCriterion(matches []*integrationv1.Match) string {
	for _, m := range matches {
		if !byDevice(m) {
			return criterion(m)
		}
	}
	return criterion(matches[0])
}

// commandsTemplate has whole commands, which can be pasted into a shell.
const commandsTemplate = `  The service, by reflection:
    grpcurl -plaintext {{.Address}} list
    grpcurl -plaintext {{.Address}} describe defender.integration.v1.IntegrationService

  The integration, its state and the pairs that are complete:
    grpcurl -plaintext -d '{"integration_id": "{{.ID}}"}' {{.Address}} defender.integration.v1.IntegrationService/GetIntegration

  Its links:
    grpcurl -plaintext -d '{"integration_id": "{{.ID}}"}' {{.Address}} defender.integration.v1.IntegrationService/TestConnectivity

  What the campaign left for one Actor, and then what comes; a fresh alert is raised every {{.Every}}:
    grpcurl -plaintext -d '{
      "integration_id": "{{.ID}}", "reference": "try-1",
      "actors": [{"actor_id": "{{.Actor}}", "fq_host_name": "{{.Name}}"}],
      "window": {"start_time": "{{.Start}}"}
    }' {{.Address}} defender.integration.v1.IntegrationService/StreamAlerts

  The same from behind an event on: put its resume_token into the request, as "resume_token": "…".
  The simulated Microsoft: {{.Microsoft}}, tenant {{.Tenant}}.

`

// commands prints what to try while the demonstration stays up.
func (n *narrator) commands(h *house, s *script) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heading("Try it: all stays up until Ctrl-C")
	first := s.attacks[0]
	var text strings.Builder
	page, err := template.New("commands").Parse(commandsTemplate)
	if err == nil {
		err = page.Execute(&text, map[string]any{
			"Address": h.address, "ID": integrationID, "Every": freshEvery, "Microsoft": h.microsoft.URL(), "Tenant": defendertest.RunTenantID,
			"Actor": first.actor.GetActorId(), "Name": first.actor.GetFqHostName(),
			"Start": n.began.UTC().Truncate(time.Second).Format(time.RFC3339),
		})
	}
	if err != nil && n.err == nil {
		n.err = fmt.Errorf("make the commands: %w", err)
	}
	n.print(text.String())
}

// fresh tells of an alert after the campaign.
func (n *narrator) fresh(told string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.print("  " + n.paint(dim, clock(n.now())+" UTC  (simulated) Defender raises "+told) + "\n")
}

// stopping tells that the end has begun.
func (n *narrator) stopping() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.print("\n" + n.paint(dim, "Stopping the service and the simulated Microsoft; the data is removed.") + "\n")
}
