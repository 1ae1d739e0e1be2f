package acceptance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// The metrics of the service that are read. The process's own are what /proc says of it, so that they are there on Linux.
const (
	goroutinesMetric = "go_goroutines"
	residentMetric   = "process_resident_memory_bytes"
	filesMetric      = "process_open_fds"
	cpuMetric        = "process_cpu_seconds_total"
	// heapMetric is how large the heap may grow before it is collected again: about twice what was alive when it last was. What is on
	// the heap meanwhile goes up and down between the two.
	heapMetric = "go_memstats_next_gc_bytes"
)

// soakGauges measures what the service takes, and what the test does.
type soakGauges struct {
	address string // where the service serves metrics
	client  *http.Client
	began   time.Time
	cpu     time.Duration // of the test, when it began
	samples []soakSample
}

// soakSample is what the service took at a time; memory is in bytes.
type soakSample struct {
	at                                        time.Duration // since the beginning
	goroutines, resident, heap, files, stored float64
	cpu                                       float64 // seconds since its start
}

// newSoakGauges finds a free port for the service's metrics.
func newSoakGauges(t *testing.T) *soakGauges {
	t.Helper()
	return gaugesAt(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(freePorts(t, 1)[0])))
}

// gaugesAt measures the service that serves its metrics at an address.
func gaugesAt(t *testing.T, address string) *soakGauges {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &soakGauges{
		address: address, client: &http.Client{Transport: transport, Timeout: patience}, began: time.Now(), cpu: ownCPU(),
	}
}

// ownCPU is the processor time that the test has used.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (g *soakGauges) elapsed() time.Duration { return time.Since(g.began) }

// sample measures once. The data lie below the house's folder.
func (g *soakGauges) sample(t *testing.T, dir string) {
	t.Helper()
	values, err := g.scrape(t)
	if err != nil {
		t.Errorf("read the service's metrics: %v", err)
		return
	}
	stored, err := sizeBelow(filepath.Join(dir, "data"))
	if err != nil {
		t.Errorf("measure the data: %v", err)
	}
	g.samples = append(g.samples, soakSample{
		at: g.elapsed(), goroutines: values[goroutinesMetric], resident: values[residentMetric], heap: values[heapMetric],
		files: values[filesMetric], stored: float64(stored), cpu: values[cpuMetric],
	})
}

// scrape reads the metrics that have no labels.
func (g *soakGauges) scrape(t *testing.T) (values map[string]float64, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.address+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := g.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	values = map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if name, text, ok := strings.Cut(lines.Text(), " "); ok {
			if value, err := strconv.ParseFloat(text, 64); err == nil {
				values[name] = value
			}
		}
	}
	return values, lines.Err()
}

// sizeBelow is how many bytes the files below a folder take.
func sizeBelow(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return gone(err)
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return gone(err)
	})
	return size, err
}

// gone takes it for no error that a file is there no more.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// quarter returns the nth quarter of the samples, from 0. They are taken at even times, but on a machine that stands still now and then.
func (g *soakGauges) quarter(n int) []soakSample {
	return g.samples[n*len(g.samples)/4 : (n+1)*len(g.samples)/4]
}

// median is the median of one of the gauges.
func median(samples []soakSample, of func(soakSample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// gauge is one thing that is to be flat.
type gauge struct {
	name string
	of   func(soakSample) float64
	// within says by how much the last quarter's median may differ from the second's; growing, that only more is too much.
	within  func(second float64) float64
	growing bool
	format  func(float64) string
}

// gauges are what is to be flat. Goroutines and files are to be the same but for what comes and goes with streams that are between two
// windows and connections between two calls.
func (s soakSettings) gauges() []gauge {
	const few = 10
	ratio := func(r float64) func(float64) float64 { return func(second float64) float64 { return second * (r - 1) } }
	list := []gauge{
		{"goroutines", func(s soakSample) float64 { return s.goroutines },
			func(second float64) float64 { return max(few, second*s.goroutinesBesides) }, false, plain},
		{"open files", func(s soakSample) float64 { return s.files }, func(float64) float64 { return few }, false, plain},
		{"resident memory", func(s soakSample) float64 { return s.resident }, ratio(s.memoryRatio), true, megabytes},
		{"heap before a collection", func(s soakSample) float64 { return s.heap }, ratio(s.memoryRatio), true, megabytes},
	}
	if s.retention < s.length/4 {
		// From then on as much is dropped as comes. The engine gives a file of entries back when all of it is dropped.
		const file = 8 << 20
		list = append(list, gauge{"journal and all other data", func(s soakSample) float64 { return s.stored },
			func(second float64) float64 { return second/4 + file }, true, megabytes})
	}
	return list
}

func plain(v float64) string     { return strconv.FormatFloat(v, 'f', 0, 64) }
func megabytes(v float64) string { return strconv.FormatFloat(v/1e6, 'f', 1, 64) + " MB" }

// fewestSamples are enough to compare quarters of them.
const fewestSamples = 8

// report logs the run as a table, with rows before the gauges, and fails where one is not flat. The first quarter is for warming up.
func (g *soakGauges) report(t *testing.T, settings soakSettings, rows [][2]string) {
	t.Helper()
	if len(g.samples) < fewestSamples {
		t.Fatalf("only %d samples", len(g.samples))
	}
	last := g.samples[len(g.samples)-1]
	rows = append(rows,
		[2]string{"processor of the service, of the test", fmt.Sprintf("%.2f of one, %.2f of one",
			last.cpu/last.at.Seconds(), (ownCPU()-g.cpu).Seconds()/g.elapsed().Seconds())})
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "| what\t| how much\t|\n| ---\t| ---\t|\n")
	for _, row := range rows {
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t|\n", row[0], row[1])
	}
	_ = w.Flush()
	_, _ = fmt.Fprintf(w, "\n| gauge\t| at 25 %%\t| at 50 %%\t| at 75 %%\t| at 100 %%\t| median of the 2nd quarter\t| of the 4th\t|\n"+
		"| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	for _, gauge := range settings.gauges() {
		_, _ = fmt.Fprintf(w, "| %s\t", gauge.name)
		for n := range 4 {
			quarter := g.quarter(n)
			_, _ = fmt.Fprintf(w, "| %s\t", gauge.format(gauge.of(quarter[len(quarter)-1])))
		}
		second, fourth := median(g.quarter(1), gauge.of), median(g.quarter(3), gauge.of)
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t|\n", gauge.format(second), gauge.format(fourth))
		if other := fourth - second; other > gauge.within(second) || !gauge.growing && math.Abs(other) > gauge.within(second) {
			t.Errorf("%s: from %s to %s, which is not flat:\n%s", gauge.name, gauge.format(second), gauge.format(fourth), g.series(gauge))
		}
	}
	_ = w.Flush()
	t.Logf("the soak:\n\n%s", text.String())
}

// series is one gauge over the time, at most a hundred values of it.
func (g *soakGauges) series(gauge gauge) string {
	const most = 100
	var text strings.Builder
	for i := 0; i < len(g.samples); i += 1 + len(g.samples)/most {
		fmt.Fprintf(&text, "%s %s\n", g.samples[i].at.Round(time.Second), gauge.format(gauge.of(g.samples[i])))
	}
	return text.String()
}

// counts writes how often each was, in the order of the names.
func counts(of map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%d %s", of[name], name))
	}
	return strings.Join(parts, ", ")
}
