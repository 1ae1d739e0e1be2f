package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const integrationID = "bench"

// setting is the three parties: the simulated Microsoft, the service, and this process's connection to it.
type setting struct {
	dir                string
	microsoft, service *child
	where              played
	socket             string
	conn               *grpc.ClientConn
	client             *client.Client
	// profile is where the service's profiles go; "" for nowhere.
	profile string
	// started is when the service's process was started, registered when it answered to the registration.
	started, registered time.Time
	// microsoftBefore and ownBefore are what the others had used before the registration.
	microsoftBefore, ownBefore usage
}

// more are flags that one measurement gives beside the usual ones.
type more struct{ play, serve []string }

// set starts everything with n alerts at Microsoft, and registers the tenant with the service. The caller closes the setting.
func set(ctx context.Context, program string, n int, o options, flags more) (s *setting, err error) {
	s = &setting{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return s, err
	}
	if err = s.play(ctx, n, flags.play); err != nil {
		return s, err
	}
	if err = s.serve(ctx, program, n, o, flags.serve); err != nil {
		return s, err
	}
	if s.microsoftBefore, err = s.microsoft.usage(); err != nil {
		return s, err
	}
	if s.ownBefore, err = usageOf("self"); err != nil {
		return s, err
	}
	return s, s.register(ctx)
}

// play starts the simulated Microsoft and waits until it has all alerts.
func (s *setting) play(ctx context.Context, n int, flags []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.microsoft, err = start(ctx, nil, self, append(flags, "-play", strconv.Itoa(n))...); err != nil {
		return err
	}
	if err := json.NewDecoder(s.microsoft.out).Decode(&s.where); err != nil {
		return fmt.Errorf("the simulated Microsoft does not say where it is: %w", err)
	}
	return nil
}

// serve starts the service, with its defaults but for where it listens and whom it may call.
func (s *setting) serve(ctx context.Context, program string, n int, o options, flags []string) error {
	var env []string
	if o.profile != "" {
		s.profile = filepath.Join(o.profile, strconv.Itoa(n))
		if err := errors.Join(os.RemoveAll(s.profile), os.MkdirAll(s.profile, 0o755)); err != nil {
			return err
		}
		env = append(env, "BENCH_PROFILE="+s.profile)
	}
	s.socket = filepath.Join(s.dir, "socket")
	s.started = time.Now()
	var err error
	s.service, err = start(ctx, env, program, append(s.serveFlags(), append([]string{"--data-dir", filepath.Join(s.dir, "data")}, flags...)...)...)
	if err != nil {
		return err
	}
	if s.conn, err = s.dial(); err != nil {
		return err
	}
	s.client = client.New(s.conn)
	return nil
}

// serveFlags say where the service listens and whom it may call.
func (s *setting) serveFlags() []string {
	return []string{
		"serve", "--listen", "none", "--unix-socket", s.socket, "--metrics-address", "none",
		"--allow-http", "--allow-endpoint", net.JoinHostPort(s.where.Host, strconv.Itoa(s.where.Port)),
	}
}

// dial makes a connection to the service.
func (s *setting) dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+s.socket, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}))...)
}

// register registers the tenant.
func (s *setting) register(ctx context.Context) error {
	endpoint := s.where.endpoint()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := s.client.Service().RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{
		Integration: &integrationv1.Integration{
			IntegrationId:  integrationID,
			TenantId:       defendertest.RunTenantID,
			Endpoint:       endpoint,
			Authentication: authentication(s.where.TokenURL),
			DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: endpoint},
		},
	}, grpc.WaitForReady(true))
	s.registered = time.Now()
	return err
}

// endpoint is that of every API of a played Microsoft.
func (p *played) endpoint() *integrationv1.Endpoint {
	return &integrationv1.Endpoint{Host: p.Host, Port: int32(p.Port), Protocol: integrationv1.Protocol_PROTOCOL_HTTP}
}

// authentication is that of the application that is played, at a tenant's authorization URL.
func authentication(url string) *integrationv1.Authentication {
	return &integrationv1.Authentication{
		ClientId: defendertest.RunAppID,
		Credential: &integrationv1.Authentication_ClientSecret{
			ClientSecret: &integrationv1.ClientSecret{Value: defendertest.RunSecret},
		},
		AuthorizationUrl: url,
	}
}

// close ends everything and removes the data.
func (s *setting) close() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	for _, c := range []*child{s.service, s.microsoft} {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// stream receives events until more says that it is enough, or ctx ends, which is no error. The stream is for every device, from
// an hour ago on.
func (s *setting) stream(ctx context.Context, raw bool, more func(*client.Event) bool) error {
	events := s.client.Alerts(&integrationv1.StreamAlertsRequest{
		IntegrationId: integrationID, Reference: "bench", IncludeRaw: raw,
		Window: &integrationv1.Window{StartTime: timestamppb.New(s.registered.Add(-time.Hour))},
	}).Events(ctx)
	for event, err := range events {
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		event.Ack()
		if !more(event) {
			return nil
		}
	}
	return nil
}

// count counts alerts, and finds those that came more than once.
type count struct {
	ids      map[string]bool
	repeated int
}

func (c *count) add(event *client.Event) (isAlert bool) {
	alert := event.GetAlert().GetAlert()
	if alert == nil {
		return false
	}
	if c.ids[alert.GetId()] {
		c.repeated++
	}
	c.ids[alert.GetId()] = true
	return true
}

// wholeWay measures n alerts from Microsoft to one stream.
func wholeWay(ctx context.Context, program string, n int, o options) (r result, err error) {
	s, err := set(ctx, program, n, o, more{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r = result{alerts: n, bytes: s.where.Bytes, raw: o.raw}
	seen := count{ids: make(map[string]bool, n)}
	var first, last time.Time
	err = s.stream(ctx, o.raw, func(event *client.Event) bool {
		if !seen.add(event) {
			return true
		}
		last = time.Now()
		if first.IsZero() {
			first = last
		}
		return len(seen.ids) < n
	})
	if err != nil {
		return r, err
	}
	if len(seen.ids) != n || seen.repeated > 0 {
		return r, fmt.Errorf("%d of %d alerts came, %d of them more than once: %w", len(seen.ids), n, seen.repeated, ctx.Err())
	}
	r.fromStart, r.fromRegistering, r.firstToLast = last.Sub(s.started), last.Sub(s.registered), last.Sub(first)
	return r, s.take(ctx, &r)
}

// take reads what everybody has used.
func (s *setting) take(ctx context.Context, r *result) error {
	var err error
	if r.service, err = s.service.usage(); err != nil {
		return err
	}
	microsoft, err := s.microsoft.usage()
	if err != nil {
		return err
	}
	own, err := usageOf("self")
	if err != nil {
		return err
	}
	r.microsoftCPU, r.ownCPU = microsoft.cpu-s.microsoftBefore.cpu, own.cpu-s.ownBefore.cpu
	if r.stored, err = sizeOf(filepath.Join(s.dir, "data")); err != nil {
		return err
	}
	if s.profile == "" {
		return nil
	}
	return s.service.takeProfile(ctx, s.profile)
}

// idling watches the service while 10 alerts are polled over and over and a stream is open.
func idling(ctx context.Context, program string, o options) (r idle, err error) {
	const n = 10
	s, err := set(ctx, program, n, o, more{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	seen := count{ids: map[string]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var before usage
	err = s.stream(ctx, o.raw, func(event *client.Event) bool {
		if !seen.add(event) || len(seen.ids) < n || !r.began.IsZero() {
			return true
		}
		r.began = time.Now()
		before, err = s.service.usage()
		time.AfterFunc(o.idle, cancel)
		return err == nil
	})
	if err != nil {
		return r, err
	}
	r.took, r.repeated = time.Since(r.began), seen.repeated
	if r.service, err = s.service.usage(); err != nil {
		return r, err
	}
	r.cpu = r.service.cpu - before.cpu
	return r, nil
}

// sizeOf returns how many bytes the files below a folder take.
func sizeOf(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	return size, err
}
