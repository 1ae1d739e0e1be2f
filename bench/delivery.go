package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// deliveryMetric is the service's own histogram of how long an alert took from its entry in the journal to its streams.
const deliveryMetric = "defender_integration_delivery_seconds"

// deliveries counts alerts by the least of the histogram's bounds, in seconds, within which each was delivered.
type deliveries map[float64]uint64

// deliveriesOf adds up what servers have delivered so far, by the metrics that they serve at addresses.
func deliveriesOf(ctx context.Context, addresses []string) (deliveries, error) {
	sum := deliveries{}
	for _, address := range addresses {
		if err := sum.add(ctx, address); err != nil {
			return nil, fmt.Errorf("the metrics at %s: %w", address, err)
		}
	}
	return sum, nil
}

// add adds what a server has delivered so far.
func (d deliveries) add(ctx context.Context, address string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return err
	}
	family := families[deliveryMetric]
	if family == nil {
		return fmt.Errorf("there is no %s", deliveryMetric)
	}
	for _, metric := range family.GetMetric() {
		below := uint64(0)
		for _, bucket := range metric.GetHistogram().GetBucket() { // They are in order, and each counts those before it too.
			d[bucket.GetUpperBound()] += bucket.GetCumulativeCount() - below
			below = bucket.GetCumulativeCount()
		}
		d[math.Inf(1)] += metric.GetHistogram().GetSampleCount() - below // Whether or not there was such a bucket.
	}
	return nil
}

// since returns what was delivered after before was taken.
func (d deliveries) since(before deliveries) deliveries {
	since := deliveries{}
	for bound, count := range d {
		since[bound] = count - before[bound]
	}
	return since
}

// String tells what part was delivered within each bound.
func (d deliveries) String() string {
	all := uint64(0)
	for _, count := range d {
		all += count
	}
	var parts []string
	within := uint64(0)
	for _, bound := range slices.SortedFunc(maps.Keys(d), cmp.Compare[float64]) {
		within += d[bound]
		if d[bound] > 0 && !math.IsInf(bound, 1) {
			parts = append(parts, fmt.Sprintf("%.1f %% within %g ms", 100*float64(within)/float64(all), 1000*bound))
		}
	}
	return strings.Join(parts, ", ")
}
