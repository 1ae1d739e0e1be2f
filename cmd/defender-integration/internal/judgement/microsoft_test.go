package judgement_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/connect"
	"defender-integration/defender/defendertest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

const (
	tenantID = "11111111-2222-4333-8444-555555555555"
	appID    = "66666666-7777-4888-9999-000000000000"
	secret   = "a-secret"
)

// calendar is the simulated Microsoft's clock, which a recording turns on.
type calendar struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the time.
func (c *calendar) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *calendar) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// recording is what an API shows of a case, step by step: from each time on, all of its alerts and devices, as its adapter read them.
type recording []step

// recorded is what a case is played from.
type recorded struct {
	steps recording
	// telemetry is asked for telemetry; nil where the case does not ask for it, or the API has none.
	telemetry defender.TelemetrySource
}

type step struct {
	from     time.Time
	elements []*defender.Element
	devices  []*integrationv1.Device
	// wantedOnly says that the device source told of those alone that were asked for.
	wantedOnly bool
}

// record has the simulated Microsoft show a case, and reads it through an API at each time at which something changes.
func record(t *testing.T, s *spec, api integrationv1.Api) recorded {
	t.Helper()
	hours := &calendar{now: at("-9d 00:00")}
	microsoft, err := defendertest.New(defendertest.Options{Clock: hours, TokenLifetime: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := microsoft.Close(); err != nil {
			t.Error(err)
		}
	}
	tenant := microsoft.AddTenant(tenantID)
	tenant.AddApplication(appID, secret, s.roles()...)
	for _, table := range s.NoTables {
		tenant.RemoveTable(table)
	}
	var r recorded
	connection, err := connectTo(microsoft, api, s.kind())
	if err != nil {
		stop()
		t.Fatal(err)
	}
	if s.Telemetry && connection.Telemetry() != nil {
		r.telemetry = &telemetry{s, hours, microsoft, tenant}
		t.Cleanup(stop)
	} else {
		defer stop()
	}
	defer connection.Close()

	times := []time.Time{hours.Now()}
	for _, a := range s.Alerts {
		for _, revision := range append([]*alertSpec{a}, a.Then...) {
			tenant.AddAlert(revision.alert(), defendertest.VisibleAt(revision.visible()))
			times = append(times, revision.visible())
		}
	}
	for _, d := range s.devices() {
		times = append(times, d.From.or(times[0]), d.Until.or(times[0]))
	}
	slices.SortFunc(times, time.Time.Compare)
	for _, from := range slices.Compact(times) {
		hours.set(from)
		showDevices(tenant, s, from)
		r.steps = append(r.steps, readStep(t, s, connection, from))
	}
	return r
}

// connectTo makes the connection of an integration to the simulated Microsoft.
func connectTo(microsoft *defendertest.Server, api integrationv1.Api, kind integrationv1.DeviceSource_Kind) (*connect.Connection, error) {
	endpoint := &integrationv1.Endpoint{
		Host: microsoft.Host(), Port: int32(microsoft.Port()), Protocol: integrationv1.Protocol_PROTOCOL_HTTP,
	}
	devices := &integrationv1.DeviceSource{Kind: kind}
	if kind != integrationv1.DeviceSource_KIND_NONE {
		devices.Endpoint = endpoint
	}
	authorization := microsoft.TokenURL(tenantID)
	if api == integrationv1.Api_API_SIEM {
		authorization = microsoft.TokenURLV1(tenantID)
	}
	allowed, err := defender.NewAllowList([]string{net.JoinHostPort(microsoft.Host(), fmt.Sprint(microsoft.Port()))}, true)
	if err != nil {
		return nil, err
	}
	return connect.New(connect.Config{
		Integration: &integrationv1.Integration{
			TenantId: tenantID, Api: api, Endpoint: endpoint, DeviceSource: devices,
			Authentication: &integrationv1.Authentication{
				ClientId: appID, AuthorizationUrl: authorization,
				Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{}},
			},
		},
		Secrets: &storev1.Secrets{ClientSecret: secret},
		Spend:   func(context.Context, defender.Limit) error { return nil },
		Allow:   allowed,
	})
}

// roles are the permissions of the application.
func (s *spec) roles() []string {
	roles := []string{defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead, defendertest.RoleAlertRead}
	if !s.MayNotHunt {
		roles = append(roles, defendertest.RoleThreatHuntingRead)
	}
	return roles
}

// showDevices makes the device source tell what it tells from a time on.
func showDevices(tenant *defendertest.Tenant, s *spec, from time.Time) {
	for _, d := range s.devices() {
		if d.Until != nil && !d.Until.After(from) {
			tenant.RemoveDevice(d.id())
		}
	}
	for _, d := range s.devices() {
		if !d.From.or(from).After(from) && (d.Until == nil || d.Until.After(from)) {
			tenant.AddDevice(d.device())
		}
	}
}

// readStep reads all that Microsoft shows.
func readStep(t *testing.T, s *spec, connection *connect.Connection, from time.Time) step {
	t.Helper()
	read := step{from: from}
	nothing := func([32]byte) (defender.Known, bool) { return defender.Known{}, false }
	_, err := connection.Alerts().ReadAlerts(t.Context(), at("-9d 00:00"), nothing, func(e *defender.Element) error {
		kept := *e
		kept.Raw = bytes.Clone(e.Raw)
		read.elements = append(read.elements, &kept)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if connection.Devices() == nil {
		return read
	}
	var keys []string
	for _, a := range s.actors() {
		for _, key := range match.ActorKeys(a.message()) {
			keys = append(keys, key.String())
		}
	}
	devices, err := connection.Devices().ReadDevices(t.Context(), wanted(keys), func(d *integrationv1.Device) error {
		read.devices = append(read.devices, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	read.wantedOnly = devices.WantedOnly
	return read
}

// wanted says what keys ask a device source for, as the program does.
func wanted(keys []string) (w defender.Wanted) {
	lists := map[string]*[]string{
		match.DeviceIDPrefix: &w.DeviceIDs, match.EntraIDPrefix: &w.EntraIDs, match.FullNamePrefix: &w.FullNames,
		match.LabelPrefix: &w.Labels, match.ShortNamePrefix: &w.ShortNames, match.AddressPrefix: &w.Addresses,
	}
	for _, key := range keys {
		prefix, value, _ := strings.Cut(key, ":")
		*lists[prefix] = append(*lists[prefix], value)
	}
	return w
}

// device is the device as the simulated Microsoft has it.
func (d *deviceSpec) device() defendertest.Device {
	return defendertest.Device{
		ID: d.id(), EntraID: entraID(d.EntraID), DNSName: d.name(), IPs: d.Addresses, LastIP: d.LastAddress, ExternalIP: d.External,
		Health: d.Health, Onboarding: d.Onboarding, MergedInto: deviceID(d.MergedInto), PotentialDuplicate: d.Duplicate,
		Excluded: d.Excluded, FirstSeen: d.FirstSeen.or(at("-5d 09:00")), LastSeen: d.LastSeen.or(at("11:30")),
	}
}

// alert is the alert as the simulated Microsoft has it.
func (a *alertSpec) alert() defendertest.Alert {
	made := defendertest.Alert{
		ID: a.id(), Title: a.Title, Severity: a.Severity, Status: a.Status, DetectionSource: a.Source, Techniques: a.Techniques,
		FirstActivity: a.first(), LastActivity: a.last(), Created: a.created(), LastUpdate: a.updated(), NoActivity: a.NoActivity,
	}
	on := ""
	for _, d := range a.devices() {
		made.Evidence = append(made.Evidence, defendertest.DeviceEvidence{Device: d.device()})
		on = cmp.Or(on, d.id())
	}
	for _, e := range a.Evidence {
		made.Evidence = append(made.Evidence, e.evidence(on))
	}
	return made
}

// evidence is the piece of evidence as the simulated Microsoft has it. on is the device that it is on, where the case names none.
func (e *evidenceSpec) evidence(on string) defendertest.Evidence {
	base := defendertest.EvidenceBase{Verdict: e.Verdict, RemediationStatus: e.Remediation}
	if e.Added != nil {
		base.Created = e.Added.Time
	}
	on = cmp.Or(deviceID(e.On), on)
	switch {
	case e.Process != nil:
		p := e.Process
		made := defendertest.ProcessEvidence{
			EvidenceBase: base, DetectionStatus: e.Detection, DeviceID: on, ID: p.ID, ParentID: p.Parent, CommandLine: p.CommandLine,
			Image: p.Image.file(), ParentImage: p.ParentImage.file(), User: p.User.user(),
		}
		if p.Started != nil {
			made.Started = p.Started.Time
		}
		if p.ParentStarted != nil {
			made.ParentStarted = p.ParentStarted.Time
		}
		return made
	case e.File != nil:
		return defendertest.FileEvidence{EvidenceBase: base, DetectionStatus: e.Detection, DeviceID: on, File: e.File.file()}
	case e.User != nil:
		return defendertest.UserEvidence{EvidenceBase: base, User: e.User.user()}
	case e.IP != "":
		return defendertest.IPEvidence{EvidenceBase: base, Address: e.IP}
	case e.URL != "":
		return defendertest.URLEvidence{EvidenceBase: base, URL: e.URL}
	case e.Registry != "":
		return defendertest.RegistryEvidence{EvidenceBase: base, DeviceID: on, Hive: "HKEY_LOCAL_MACHINE", Key: e.Registry, ValueName: "Run"}
	}
	return defendertest.RawEvidence(e.JSON)
}

func (f fileSpec) file() defendertest.File {
	return defendertest.File{
		Name: f.Name, Path: f.Folder,
		MD5: hashOf(f.MD5, 2*md5.Size), SHA1: hashOf(f.SHA1, 2*sha1.Size), SHA256: hashOf(f.SHA256, 2*sha256.Size),
	}
}

func (u userSpec) user() defendertest.User {
	return defendertest.User{Account: u.Account, Domain: u.Domain, SID: u.SID, Principal: u.Principal}
}
