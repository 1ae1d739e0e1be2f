package origin_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// rotation is a way in which a client secret becomes another.
type rotation struct {
	name string
	// kept is the credential of each integration, change makes it the new secret.
	kept   func(h *house, secret string) *integrationv1.Authentication_ClientSecret
	change func(l *load, secret string)
	// environment says that it is about this process's.
	environment bool
}

func rotations() []rotation {
	return []rotation{
		{
			name:   "sealed in the registry, by UpdateIntegration",
			kept:   func(_ *house, secret string) *integrationv1.Authentication_ClientSecret { return secretValue(secret) },
			change: (*load).updateAll,
		},
		{
			name: "in a file, by writing it",
			kept: func(h *house, secret string) *integrationv1.Authentication_ClientSecret {
				write(h.t, filepath.Join(h.folder, "secret"), secret)
				return secretFile("secret")
			},
			change: func(l *load, secret string) {
				file := filepath.Join(l.folder, "secret")
				write(l.t, file+".new", secret)
				if err := os.Rename(file+".new", file); err != nil {
					l.t.Fatal(err)
				}
			},
		},
		{
			// What a process has in its environment does not change: the operator starts it again.
			name: "in a variable, by starting the service again", environment: true,
			kept: func(h *house, secret string) *integrationv1.Authentication_ClientSecret {
				h.t.Setenv(secretVariable, secret)
				return secretInVariable(secretVariable)
			},
			change: func(l *load, secret string) {
				l.stop()
				l.t.Setenv(secretVariable, secret)
				l.serve()
			},
		},
	}
}

// loaded is how many integrations of one application read and stream in a test of rotating under load.
const loaded = 6

// load is a house under load: each integration reads all the time, with tokens that live for seconds, each is streamed, and alerts appear.
type load struct {
	*house
	ids []string
	// end ends the load and waits for it.
	end func()

	mu sync.Mutex
	// got are the alerts that each stream brought, and how often.
	got map[string]map[string]int
	// failed are what streams ended with before their time.
	failed []error
}

// A client secret is rotated under load, with tokens that are renewed every few seconds: no read fails, no integration tells a problem, each
// stream brings each alert once, and from the change on no token is asked for with the old secret.
//
//nolint:paralleltest // What is in the environment is for all.
func TestASecretIsRotatedUnderLoad(t *testing.T) {
	for _, how := range rotations() {
		t.Run(how.name, func(t *testing.T) {
			if !how.environment {
				t.Parallel()
			}
			const lifetime = 2 * time.Second
			dir, err := os.MkdirTemp("", "load") // A unix socket's path has to be short.
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			l := &load{got: map[string]map[string]int{}}
			l.house = newHouse(t, func(h *house) {
				h.simulated.TokenLifetime = lifetime
				h.options.Server.UnixSocket = filepath.Join(dir, "s")
			})
			rotated := "rotated~" + rand.Text()
			l.planted.add("the new secret", rotated)
			credential := how.kept(l.house, l.secret)
			for i := range loaded {
				l.ids = append(l.ids, fmt.Sprint("loaded-", i))
				l.register(l.settings(l.ids[i], func(integration *integrationv1.Integration) { integration.Authentication.Credential = credential }))
			}
			l.begin(filepath.Join(dir, "s"))
			l.waitAsked(1, l.secret)

			l.app.AddSecret(rotated, time.Time{})
			how.change(l, rotated)
			l.waitPolls(2 * loaded) // What was under way at the change has ended.
			from := l.tokenRequests()
			l.app.RemoveSecret(l.secret)
			l.waitAsked(2, rotated)
			l.waitPolls(2 * loaded)
			for _, id := range l.ids {
				if problem := l.get(id).GetStatus().GetProblem(); problem != nil {
					t.Errorf("%s has a problem: %v", id, problem)
				}
			}
			l.end()

			if used := l.secretsSince(from); slices.Contains(used, l.secret) || !slices.Contains(used, rotated) {
				t.Errorf("of %d token requests after the change some were made with the old secret, or none with the new one", len(used))
			}
			for _, call := range l.microsoft.Calls(nil) {
				// Where the service is stopped, a call may be given up; and a token may expire on its way where the machine is slow: then
				// it is renewed, and the same page asked for again.
				if !slices.Contains([]int{http.StatusOK, http.StatusUnauthorized, 0}, call.Status) || call.Status == http.StatusUnauthorized && call.Route == defendertest.RouteToken {
					t.Errorf("a call at %s was answered %d", call.Route, call.Status)
				}
			}
			l.wantOnce()
		})
	}
}

// updateAll gives all integrations a secret, at once.
func (l *load) updateAll(secret string) {
	var all sync.WaitGroup
	for _, id := range l.ids {
		all.Go(func() {
			_, err := l.client.UpdateIntegration(l.t.Context(), &integrationv1.UpdateIntegrationRequest{
				Integration: &integrationv1.Integration{
					IntegrationId: id, Authentication: &integrationv1.Authentication{Credential: secretValue(secret)},
				},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"authentication.client_secret.value"}},
			})
			if err != nil {
				l.t.Error(err)
			}
		})
	}
	all.Wait()
}

// begin has alerts appear, and each integration streamed by a client that goes on where the service is started again.
func (l *load) begin(socket string) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(l.hearCall), grpc.WithStreamInterceptor(l.hearStream))
	if err != nil {
		l.t.Fatal(err)
	}
	began := l.microsoft.Now().Add(-time.Minute)
	var running, raising sync.WaitGroup
	raised, stopRaising := context.WithCancel(ctx)
	raising.Go(func() {
		ticker := time.NewTicker(poll)
		defer ticker.Stop()
		for number := 0; ; number++ {
			select {
			case <-raised.Done():
				return
			case <-ticker.C:
				l.raise(fmt.Sprint("under load ", number))
			}
		}
	})
	for _, id := range l.ids {
		l.got[id] = map[string]int{}
		running.Go(func() { l.follow(ctx, conn, id, began) })
	}
	l.end = sync.OnceFunc(func() {
		stopRaising()
		raising.Wait()
		alerts := len(l.tenant.Revisions())
		eventually(l.t, fmt.Sprintf("each stream has brought %d alerts", alerts), func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, got := range l.got {
				if len(got) < alerts {
					return false
				}
			}
			return true
		})
		cancel()
		running.Wait()
		_ = conn.Close()
	})
	l.t.Cleanup(func() {
		cancel()
		raising.Wait()
		running.Wait()
		_ = conn.Close()
	})
}

// follow counts what a stream brings until ctx ends.
func (l *load) follow(ctx context.Context, conn *grpc.ClientConn, id string, began time.Time) {
	request := &integrationv1.StreamAlertsRequest{IntegrationId: id, Window: &integrationv1.Window{StartTime: timestamppb.New(began)}}
	for event, err := range client.New(conn, client.WithWaits(10*time.Millisecond, poll)).Alerts(request).Events(ctx) {
		l.mu.Lock()
		switch {
		case err == nil && event.GetAlert() != nil:
			l.got[id][event.GetAlert().GetAlert().GetId()]++
			event.Ack()
		case err != nil && !errors.Is(err, context.Canceled):
			l.failed = append(l.failed, fmt.Errorf("%s: %w", id, err))
		}
		l.mu.Unlock()
	}
}

// wantOnce checks that each stream brought each alert once, and that none ended before its time.
func (l *load) wantOnce() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.failed {
		if !errors.Is(err, context.Canceled) && l.t.Context().Err() == nil {
			l.t.Logf("a stream ended with %v", err)
		}
	}
	for _, id := range l.ids {
		for _, revision := range l.tenant.Revisions() {
			if n := l.got[id][revision.Key]; n != 1 {
				l.t.Errorf("%s brought the alert %s %d times", id, revision.Key, n)
			}
		}
	}
}

// tokenRequests counts the token requests so far; secretsSince are the secrets of those after so many.
func (l *load) tokenRequests() int { return len(l.secretsSince(0)) }

func (l *load) secretsSince(from int) []string {
	l.asked.mu.Lock()
	defer l.asked.mu.Unlock()
	return slices.Clone(l.asked.secrets[from:])
}

// waitAsked waits until so many tokens more were asked for with a secret.
func (l *load) waitAsked(more int, secret string) {
	l.t.Helper()
	count := func() (n int) {
		for _, used := range l.secretsSince(0) {
			if used == secret {
				n++
			}
		}
		return n
	}
	want := count() + more
	eventually(l.t, fmt.Sprintf("%d more tokens are asked for", more), func() bool { return count() >= want })
}
