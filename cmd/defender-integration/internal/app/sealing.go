package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"defender-integration/store"
)

// sealingKeyFile returns the file of the sealing key.
func sealingKeyFile(options Options) (string, error) {
	switch {
	case options.SealingKeyFile != "":
		return options.SealingKeyFile, nil
	case options.Store.URL != "":
		return "", errors.New("--sealing-key-file is needed with --nats-url: all that share the cluster must share the key")
	default:
		return filepath.Join(options.Store.Dir, "sealing.key"), nil
	}
}

// checkRegistry reads every record, so that what this version cannot read is told at the start, and says whether there are any.
func checkRegistry(ctx context.Context, registry store.Registry) (registered bool, err error) {
	for after := ""; ; registered = true {
		records, err := registry.Records(ctx, after, recordsAtOnce)
		if errors.Is(err, store.ErrVersion) {
			return false, fmt.Errorf("read the registry: %w: run the version that wrote it, or a later one; nothing was changed", err)
		}
		if err != nil {
			return false, fmt.Errorf("read the registry: %w", err)
		}
		if len(records) == 0 {
			return registered, nil
		}
		after = records[len(records)-1].Record.GetIntegration().GetIntegrationId()
	}
}

// recordsAtOnce is how many records are read at once.
const recordsAtOnce = 100

// sealedStore is what of a store holds something sealed.
type sealedStore interface {
	store.Registry
	store.Seals
}

// openSealer opens the sealing key, and makes one only where nothing is stored that another key has sealed. It fails where the key is
// another than the one that what is stored was sealed with: a service without the right one can use nothing of it.
func openSealer(ctx context.Context, in sealedStore, path string, logger *slog.Logger) (*store.Sealer, error) {
	registered, err := checkRegistry(ctx, in)
	if err != nil {
		return nil, err
	}
	_, marked, err := in.SealMark(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the mark of the sealing key: %w", err)
	}
	sealer, err := store.OpenSealer(path, !registered && marked == 0)
	if errors.Is(err, store.ErrNoKey) {
		return nil, fmt.Errorf("%w, and secrets are stored that were sealed with it: %s", err, bringBack)
	}
	if err != nil {
		return nil, err
	}
	unopened, err := sealer.CheckKey(ctx, in)
	if errors.Is(err, store.ErrKey) {
		return nil, fmt.Errorf("%s: %w: %s", path, err, bringBack)
	}
	if err != nil {
		return nil, err
	}
	if len(unopened) > 0 {
		logger.LogAttrs(ctx, slog.LevelError, "the secrets of integrations cannot be opened, though the sealing key is the right one: another "+
			"process sealed them with another key; give them again, by deleting and registering these integrations",
			slog.String("integration_ids", strings.Join(unopened, " ")))
	}
	return sealer, nil
}

// bringBack says what to do where the sealing key is missing.
const bringBack = "bring the key file back, or name it with --sealing-key-file. All servers on one store need the same. Where it is lost, " +
	"those secrets are too, and nothing can open them: start on an empty store, and register the integrations again"
