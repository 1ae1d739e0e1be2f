package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"defender-integration/server"
	"defender-integration/store"
)

const (
	// reopenInterval is how long after one try to open the store the next begins.
	reopenInterval = time.Second
	// reopenReminder is how often it is logged that the store is still waited for.
	reopenReminder = time.Minute
)

// openStore opens the store. A NATS cluster that does not answer, or has no majority, is waited for until it does or ctx ends: restarted
// again and again, the service would come no sooner. Meanwhile it answers on its addresses that it is alive and not ready. What an operator
// has to mend is an error at once.
func openStore(ctx context.Context, options Options) (*store.JetStream, error) {
	opened, err := store.OpenJetStream(ctx, options.Store)
	if options.Store.URL == "" || !errors.Is(err, store.ErrUnavailable) {
		return opened, err
	}
	options.Logger.LogAttrs(ctx, slog.LevelError, "the NATS cluster cannot be used yet; waiting for it, and serving nothing until then",
		slog.String("error", err.Error()))
	registry, err := newRegistry(options.Version)
	if err != nil {
		return nil, err
	}
	settings := options.Server
	settings.Service, settings.Logger, settings.Registry = server.Waiting{}, options.Logger, registry
	settings.Ready = func(context.Context) error { return errors.New("the store was not reached yet") }
	waiting, err := server.New(settings)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer cancel()
		served <- waiting.Serve(ctx)
	}()
	opened, err = reopenStore(ctx, options)
	cancel()
	if served := <-served; served != nil {
		err = errors.Join(err, served)
	}
	if err != nil && opened != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, err
}

// reopenStore tries to open the store until it can be, an operator has to mend something, or ctx ends.
func reopenStore(ctx context.Context, options Options) (*store.JetStream, error) {
	reminded := time.Now()
	for {
		select {
		case <-time.After(reopenInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		opened, err := store.OpenJetStream(ctx, options.Store)
		if ctx.Err() == nil && errors.Is(err, store.ErrUnavailable) {
			if time.Since(reminded) >= reopenReminder {
				reminded = time.Now()
				options.Logger.LogAttrs(ctx, slog.LevelError, "still waiting for the NATS cluster", slog.String("error", err.Error()))
			}
			continue
		}
		if err == nil {
			options.Logger.LogAttrs(ctx, slog.LevelInfo, "the NATS cluster is there")
		}
		return opened, err
	}
}
