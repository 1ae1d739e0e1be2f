package collector

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// Settings are when and how deep to read. [DefaultSettings] are those of a service in earnest.
type Settings struct {
	// FastInterval and SlowInterval lie between two polls while a stream waits, and while none does. An integration may set
	// its own.
	FastInterval, SlowInterval time.Duration
	// Overlap is how far a poll reads back before what was polled already, for alerts that become visible late.
	Overlap time.Duration
	// Rereads reach deeper, less often.
	Rereads []Reread
	// EvidenceWait is how long an alert that comes without its evidence is waited for before it is taken as it is.
	EvidenceWait time.Duration
	// ClosingInterval is the least time between the beginnings of two closing reads of one integration.
	ClosingInterval time.Duration
	// ClosingLimit is how long after it was due a closing read is tried before the streams that wait for it are told that there
	// is none. It stands still while the integration is paused.
	ClosingLimit time.Duration
	// DeviceInterval lies between two look-ups of the devices while a stream asks for Actors; DeviceRefresh is the least time
	// between two, for an Actor that no device fitted.
	DeviceInterval, DeviceRefresh time.Duration
	// HuntingInterval is the least time between two times that telemetry is asked for all streams together; HuntingLimit is how long a
	// verdict waits for it.
	HuntingInterval, HuntingLimit time.Duration
	// RetryMin and RetryMax bound the growing wait after a failure that Microsoft gave no time for.
	RetryMin, RetryMax time.Duration
	// RetryPermanent is the wait after a failure that only an operator can mend, at Microsoft or here.
	RetryPermanent time.Duration
	// RetentionAge and RetentionBytes bound a journal; what is older or beyond is dropped from its front.
	RetentionAge   time.Duration
	RetentionBytes uint64
	// UpstreamRetention is how long Microsoft keeps alerts: nothing older is asked for.
	UpstreamRetention time.Duration
	// TrimInterval lies between two looks at those bounds.
	TrimInterval time.Duration
	// Budgets are how many calls this service allows itself of each limit, below what Microsoft does.
	Budgets map[defender.Limit][]Allowance
}

// Reread is a read that reaches back by Span, every Interval.
type Reread struct {
	Interval, Span time.Duration
}

// Allowance is how many calls are allowed in any span of Period, and how many of them only polls and closing reads may spend.
type Allowance struct {
	Period  time.Duration
	Calls   int
	Reserve int
}

// DefaultSettings returns the settings of a service in earnest.
func DefaultSettings() Settings {
	return Settings{
		FastInterval:    10 * time.Second,
		SlowInterval:    time.Minute,
		Overlap:         5 * time.Minute,
		Rereads:         []Reread{{Interval: 10 * time.Minute, Span: 2 * time.Hour}, {Interval: time.Hour, Span: 24 * time.Hour}},
		EvidenceWait:    10 * time.Minute,
		ClosingInterval: 30 * time.Second,
		ClosingLimit:    15 * time.Minute,
		DeviceInterval:  5 * time.Minute,
		DeviceRefresh:   time.Minute,
		HuntingInterval: 30 * time.Second,
		HuntingLimit:    3 * time.Minute,
		RetryMin:        time.Second,
		RetryMax:        time.Minute,
		RetryPermanent:  time.Minute,
		RetentionAge:    30 * 24 * time.Hour,
		RetentionBytes:  2 << 30,
		// https://learn.microsoft.com/en-us/defender-endpoint/data-storage-privacy. Graph's alerts are kept as the tenant says.
		UpstreamRetention: 180 * 24 * time.Hour,
		TrimInterval:      time.Minute,
		Budgets: map[defender.Limit][]Allowance{
			// Microsoft: 150 a minute.
			defender.LimitGraphAlerts: {{Period: time.Minute, Calls: 120, Reserve: 24}},
			// Microsoft: 100 a minute and 1,500 an hour.
			defender.LimitEndpoint: {{Period: time.Minute, Calls: 80, Reserve: 16}, {Period: time.Hour, Calls: 1200, Reserve: 240}},
			// Microsoft: at least 45 a minute, and processor time.
			defender.LimitHunting: {{Period: time.Minute, Calls: 27, Reserve: 8}},
			// Of the same limit; processor time, which Microsoft shares out by the quarter of an hour, is what these cost.
			defender.LimitTelemetry: {{Period: time.Minute, Calls: 9}, {Period: time.Hour, Calls: 120}},
			// Microsoft does not say. One answer has a whole range.
			defender.LimitSIEM: {{Period: time.Minute, Calls: 60, Reserve: 12}},
		},
	}
}

// Source is an integration's adapter.
type Source interface {
	// Alerts is where its alerts are read.
	Alerts() defender.AlertSource
	// Devices is where its devices are read; nil where it has no device source.
	Devices() defender.DeviceSource
	// Telemetry is where traces of attacks are looked for; nil where its API has none.
	Telemetry() defender.TelemetrySource
	// Close lets go of its connections.
	Close()
}

// Expiring is a [Source] whose credentials end. It is safe for concurrent use, also after Close.
type Expiring interface {
	// Expiries tells until when what the adapter calls with is good.
	Expiries() defender.Expiries
}

// ConnectFunc makes the adapter of a registered integration. It calls nothing at Microsoft.
type ConnectFunc func(record *storev1.Record, spend defender.SpendFunc) (Source, error)

// Options are what a [Manager] works with.
type Options struct {
	Settings Settings
	Store    store.Store
	// Lease is how long a server's leases outlive it, among servers that share the store: whole seconds. 0: this server is alone.
	Lease   time.Duration
	Connect ConnectFunc
	// DeviceKeys returns the keys by which a device may fit an Actor. A device that shares none with what a stream joined with
	// does not concern it.
	DeviceKeys func(*integrationv1.Device) []string
	// Wanted says what such keys ask a device source for. Default: nothing, for sources that always read all devices.
	Wanted func(keys []string) defender.Wanted
	Log    *slog.Logger
	// Metrics is where the collectors' metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer
	// Tracer makes the spans of what collectors do; nil for none. It costs nothing then.
	Tracer trace.Tracer
}
