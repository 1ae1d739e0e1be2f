package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/collector"
	"defender-integration/defender/defendertest"
	"defender-integration/server"
	"defender-integration/store"
)

// house is what the Director talks to, and whom that talks to: the service and the simulated Microsoft.
type house struct {
	microsoft *defendertest.Server
	tenant    *defendertest.Tenant
	// address is where the service is called.
	address string
	// dir is the temporary folder with all data.
	dir string
	// served is closed when the service has stopped; err says why.
	served chan struct{}
	err    error
	stop   context.CancelFunc
}

// settings are those of a service in earnest, but for how often is read: a person is waiting.
func settings() collector.Settings {
	s := collector.DefaultSettings()
	s.FastInterval, s.SlowInterval = time.Second, 5*time.Second
	s.Overlap = 2 * time.Second
	s.ClosingInterval, s.ClosingLimit = 2*time.Second, 15*time.Second
	s.HuntingInterval, s.HuntingLimit = 2*time.Second, 15*time.Second
	s.DeviceInterval, s.DeviceRefresh = 10*time.Second, 2*time.Second
	return s
}

// open starts both, each on a free port of the loopback.
func open(ctx context.Context, devices []defendertest.Device, version string, logger *slog.Logger) (*house, error) {
	microsoft, err := defendertest.New(defendertest.Options{})
	if err != nil {
		return nil, err
	}
	h := &house{microsoft: microsoft, served: make(chan struct{})}
	h.tenant = microsoft.AddTenant(defendertest.RunTenantID, "contoso.test")
	h.tenant.AddApplication(defendertest.RunAppID, defendertest.RunSecret, defendertest.RoleSecurityAlertRead,
		defendertest.RoleMachineRead, defendertest.RoleAlertRead, defendertest.RoleThreatHuntingRead)
	for _, device := range devices {
		h.tenant.AddDevice(device)
	}
	if h.dir, err = os.MkdirTemp("", "defender-integration-demo-"); err != nil {
		return nil, errors.Join(err, microsoft.Close())
	}
	service, err := app.Start(ctx, app.Options{
		Server:         server.Options{Address: "127.0.0.1:0", DrainTimeout: 5 * time.Second},
		Store:          store.Options{Dir: filepath.Join(h.dir, "data")},
		AllowEndpoints: []string{strings.TrimPrefix(microsoft.URL(), "http://")},
		AllowHTTP:      true,
		Collecting:     settings(),
		Version:        version,
		Logger:         logger,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the service: %w", err), microsoft.Close(), os.RemoveAll(h.dir))
	}
	h.address = service.Addresses()[0].String()
	// It is stopped by close, after the Director has let go of it, and not by the end of ctx.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	go func() {
		defer close(h.served)
		h.err = service.Run(running)
	}()
	return h, nil
}

// close stops both and removes the folder.
func (h *house) close() error {
	h.stop()
	<-h.served
	return errors.Join(h.err, h.microsoft.Close(), os.RemoveAll(h.dir))
}
