package origin_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// A token is renewed when a fifth of its life is left, before any call is refused: by one request, however many integrations use it.
func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	const life = 24 * time.Second // A fifth of it is more than a machine without time for this process takes away.
	h := newHouse(t, func(h *house) { h.simulated.TokenLifetime = life })
	h.register(h.settings("one"))
	h.register(h.settings("other"))
	ctx, cancel := context.WithTimeout(t.Context(), life+patience)
	defer cancel()
	requests, err := h.microsoft.WaitCalls(ctx, 2, defendertest.OnRoute(defendertest.RouteToken))
	if err != nil {
		t.Fatal(err)
	}
	if after := requests[1].Time.Sub(requests[0].Time); after < life*4/5-poll || after >= life {
		t.Errorf("a token of %s was renewed after %s", life, after)
	}
	h.waitPolls(4)
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 2})
	for _, call := range h.microsoft.Calls(defendertest.OnRoute(defendertest.RouteAlerts)) {
		if call.Status == http.StatusUnauthorized {
			t.Errorf("a call was made with a token that had expired: %v", call)
		}
	}
}

// A token that an API refuses before its time is got anew by one request, however many integrations were refused it, and the same
// page is asked for again.
func TestARefusedTokenIsGotAnewOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ids := []string{"one", "other"}
	for _, id := range ids {
		h.register(h.settings(id))
		h.waitCollected(id)
	}
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 1})
	h.app.RevokeTokens()
	h.waitPolls(6)
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 2})

	refused, again := 0, 0
	eventually(t, "what was refused is asked for again", func() bool {
		refused, again = askedAgain(h.microsoft.Calls(defendertest.OnRoute(defendertest.RouteAlerts)))
		return again == refused
	})
	if refused < 1 || refused > len(ids) {
		t.Errorf("%d calls were refused, want one for each integration at most", refused)
	}
	for _, id := range ids {
		if problem := h.get(id).GetStatus().GetProblem(); problem != nil {
			t.Errorf("%s has a problem: %v", id, problem)
		}
	}
}

// askedAgain counts the calls that were refused, and those of them that were made again, with the same query, and answered.
func askedAgain(calls []defendertest.Call) (refused, again int) {
	for i, call := range calls {
		if call.Status != http.StatusUnauthorized {
			continue
		}
		refused++
		for _, later := range calls[i+1:] {
			if later.Status == http.StatusOK && reflect.DeepEqual(later.Query, call.Query) {
				again++
				break
			}
		}
	}
	return refused, again
}

// An application's secret is rotated by UpdateIntegration: collecting goes on in the same journal, the stream that is open goes on,
// and tokens of before work. So it is whether the old secret was good until then, or the integration was failing for it.
func TestASecretIsRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// before is what happens at Microsoft before the update; after, after it. rotated is the new secret, old the one of before.
		before, after func(h *house, old, rotated string)
		// asked is how many tokens are asked for in all: one with each secret, and one where the old secret was refused.
		asked int
	}{
		{
			name:   "in time",
			before: func(h *house, _, rotated string) { h.app.AddSecret(rotated, time.Time{}) },
			after: func(h *house, old, _ string) {
				h.app.RemoveSecret(old)
			},
			asked: 2,
		},
		{
			name: "after it ended",
			before: func(h *house, old, rotated string) {
				h.app.AddSecret(rotated, time.Time{})
				h.app.RemoveSecret(old)
				h.app.RevokeTokens()
				if problem := h.waitFailing("rotated"); problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED {
					h.t.Errorf("a secret that ended is told as %v", problem)
				}
			},
			after: func(*house, string, string) {},
			asked: 3,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const rotated = "rotated~secret&value"
			h := newHouse(t)
			h.planted.add("the new secret", rotated)
			registered := h.register(h.settings("rotated"))
			request := h.following("rotated")
			open := h.open(request)
			token := open.wantAlert("first")

			test.before(h, h.secret, rotated)
			update := &integrationv1.Integration{
				IntegrationId: "rotated", Authentication: &integrationv1.Authentication{Credential: secretValue(rotated)},
			}
			updated, err := h.client.UpdateIntegration(t.Context(), &integrationv1.UpdateIntegrationRequest{
				Integration: update, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"authentication.client_secret.value"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if updated.GetIntegration().GetEtag() == registered.GetEtag() {
				t.Error("the update changed nothing")
			}
			test.after(h, h.secret, rotated)
			h.raise("second")
			open.wantAlert("second")
			h.open(resumed(request, token)).wantAlert("second")
			h.waitPolls(3)
			h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: test.asked})
		})
	}
}

// A secret in a file is rotated by writing the file: nobody has to be told.
func TestASecretInAFileIsRotatedByTheFile(t *testing.T) {
	t.Parallel()
	const rotated = "rotated~secret&value"
	h := newHouse(t)
	h.planted.add("the new secret", rotated)
	file := filepath.Join(h.folder, "secret")
	write(t, file, h.secret)
	h.register(h.settings("filed", func(i *integrationv1.Integration) { i.Authentication.Credential = secretFile("secret") }))
	open := h.open(h.following("filed"))
	open.wantAlert("first")

	// As Kubernetes does: what is there is replaced, and never half written.
	write(t, file+".new", rotated)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	h.app.AddSecret(rotated, time.Time{})
	h.app.RemoveSecret(h.secret)
	h.waitPolls(2)
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 1})
	h.app.RevokeTokens()
	h.raise("second")
	open.wantAlert("second")
	h.waitPolls(2)
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 2})
}
