package entra

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestOddTokens takes what is odd and yet a token. The clock of the bubble begins at 2000-01-01 00:00:00 UTC, 946684800.
func TestOddTokens(t *testing.T) {
	const ok = `"token_type":"Bearer","access_token":"t"`
	const date = "Sat, 01 Jan 2000 00:10:00 GMT" // theirs is ten minutes ahead
	tests := []struct {
		name, body, date string
		life             time.Duration
	}{
		{"number", `{` + ok + `,"expires_in":3599}`, "", 3599 * time.Second},
		{"string", `{` + ok + `,"expires_in":"3599"}`, "", 3599 * time.Second},
		{"string with space", `{` + ok + `,"expires_in":" 3599 "}`, "", 3599 * time.Second},
		{"fraction", `{` + ok + `,"expires_in":3599.5}`, "", 3599*time.Second + 500*time.Millisecond},
		{"fraction as string", `{` + ok + `,"expires_in":"3599.0"}`, "", 3599 * time.Second},
		{"exponent", `{` + ok + `,"expires_in":3.6e3}`, "", time.Hour},
		{"short", `{` + ok + `,"expires_in":1}`, "", time.Second},
		{"far longer than any", `{` + ok + `,"expires_in":1e300}`, "", maxLife},
		{"longer than any", `{` + ok + `,"expires_in":31536000}`, "", maxLife},
		{"in over on", `{` + ok + `,"expires_in":60,"expires_on":946688400}`, "", time.Minute},
		{"on", `{` + ok + `,"expires_on":946688400}`, "", time.Hour},
		{"on as string", `{` + ok + `,"expires_on":"946688400"}`, "", time.Hour},
		{"on by their clock", `{` + ok + `,"expires_on":946688400}`, date, 50 * time.Minute},
		{"on, their clock unreadable", `{` + ok + `,"expires_on":946688400}`, "yesterday", time.Hour},
		{"in does not go by their clock", `{` + ok + `,"expires_in":3600}`, date, time.Hour},
		{"on as a date", `{` + ok + `,"expires_on":"01/01/2000 01:00:00 +00:00"}`, "", time.Hour},
		{"on as a date elsewhere", `{` + ok + `,"expires_on":"01/01/2000 02:00:00 +01:00"}`, "", time.Hour},
		{"on as a date without a zone", `{` + ok + `,"expires_on":"01/01/2000 01:00:00"}`, "", time.Hour},
		{"on as another date", `{` + ok + `,"expires_on":"2000-01-01 01:00:00"}`, "", time.Hour},
		{"on as a standard date", `{` + ok + `,"expires_on":"2000-01-01T01:00:00.5Z"}`, "", time.Hour + 500*time.Millisecond},
		{"on far away", `{` + ok + `,"expires_on":1e300}`, "", maxLife},
		{"in unreadable, on", `{` + ok + `,"expires_in":"soon","expires_on":946688400}`, "", time.Hour},
		{"in null, on", `{` + ok + `,"expires_in":null,"expires_on":946688400}`, "", time.Hour},
		{"neither", `{` + ok + `}`, "", unstatedLife},
		{"both null", `{` + ok + `,"expires_in":null,"expires_on":null}`, "", unstatedLife},
		{"both unreadable", `{` + ok + `,"expires_in":"","expires_on":"later"}`, "", unstatedLife},
		{"not a number", `{` + ok + `,"expires_in":"NaN"}`, "", unstatedLife},
		{"infinite", `{` + ok + `,"expires_in":"Infinity"}`, "", unstatedLife},
		{"an object", `{` + ok + `,"expires_in":{"seconds":5}}`, "", unstatedLife},
		{"a list", `{` + ok + `,"expires_in":[5]}`, "", unstatedLife},
		{"true", `{` + ok + `,"expires_in":true}`, "", unstatedLife},
		{"ext_expires_in alone", `{` + ok + `,"ext_expires_in":3599}`, "", unstatedLife},
		{"not_before ahead of us", `{` + ok + `,"expires_in":3600,"not_before":"946685400"}`, "", time.Hour},
		{"not_before unreadable", `{` + ok + `,"expires_in":3600,"not_before":{}}`, "", time.Hour},
		{"no type", `{"access_token":"t","expires_in":3600}`, "", time.Hour},
		{"type in lower case", `{"token_type":"bearer","access_token":"t","expires_in":3600}`, "", time.Hour},
		{"type null", `{"token_type":null,"access_token":"t","expires_in":3600}`, "", time.Hour},
		{"more than is known", `{` + ok + `,"expires_in":3600,"scope":"x","foci":"1","client_info":5,"id_token":{}}`, "", time.Hour},
		{"an error beside the token", `{` + ok + `,"expires_in":3600,"error":""}`, "", time.Hour},
		{"byte order mark", "\uFEFF{" + ok + `,"expires_in":3600}`, "", time.Hour},
		{"space around", " \r\n{" + ok + `,"expires_in":3600}` + "\n", "", time.Hour},
		{"twice, the last counts", `{` + ok + `,"expires_in":60,"expires_in":3600}`, "", time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := newTestSource(t, func(*http.Request) (*http.Response, error) {
					answer := reply(200, tt.body)
					answer.Header = http.Header{"Content-Type": {"text/plain"}, "Date": {tt.date}}
					return answer, nil
				})
				token, err := source.Token(t.Context())
				if err != nil || token != "t" {
					t.Fatalf("token %q, error %v", token, err)
				}
				if life := time.Until(source.token.expires); life != tt.life {
					t.Errorf("the token is good for %s, want %s", life, tt.life)
				}
			})
		})
	}
}

// TestAnswersThatAreNoToken refuses what is none.
func TestAnswersThatAreNoToken(t *testing.T) {
	const noJSON, noToken, isNone = "something else than the JSON", "no token (access_token)", "a token that is no token"
	with := func(token string) string {
		return `{"token_type":"Bearer","expires_in":3600,"access_token":` + token + `}`
	}
	tests := []struct {
		name, body, message string
	}{
		{"HTML", `<!DOCTYPE html><html><title>Sign in</title></html>`, noJSON},
		{"empty", ``, noJSON},
		{"null", `null`, noToken},
		{"a list", `[{"access_token":"t"}]`, noJSON},
		{"a text", `"t"`, noJSON},
		{"a number", `5`, noJSON},
		{"cut", `{"token_type":"Bearer","access_token":"t`, noJSON},
		{"two documents", with(`"t"`) + with(`"u"`), noJSON},
		{"a form", `access_token=t&expires_in=3600`, noJSON},
		{"deep", strings.Repeat("[", 100_000), noJSON},
		{"long", `{"access_token":"t","x":"` + strings.Repeat("x", maxAnswer) + `"}`, "more than the JSON"},
		{"no token", `{"token_type":"Bearer","expires_in":3600}`, noToken},
		{"empty token", with(`""`), noToken},
		{"token null", with(`null`), noToken},
		{"token of another type", with(`5`), noJSON},
		{"token in an object", with(`{"value":"t"}`), noJSON},
		{"token with a line break", with(`"t\r\nX-Evil: y"`), isNone},
		{"token with a line break at its end", with(`"t\n"`), isNone},
		{"token with a space", with(`"t u"`), isNone},
		{"token with a tab", with(`"t\tu"`), isNone},
		{"token with a zero", with(`"t\u0000"`), isNone},
		{"token with a delete", with(`"t\u007f"`), isNone},
		{"token with letters of elsewhere", with(`"tökén"`), isNone},
		{"token that is too long", with(`"` + strings.Repeat("t", maxToken+1) + `"`), isNone},
		{"other type", `{"token_type":"pop","access_token":"t","expires_in":3600}`, `type "pop"`},
		{"type that is no text", `{"token_type":5,"access_token":"t","expires_in":3600}`, noJSON},
		{"type that repeats the secret", `{"token_type":"` + plantedSecret + `","access_token":"t","expires_in":3600}`, `type "[secret]"`},
		{"expired", `{"access_token":"t","expires_in":0}`, "expired already"},
		{"long expired", `{"access_token":"t","expires_in":-1e300}`, "expired already"},
		{"expired, as string", `{"access_token":"t","expires_in":"-5"}`, "expired already"},
		{"expired on", `{"access_token":"t","expires_on":946684800}`, "expired already"},
		{"expired on, as a date", `{"access_token":"t","expires_on":"01/01/1999 00:00:00 +00:00"}`, "expired already"},
		{"expired on, long ago", `{"access_token":"t","expires_on":-1e300}`, "expired already"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := newTestSource(t, func(*http.Request) (*http.Response, error) { return reply(200, tt.body), nil })
			_, err := source.Token(t.Context())
			e := wantError(t, err)
			if e.Problem.GetReason() != invalidAnswer || e.Permanent || !strings.Contains(e.Problem.GetMessage(), tt.message) ||
				!strings.Contains(e.Problem.GetMessage(), "login.test") || !strings.Contains(e.Problem.GetRemedy(), "proxy") {
				t.Errorf("problem is %v, want it to say %q", e.Problem, tt.message)
			}
		})
	}
}

// samplesVariable names a directory of bodies that Entra answered with, token*.json and entra-STATUS-aadstsCODE.json, at any depth.
const samplesVariable = "DEFENDER_ENTRA_SAMPLES"

// TestSamples reads them: each a token, or a refusal with the code that is in its name.
func TestSamples(t *testing.T) {
	directory := os.Getenv(samplesVariable)
	if directory == "" {
		t.Skip(samplesVariable + " is not set")
	}
	read := 0
	err := filepath.WalkDir(directory, func(path string, _ fs.DirEntry, err error) error {
		name, isJSON := strings.CutSuffix(filepath.Base(path), ".json")
		isRefusal := strings.HasPrefix(name, "entra-")
		if err != nil || !isJSON || !isRefusal && !strings.HasPrefix(name, "token") {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		status := http.StatusOK
		if isRefusal {
			status = http.StatusUnauthorized
		}
		source := newTestSource(t, func(*http.Request) (*http.Response, error) { return reply(status, string(body)), nil })
		_, err = source.Token(t.Context())
		if !isRefusal {
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		}
		_, code, _ := strings.Cut(name, "-aadsts")
		e := wantError(t, err)
		if _, _, known := lookUp((&wire{last: &answer{body: body}}).said()); !known || e.Problem.GetUpstreamCode() != "AADSTS"+code || e.Problem.GetUpstreamRequestId() == "" {
			t.Errorf("%s: problem is %v", path, e.Problem)
		}
		return nil
	})
	if err != nil || read == 0 {
		t.Errorf("%d samples, error %v", read, err)
	}
}

// TestRefusalWithStatus200 is told as a refusal all the same.
func TestRefusalWithStatus200(t *testing.T) {
	source := newTestSource(t, func(*http.Request) (*http.Response, error) {
		return reply(200, `{"error":"invalid_client","error_description":"AADSTS7000222: x","error_codes":[7000222]}`), nil
	})
	_, err := source.Token(t.Context())
	if e := wantError(t, err); e.Problem.GetReason() != auth || e.Problem.GetUpstreamCode() != "AADSTS7000222" {
		t.Errorf("problem is %v", e.Problem)
	}
}

// TestAnswerThatBreaksOff is told as no answer.
func TestAnswerThatBreaksOff(t *testing.T) {
	source := newTestSource(t, func(*http.Request) (*http.Response, error) {
		answer := reply(200, "")
		answer.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"access_token":"t"`), brokenReader{}))
		return answer, nil
	})
	_, err := source.Token(t.Context())
	if e := wantError(t, err); e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE || !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Errorf("problem is %v, error %v", e.Problem, err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// simulatedAnswers are the simulated Entra's own, of its v1 and its v2.0 token endpoint: tokens, and a refusal.
func simulatedAnswers(tb testing.TB) []string {
	tb.Helper()
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() })
	server.AddTenant("contoso").AddApplication("app", plantedSecret)
	client := server.Client()
	tb.Cleanup(client.CloseIdleConnections)
	var bodies []string
	for _, form := range []url.Values{
		{"scope": {"https://graph.microsoft.com/.default"}, "client_secret": {plantedSecret}},
		{"resource": {"https://graph.windows.net"}, "client_secret": {plantedSecret}},
		{"scope": {"https://graph.microsoft.com/.default"}, "client_secret": {"other"}},
	} {
		address := server.TokenURL("contoso")
		if form.Has("resource") {
			address = server.TokenURLV1("contoso")
		}
		form.Set("grant_type", "client_credentials")
		form.Set("client_id", "app")
		request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
		if err != nil {
			tb.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := client.Do(request)
		if err != nil {
			tb.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || len(body) == 0 {
			tb.Fatalf("%s answered %q, error %v", address, body, err)
		}
		bodies = append(bodies, string(body))
	}
	return bodies
}

// FuzzTokenAnswer reads any answer: a token that can be sent and is good for a while, or words that do not repeat what was secret.
func FuzzTokenAnswer(f *testing.F) {
	for _, body := range []string{
		`{"token_type":"Bearer","expires_in":"3599","ext_expires_in":"0","expires_on":"1488720683","not_before":"1488720683","resource":"https://graph.windows.net","access_token":"t"}`,
		`{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"t"}`,
		`{"access_token":"t","client_id":"c","expires_on":"06/20/2026 02:57:58 +00:00","refresh_in":"43200"}`,
		`{"access_token":"t"}`, `{"access_token":"t","expires_in":1e999}`, `{"access_token":"t\n","expires_in":5}`,
		`{"error":"invalid_client","error_description":"AADSTS7000215: ` + plantedSecret + `\r\nTrace ID: x","error_codes":[7000215],"trace_id":"` + plantedSecret + `"}`,
		`{"statusCode":400,"message":"` + plantedSecret + `"}`, `<html>` + plantedSecret + `</html>`, ``, `null`, `[]`,
		`{"error_codes":[70002,50012,1,2,3,4,5,6,7,8,9],"error":"x"}`, `{"error_codes":["1"],"error":5}`, "\uFEFF{}",
	} {
		f.Add(200, "", "", body)
		f.Add(400, "Wed, 25 Nov 2026 10:00:00 GMT", "5", body)
	}
	for _, body := range simulatedAnswers(f) {
		f.Add(200, "", "", body)
	}
	f.Add(302, "", plantedSecret, "")
	f.Add(429, "x", "Wed, 25 Nov 2026 10:00:00 GMT", "{}")
	f.Add(503, "", "1e9", plantedSecret)
	f.Fuzz(func(t *testing.T, status int, date, retry, body string) {
		for _, m := range []*managed{nil, newManaged("", "scope")} {
			now := time.Now()
			w := &wire{
				wireConfig: wireConfig{host: "login.test", managed: m}, secrets: []string{plantedSecret},
				last: &answer{
					method: http.MethodPost, status: status, body: []byte(body), received: now,
					header: http.Header{"Date": {date}, "Retry-After": {retry}, "X-Ms-Request-Id": {retry}},
				},
			}
			got, err := w.read()
			if err == nil {
				life := got.expires.Sub(now)
				if got.value == "" || strings.ContainsAny(got.value, " \r\n") || life <= 0 || life > maxLife || !got.renew.IsZero() && got.renew.After(got.expires) {
					t.Errorf("token is %+v", got)
				}
				continue
			}
			e, ok := errors.AsType[*defender.Error](err)
			if !ok {
				t.Fatalf("error is %v", err)
			}
			p := e.Problem
			if p.GetReason() == 0 || p.GetMessage() == "" || p.GetRemedy() == "" || len(p.GetMessage()) > 2000 {
				t.Errorf("problem is %v", p)
			}
			if strings.Contains(p.GetMessage()+p.GetUpstreamCode()+p.GetUpstreamRequestId(), plantedSecret) {
				t.Errorf("the secret is in the problem: %v", p)
			}
		}
	})
}
