package entra

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"defender-integration/defender/rest"
)

const (
	// maxToken bounds a token: it is sent with each call, in a header.
	maxToken = 64 << 10
	// unstatedLife is how long a token is taken to be good that does not say: far less than any of Microsoft's live, so that it is not
	// used for long after its end, and enough for the calls that wait for it. A token that ends sooner brings a 401, and so a new one.
	unstatedLife = 5 * time.Minute
	// maxLife bounds how long a token is believed to be good. Microsoft's longest, those of managed identities, live a day.
	maxLife = 24 * time.Hour
)

// answer is what a request of [wire] was answered with.
type answer struct {
	method   string
	status   int
	header   http.Header
	body     []byte
	received time.Time
}

// token is an access token.
type token struct {
	value string
	// expires is until when it is good; renew, where it is set, is from when its issuer wants it to be renewed.
	expires, renew time.Time
}

// tokenBody is the answer of a token endpoint
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow#successful-response). The v1 endpoint and
// managed identities write numbers as strings and tell `expires_on`
// (https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token). `not_before` is not
// read: it is the time of issue, by another clock than ours.
type tokenBody struct {
	AccessToken string          `json:"access_token"`
	TokenType   string          `json:"token_type"`
	ExpiresIn   json.RawMessage `json:"expires_in"`
	ExpiresOn   json.RawMessage `json:"expires_on"`
	RefreshIn   json.RawMessage `json:"refresh_in"`
}

// read returns the token of the last answer, or tells what it was instead. The Content-Type is not gone by: it is for the parser to say.
func (w *wire) read() (token, error) {
	a := w.last
	if a == nil {
		return token{}, unusable("The credential could not be made into a request for a token.",
			"Check the credential. If it is right, this is a fault of this service: report it.")
	}
	if a.status != http.StatusOK {
		return token{}, w.refusal()
	}
	if a.method == http.MethodGet && w.managed == nil {
		// It was asked where it gives tokens, and that is as far as it came.
		return token{}, w.invalid("something else than the description of a token endpoint")
	}
	var body tokenBody
	raw := bytes.TrimPrefix(a.body, []byte("\xEF\xBB\xBF"))
	if json.Unmarshal(raw, &body) != nil {
		return token{}, w.invalid("something else than the JSON of a token")
	}
	if body.AccessToken == "" {
		if w.said().Error != "" {
			return token{}, w.refusal()
		}
		return token{}, w.invalid("no token (access_token)")
	}
	if len(body.AccessToken) > maxToken || strings.ContainsFunc(body.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return token{}, w.invalid("a token that is no token")
	}
	if body.TokenType != "" && !strings.EqualFold(body.TokenType, "Bearer") {
		return token{}, w.invalid("a token of the type " + rest.Excerpt(strconv.Quote(w.conceal(body.TokenType))) + ", where Bearer is meant")
	}
	life := body.life(a)
	if life <= 0 {
		return token{}, w.invalid("a token that has expired already")
	}
	life = min(life, maxLife)
	got := token{value: body.AccessToken, expires: a.received.Add(life)}
	if after, ok := number(body.RefreshIn); ok && after > 0 && after < life.Seconds() {
		got.renew = a.received.Add(seconds(after))
	}
	return got, nil
}

// life returns how long the token is good from when it was received: `expires_in`, else `expires_on`, else unstatedLife.
func (b *tokenBody) life(a *answer) time.Duration {
	if life, ok := number(b.ExpiresIn); ok {
		return seconds(life)
	}
	expires, ok := instant(b.ExpiresOn)
	if !ok {
		return unstatedLife
	}
	// It is a time of their clock, and the Date header tells what that shows.
	theirs, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		theirs = a.received
	}
	return expires.Sub(theirs)
}

// number reads a number, or a string that holds one; ok is false for anything else, and where there is none.
func number(raw json.RawMessage) (value float64, ok bool) {
	text := strings.TrimSpace(unquote(raw))
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, false
	}
	return value, true
}

// instant reads a time: seconds since 1970, or the forms that App Service is known to use (see
// https://github.com/AzureAD/microsoft-authentication-library-for-dotnet/issues/4963).
func instant(raw json.RawMessage) (at time.Time, ok bool) {
	if since, ok := number(raw); ok {
		// More would not fit a time; a day is all that is believed anyhow.
		return time.Unix(int64(max(0, min(since, math.MaxInt32*1000))), 0), true
	}
	for _, form := range []string{time.RFC3339, "01/02/2006 15:04:05 -07:00", "01/02/2006 15:04:05", "2006-01-02 15:04:05"} {
		if at, err := time.Parse(form, strings.TrimSpace(unquote(raw))); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// unquote returns a JSON string's text, and of anything else its JSON.
func unquote(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// seconds returns a span, bounded on both sides so that it fits.
func seconds(value float64) time.Duration {
	bound := (2 * maxLife).Seconds()
	return time.Duration(max(-bound, min(value, bound)) * float64(time.Second))
}
