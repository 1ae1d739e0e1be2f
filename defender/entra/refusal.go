package entra

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// refusalBody is what Entra says about a refusal
// (https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes), and what App Service says in its place.
type refusalBody struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	// Message is App Service's.
	Message string `json:"message"`
}

// said reads what the last answer says. What cannot be read leaves the status to speak for itself.
func (w *wire) said() refusalBody {
	var said refusalBody
	_ = json.Unmarshal(w.last.body, &said) // fields of another type than ours are left out, the others are read
	if said.Description == "" {
		said.Description = said.Message
	}
	return said
}

// refusal tells what a refusal means. Microsoft says that codes and descriptions can change, so they choose the words, and only the
// standard `error` and the HTTP status decide where no code is known.
func (w *wire) refusal() error {
	a, said := w.last, w.said()
	p := &integrationv1.Problem{HttpStatus: int32(a.status), UpstreamRequestId: w.requestID(said)}
	e := &defender.Error{Problem: p}

	known, code, ok := lookUp(said)
	switch {
	case a.status == http.StatusTooManyRequests, code == codeLoop:
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_THROTTLED
		p.Message = w.asked() + " asked to be called less often."
		p.Remedy = "It goes on by itself. If it stays, look for other programs that ask for tokens with the same application."
		e.RetryAt = rest.RetryAt(a.header)
	case w.managed != nil && code == 0:
		w.managed.refusal(e, a.status)
		e.RetryAt = rest.RetryAt(a.header)
	case ok && known.transient, said.Error == "temporarily_unavailable", a.status >= 500:
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
		p.Message = fmt.Sprintf("%s gave no token: it failed (HTTP status %d).", w.asked(), a.status)
		p.Remedy = "It is tried again. If it stays, look at Microsoft's service health."
		e.RetryAt = rest.RetryAt(a.header)
	case a.status >= 300 && a.status < 400:
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
		p.Message = fmt.Sprintf("Asked for a token, %s answered with a redirect (HTTP status %d), which is not followed: the credential is for %s alone.",
			w.host, a.status, w.host)
		p.Remedy = "Check the authorization URL."
	case said.Error == "" && code == 0:
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
		p.Message = fmt.Sprintf("Asked for a token, %s answered HTTP status %d without saying why.", w.host, a.status)
		p.Remedy = "Check the authorization URL, and whether a proxy answers in Entra's place."
	case ok:
		e.Permanent = true
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
		p.Message = "Entra gave no token: " + known.meaning
		p.Remedy = known.remedy
	default:
		e.Permanent = true
		p.Reason = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
		p.Message = "Entra gave no token: " + meaningOf(said.Error)
		p.Remedy = "Check the tenant, the application (client) id, its credential and the scope or resource; the message and the code say more."
	}
	p.Message = strings.TrimSuffix(p.GetMessage(), ".")
	switch {
	case code != 0:
		p.UpstreamCode = "AADSTS" + strconv.Itoa(code)
		p.Message += " (" + p.GetUpstreamCode() + ")"
	case said.Error != "":
		p.UpstreamCode = rest.Excerpt(w.conceal(said.Error))
	}
	p.Message += "."
	if words := strings.TrimPrefix(firstLine(said.Description), p.GetUpstreamCode()+": "); words != "" {
		p.Message += " Microsoft says: " + rest.Excerpt(w.conceal(words))
	}
	return e
}

// asked names who was asked, at the beginning of a sentence.
func (w *wire) asked() string {
	if w.managed != nil {
		return "The managed identity endpoint"
	}
	return "Entra"
}

// requestID joins what Microsoft's support asks for.
func (w *wire) requestID(said refusalBody) string {
	var parts []string
	if said.TraceID != "" {
		parts = append(parts, "trace "+rest.Excerpt(w.conceal(said.TraceID)))
	}
	if said.CorrelationID != "" {
		parts = append(parts, "correlation "+rest.Excerpt(w.conceal(said.CorrelationID)))
	}
	if len(parts) == 0 {
		return rest.Excerpt(w.conceal(w.last.header.Get("X-Ms-Request-Id")))
	}
	return strings.Join(parts, ", ")
}

// firstLine returns a description without the ids and the time that Entra appends to it.
func firstLine(description string) string {
	description, _, _ = strings.Cut(description, "\r\n")
	description, _, _ = strings.Cut(description, " Trace ID:")
	return strings.TrimSpace(description)
}

// meaningOf says what a standard `error` means
// (https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes#handling-error-codes-in-your-application).
func meaningOf(standard string) string {
	switch standard {
	case "invalid_client":
		return "it does not accept the application's credentials"
	case "unauthorized_client":
		return "it does not accept the application in this tenant"
	case "invalid_resource":
		return "it does not know the resource that the scope names in this tenant"
	case "invalid_scope":
		return "it does not accept the scope"
	case "invalid_grant", "interaction_required", "access_denied":
		return "consent or a policy stands in the way"
	default:
		return "it takes the request for wrong"
	}
}
