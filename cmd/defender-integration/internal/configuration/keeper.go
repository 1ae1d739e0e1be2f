package configuration

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// defaultInterval is how often files are looked at. They are compared by what is in them: a mount of Kubernetes changes by a link.
const defaultInterval = 5 * time.Second

// Target is the service, as far as the configuration changes it.
type Target interface {
	// Apply has an integration be as it is given, managed by source. It returns a *failure.Error where it cannot be.
	Apply(ctx context.Context, source string, integration *integrationv1.Integration) (server.Applied, error)
	// Managed returns the integrations that the configuration manages: the source of each, by its id.
	Managed(ctx context.Context) (map[string]string, error)
	// Unapply deletes an integration that the configuration managed.
	Unapply(ctx context.Context, id string) error
}

// Options are what a Keeper is made of. All are required but Interval.
type Options struct {
	// Path is the directory or file.
	Path   string
	Target Target
	Logger *slog.Logger
	// Registry takes the metrics.
	Registry prometheus.Registerer
	// Interval is how often files are looked at. Default: 5 seconds.
	Interval time.Duration
}

// Keeper keeps the integrations of the registry as the files say. It is used by one goroutine.
type Keeper struct {
	Options
	problems, appliedTime prometheus.Gauge

	// reading is what was read last, by its digest.
	reading [sha256.Size]byte
	// applied are the ids of that reading that were brought about. They are not applied again, so that a server which still has older files
	// undoes nothing of what another brought about since.
	applied map[string]bool
	// done says that all of that reading was brought about.
	done bool
	// told are the problems that were logged last.
	told []Problem
}

// New makes a Keeper. It fails where the directory or file is not there: then the path is wrong.
func New(options Options) (*Keeper, error) {
	if _, err := read(options.Path); err != nil {
		return nil, fmt.Errorf("--integrations: %s: %w", options.Path, err)
	}
	if options.Interval <= 0 {
		options.Interval = defaultInterval
	}
	k := &Keeper{
		Options: options,
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "defender_integration_configuration_problems",
			Help: "Problems in the files of --integrations; the log tells each. While there is one, nothing is deleted.",
		}),
		appliedTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "defender_integration_configuration_applied_timestamp_seconds",
			Help: "When the files of --integrations, as they are, were last brought about as a whole.",
		}),
	}
	return k, errors.Join(options.Registry.Register(k.problems), options.Registry.Register(k.appliedTime))
}

// Run brings the files about until ctx ends, each time that they change. What could not be had, since the store did not answer or an id
// is taken, is tried again.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(k.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.Pass(ctx)
		}
	}
}

// Pass looks at the files once, and brings about what changed. What is in no file any more is deleted by the pass after the one that
// found it so, where the files have not changed between and nothing is wrong with any: a file that is about to be written, moved or
// mounted costs no journal.
func (k *Keeper) Pass(ctx context.Context) {
	files, err := read(k.Path)
	reading := digest(files, err)
	settled := reading == k.reading
	if settled && k.done {
		return
	}
	if !settled {
		k.reading, k.applied, k.done = reading, make(map[string]bool), false
	}
	documents, problems := decode(files)
	if err != nil {
		problems = append(problems, Problem{File: k.Path, Text: err.Error()})
	}
	whole := true
	for _, d := range documents {
		wrong, ok := k.apply(ctx, d)
		problems = append(problems, wrong...)
		whole = whole && ok
	}
	k.tell(ctx, problems)
	if len(problems) > 0 || !whole || !settled {
		return
	}
	if k.done = k.deleteOthers(ctx, documents); k.done {
		k.appliedTime.SetToCurrentTime()
	}
}

// apply brings a document about. ok is false where it is to be tried again although nothing is wrong with it.
func (k *Keeper) apply(ctx context.Context, d Document) (problems []Problem, ok bool) {
	id := d.Integration.GetIntegrationId()
	if k.applied[id] {
		return nil, true
	}
	applied, err := k.Target.Apply(ctx, d.File, d.Integration)
	if err == nil {
		k.applied[id] = true
		if applied != server.AppliedNothing {
			k.Logger.LogAttrs(ctx, slog.LevelInfo, "an integration of the configuration was brought about",
				slog.String("integration_id", id), slog.String("file", d.File), slog.String("result", string(applied)))
		}
		return nil, true
	}
	if problems = d.Problems(err); len(problems) > 0 {
		return problems, false
	}
	k.cannot(ctx, "an integration of the configuration could not be brought about, and is tried again", id, err)
	return nil, false
}

// deleteOthers deletes what the configuration managed and has no more. It says whether it could.
func (k *Keeper) deleteOthers(ctx context.Context, documents []Document) bool {
	managed, err := k.Target.Managed(ctx)
	if err != nil {
		k.cannot(ctx, "the integrations that the configuration manages could not be read, and are tried again", "", err)
		return false
	}
	for _, d := range documents {
		delete(managed, d.Integration.GetIntegrationId())
	}
	done := true
	for _, id := range slices.Sorted(maps.Keys(managed)) {
		if err := k.Target.Unapply(ctx, id); err != nil {
			k.cannot(ctx, "an integration that the configuration has no more could not be deleted, and is tried again", id, err)
			done = false
			continue
		}
		k.Logger.LogAttrs(ctx, slog.LevelWarn, "an integration that the configuration has no more was deleted with its journal",
			slog.String("integration_id", id), slog.String("file", managed[id]))
	}
	return done
}

// cannot logs what will be tried again.
func (k *Keeper) cannot(ctx context.Context, message, id string, err error) {
	if ctx.Err() != nil {
		return // The service stops.
	}
	attrs := []slog.Attr{slog.String("error", err.Error())}
	if id != "" {
		attrs = append(attrs, slog.String("integration_id", id))
	}
	k.Logger.LogAttrs(ctx, slog.LevelWarn, message, attrs...) //nolint:sloglint // Its callers give constants.
}

// tell counts what is wrong with the files, and logs it where it is not what was wrong before.
func (k *Keeper) tell(ctx context.Context, problems []Problem) {
	k.problems.Set(float64(len(problems)))
	if slices.Equal(problems, k.told) {
		return
	}
	k.told = problems
	for _, p := range problems {
		k.Logger.LogAttrs(ctx, slog.LevelError,
			"a file of the configuration is not valid: what came from it stays as it is, and nothing is deleted until all files are",
			slog.String("file", p.File), slog.Int("line", p.Line), slog.String("field", p.Field), slog.String("problem", p.Text))
	}
	if len(problems) == 0 {
		k.Logger.LogAttrs(ctx, slog.LevelInfo, "the files of the configuration are valid")
	}
}
