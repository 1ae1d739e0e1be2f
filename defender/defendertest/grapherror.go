package defendertest

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// graphAPI words refusals as Graph does (https://learn.microsoft.com/en-us/graph/errors).
type graphAPI struct{}

func (graphAPI) resource() Resource { return Graph }

func (graphAPI) badToken(x *exchange, fault tokenFault) *Answer {
	message := "Access token validation failure. Invalid signature."
	switch fault {
	case tokenMissing:
		message = "Access token is empty."
	case tokenExpired:
		message = "Lifetime validation failed, the token is expired."
	case tokenForOther:
		message = "Access token validation failure. Invalid audience."
	case tokenRevoked:
		message = "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenCreatedWithOutdatedPolicies"
	}
	a := graphError(x, http.StatusUnauthorized, "InvalidAuthenticationToken", message)
	a.Header.Set("WWW-Authenticate", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`)
	return a
}

func (graphAPI) forbidden(x *exchange, message string) *Answer {
	return graphError(x, http.StatusForbidden, "Forbidden", message)
}

func (graphAPI) throttled(x *exchange, _ Rate, wait time.Duration) *Answer {
	type inner struct {
		Code      string `json:"code"`
		Date      string `json:"date"`
		Message   string `json:"message"`
		RequestID string `json:"request-id"`
		Status    string `json:"status"`
	}
	type body struct {
		Code    string `json:"code"`
		Inner   inner  `json:"innerError"`
		Message string `json:"message"`
	}
	a := jsonAnswer(http.StatusTooManyRequests, map[string]body{"error": {
		Code:    "TooManyRequests",
		Inner:   inner{"429", graphDate(x), "Please retry after", x.requestID, "429"},
		Message: "Please retry again later.",
	}})
	a.Header.Set("Retry-After", strconv.Itoa(wholeSeconds(wait)))
	return a
}

// graphError makes an error in Graph's envelope.
func graphError(x *exchange, status int, code, message string) *Answer {
	type inner struct {
		Date            string `json:"date"`
		RequestID       string `json:"request-id"`
		ClientRequestID string `json:"client-request-id"`
	}
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   inner  `json:"innerError"`
	}
	return jsonAnswer(status, map[string]body{"error": {code, message, inner{graphDate(x), x.requestID, x.clientRequestID()}}})
}

// graphDate is how Graph's errors write the time: without a zone.
func graphDate(x *exchange) string { return x.now.Format("2006-01-02T15:04:05") }

// wholeSeconds rounds up, to one at least: coming again after it, a caller is not refused for the same calls.
func wholeSeconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }
