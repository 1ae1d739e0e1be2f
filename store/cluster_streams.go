package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// formatKey is the key of a stream's metadata that has the version of its format.
const formatKey = "defender-integration.format"

// bucketMaxBytes bounds each bucket where journals are bounded, in bytes: a record takes a few kilobytes.
const bucketMaxBytes = 64 << 20

// bucketConfig returns the configuration of a bucket. It is made as a stream, since a bucket made as such answers reads from any
// replica, which may be behind: a record that was just created would not be found.
func (s *JetStream) bucketConfig(name string) jetstream.StreamConfig {
	return s.placed(jetstream.StreamConfig{
		Name:              "KV_" + name,
		Subjects:          []string{"$KV." + name + ".>"},
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew,
		AllowRollup:       true,
		DenyDelete:        true,
		AllowDirect:       false,
	}, min(s.options.JournalMaxBytes, bucketMaxBytes))
}

// journalConfig returns the configuration of the stream of an identity.
func (j *jetJournal) journalConfig(identity string) jetstream.StreamConfig {
	return j.store.placed(jetstream.StreamConfig{
		Name:               j.stream(identity),
		Subjects:           []string{j.subject(identity)},
		Discard:            jetstream.DiscardNew,
		DenyDelete:         true,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		// Fencing by sequence refuses copies; remembering message ids would only cost memory.
		Duplicates: 100 * time.Millisecond,
	}, j.store.options.JournalMaxBytes)
}

// placed returns a configuration with what the options say of all streams, and a size limit; 0: none.
func (s *JetStream) placed(config jetstream.StreamConfig, maxBytes int64) jetstream.StreamConfig {
	config.Storage = jetstream.FileStorage
	config.Replicas = s.options.Replicas
	config.Metadata = map[string]string{formatKey: strconv.Itoa(formatVersion)}
	config.MaxBytes = maxBytes
	if s.options.PlacementCluster != "" || len(s.options.PlacementTags) > 0 {
		config.Placement = &jetstream.Placement{Cluster: s.options.PlacementCluster, Tags: s.options.PlacementTags}
	}
	return config
}

// ensureStream makes a stream where there is none. One that is there stays what it is, whichever version of the service made it, but
// for what the options say of replicas, placement and size: it never gets fewer replicas. One of a later format is ErrVersion.
func (s *JetStream) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	stream, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateStream(ctx, want)
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		// Another process was faster, with other options.
		stream, err = s.js.Stream(ctx, want.Name)
	}
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	if err := checkStreamFormat(have); err != nil {
		return err
	}
	next, changed := adjusted(have, want)
	if !changed {
		return nil
	}
	if _, err = s.js.UpdateStream(ctx, next); err != nil {
		return err
	}
	return s.awaitReplicas(ctx, want.Name)
}

// awaitReplicas waits until every replica of a stream has all of it. Until then, it may have no leader for a while.
func (s *JetStream) awaitReplicas(ctx context.Context, name string) error {
	for {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		info := stream.CachedInfo()
		behind := func(p *jetstream.PeerInfo) bool { return !p.Current }
		if info.Cluster == nil || info.Cluster.Leader != "" && len(info.Cluster.Replicas) == info.Config.Replicas-1 &&
			!slices.ContainsFunc(info.Cluster.Replicas, behind) {
			return nil
		}
		select {
		case <-time.After(replicaInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replicaInterval is how often it is looked whether replicas have caught up.
const replicaInterval = 50 * time.Millisecond

// adjusted returns the configuration of a stream that is there, with what is wanted of replicas, placement and size, and whether that is
// another.
func adjusted(have, want jetstream.StreamConfig) (next jetstream.StreamConfig, changed bool) {
	next = have
	if want.Replicas > have.Replicas {
		next.Replicas, changed = want.Replicas, true
	}
	if want.MaxBytes > 0 && want.MaxBytes != have.MaxBytes {
		next.MaxBytes, changed = want.MaxBytes, true
	}
	if want.Placement != nil && (have.Placement == nil || want.Placement.Cluster != have.Placement.Cluster ||
		!slices.Equal(want.Placement.Tags, have.Placement.Tags)) {
		next.Placement, changed = want.Placement, true
	}
	return next, changed
}

// checkStreamFormat returns ErrVersion where a later version of the service made a stream in a format that this one does not know.
func checkStreamFormat(config jetstream.StreamConfig) error {
	text, ok := config.Metadata[formatKey]
	if !ok {
		return nil // Of a version that told none.
	}
	format, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("the stream %s: its format is %q, which is none", config.Name, text)
	}
	if err := checkFormat(uint32(format)); err != nil {
		return fmt.Errorf("the stream %s: %w", config.Name, err)
	}
	return nil
}
