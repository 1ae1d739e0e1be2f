// Package machines reads devices from Defender for Endpoint's list of machines
// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines). Microsoft retires it apart from Graph's alerts.
package machines

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/lenient"
	"defender-integration/defender/page"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxPages bounds a read: ten million devices in Microsoft's pages of 10,000.
const maxPages = 1000

// Source reads devices. It is safe for concurrent use.
type Source struct {
	client *rest.Client
	list   *url.URL
}

var _ defender.DeviceSource = (*Source)(nil)

// NewSource returns a source that calls through client, under an API version such as `v1.0`, or Microsoft's newest where
// version is empty.
func NewSource(client *rest.Client, version string) *Source {
	return &Source{client: client, list: client.Base().JoinPath("api", version, "machines")}
}

// ReadDevices reads all devices, wanted or not; see [defender.DeviceSource]: also those that were merged into others, were excluded or
// are not onboarded, and every one of those that share a name. A device that pages tell twice is given twice. Through and Asked are zero where
// no answer tells the time, and where Microsoft says, by a 404, that there are none.
func (s *Source) ReadDevices(ctx context.Context, _ defender.Wanted, yield func(*integrationv1.Device) error) (defender.Read, error) {
	r := reading{ctx: ctx, source: s, yield: yield, fields: fields()}
	// Without $top: with it, Microsoft caps the whole list and gives no next link.
	err := r.everything()
	return r.result, err
}

// Probe reads one page of at most one device: that devices can be read.
func (s *Source) Probe(ctx context.Context) (defender.Probed, error) {
	r := reading{ctx: ctx, source: s, yield: func(*integrationv1.Device) error { return nil }, fields: fields()}
	target := *s.list
	target.RawQuery = "$top=1"
	_, err := r.page(&target)
	return defender.Probed{Elements: int(r.result.Elements), Date: r.date, Received: r.received, RoundTrip: r.roundTrip}, err
}

// reading is one read under way.
type reading struct {
	ctx      context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	source   *Source
	yield    func(*integrationv1.Device) error
	fields   lenient.Fields[*integrationv1.Device]
	document lenient.Document
	result   defender.Read
	// What the last answer told: see [defender.Probed].
	date      time.Time
	received  time.Time
	roundTrip time.Duration
}

func (r *reading) everything() error {
	target := r.source.list
	read := map[string]bool{}
	for len(read) < maxPages {
		if read[target.String()] {
			return r.invalid("The list of machines' next link leads round in a circle.")
		}
		read[target.String()] = true
		link, err := r.page(target)
		if err != nil || link == "" {
			return err
		}
		if target, err = r.source.list.Parse(link); err != nil {
			return r.invalid("The list of machines' next link is no address.")
		}
	}
	return r.invalid("The list of machines does not end.")
}

// page reads one page and returns its next link.
func (r *reading) page(target *url.URL) (link string, err error) {
	answer, calls, err := r.source.client.Get(r.ctx, target)
	r.result.Calls += calls
	if err != nil {
		if r.isEmpty(err) {
			return "", nil
		}
		return "", err
	}
	defer answer.Close()
	r.date, r.received, r.roundTrip = answer.Date, answer.Received, answer.RoundTrip
	if r.result.Through.IsZero() && !answer.Date.IsZero() {
		r.result.Through = answer.Date.UTC().Add(-answer.RoundTrip - time.Second)
		r.result.Asked = answer.Received.Add(-answer.RoundTrip)
	}
	var yieldErr error
	read, err := page.Read(answer.Body, func(raw []byte) error {
		yieldErr = r.element(raw)
		return yieldErr
	})
	switch {
	case err == nil:
		return read.NextLink, nil
	case yieldErr != nil:
		return "", yieldErr
	case page.IsUnusable(err):
		return "", r.source.client.Invalid(answer, r.source.client.Name()+" answered what cannot be used: "+err.Error()+".", nil)
	default:
		return "", r.source.client.BodyError(r.ctx, answer, err)
	}
}

// isEmpty says whether err is the 404 that stands for a list without recent machines. It carries Microsoft's error code; one
// without comes from somewhere else, and past the API's end it says that there is no such list any more.
func (r *reading) isEmpty(err error) bool {
	var e *defender.Error
	return r.result.Elements == 0 && errors.As(err, &e) && e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_API_RETIRED &&
		e.Problem.GetHttpStatus() == http.StatusNotFound && e.Problem.GetUpstreamCode() != ""
}

// element gives one device on. One without an id cannot be told from others, and is left out.
func (r *reading) element(raw []byte) error {
	if err := r.document.Parse(raw); err != nil {
		return r.invalid("The list of machines holds one that is no JSON.")
	}
	r.result.Elements++
	device := &integrationv1.Device{}
	// Oddities have no place in a device: what cannot be read is empty.
	if machine := r.document.Root(); machine.IsObject() {
		lenient.ReadObject(machine, r.fields, device, passOver)
	}
	if device.GetMdeDeviceId() == "" {
		return nil
	}
	device.IpAddresses = Addresses(device.GetIpAddresses())
	return r.yield(device)
}

func (r *reading) invalid(message string) error {
	return r.source.client.Invalid(nil, message, nil)
}
