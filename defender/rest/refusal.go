package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxExcerpt is how much of Microsoft's words is repeated, in bytes.
const maxExcerpt = 400

// Excerpt returns Microsoft's words on one line, without control characters and shortened.
func Excerpt(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(text) > maxExcerpt {
		text = strings.ToValidUTF8(text[:maxExcerpt], "") + "..."
	}
	return text
}

// errorBody is what Microsoft says about a refusal: Graph's envelope
// (https://learn.microsoft.com/en-us/graph/errors) or Defender for Endpoint's
// (https://learn.microsoft.com/en-us/defender-endpoint/api/common-errors).
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		// Target is Defender for Endpoint's correlation id.
		Target string `json:"target"`
		// InnerError also comes as `innererror`, which encoding/json takes for the same.
		InnerError struct {
			RequestID string `json:"request-id"`
		} `json:"innerError"`
	} `json:"error"`
}

// readErrorBody reads what a refusal says, without the token where it is repeated.
func readErrorBody(body io.Reader, token string) errorBody {
	var e errorBody
	// What cannot be read leaves the status to speak for itself.
	raw, _ := io.ReadAll(io.LimitReader(body, maxErrorBody))
	_ = json.Unmarshal(bytes.ReplaceAll(raw, []byte(token), []byte("[token]")), &e)
	return e
}

// responseID returns what Microsoft's support asks for: Graph's request id, or Entra's.
func responseID(header http.Header) string {
	for _, name := range []string{"request-id", "x-ms-request-id", "client-request-id"} {
		if id := header.Get(name); id != "" {
			return Excerpt(id)
		}
	}
	return ""
}

// refusal tells what an answer with another status than 200 means.
func (c *Client) refusal(response *http.Response, body io.Reader, token string) error {
	said := readErrorBody(body, token)
	p := &integrationv1.Problem{
		HttpStatus:        int32(response.StatusCode),
		UpstreamCode:      Excerpt(said.Error.Code),
		UpstreamRequestId: responseID(response.Header),
	}
	for _, id := range []string{said.Error.InnerError.RequestID, said.Error.Target} {
		if p.GetUpstreamRequestId() == "" {
			p.UpstreamRequestId = Excerpt(id)
		}
	}
	e := &defender.Error{Problem: p}
	words := ""
	if said.Error.Message != "" {
		words = " Microsoft says: " + Excerpt(said.Error.Message)
	}
	status := response.StatusCode
	name, host := c.config.Name, c.config.Base.Host
	tell := func(reason integrationv1.ErrorReason, message, remedy string) error {
		p.Reason, p.Message, p.Remedy = reason, message+words, remedy
		return e
	}
	throttled := func() error {
		e.RetryAt = RetryAt(response.Header)
		return tell(integrationv1.ErrorReason_ERROR_REASON_THROTTLED,
			fmt.Sprintf("%s asked to be called less often (HTTP status %d).", name, status),
			"It goes on by itself. If it stays, look for other programs that use the same application in this tenant, or poll more seldom.")
	}
	switch {
	case status == http.StatusTooManyRequests:
		return throttled()
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && unprovisioned(said.Error.Message):
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED,
			name+" knows no active Defender for Endpoint in this tenant.",
			"Check that the tenant has a Defender for Endpoint licence and that Defender was set up: open security.microsoft.com once as an administrator.")
	case status == http.StatusUnauthorized:
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED,
			name+" refused the token, and a new one as well.",
			"Check that the scope or resource belongs to "+host+" and that the authorization URL is of the same cloud and tenant.")
	case status == http.StatusForbidden && len(c.config.Permissions) == 0:
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING,
			name+" does not let the application in.",
			"In the Microsoft Defender portal, under Settings > Endpoints > APIs > SIEM, authorise the application for this tenant. Microsoft takes no new "+
				"applications there since 25 November 2021: if the page is gone, register the tenant with another API.")
	case status == http.StatusForbidden:
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING,
			fmt.Sprintf("The token lacks the permission for %s: one of %s.", name, strings.Join(roleNames(c.config.Permissions), ", ")),
			Grant(c.config.Permissions))
	case status == http.StatusGone && c.isEnding(), c.pastItsEnd() && (status == http.StatusNotFound || noSegment(status, said.Error.Message)):
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_API_RETIRED,
			fmt.Sprintf("%s is no longer offered at %s (HTTP status %d). %s", name, host, status, c.config.Lifecycle.GetNote()),
			"Ask ListEndpoints for what Microsoft still offers, and register that. It is not tried again until the integration is changed, or paused and resumed.")
	case status == http.StatusNotFound:
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED,
			fmt.Sprintf("%s is not found at %s.", name, host),
			"Check the endpoint's host and version.")
	case status == http.StatusPartialContent:
		return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
			name+" answered only a part (HTTP status 206).",
			"It is tried again. If it stays, look at Microsoft's service health.")
	case status >= 300 && status < 400:
		return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
			fmt.Sprintf("%s answered with a redirect (HTTP status %d), which is not followed: the token is for %s alone.", name, status, host),
			"Check the endpoint's host, and whether a proxy or a sign-in page answers in Microsoft's place.")
	case status >= 200 && status < 300:
		return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER,
			fmt.Sprintf("%s answered with HTTP status %d where 200 is documented.", name, status),
			"Check the endpoint's host and version.")
	case status == http.StatusRequestTimeout:
		return c.failed(tell, status)
	case status >= 400 && status < 500 && said.Error.Code == "" && said.Error.Message == "":
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED,
			fmt.Sprintf("%s refused the call (HTTP status %d), and did not say why as Microsoft does.", name, status),
			"Check the endpoint's host, port and protocol, and whether a proxy answers in Microsoft's place.")
	case status >= 400 && status < 500:
		e.Permanent = true
		return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED,
			fmt.Sprintf("%s refused the query as wrong (HTTP status %d).", name, status),
			"Check the endpoint's version. If it is right, this is a fault of this service: report it with the request id.")
	case (status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout) && response.Header.Get("Retry-After") != "":
		return throttled()
	default:
		return c.failed(tell, status)
	}
}

func (c *Client) failed(tell func(integrationv1.ErrorReason, string, string) error, status int) error {
	return tell(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
		fmt.Sprintf("%s failed (HTTP status %d).", c.config.Name, status),
		"It is tried again. If it stays, look at Microsoft's service health, and report the request id to Microsoft's support.")
}

// isEnding says whether Microsoft has announced the end of the API.
func (c *Client) isEnding() bool {
	return c.config.Lifecycle.GetStage() == integrationv1.Lifecycle_STAGE_RETIRING
}

// pastItsEnd says whether Microsoft's own date for the end of the API has passed.
func (c *Client) pastItsEnd() bool {
	end := c.config.Lifecycle.GetRetirementTime()
	return end != nil && end.AsTime().Before(time.Now())
}

// noSegment recognises how Graph refuses a path that it does not have. It is seen in public reports, not documented.
func noSegment(status int, message string) bool {
	return status == http.StatusBadRequest && strings.HasPrefix(message, "Resource not found for the segment")
}

// unprovisioned recognises the answers of a tenant without an active Defender for Endpoint, which come as 401 or 403 though the token
// is good. They are seen in public reports, not documented.
func unprovisioned(message string) bool {
	message = strings.ToLower(message)
	for _, words := range []string{"not provisioned", "account mode is inactive", "no tvm license"} {
		if strings.Contains(message, words) {
			return true
		}
	}
	return false
}

func roleNames(permissions []*integrationv1.Permission) []string {
	names := make([]string, len(permissions))
	for i, p := range permissions {
		names[i] = p.GetName()
	}
	return names
}

// Grant tells an operator how to grant the least of the permissions.
func Grant(permissions []*integrationv1.Permission) string {
	if len(permissions) == 0 {
		return "Grant the application the permission, and admin consent."
	}
	least := permissions[0]
	return fmt.Sprintf("In Entra, under App registrations > API permissions, add the application permission %s of %s (not the delegated one), "+
		"then grant admin consent again. It can take some minutes to show.", least.GetName(), least.GetResourceApp())
}
