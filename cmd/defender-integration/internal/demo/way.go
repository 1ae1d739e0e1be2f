package demo

import (
	"strings"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Way is how the campaign is run: through which API, and with devices from where.
type Way struct {
	// API is the API that alerts are read over.
	API integrationv1.Api
	// Devices is where devices are looked up; not set is the API's default.
	Devices integrationv1.DeviceSource_Kind
}

// settings are the integration's for the simulated Microsoft.
func (w Way) settings(microsoft *defendertest.Server) *integrationv1.Integration {
	endpoint := &integrationv1.Endpoint{
		Host: microsoft.Host(), Port: int32(microsoft.Port()), Protocol: integrationv1.Protocol_PROTOCOL_HTTP,
	}
	authorizationURL := microsoft.TokenURL(defendertest.RunTenantID)
	if w.API == integrationv1.Api_API_SIEM {
		// Its tokens come from the v1 endpoint.
		authorizationURL = microsoft.TokenURLV1(defendertest.RunTenantID)
	}
	devices := &integrationv1.DeviceSource{Kind: w.Devices}
	byDefault := w.Devices == integrationv1.DeviceSource_KIND_UNSPECIFIED && w.API == integrationv1.Api_API_SIEM
	if w.Devices != integrationv1.DeviceSource_KIND_NONE && !byDefault {
		devices.Endpoint = endpoint
	}
	return &integrationv1.Integration{
		IntegrationId: integrationID,
		DisplayName:   "Contoso, simulated",
		TenantId:      defendertest.RunTenantID,
		Api:           w.API,
		Endpoint:      endpoint,
		Authentication: &integrationv1.Authentication{
			ClientId:         defendertest.RunAppID,
			Credential:       &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: defendertest.RunSecret}},
			AuthorizationUrl: authorizationURL,
		},
		DeviceSource: devices,
	}
}

// name names the way for a person, such as "DEFENDER_FOR_ENDPOINT".
func (w Way) name() string {
	name := wordOf(w.API)
	if w.Devices != 0 {
		name += ", devices: " + wordOf(w.Devices)
	}
	return name
}

// through returns what is expected where the campaign is run this way: the same, but for what its API cannot know.
func (e expectation) through(w Way) expectation {
	absence := e.verdict == integrationv1.Verdict_VERDICT_MISSED || e.verdict == integrationv1.Verdict_VERDICT_CANNOT_JUDGE
	switch {
	case w.API == integrationv1.Api_API_DEFENDER_FOR_ENDPOINT && e.outcome == integrationv1.Outcome_OUTCOME_REMEDIATED:
		// Its evidence tells what was detected, and not what was cleaned up.
		e.outcome = integrationv1.Outcome_OUTCOME_DETECTED
	case w.API == integrationv1.Api_API_SIEM && absence:
		// That it answers with nothing proves nothing.
		e.verdict = integrationv1.Verdict_VERDICT_CANNOT_JUDGE
		e.reason = integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE
	case w.API == integrationv1.Api_API_SIEM:
		// Only Defender Antivirus tells how it ended, and a detection never changes.
		if e.outcome != integrationv1.Outcome_OUTCOME_PREVENTED {
			e.outcome = integrationv1.Outcome_OUTCOME_UNKNOWN
		}
		e.revisions = min(e.revisions, 1)
	case w.Devices == integrationv1.DeviceSource_KIND_NONE && absence:
		e.verdict = integrationv1.Verdict_VERDICT_CANNOT_JUDGE
		e.reason = integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE
	}
	return e
}

// through returns the script with what is expected this way.
func (s script) through(w Way) script {
	attacks := make([]attack, len(s.attacks))
	for i, a := range s.attacks {
		a.want = a.want.through(w)
		attacks[i] = a
	}
	s.attacks = attacks
	return s
}

// outcomes are what came of the campaign, one way.
type outcomes struct {
	way     Way
	results []*result
}

// comparison prints the verdicts of all ways, attack by attack.
func (n *narrator) comparison(all []outcomes) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heading("The same campaign through each API")
	header := []string{"", "attack"}
	for _, o := range all {
		header = append(header, strings.ToLower(strings.ReplaceAll(wordOf(o.way.API), "_", "-")))
	}
	rows, colours := [][]string{header}, []colour{bold}
	for i, first := range all[0].results {
		row := []string{"[ok]", first.attack.title}
		for _, o := range all {
			r := o.results[i]
			if r.attack.want.differs(r) != "" {
				row[0] = "[NO]"
			}
			v := r.verdict()
			said := saying(v.GetVerdict(), v.GetOutcome())
			if v.GetVerdict() == integrationv1.Verdict_VERDICT_CANNOT_JUDGE {
				said += ": " + inWords(wordOf(v.GetCannotJudgeReason()))
			}
			row = append(row, said)
		}
		rows, colours = append(rows, row), append(colours, plain)
	}
	n.table(rows, colours)
	n.print("\n")
}
