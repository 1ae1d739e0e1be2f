package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"defender-integration/store"
)

// RotationStep is a part of changing the sealing key.
type RotationStep string

// The steps. Where servers of a cluster have copies of the key file, it must have come to all of them, and they be started again, after
// each of the first two.
const (
	// RotationAdd adds a new key to the key file: it opens, and does not seal yet.
	RotationAdd RotationStep = "add"
	// RotationUse has that key seal.
	RotationUse RotationStep = "use"
	// RotationFinish seals with it what others sealed, and drops those from the file.
	RotationFinish RotationStep = "finish"
	// RotationAll is all of them, for a store that nothing else uses.
	RotationAll RotationStep = "all"
)

// RotateKey changes the sealing key, or does one step of that, and returns what it did in words. It can be killed at any point and called
// again: it goes on where it was.
func RotateKey(ctx context.Context, options Options, step RotationStep) (done []string, err error) {
	if options.SealingKeyFile, err = sealingKeyFile(options); err != nil {
		return nil, err
	}
	switch step {
	case RotationAdd:
		return addKey(options.SealingKeyFile, nil)
	case RotationUse:
		return useKey(options.SealingKeyFile, nil)
	case RotationAll:
		if options.Store.URL != "" {
			return nil, errors.New("servers may run on the cluster, and each needs the new key before anything is sealed with it: do --step add, " +
				"give all servers the key file and start them again; the same with --step use; then do --step finish")
		}
	case RotationFinish:
	default:
		return nil, fmt.Errorf("--step %q is none of add, use, finish and all", step)
	}
	// The lock of the data directory says here that a server runs on it.
	options.Store.Logger = options.Logger
	opened, err := store.OpenJetStream(ctx, options.Store)
	if err != nil {
		return nil, err
	}
	done, err = rotate(ctx, opened, options, step)
	return done, errors.Join(err, opened.Close())
}

// rotate does the steps that need the store, behind those that do not where all are asked for.
func rotate(ctx context.Context, opened *store.JetStream, options Options, step RotationStep) ([]string, error) {
	path := options.SealingKeyFile
	// First it is seen that the key is the right one: another must not be changed, let alone dropped.
	if err := fits(ctx, opened, path, options.Logger); err != nil {
		return nil, err
	}
	var done []string
	var err error
	if step == RotationAll {
		if done, err = addKey(path, done); err != nil {
			return done, err
		}
		if done, err = useKey(path, done); err != nil {
			return done, err
		}
	}
	sealer, err := store.OpenSealer(path, false)
	if err != nil {
		return done, err
	}
	if newest, err := store.NewestSeals(path); err != nil || !newest {
		return done, errors.Join(err, errors.New("the newest key does not seal yet, and would be dropped: do --step use first"))
	}
	resealed, err := sealer.Reseal(ctx, opened)
	if err != nil {
		return done, err
	}
	done = append(done, fmt.Sprintf("the secrets of %d integrations were sealed with the new key", resealed))
	dropped, err := store.DropOtherKeys(path)
	if err != nil {
		return done, err
	}
	return append(done, fmt.Sprintf("%d old keys were dropped from %s", dropped, path)), nil
}

// fits fails where the key file is not there, is another than what is stored was sealed with, or does not open all of it.
func fits(ctx context.Context, opened *store.JetStream, path string, logger *slog.Logger) error {
	if _, err := store.OpenSealer(path, false); err != nil {
		return err
	}
	sealer, err := openSealer(ctx, opened, path, logger)
	if err != nil {
		return err
	}
	unopened, err := sealer.CheckKey(ctx, opened)
	if err == nil && len(unopened) > 0 {
		err = fmt.Errorf("the secrets of these integrations cannot be opened with it: %v: delete and register them again first", unopened)
	}
	return err
}

func addKey(path string, done []string) ([]string, error) {
	added, err := store.AddKey(path)
	if err != nil {
		return done, err
	}
	if added {
		return append(done, "a new key was added to "+path), nil
	}
	return append(done, path+" has a new key already: the change that was begun goes on"), nil
}

func useKey(path string, done []string) ([]string, error) {
	if _, err := store.UseNewestKey(path); err != nil {
		return done, err
	}
	return append(done, "the newest key in "+path+" seals from now on"), nil
}
