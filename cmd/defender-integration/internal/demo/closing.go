package demo

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// results prints the table of what was expected and what came, and says whether all is as scripted.
func (n *narrator) results(results []*result) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heading("What came of it")
	rows := [][]string{{"", "attack", "Actor", "expected", "got", "it rests on"}}
	colours := []colour{bold}
	good, revisions, repeated, resumed := 0, 0, 0, 0
	for _, r := range results {
		v := r.verdict()
		mark := "[ok]"
		if r.attack.want.differs(r) == "" {
			good++
		} else {
			mark = "[NO]"
		}
		revisions += r.revisions()
		repeated += r.repeated
		if r.resumed {
			resumed++
		}
		rows = append(rows, []string{
			mark, r.attack.title, r.attack.actor.GetActorId(), saying(r.attack.want.verdict, r.attack.want.outcome),
			saying(v.GetVerdict(), v.GetOutcome()), restsOn(r),
		})
		colours = append(colours, verdictColour(v.GetVerdict()))
	}
	n.table(rows, colours)
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
	return good == len(results)
}

// table prints rows in columns, the last one broken into lines; the mark and what was got have colours.
func (n *narrator) table(rows [][]string, colours []colour) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	last := len(widths) - 1
	used := 2 * len(widths)
	for _, w := range widths[:last] {
		used += w
	}
	for r, row := range rows {
		for i, cell := range row {
			c := plain
			switch {
			case r == 0:
				c = bold
			case i == 0 && cell == "[ok]":
				c = green
			case i == 0:
				c = red
			case i == 4:
				c = colours[r]
			}
			if i < last {
				n.print("  " + n.paint(c, pad(cell, widths[i])))
				continue
			}
			for l, line := range wrap(cell, width-used) {
				if l > 0 {
					n.print(strings.Repeat(" ", used-2))
				}
				n.print("  " + n.paint(c, line) + "\n")
			}
		}
	}
}

// restsOn tells in a few words what a verdict rests on.
func restsOn(r *result) string {
	v := r.verdict()
	switch v.GetVerdict() {
	case integrationv1.Verdict_VERDICT_MISSED:
		p := r.completed.GetPair()
		return fmt.Sprintf("%s read at %s, device's report at %s", inWords(wordOf(p.GetDepth())), clock(p.GetThrough().AsTime()),
			clock(v.GetDevice().GetLastSeenTime().AsTime()))
	case integrationv1.Verdict_VERDICT_CANNOT_JUDGE:
		return inWords(wordOf(v.GetCannotJudgeReason()))
	}
	for _, e := range slices.Backward(r.alerts) {
		if e.GetAlert().GetId() != v.GetDecidingAlertId() {
			continue
		}
		at := e.GetAlert().GetCreatedTime()
		if at == nil {
			// A detection of the SIEM API tells only when it was processed.
			at = e.GetAlert().GetLastUpdateTime()
		}
		created := at.AsTime().Sub(r.began).Seconds()
		by := "the deciding alert"
		if m := matchesOf(e); len(m) > 0 {
			by = "by " + nameCriterion(m)
		}
		return fmt.Sprintf("alert after %.1fs, %s", created, by)
	}
	return "alert " + v.GetDecidingAlertId()
}

// nameCriterion tells by what an alert matched in the alert's own words where it can: that the device source knows the device
// rests on a name in its turn.
func nameCriterion(matches []*integrationv1.Match) string {
	for _, m := range matches {
		if m.GetCriterion() != integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE {
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
