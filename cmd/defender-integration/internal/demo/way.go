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
	if w.API != integrationv1.Api_API_GRAPH_SECURITY {
		e = e.withoutTelemetry()
	}
	switch {
	case w.API == integrationv1.Api_API_SIEM:
		return e.throughSIEM()
	case w.API == integrationv1.Api_API_DEFENDER_FOR_ENDPOINT && e.outcome == integrationv1.Outcome_OUTCOME_REMEDIATED:
		// Its evidence tells what was detected, and not what was cleaned up.
		e.outcome = integrationv1.Outcome_OUTCOME_DETECTED
	}
	if w.Devices == integrationv1.DeviceSource_KIND_NONE {
		e = e.withoutAbsence(integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE)
	}
	return e
}

// throughSIEM returns what is expected through the SIEM API. Its detections never change, know no process ids, and only those of Defender
// Antivirus tell how it ended. A process that is added to an alert is a detection of its own. That it answers with nothing proves
// nothing.
func (e expectation) throughSIEM() expectation {
	e = e.withoutAbsence(integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE)
	if e.outcome == 0 {
		return e
	}
	if e.outcome != integrationv1.Outcome_OUTCOME_PREVENTED {
		e.outcome = integrationv1.Outcome_OUTCOME_UNKNOWN
	}
	if e.outcome == integrationv1.Outcome_OUTCOME_UNKNOWN && e.verdict == integrationv1.Verdict_VERDICT_PREVENTED {
		e.verdict = integrationv1.Verdict_VERDICT_DETECTED
	}
	if e.trace == integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS {
		e.confidence, e.trace = integrationv1.Confidence_CONFIDENCE_STRONG, integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE
	}
	e.activity, e.turned, e.open, e.revisions = integrationv1.Activity_ACTIVITY_IN_WINDOW, 0, "", 1
	return e
}

// withoutAbsence returns what is expected where it cannot be proven that nothing was there to be seen, for the reason.
func (e expectation) withoutAbsence(reason integrationv1.CannotJudgeReason) expectation {
	const missed, cannot = integrationv1.Verdict_VERDICT_MISSED, integrationv1.Verdict_VERDICT_CANNOT_JUDGE
	if e.amends == missed {
		e.amends = cannot
	}
	if e.verdict == missed || e.verdict == cannot && e.reason != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS {
		e.verdict, e.reason = cannot, reason
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
	t := table{head: []string{"", "attack"}}
	for _, o := range all {
		t.head = append(t.head, strings.ToLower(strings.ReplaceAll(wordOf(o.way.API), "_", "-")))
	}
	for i, first := range all[0].results {
		as := true
		var said []cell
		for _, o := range all {
			r := o.results[i]
			as = as && r.attack.want.differs(r) == ""
			said = append(said, cell{text: short(r.verdict())})
		}
		t.add(append([]cell{mark(as), {text: first.attack.title}}, said...)...)
	}
	n.table(t)
	n.print("\n")
}

// short tells a verdict with why, or how surely, and what it was before.
func short(v *integrationv1.ActorVerdict) string {
	text := saying(v.GetVerdict(), v.GetOutcome())
	if v.GetVerdict() == integrationv1.Verdict_VERDICT_CANNOT_JUDGE {
		text += ": " + inWords(wordOf(v.GetCannotJudgeReason()))
	}
	if v.GetConfidence() != 0 {
		text += ", " + wordOf(v.GetConfidence())
	}
	if before := v.GetAmendment(); before != nil {
		text += ", was " + saying(before.GetVerdict(), before.GetOutcome())
	}
	return text
}
