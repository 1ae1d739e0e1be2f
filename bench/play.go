package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"defender-integration/defender/defendertest"
)

// played is where a played Microsoft is, as its process tells it.
type played struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`
	TokenURL string `json:"token_url"`
	// Bytes is what the alerts take as they are served.
	Bytes int64 `json:"bytes"`
}

// playMicrosoft plays a tenant with n alerts until ctx ends, with Microsoft's own limits. It writes one line to w when all is there,
// and then adds one more alert each time that trickle has passed, where it is not 0.
// The alerts were last updated a millisecond apart over the last minutes, so that the first poll of an integration that is
// registered now reads them all: 100,000 are a hundred seconds of the five minutes that a poll overlaps.
func playMicrosoft(ctx context.Context, w io.Writer, n int, trickle time.Duration) error {
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	tenant := server.AddTenant(defendertest.RunTenantID)
	tenant.AddApplication(defendertest.RunAppID, defendertest.RunSecret, defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead)
	for _, device := range defendertest.SampleDevices() {
		tenant.AddDevice(device)
	}
	shape := defendertest.Shape{First: time.Now().Add(-time.Duration(n) * time.Millisecond), Step: time.Millisecond}
	random := rand.New(rand.NewPCG(1, 2))
	tenant.AddAlerts(defendertest.Generate(random, n, shape))
	where := played{Host: server.Host(), Port: server.Port(), TokenURL: server.TokenURL(defendertest.RunTenantID)}
	for _, r := range tenant.Revisions() {
		where.Bytes += int64(len(r.Raw))
	}
	if err := json.NewEncoder(w).Encode(where); err != nil {
		return fmt.Errorf("tell where Microsoft is played: %w", err)
	}
	if trickle <= 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(trickle)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			tenant.AddAlerts(defendertest.Generate(random, 1, defendertest.Shape{First: time.Now()}))
		case <-ctx.Done():
			return nil
		}
	}
}
