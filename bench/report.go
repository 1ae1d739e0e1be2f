package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// result is what was measured of the whole way.
type result struct {
	alerts int
	bytes  int64
	raw    bool
	// fromStart is counted from the start of the service's process, fromRegistering from the answer to the registration,
	// firstToLast from the stream's first alert to its last.
	fromStart, fromRegistering, firstToLast time.Duration
	// service is what the service's process had used when the last alert came, its start included.
	service              usage
	microsoftCPU, ownCPU time.Duration
	// stored is what the data directory takes, in bytes.
	stored int64
}

// peer is what the best peer needed for the same work: Filebeat 7.17.29 (input httpjson) or mito 1.15.0 (decoding only), whichever
// is better, measured on 2 shared cores with alerts of 5.4 KB. Zero: not measured.
type peer struct {
	alertsPerSecond float64 // first to last
	fromStart       time.Duration
	cpu             time.Duration
	peak            float64 // MB
}

// peerOf returns the figures for so many alerts, all zero where there are none.
func peerOf(alerts int) peer {
	switch alerts {
	case 10_000:
		return peer{fromStart: 1830 * time.Millisecond, cpu: 1590 * time.Millisecond, peak: 161}
	case 100_000:
		return peer{alertsPerSecond: 4708, cpu: 15700 * time.Millisecond}
	}
	return peer{}
}

// peerIdle is Filebeat's memory with 10 alerts, in MB. It repeats one alert with each poll.
const peerIdle = 132

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

func rate(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// table prints rows of a measure, ours, the best peer's and how much better ours is: above 1 is better.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t, "measure\tours\tbest peer\tbetter by")
	return t
}

func (t table) row(name, format string, ours, best, better float64) {
	if best == 0 {
		fmt.Fprintf(t, "%s\t"+format+"\t-\t-\n", name, ours)
		return
	}
	fmt.Fprintf(t, "%s\t"+format+"\t"+format+"\t%.2f\n", name, ours, best, better)
}

// more is a row of which more is better, less one of which less is.
func (t table) more(name, format string, ours, best float64) {
	t.row(name, format, ours, best, ours/best)
}
func (t table) less(name, format string, ours, best float64) {
	t.row(name, format, ours, best, best/ours)
}

func (r result) print(w io.Writer) error {
	p := peerOf(r.alerts)
	with := ""
	if r.raw {
		with = ", raw bytes included"
	}
	fmt.Fprintf(w, "\n%d alerts of %d bytes, Microsoft to one stream%s\n", r.alerts, r.bytes/int64(r.alerts), with)
	t := newTable(w)
	t.more("alerts/s, first to last", "%.0f", rate(r.alerts, r.firstToLast), p.alertsPerSecond)
	t.more("alerts/s, from registering", "%.0f", rate(r.alerts, r.fromRegistering), 0)
	t.less("seconds from the process's start", "%.2f", r.fromStart.Seconds(), p.fromStart.Seconds())
	t.less("CPU seconds of the service", "%.2f", r.service.cpu.Seconds(), p.cpu.Seconds())
	perCPU := 0.0
	if p.cpu > 0 {
		perCPU = rate(r.alerts, p.cpu)
	}
	t.more("alerts per CPU second", "%.0f", rate(r.alerts, r.service.cpu), perCPU)
	t.less("peak memory, MB", "%.0f", mb(r.service.peak), p.peak)
	t.less("data on disk, MB", "%.0f", mb(r.stored), 0)
	t.less("CPU seconds of the simulated Microsoft", "%.2f", r.microsoftCPU.Seconds(), 0)
	t.less("CPU seconds of the client", "%.2f", r.ownCPU.Seconds(), 0)
	return t.Flush()
}

// idle is what was measured of idling.
type idle struct {
	began    time.Time
	took     time.Duration
	service  usage
	cpu      time.Duration
	repeated int
}

func (r idle) print(w io.Writer) error {
	fmt.Fprintf(w, "\nidle for %s with 10 alerts, polling, one stream open\n", r.took.Round(time.Second))
	t := newTable(w)
	t.less("memory, MB", "%.0f", mb(r.service.resident), peerIdle)
	t.less("peak memory, MB", "%.0f", mb(r.service.peak), 0)
	t.less("CPU seconds a minute", "%.3f", r.cpu.Seconds()/r.took.Minutes(), 0)
	t.less("alerts sent again", "%.0f", float64(r.repeated), 0)
	return t.Flush()
}
