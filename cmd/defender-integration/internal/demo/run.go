package demo

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Options are the settings of [Run].
type Options struct {
	// Out is what a person watches.
	Out io.Writer
	// Colour says that Out shows the colours of a terminal (ANSI escape sequences).
	Colour bool
	// Exit ends the demonstration after the campaign. Otherwise it stays up until it is told to stop.
	Exit bool
	// Ways are how the campaign is run, one after the other. Where there are several, it ends after the last with one table of their
	// verdicts. Default: through Graph's alerts_v2.
	Ways []Way
	// Version is the program's version.
	Version string
	// Logger is what the service logs to. Its handler is wrapped with server.LogHandler.
	Logger *slog.Logger
}

// ErrNotAsScripted says that a verdict was not the scripted one.
var ErrNotAsScripted = errors.New("not every verdict is the scripted one")

// errStopped says that the demonstration was to end with the campaign, and was stopped before.
var errStopped = errors.New("stopped before the campaign was over")

// errServiceStopped says that the service ended by itself. Why is told when the house is closed.
var errServiceStopped = errors.New("the service stopped by itself")

// Run runs the demonstration: about half a minute each way, and with Exit not set until ctx ends. It leaves nothing behind. It returns
// ErrNotAsScripted where what the service said was not what the script expects; with Exit also an error where ctx ended before
// the campaign did.
func Run(ctx context.Context, options Options) error { return run(ctx, options, campaign(time.Now())) }

// run is Run with a script.
func run(ctx context.Context, options Options, s script) error {
	n := newNarrator(options.Out, options.Colour)
	if len(options.Ways) == 0 {
		options.Ways = []Way{{API: integrationv1.Api_API_GRAPH_SECURITY}}
	}
	options.Exit = options.Exit || len(options.Ways) > 1
	var all []outcomes
	asScripted := true
	for _, way := range options.Ways {
		results, err := runWay(ctx, options, n, s.through(way), way)
		switch {
		case errors.Is(err, ErrNotAsScripted):
			asScripted = false
		case err != nil:
			return err
		}
		all = append(all, outcomes{way, results})
	}
	if len(all) > 1 {
		n.comparison(all)
	}
	if !asScripted {
		return errors.Join(ErrNotAsScripted, n.err)
	}
	return n.err
}

// runWay runs the campaign one way, and returns what came of it.
func runWay(ctx context.Context, options Options, n *narrator, s script, way Way) (results []*result, err error) {
	h, err := open(ctx, s.devices, options.Version, options.Logger)
	if err != nil {
		return nil, err
	}
	defer func() {
		n.stopping()
		err = errors.Join(err, h.close(), n.err)
	}()
	n.welcome(h, way)
	// A service that stopped would be called again and again: what rests on it ends with it.
	playing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		<-h.served
		cancel(errServiceStopped)
	}()
	results, asScripted, err := play(playing, h, n, &s, way)
	switch {
	case err != nil && ctx.Err() != nil && options.Exit:
		return nil, errStopped
	case err != nil && ctx.Err() != nil:
		return nil, nil
	case err != nil:
		return nil, err
	}
	if !options.Exit {
		n.commands(h, &s)
		stayUp(playing, h, n, &s)
	}
	if !asScripted {
		return results, ErrNotAsScripted
	}
	return results, nil
}

// play registers, tests and runs the campaign. It returns what came of it, and says whether everything was as scripted.
func play(ctx context.Context, h *house, n *narrator, s *script, way Way) ([]*result, bool, error) {
	l, err := dial(h.address)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = l.Close() }()
	d := newDirector(l, n, s)
	if err := d.register(ctx, way.settings(h.microsoft)); err != nil {
		return nil, false, err
	}
	if err := d.test(ctx); err != nil {
		return nil, false, err
	}
	results, err := runCampaign(ctx, h, n, s)
	if err != nil {
		return nil, false, err
	}
	return results, n.results(results), nil
}

// runCampaign runs all attacks, each at its time and with a stream of its own, and returns what came of them in the script's
// order.
func runCampaign(ctx context.Context, h *house, n *narrator, s *script) ([]*result, error) {
	began := time.Now()
	n.campaign(s, began)
	results := make([]*result, len(s.attacks))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return defend(ctx, h.tenant, n, "", s.others, began) })
	for i := range s.attacks {
		a := &s.attacks[i]
		began := began.Add(a.begins)
		group.Go(func() error { return defend(ctx, h.tenant, n, a.actor.GetActorId(), a.steps, began) })
		group.Go(func() error {
			if err := sleepUntil(ctx, began); err != nil {
				return err
			}
			if err := awaitRead(ctx, h.tenant, a, began); err != nil {
				return err
			}
			n.attack(a, s.window)
			l, err := dial(h.address)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			results[i], err = newDirector(l, n, s).watch(ctx, l, a, began, func() error {
				return defend(ctx, h.tenant, n, a.actor.GetActorId(), a.afterwards, began)
			})
			return err
		})
	}
	return results, group.Wait()
}

// awaitRead waits until the alerts from before the attack were read: its stream tells at its start which of them are open.
func awaitRead(ctx context.Context, tenant *defendertest.Tenant, a *attack, began time.Time) error {
	for _, step := range a.steps {
		if step.at >= 0 || step.alert == nil {
			continue
		}
		if err := tenant.WaitServed(ctx, step.alert(began, began).ID); err != nil {
			return err
		}
	}
	return nil
}

// defend does what the script says that Defender does, each step at its time.
func defend(ctx context.Context, tenant *defendertest.Tenant, n *narrator, actorID string, steps []step, began time.Time) error {
	for _, step := range steps {
		if err := sleepUntil(ctx, began.Add(step.at)); err != nil {
			return err
		}
		if step.event != nil {
			n.defender(actorID, step.told)
			tenant.PutEvent(step.event(began, time.Now()))
			continue
		}
		a := step.alert(began, time.Now())
		// An alert is changed only once its revision before was read, or nobody could have sent that.
		if err := tenant.WaitServed(ctx, a.ID); err != nil {
			return err
		}
		n.defender(actorID, step.told)
		tenant.AddAlert(a)
	}
	return nil
}

// freshEvery is how often an alert is raised after the campaign.
const freshEvery = 20 * time.Second

// stayUp lets the printed commands be tried until ctx ends, with a fresh alert for the first Actor now and then.
func stayUp(ctx context.Context, h *house, n *narrator, s *script) {
	first := s.attacks[0]
	for sleepUntil(ctx, time.Now().Add(freshEvery)) == nil {
		now := time.Now()
		a := first.steps[0].alert(now.Add(-time.Second), now)
		a.ID = "" // A new one.
		h.tenant.AddAlert(a)
		n.fresh("an alert about " + first.actor.GetActorId())
	}
}
