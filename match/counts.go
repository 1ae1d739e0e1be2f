package match

import integrationv1 "defender-integration/gen/defender/integration/v1"

// DefaultMinConfidence is how surely an alert must be about the attack to count where a request does not say it: its device is enough.
const DefaultMinConfidence = integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY

// Counts says whether an alert that matches like this, with this activity, counts for the Actor's verdict: it is not ambiguous, its
// activity is that of the window, and it is about the attack as surely as minConfidence asks; where that is not set, as
// [DefaultMinConfidence] does.
func Counts(match *integrationv1.ActorMatch, activity integrationv1.Activity, minConfidence integrationv1.Confidence) bool {
	return match != nil && !match.GetAmbiguous() && inside(activity) && reaches(match, minConfidence)
}

// inside says that activity is that of the window.
func inside(activity integrationv1.Activity) bool {
	return activity == integrationv1.Activity_ACTIVITY_IN_WINDOW || activity == integrationv1.Activity_ACTIVITY_REACTIVATED
}

// reaches says that a match is about the attack as surely as minConfidence asks. One without an attribution is about the device.
func reaches(match *integrationv1.ActorMatch, minConfidence integrationv1.Confidence) bool {
	// The enumeration lists them from the weakest.
	return max(match.GetAttribution().GetConfidence(), DefaultMinConfidence) >= max(minConfidence, DefaultMinConfidence)
}
