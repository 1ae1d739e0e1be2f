package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"defender-integration/defender/defendertest"
)

// raiseTick is how often alerts are raised, so many at once as the rate asks for.
const raiseTick = 20 * time.Millisecond

// playedTenants is where a Microsoft of many tenants is played, as its process tells it.
type playedTenants struct {
	played

	// TokenURLs are those of the tenants.
	TokenURLs []string `json:"token_urls"`
}

// tenantID names a tenant of those that are played together.
func tenantID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

// deviceName names a device of a tenant.
func deviceName(i int) string { return fmt.Sprintf("ws-%03d.contoso.test", i) }

// playTenants plays n tenants with so many devices each until ctx ends. It writes one line to w when all are there. From the signal
// SIGUSR1 on it raises alerts: rate in a second, each at a tenant and about a device that are picked at random.
func playTenants(ctx context.Context, w io.Writer, n, devices, rate int) error {
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	where := playedTenants{played: played{Host: server.Host(), Port: server.Port()}}
	shape := defendertest.Shape{}
	for i := range devices {
		shape.Devices = append(shape.Devices, defendertest.Device{DNSName: deviceName(i)})
	}
	tenants := make([]*defendertest.Tenant, n)
	for i := range tenants {
		tenant := server.AddTenant(tenantID(i))
		tenant.AddApplication(defendertest.RunAppID, defendertest.RunSecret, defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead)
		for _, device := range shape.Devices {
			tenant.AddDevice(device)
		}
		tenants[i], where.TokenURLs = tenant, append(where.TokenURLs, server.TokenURL(tenantID(i)))
	}
	if err := json.NewEncoder(w).Encode(where); err != nil {
		return fmt.Errorf("tell where Microsoft is played: %w", err)
	}
	select {
	case <-begin:
	case <-ctx.Done():
		return nil
	}
	random := rand.New(rand.NewPCG(1, 2))
	began, raised := time.Now(), 0
	ticker := time.NewTicker(raiseTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for ; raised < int(time.Since(began).Seconds()*float64(rate)); raised++ {
				shape.First = time.Now()
				tenants[random.IntN(n)].AddAlerts(defendertest.Generate(random, 1, shape))
			}
		case <-ctx.Done():
			return nil
		}
	}
}
