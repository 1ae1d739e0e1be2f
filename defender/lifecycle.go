package defender

import integrationv1 "defender-integration/gen/defender/integration/v1"

// Retiring returns what an operator is told of an API or device source whose end Microsoft has announced; nil where it has not.
func Retiring(lifecycle *integrationv1.Lifecycle) *integrationv1.Problem {
	if lifecycle.GetStage() != integrationv1.Lifecycle_STAGE_RETIRING {
		return nil
	}
	p := &integrationv1.Problem{
		Reason: integrationv1.ErrorReason_ERROR_REASON_API_RETIRING, Message: lifecycle.GetNote(),
		Remedy: "Ask ListEndpoints for what there is in its place.",
	}
	switch {
	case lifecycle.GetSuccessor() != 0:
		p.Remedy = "Register the tenant with " + lifecycle.GetSuccessor().String() + " in time: its alerts have the same shape here."
	case lifecycle.GetSuccessorDeviceSource() != 0:
		p.Remedy = "Grant the application ThreatHunting.Read.All of Microsoft Graph and set device_source.kind to " +
			lifecycle.GetSuccessorDeviceSource().String() + " in time."
	}
	return p
}
