// Package defender is the adapter to Microsoft: how to reach it, and how to read what it says. Each API generation has a folder
// of its own below it, and all of them end in the same [integrationv1.Alert].
//
// It decides nothing about when to call and what an alert means; the collector and package match do.
package defender

import (
	"context"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// AlertSource reads the alerts of one tenant over one API.
type AlertSource interface {
	// ReadAlerts reads everything with a last update at or after since, oldest first, without an upper bound, and gives each
	// element to yield. It pages as the API needs it and never gives the same bytes twice in one read.
	//
	// A nil error means that the read was whole: every page was read to its end, and yield took every element. Otherwise what
	// was yielded is good, the rest is unknown, and the error is an *Error where Microsoft or the network is the cause, or what
	// yield returned. One with the reason UPSTREAM_RANGE_FAILED says that the read came to its end around what Microsoft fails on:
	// everything outside its problem's `missing` was read, and within it the rest is unknown.
	ReadAlerts(ctx context.Context, since time.Time, known KnownFunc, yield func(*Element) error) (Read, error)
}

// KnownFunc tells whether an element with exactly these bytes is known already, and what it is. A known element is not decoded.
type KnownFunc func(rawHash [32]byte) (Known, bool)

// Known is what paging needs of an element that is known already.
type Known struct {
	// Key is what the revisions of one alert share.
	Key string
	// Updated is the element's last update; zero where it has none that can be read.
	Updated time.Time
}

// Element is one alert as it was read.
type Element struct {
	// Raw is the element exactly as served. It is valid until yield returns.
	Raw []byte
	// RawHash is the SHA-256 of Raw.
	RawHash [32]byte
	// Known says that KnownFunc knew the bytes: ContentHash and Alert are not set.
	Known bool
	// Key is the alert's id; where it has none, "sha256:" and the hexadecimal ContentHash.
	Key string
	// Updated is the last update; where it cannot be read, when the element was read (by this machine's clock), and ReadTime is set.
	Updated time.Time
	// ReadTime says that Updated is not Microsoft's.
	ReadTime bool
	// WithoutEvidence says that it is an alert that came without the evidence which its API tells with each: no revision of it, unless
	// Microsoft says nothing else of it.
	WithoutEvidence bool
	// ContentHash is the SHA-256 of the canonical content: key order, white space and the order of evidence do not count.
	ContentHash [32]byte
	// Alert is the decoded element. It shares nothing with Raw and belongs to yield.
	Alert *integrationv1.Alert
}

// Read is what is known of a whole read.
type Read struct {
	// Through is when the read began, by Microsoft's clock: the first answer's Date header, less that request's round trip and a
	// second.
	Through time.Time
	// Asked is when that request was made, by this machine's clock.
	Asked time.Time
	// Elements is how many elements were returned, known ones among them, each counted once.
	Elements int64
	// Calls is how many calls at the API it took.
	Calls int
	// WantedOnly says of a read of devices that others than those wanted were not asked for: that one is not among what was read
	// says nothing of it.
	WantedOnly bool
}

// Probed is what a single, small call at an API found out: that it can be read.
type Probed struct {
	// Elements is how many elements the answer had.
	Elements int
	// Date is the answer's Date header; zero where it has none that can be read. Received is when it came by this machine's
	// clock, RoundTrip how long it took.
	Date      time.Time
	Received  time.Time
	RoundTrip time.Duration
}

// DeviceSource reads the devices of one tenant.
type DeviceSource interface {
	// ReadDevices reads the devices and gives each to yield, which then owns it: all that are wanted, and others where the source
	// cannot be asked for some alone. A nil error means that the read was whole.
	ReadDevices(ctx context.Context, wanted Wanted, yield func(*integrationv1.Device) error) (Read, error)
}

// Wanted says which devices are looked for: those that have any one of these values. Names are compared without case.
type Wanted struct {
	// DeviceIDs are ids in Defender for Endpoint, EntraIDs those in Entra.
	DeviceIDs, EntraIDs []string
	// FullNames are fully qualified names.
	FullNames []string
	// Labels are first labels of any name, short or full. ShortNames are names without a domain: a device with a full name does
	// not have one.
	Labels, ShortNames []string
	// Addresses are IP addresses.
	Addresses []string
}

// RhythmOf returns how old the last report of a device that is well may be, going by how often a kind of device source learns of
// reports. The list of machines tells full reports, which come about once a day
// (https://learn.microsoft.com/en-us/defender-endpoint/api/machine, lastSeen); DeviceInfo has one each hour
// (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceinfo-table).
func RhythmOf(kind integrationv1.DeviceSource_Kind) time.Duration {
	switch kind {
	case integrationv1.DeviceSource_KIND_MACHINES:
		return 26 * time.Hour
	case integrationv1.DeviceSource_KIND_HUNTING:
		return 3 * time.Hour
	default:
		return 0
	}
}

// Limit names one limit as Microsoft counts it, per application and tenant.
type Limit string

// The limits.
const (
	// LimitGraphAlerts is 150 calls a minute on Graph's alerts (https://learn.microsoft.com/en-us/graph/throttling-limits).
	LimitGraphAlerts Limit = "graph-alerts"
	// LimitEndpoint is 100 calls a minute and 1,500 an hour at Defender for Endpoint, alerts and machines together: its refusals
	// name a counter for each destination, tenant and application
	// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines).
	LimitEndpoint Limit = "defender-for-endpoint"
	// LimitHunting is 45 calls a minute, in small tenants, of advanced hunting over Graph
	// (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview).
	LimitHunting Limit = "hunting"
	// LimitTelemetry is what of the same limit is spent on looking for the traces of attacks, which costs more processor time.
	LimitTelemetry Limit = "telemetry"
	// LimitSIEM is what this service allows itself of the SIEM API, whose limit is not documented.
	LimitSIEM Limit = "siem"
)

// Expiries are until when what an integration calls with is good; each is zero where there is none, or it is not known yet.
type Expiries struct {
	// AlertToken and DeviceToken are the tokens in use.
	AlertToken, DeviceToken time.Time
	// Certificate is the client certificate that the last of them was asked for with.
	Certificate time.Time
}

// SpendFunc is asked before each call at an API. It returns nil when the call may be made and is counted, and an *Error with
// the reason BUDGET_SPENT when it may not; it may wait a little before. Token requests are not asked for.
type SpendFunc func(ctx context.Context, limit Limit) error

// Error is why Microsoft could not be called or read, in words for an operator. Its text holds no secret and no token.
type Error struct {
	// Problem is the reason, what happened, and what to do. Its `since` is not set.
	Problem *integrationv1.Problem
	// RetryAt is when Microsoft said to come again, by this machine's clock; zero where it said nothing.
	RetryAt time.Time
	// Permanent says that trying again without a change is useless: an operator's error, or one of ours.
	Permanent bool
	// Err is the cause, for the log; it may be nil.
	Err error
}

// Error returns the problem's message and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Problem.GetMessage()
	}
	return e.Problem.GetMessage() + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
