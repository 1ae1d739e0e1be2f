package defendertest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// endpointAPI words refusals as Defender for Endpoint does (https://learn.microsoft.com/en-us/defender-endpoint/api/common-errors).
type endpointAPI struct{}

func (endpointAPI) resource() Resource { return DefenderForEndpoint }

func (endpointAPI) badToken(x *exchange, fault tokenFault) *Answer {
	message := "Invalid or expired authorization header."
	if fault == tokenMissing {
		message = "Missing authorization header."
	}
	return endpointError(x, http.StatusUnauthorized, "Unauthorized", message)
}

func (endpointAPI) forbidden(x *exchange, message string) *Answer {
	return endpointError(x, http.StatusForbidden, "Forbidden", message)
}

// throttled has the code "429", as users see it; the documentation says TooManyRequests.
func (endpointAPI) throttled(x *exchange, spent Rate, wait time.Duration) *Answer {
	seconds := wholeSeconds(wait)
	period := fmt.Sprintf("%02d:%02d:%02d", int(spent.Period.Hours()), int(spent.Period.Minutes())%60, int(spent.Period.Seconds())%60)
	a := jsonAnswer(http.StatusTooManyRequests, endpointBody("429", fmt.Sprintf(
		"API calls quota exceeded! Maximum allowed %d per %s for the key Destination+TenantID+AppID. You can send requests again in %d seconds.",
		spent.Calls, period, seconds), x.tenant.id))
	a.Header.Set("Retry-After", strconv.Itoa(seconds))
	return a
}

// endpointError makes an error in Defender for Endpoint's envelope. Its target is the id to quote to support.
func endpointError(x *exchange, status int, code, message string) *Answer {
	return jsonAnswer(status, endpointBody(code, message, x.requestID))
}

func endpointBody(code, message, target string) any {
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Target  string `json:"target"`
	}
	return map[string]body{"error": {code, message, target}}
}
