package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"defender-integration/acceptance/natsnode"
	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	// fleetServers is how many servers of the service share a cluster.
	fleetServers = 3
	// fleetIntegrations is how many there are, each at a tenant of its own.
	fleetIntegrations = 300
	// fleetRate is how many alerts are raised in a second, over all integrations.
	fleetRate = 500
	// fleetWarm is how long alerts are raised before it is measured what they cost: several polls of each integration.
	fleetWarm = 20 * time.Second
	// fleetSettle is how long it is left alone before it is measured.
	fleetSettle = 15 * time.Second
	// fleetReady is how long everything has to start.
	fleetReady = 2 * time.Minute
)

// house is servers of the service on one store, beside one simulated Microsoft: several on a NATS cluster, or one with its own.
type house struct {
	name      string
	dir       string
	microsoft *child
	nodes     []*child
	servers   []*child
	where     playedTenants
	conns     []*grpc.ClientConn // to each server
	metrics   []string           // the address at which each server serves its metrics

	mu        sync.Mutex
	latencies []time.Duration // of the alerts that streams received since they were last taken down
}

// spent is what a process used while some time passed.
type spent struct {
	name     string
	cpu      float64 // of one core
	resident int64   // afterwards, in bytes
}

// fleetPhase is what was measured of a house while some time passed.
type fleetPhase struct {
	name         string
	took         time.Duration
	processes    []spent
	received     int
	median, late time.Duration // of the alerts received: how long after the service had read them
	delivered    deliveries    // on streams that had caught up, by the service's own measure: how long after the entry was made
}

// fleetResult is what was measured of a house.
type fleetResult struct {
	name                  string
	integrations, streams int
	// registered and opened are how long it took until all integrations were, and until each stream had begun.
	registered, opened time.Duration
	phases             []fleetPhase
}

// printFleet measures and prints.
func printFleet(ctx context.Context, w io.Writer, program string, o options) error {
	all, err := compareFleet(ctx, program, o.fleet, min(fleetIntegrations, o.fleet), o)
	for _, r := range all {
		err = errors.Join(err, r.print(w))
	}
	if err != nil {
		return err
	}
	return all[0].compareTo(w, all[1])
}

// compareFleet measures servers on a cluster, and then one that has its own store, with the same streams and integrations.
func compareFleet(ctx context.Context, program string, streams, integrations int, o options) ([]fleetResult, error) {
	dir, remove, err := temporary()
	if err != nil {
		return nil, err
	}
	defer remove()
	nats := filepath.Join(dir, "nats-server")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", nats, natsnode.Package).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the NATS server, in the folder of the module: %w\n%s", err, out)
	}
	var all []fleetResult
	for _, h := range []*house{{name: "three servers on three NATS servers"}, {name: "one server with its own store"}} {
		r, err := h.measure(ctx, program, nats, streams, integrations, len(all) == 0, o)
		all = append(all, r)
		if err != nil {
			return all, fmt.Errorf("%s: %w", h.name, err)
		}
	}
	return all, nil
}

// measure starts everything, and goes through the phases.
func (h *house) measure(ctx context.Context, program, nats string, streams, integrations int, cluster bool, o options) (r fleetResult, err error) {
	r = fleetResult{name: h.name, integrations: integrations, streams: streams}
	devices := (streams + integrations - 1) / integrations
	if err = h.begin(ctx, program, nats, integrations, devices, cluster); err != nil {
		return r, errors.Join(err, h.close())
	}
	defer func() { err = errors.Join(err, h.close()) }()
	began := time.Now()
	if err = h.register(ctx, integrations); err != nil {
		return r, err
	}
	r.registered = time.Since(began)
	// Until everything is collected, and nothing else goes on.
	if err = pause(ctx, fleetSettle); err != nil {
		return r, err
	}
	streaming, cancel := context.WithCancel(ctx)
	group, streaming := errgroup.WithContext(streaming)
	defer func() {
		cancel()
		if ended := group.Wait(); ended != nil && ctx.Err() == nil {
			err = errors.Join(err, ended)
		}
	}()
	watch := func(name string, d time.Duration) error {
		p, err := h.watch(streaming, name, d)
		r.phases = append(r.phases, p)
		return err
	}
	if err = watch("without streams", o.idle); err != nil {
		return r, err
	}
	began = time.Now()
	if err = h.open(streaming, group, streams, integrations); err != nil {
		return r, err
	}
	r.opened = time.Since(began)
	if err = pause(ctx, fleetSettle); err != nil {
		return r, err
	}
	if err = watch("streams, idle", o.idle); err != nil {
		return r, err
	}
	if err = h.microsoft.signal(); err != nil {
		return r, err
	}
	if err = pause(ctx, fleetWarm); err != nil {
		return r, err
	}
	return r, watch(fmt.Sprintf("%d alerts a second", fleetRate), o.idle)
}

// begin starts every process, and waits until the service answers.
func (h *house) begin(ctx context.Context, program, nats string, integrations, devices int, cluster bool) (err error) {
	if h.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	h.microsoft, err = start(ctx, nil, self, "-play-tenants", strconv.Itoa(integrations), "-devices", strconv.Itoa(devices))
	if err != nil {
		return err
	}
	if err := json.NewDecoder(h.microsoft.out).Decode(&h.where); err != nil {
		return fmt.Errorf("the simulated Microsoft does not say where it is: %w", err)
	}
	flags := []string{"--data-dir", filepath.Join(h.dir, "data")}
	count := 1
	if cluster {
		count = fleetServers
		if flags, err = h.startNodes(ctx, nats); err != nil {
			return err
		}
	}
	for i := range count {
		if err := h.serve(ctx, program, i, flags); err != nil {
			return err
		}
	}
	return nil
}

// startNodes starts the NATS servers, and returns the flags by which the service finds them.
func (h *house) startNodes(ctx context.Context, nats string) ([]string, error) {
	var ports []int
	for range natsnode.Ports {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		ports = append(ports, number)
	}
	for i := range natsnode.Count {
		file, err := natsnode.Configure(h.dir, ports, i)
		if err != nil {
			return nil, err
		}
		node, err := start(ctx, nil, nats, "--config", file)
		if err != nil {
			return nil, err
		}
		h.nodes = append(h.nodes, node)
	}
	return []string{
		"--nats-url", natsnode.URL(ports), "--nats-replicas", strconv.Itoa(natsnode.Count),
		"--sealing-key-file", filepath.Join(h.dir, "sealing.key"),
	}, nil
}

// serve starts a server, and waits until it answers: the first one makes the sealing key.
func (h *house) serve(ctx context.Context, program string, i int, flags []string) error {
	at := &setting{socket: filepath.Join(h.dir, fmt.Sprint("socket-", i)), where: h.where.played}
	metrics, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	h.metrics = append(h.metrics, metrics)
	server, err := start(ctx, nil, program, append(at.serveFlags(), append(flags, "--metrics-address", metrics, "--log-level", "error", "--max-streams", "0",
		"--max-streams-per-caller", "0", "--calls-per-second", "0", "--calls-per-second-per-caller", "0")...)...)
	if err != nil {
		return err
	}
	h.servers = append(h.servers, server)
	conn, err := at.dial()
	if err != nil {
		return err
	}
	h.conns = append(h.conns, conn)
	ctx, cancel := context.WithTimeout(ctx, fleetReady)
	defer cancel()
	for {
		_, err := integrationv1.NewIntegrationServiceClient(conn).ListIntegrations(ctx, &integrationv1.ListIntegrationsRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		if waited := pause(ctx, 100*time.Millisecond); waited != nil {
			return errors.Join(err, waited)
		}
	}
}

// integrationOf names the integration of a tenant.
func integrationOf(i int) string { return fmt.Sprintf("bench-%d", i) }

// register registers the tenants.
func (h *house) register(ctx context.Context, integrations int) error {
	endpoint := h.where.endpoint()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range integrations {
		group.Go(func() error {
			_, err := integrationv1.NewIntegrationServiceClient(h.conns[i%len(h.conns)]).RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{
				Integration: &integrationv1.Integration{
					IntegrationId: integrationOf(i), TenantId: tenantID(i), Endpoint: endpoint,
					Authentication: authentication(h.where.TokenURLs[i]),
					DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: endpoint},
				},
			})
			return err
		})
	}
	return group.Wait()
}

// open opens streams, each for an Actor of an integration's, spread over the servers, and returns when each has begun.
func (h *house) open(ctx context.Context, group *errgroup.Group, streams, integrations int) error {
	var begun errgroup.Group
	begun.SetLimit(100)
	conns := slices.Clone(h.conns)
	for i := range streams {
		at := i % len(h.conns)
		if i > 0 && i/len(h.conns)%streamsPerConnection == 0 {
			conn, err := grpc.NewClient(h.conns[at].CanonicalTarget(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return err
			}
			group.Go(func() error {
				<-ctx.Done()
				return conn.Close()
			})
			conns[at] = conn
		}
		through, first := conns[at], make(chan error, 1)
		begun.Go(func() error { return <-first })
		group.Go(func() error {
			return h.follow(ctx, client.New(through), &integrationv1.StreamAlertsRequest{
				IntegrationId: integrationOf(i % integrations), Reference: fmt.Sprint("stream ", i),
				Actors: []*integrationv1.Actor{{ActorId: "actor", FqHostName: deviceName(i / integrations)}},
			}, first)
		})
	}
	return begun.Wait()
}

// follow receives a stream until ctx ends, which is no error. One that breaks off goes on, as a Director's does. It tells first when the stream
// has begun, or cannot.
func (h *house) follow(ctx context.Context, through *client.Client, request *integrationv1.StreamAlertsRequest, first chan<- error) error {
	began := false
	for event, err := range through.Alerts(request).Events(ctx) {
		if !began && (err != nil || event.GetProgress() != nil) {
			first <- err
			began = true
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		event.Ack()
		h.received(event.StreamAlertsResponse)
	}
	return nil
}

// received takes down how long an alert took to a stream.
func (h *house) received(event *integrationv1.StreamAlertsResponse) {
	seen := event.GetAlert().GetSeenTime()
	if seen == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latencies = append(h.latencies, time.Since(seen.AsTime()))
}

// all returns every process, by name. The one that measures is the Director.
func (h *house) all() (names, pids []string) {
	add := func(name string, children ...*child) {
		for _, c := range children {
			names, pids = append(names, name), append(pids, strconv.Itoa(c.cmd.Process.Pid))
		}
	}
	add("server of the service", h.servers...)
	add("NATS server", h.nodes...)
	add("simulated Microsoft", h.microsoft)
	return append(names, "Director"), append(pids, "self")
}

// watch measures while a time passes.
func (h *house) watch(ctx context.Context, name string, d time.Duration) (fleetPhase, error) {
	names, pids := h.all()
	before := make([]usage, len(pids))
	for i, pid := range pids {
		var err error
		if before[i], err = usageOf(pid); err != nil {
			return fleetPhase{}, err
		}
	}
	delivered, err := deliveriesOf(ctx, h.metrics)
	if err != nil {
		return fleetPhase{}, err
	}
	h.mu.Lock()
	h.latencies = nil
	h.mu.Unlock()
	began := time.Now()
	if err := pause(ctx, d); err != nil {
		return fleetPhase{}, err
	}
	p := fleetPhase{name: name, took: time.Since(began)}
	for i, pid := range pids {
		after, err := usageOf(pid)
		if err != nil {
			return p, err
		}
		p.processes = append(p.processes, spent{names[i], (after.cpu - before[i].cpu).Seconds() / p.took.Seconds(), after.resident})
	}
	h.mu.Lock()
	p.received, p.median, p.late = percentiles(h.latencies)
	h.mu.Unlock()
	after, err := deliveriesOf(ctx, h.metrics)
	p.delivered = after.since(delivered)
	return p, err
}

// close ends everything.
func (h *house) close() error {
	var errs []error
	for _, conn := range h.conns {
		errs = append(errs, conn.Close())
	}
	for _, c := range slices.Concat(h.servers, h.nodes, []*child{h.microsoft}) {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(h.dir))...)
}

// sum adds up what processes of a name used.
func (p *fleetPhase) sum(name string) (s spent) {
	for _, one := range p.processes {
		if one.name == name {
			s.cpu, s.resident = s.cpu+one.cpu, s.resident+one.resident
		}
	}
	return s
}

func (r fleetResult) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s: %d integrations, registered in %.1f s; %d streams, each for an Actor, had begun in %.1f s\n",
		r.name, r.integrations, r.registered.Seconds(), r.streams, r.opened.Seconds())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "phase\tprocess\tmemory, MB\tCPU, % of one core")
	for _, p := range r.phases {
		for _, one := range p.processes {
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.1f\n", p.name, one.name, mb(one.resident), 100*one.cpu)
		}
		servers, nodes := p.sum("server of the service"), p.sum("NATS server")
		fmt.Fprintf(t, "%s\tservers and NATS together\t%.0f\t%.1f\n", p.name, mb(servers.resident+nodes.resident), 100*(servers.cpu+nodes.cpu))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range r.phases {
		if p.received > 0 {
			fmt.Fprintf(w, "%s: streams received %.0f alerts a second, a half within %.1f ms of when the service had read them, 99 %% within %.1f ms\n",
				p.name, rate(p.received, p.took), milliseconds(p.median), milliseconds(p.late))
			fmt.Fprintf(w, "%s: from the entry in the journal to the stream, by the servers' own histogram: %s\n", p.name, p.delivered)
		}
	}
	return nil
}

// compareTo prints what a house takes for each that another takes.
func (r fleetResult) compareTo(w io.Writer, other fleetResult) error {
	fmt.Fprintf(w, "\n%s, for each of %s\n", r.name, other.name)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "phase\tmemory of the servers\twith NATS\tCPU of the servers\twith NATS")
	for i, p := range r.phases {
		servers, nodes, one := p.sum("server of the service"), p.sum("NATS server"), other.phases[i].sum("server of the service")
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\n", p.name, mb(servers.resident)/mb(one.resident),
			mb(servers.resident+nodes.resident)/mb(one.resident), servers.cpu/one.cpu, (servers.cpu+nodes.cpu)/one.cpu)
	}
	return t.Flush()
}
