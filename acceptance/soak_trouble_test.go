package acceptance_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// soakTrouble makes Microsoft fail, cuts connections, changes the integration and renames devices, each at random times. It belongs to
// one goroutine at a time.
type soakTrouble struct {
	t        *testing.T
	settings soakSettings
	house    *house
	lines    []*soakLine
	client   *client.Client // over a connection that is not cut
	devices  []defendertest.Device
	rng      *rand.Rand
	paused   bool
	secret   string
	// unmet removes the fault that was injected last, where no request has met it; nil before the first.
	unmet   func()
	changes map[string]int
	cuts    int

	mu     sync.Mutex
	faults map[string]int // those that were met
	waits  bool           // one was injected and is not met
}

// otherSecret is the second secret of the application, which the integration is changed to and back.
const otherSecret = "another-simulated-secret"

func newSoakTrouble(r *soakRun) *soakTrouble {
	t := &soakTrouble{
		t: r.t, settings: r.settings, house: r.house, lines: r.lines, client: r.house.connect(r.t), devices: r.script.devices, rng: r.random(troubleParty),
		secret: defendertest.RunSecret, faults: map[string]int{}, changes: map[string]int{},
	}
	t.house.app.AddSecret(otherSecret, time.Time{})
	return t
}

// run goes on until ctx ends.
func (s *soakTrouble) run(ctx context.Context) {
	fault, cut, update := s.after(s.settings.faultEvery), s.after(s.settings.cutEvery), s.after(s.settings.updateEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case <-fault:
			s.fault()
			fault = s.after(s.settings.faultEvery)
		case <-cut:
			s.lines[s.rng.IntN(len(s.lines))].cut()
			s.cuts++
			cut = s.after(s.settings.cutEvery)
		case <-update:
			s.change(ctx)
			update = s.after(s.settings.updateEvery)
			if s.paused {
				update = s.after(s.settings.poll)
			}
		}
	}
}

func (s *soakTrouble) after(mean time.Duration) <-chan time.Time {
	return time.After(around(s.rng, mean))
}

// settle lets the integration work again. It is called when run has ended.
func (s *soakTrouble) settle() {
	s.house.microsoft.SetClockOffset(0)
	if s.unmet != nil {
		s.unmet()
	}
	if s.paused {
		s.update(s.t.Context(), "resumed", &integrationv1.Integration{}, "paused")
	}
}

// soakFault is a way in which a request fails.
type soakFault struct {
	name    string
	respond func(*rand.Rand) defendertest.Responder
}

// soakFaults are the ways in which a request fails.
func soakFaults() []soakFault {
	status := func(status int, header http.Header) func(*rand.Rand) defendertest.Responder {
		return func(*rand.Rand) defendertest.Responder { return defendertest.Respond(status, header, "{}") }
	}
	return []soakFault{
		{"429 with Retry-After", func(rng *rand.Rand) defendertest.Responder {
			return defendertest.Respond(http.StatusTooManyRequests, http.Header{"Retry-After": {strconv.Itoa(1 + rng.IntN(2))}}, "{}")
		}},
		{"503 with Retry-After", status(http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}})},
		{"503", status(http.StatusServiceUnavailable, nil)},
		{"500", status(http.StatusInternalServerError, nil)},
		{"cut", func(*rand.Rand) defendertest.Responder { return defendertest.Cut() }},
		{"truncated", func(rng *rand.Rand) defendertest.Responder { return defendertest.Truncate(rng.IntN(5000)) }},
		{"hung for a second", func(*rand.Rand) defendertest.Responder { return defendertest.Delay(time.Second) }},
		{"garbage", func(*rand.Rand) defendertest.Responder {
			return defendertest.Respond(http.StatusOK, nil, "\x1f\x8b\x00 this is no JSON")
		}},
	}
}

// fault makes something fail at Microsoft: a request, mostly for alerts, all tokens, or the clock. While a request has not met the fault
// before, there is no other: failures in a row make the service wait longer and longer, as it should, and less would be tried.
func (s *soakTrouble) fault() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits {
		return
	}
	faults := soakFaults()
	n := s.rng.IntN(len(faults) + 2)
	switch n {
	case len(faults):
		s.house.app.RevokeTokens()
		s.faults["tokens revoked"]++
		return
	case len(faults) + 1:
		s.house.microsoft.SetClockOffset(around(s.rng, s.settings.swing) - s.settings.swing)
		s.faults["clock moved"]++
		return
	}
	route := []string{defendertest.RouteAlerts, defendertest.RouteAlerts, defendertest.RouteAlerts, defendertest.RouteMachines, defendertest.RouteToken}[s.rng.IntN(5)]
	if route == defendertest.RouteToken {
		// Or nobody asks for one for an hour.
		s.house.app.RevokeTokens()
	}
	respond := faults[n].respond(s.rng)
	s.waits = true
	s.unmet = s.house.microsoft.Inject(defendertest.Fault{Route: route, Respond: func(ctx context.Context, r *http.Request, next func() *defendertest.Answer) *defendertest.Answer {
		s.met(faults[n].name)
		return respond(ctx, r, next)
	}})
}

// met takes down that a request met the fault.
func (s *soakTrouble) met(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = false
	s.faults[name]++
}

// change changes the integration, or a device: its name in the list of machines, not in what alerts say of it.
func (s *soakTrouble) change(ctx context.Context) {
	switch n := s.rng.IntN(4); {
	case s.paused:
		s.update(ctx, "resumed", &integrationv1.Integration{}, "paused")
		s.paused = false
	case n == 0:
		s.paused = true
		s.update(ctx, "paused", &integrationv1.Integration{Paused: true}, "paused")
	case n == 1:
		s.update(ctx, "another display name", &integrationv1.Integration{DisplayName: fmt.Sprint("Contoso ", s.rng.IntN(1000))}, "display_name")
	case n == 2:
		if s.secret == otherSecret {
			s.secret = defendertest.RunSecret
		} else {
			s.secret = otherSecret
		}
		s.update(ctx, "another secret", &integrationv1.Integration{Authentication: &integrationv1.Authentication{
			Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: s.secret}},
		}}, "authentication.client_secret.value")
	default:
		device := s.devices[s.rng.IntN(len(s.devices))]
		if s.rng.IntN(2) == 0 {
			device.DNSName = "renamed-" + device.DNSName
		}
		device.LastSeen = s.house.microsoft.Now()
		s.house.tenant.AddDevice(device)
		s.changes["device renamed"]++
	}
}

// update updates the integration and takes it down under a name.
func (s *soakTrouble) update(ctx context.Context, name string, integration *integrationv1.Integration, path string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	integration.IntegrationId = integrationID
	_, err := s.client.Service().UpdateIntegration(ctx, &integrationv1.UpdateIntegrationRequest{
		Integration: integration, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{path}},
	})
	if err != nil {
		s.t.Errorf("%s: %v", name, err)
	}
	s.changes[name]++
}
