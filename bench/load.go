package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	// loadCalls is how many calls each measurement makes, loadWorkers how many are under way at once.
	loadCalls, loadWorkers = 5000, 50
	// loadAlerts is how many alerts there are: enough for a status, and nothing to do.
	loadAlerts = 10
)

// called is what was measured of calls to one method over one way.
type called struct {
	way, method string
	// perSecond is how many calls were answered in a second; median and late are how long a half and 99 % took at most.
	perSecond    float64
	median, late time.Duration
	// perCPU is how many calls the service answered for each second of the processor that it used.
	perCPU float64
}

// load is what was measured of a service under load.
type load struct {
	calls   []called
	streams streams
}

// underLoad measures calls by ghz over each way to reach the service, and then n streams.
func underLoad(ctx context.Context, program string, n int, o options) (load, error) {
	var r load
	ghz, remove, err := buildGHZ(ctx)
	if err != nil {
		return r, err
	}
	defer remove()
	for _, way := range []struct {
		name string
		tls  bool
	}{{"TCP", false}, {"mTLS", true}} {
		calls, err := callsOver(ctx, program, ghz, way.name, way.tls, o)
		if err != nil {
			return r, fmt.Errorf("%s: %w", way.name, err)
		}
		r.calls = append(r.calls, calls...)
	}
	r.streams, err = manyStreams(ctx, program, n, o)
	return r, err
}

// buildGHZ builds ghz in the version of tools/go.mod. remove removes it.
func buildGHZ(ctx context.Context) (path string, remove func(), err error) {
	dir, remove, err := temporary()
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "ghz")
	out, err := exec.CommandContext(ctx, "go", "build", "-modfile=tools/go.mod", "-o", path, "github.com/bojand/ghz/cmd/ghz").CombinedOutput()
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("build ghz, in the folder of the module: %w\n%s", err, out)
	}
	return path, remove, nil
}

// callsOver measures calls to a service of its own over TCP, with or without TLS; without it over the unix socket too.
func callsOver(ctx context.Context, program, ghz, name string, tls bool, o options) (calls []called, err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	// ghz calls as fast as it can, which is what limits are against.
	flags := more{serve: []string{"--listen", address, "--calls-per-second", "0", "--calls-per-second-per-caller", "0"}}
	security := []string{"--insecure"}
	if tls {
		files, remove, err := newAuthority()
		if err != nil {
			return nil, err
		}
		defer remove()
		flags.serve = append(flags.serve, "--tls-cert", files.server, "--tls-key", files.serverKey, "--tls-client-ca", files.authority)
		security = []string{"--cacert", files.authority, "--cert", files.client, "--key", files.clientKey, "--cname", "localhost"}
	}
	s, err := set(ctx, program, loadAlerts, o, flags)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := s.close(); err == nil {
			err = closed
		}
	}()
	targets := map[string]string{name: address}
	order := []string{name}
	if !tls {
		targets["unix socket"], order = "unix://"+s.socket, []string{"unix socket", name}
	}
	for _, way := range order {
		for _, method := range []struct{ name, data string }{
			{"GetIntegration", `{"integration_id":"` + integrationID + `"}`}, {"ListIntegrations", `{}`},
		} {
			c, err := s.call(ctx, ghz, method.name, method.data, append(security, targets[way]))
			if err != nil {
				return nil, fmt.Errorf("%s over %s: %w", method.name, way, err)
			}
			c.way = way
			calls = append(calls, c)
		}
	}
	return calls, nil
}

// ghzReport is what ghz tells, of which this is what is looked at. Times are in nanoseconds.
type ghzReport struct {
	PerSecond    float64        `json:"rps"`
	Statuses     map[string]int `json:"statusCodeDistribution"`
	Distribution []struct {
		Percentage int           `json:"percentage"`
		Latency    time.Duration `json:"latency"`
	} `json:"latencyDistribution"`
}

// call lets ghz make calls to a method; target are the flags and the address by which it reaches the service.
func (s *setting) call(ctx context.Context, ghz, method, data string, target []string) (called, error) {
	before, err := s.service.usage()
	if err != nil {
		return called{}, err
	}
	var problems strings.Builder
	command := exec.CommandContext(ctx, ghz, append([]string{
		"--call", "defender.integration.v1.IntegrationService/" + method, "--data", data, "--format", "json",
		"--total", strconv.Itoa(loadCalls), "--concurrency", strconv.Itoa(loadWorkers), "--connections", "10",
	}, target...)...)
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		return called{}, fmt.Errorf("ghz: %w\n%s", err, problems.String())
	}
	after, err := s.service.usage()
	if err != nil {
		return called{}, err
	}
	var report ghzReport
	if err := json.Unmarshal(out, &report); err != nil {
		return called{}, fmt.Errorf("read what ghz tells: %w", err)
	}
	if report.Statuses["OK"] != loadCalls {
		return called{}, fmt.Errorf("of %d calls not all are answered with OK: %v", loadCalls, report.Statuses)
	}
	c := called{method: method, perSecond: report.PerSecond, perCPU: rate(loadCalls, after.cpu-before.cpu)}
	for _, d := range report.Distribution {
		switch d.Percentage {
		case 50:
			c.median = d.Latency
		case 99:
			c.late = d.Latency
		}
	}
	return c, nil
}

// freeAddress returns an address on loopback that nobody listened on a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func (r load) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d calls of each method, %d at once over 10 connections\n", loadCalls, loadWorkers)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "way\tmethod\tcalls/s\tmedian ms\t99 % ms\tcalls per CPU second of the service")
	for _, c := range r.calls {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.0f\n", c.way, c.method, c.perSecond, milliseconds(c.median), milliseconds(c.late), c.perCPU)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.streams.print(w)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
