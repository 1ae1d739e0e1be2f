package monitoring_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// series are the input of a test: a storage for Prometheus' engine.
type series struct {
	storage.LabelQuerier
	all []*storage.SeriesEntry
}

// sample is a number at a time, in milliseconds since 1970.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                    { return s.at }
func (sample) ST() int64                     { return 0 }
func (s sample) F() float64                  { return s.value }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }

// newSeries makes the input of a test.
func newSeries(t *testing.T, test ruleTest) *series {
	t.Helper()
	s := &series{}
	for _, input := range test.InputSeries {
		metric, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(input.Series + " " + input.Values)
		if err != nil {
			t.Fatalf("%s: %v", input.Series, err)
		}
		var samples []chunks.Sample
		for i, v := range values {
			if !v.Omitted {
				samples = append(samples, sample{at: int64(i) * time.Duration(test.Interval).Milliseconds(), value: v.Value})
			}
		}
		s.all = append(s.all, storage.NewListSeries(metric, samples))
	}
	return s
}

// Querier implements storage.Queryable.
func (s *series) Querier(_, _ int64) (storage.Querier, error) { return s, nil }

// Close implements storage.Querier.
func (*series) Close() error { return nil }

// Select implements storage.Querier.
func (s *series) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{at: -1}
	for _, one := range s.all {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(one.Labels().Get(m.Name)) }) {
			set.all = append(set.all, one)
		}
	}
	slices.SortFunc(set.all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

type seriesSet struct {
	all []storage.Series
	at  int
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.all) }
func (s *seriesSet) At() storage.Series              { return s.all[s.at] }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// fire evaluates a rule from the beginning to a time, and returns what fires then.
func (s *series) fire(t *testing.T, r rule, interval, until time.Duration) []firing {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1 << 20, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	defer func() { _ = engine.Close() }()
	since := map[string]time.Duration{}
	for at := time.Duration(0); ; at += interval {
		query, err := engine.NewInstantQuery(t.Context(), s, nil, r.Expr, time.UnixMilli(at.Milliseconds()))
		if err != nil {
			t.Fatal(err)
		}
		vector, err := query.Exec(t.Context()).Vector()
		if err != nil {
			t.Fatal(err)
		}
		active := map[string]time.Duration{}
		var alerts []firing
		for _, one := range vector {
			own := labels.NewBuilder(one.Metric).Del(labels.MetricName).Labels()
			began, ok := since[own.String()]
			if !ok {
				began = at
			}
			if active[own.String()] = began; at-began >= time.Duration(r.For) {
				alerts = append(alerts, s.alert(t, r, own, one, at))
			}
		}
		if at+interval > until {
			return alerts
		}
		since = active
	}
}

// alert is what a rule makes of one result.
func (s *series) alert(t *testing.T, r rule, own labels.Labels, one promql.Sample, at time.Duration) firing {
	t.Helper()
	expand := func(texts map[string]string) map[string]string {
		expanded := map[string]string{}
		for key, text := range texts {
			e := template.NewTemplateExpander(t.Context(), "{{$labels := .Labels}}{{$value := .Value}}"+text, r.Alert,
				template.AlertTemplateData(own.Map(), nil, "", one), model.Time(at.Milliseconds()), nil, nil, nil)
			got, err := e.Expand()
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			expanded[key] = got
		}
		return expanded
	}
	f := firing{Labels: own.Map(), Annotations: expand(r.Annotations)}
	maps.Copy(f.Labels, expand(r.Labels))
	return f
}
