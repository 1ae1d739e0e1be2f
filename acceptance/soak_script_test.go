package acceptance_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
)

// soakScript makes alerts appear and change at the simulated Microsoft, at a steady rate, some of them late. It belongs to one
// goroutine at a time.
type soakScript struct {
	t        *testing.T
	settings soakSettings
	tenant   *defendertest.Tenant
	ledger   *ledger
	rng      *rand.Rand
	devices  []defendertest.Device
	holding  []heldBack
	late     int // how many were shown late
}

// heldBack is a revision that is shown late.
type heldBack struct {
	number int
	alert  string
	until  time.Time
}

// newSoakScript makes the devices, too.
func newSoakScript(r *soakRun) *soakScript {
	s := &soakScript{t: r.t, settings: r.settings, tenant: r.house.tenant, ledger: r.ledger, rng: r.random(scriptParty)}
	for i := range r.settings.devices {
		s.devices = append(s.devices, s.tenant.AddDevice(defendertest.Device{
			DNSName: fmt.Sprintf("ws-%04d.corp.contoso.test", i), IPs: []string{fmt.Sprintf("10.50.%d.%d", i/250, 1+i%250)},
			LastSeen: r.house.microsoft.Now(),
		}))
	}
	return s
}

// run goes on until ctx ends.
func (s *soakScript) run(ctx context.Context) {
	ticker := time.NewTicker(s.settings.alertEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.release(now)
			s.step(now)
		}
	}
}

// settle shows what is withheld still. It is called when run has ended.
func (s *soakScript) settle() { s.release(time.Now().Add(s.settings.late)) }

// step adds an alert or changes one, and withholds one of ten.
func (s *soakScript) step(now time.Time) {
	var visibility []defendertest.Visibility
	withheld := s.rng.IntN(10) == 0
	if withheld {
		visibility = append(visibility, defendertest.Withheld())
	}
	device := s.rng.IntN(len(s.devices))
	create := func(title string) (defendertest.Alert, error) {
		return s.tenant.AddAlert(s.about(s.devices[device], title), visibility...), nil
	}
	if s.rng.IntN(5) < 2 {
		if number, ok := s.ledger.take(s.rng.IntN); ok {
			before, _ := s.ledger.get(number)
			device = before.device
			create = func(title string) (defendertest.Alert, error) {
				return s.tenant.Change(before.alert, func(a *defendertest.Alert) { a.Title = title }, visibility...)
			}
		}
	}
	number, alert, err := s.ledger.add(device, withheld, create)
	if err != nil {
		s.t.Errorf("change an alert: %v", err)
		return
	}
	if withheld {
		s.holding = append(s.holding, heldBack{number, alert, now.Add(upTo(s.rng, s.settings.late))})
	}
}

// about makes an alert about a device.
func (s *soakScript) about(device defendertest.Device, title string) defendertest.Alert {
	return defendertest.Alert{Title: title, Evidence: []defendertest.Evidence{
		defendertest.DeviceEvidence{Device: device},
		defendertest.ProcessEvidence{
			DetectionStatus: "detected", DeviceID: device.ID, ID: 1000 + s.rng.Int64N(30_000), CommandLine: "powershell.exe -enc " + title,
			Image: defendertest.File{Name: "powershell.exe", Path: `C:\Windows\System32`},
		},
	}}
}

// release shows what was withheld for its time.
func (s *soakScript) release(now time.Time) {
	s.holding = slices.DeleteFunc(s.holding, func(h heldBack) bool {
		if h.until.After(now) {
			return false
		}
		s.tenant.Release(h.alert)
		s.ledger.shown(h.number)
		s.late++
		return true
	})
}

// upTo draws a time up to the longest.
func upTo(rng *rand.Rand, longest time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(longest) + 1))
}

// around draws a time up to twice the mean.
func around(rng *rand.Rand, mean time.Duration) time.Duration { return upTo(rng, 2*mean) }
