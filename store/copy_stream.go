package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// snapshotChunk is how many bytes of a snapshot a message has; the engine sends at most snapshotWindow without an answer.
	snapshotChunk  = 256 << 10
	snapshotWindow = 8 << 20
	// restoreLimit bounds how long the engine may take to make a stream of a snapshot that it has whole.
	restoreLimit = 10 * time.Minute
	// restorePatience is how long a server that takes a snapshot may stay unknown: less than it waits for a chunk itself.
	restorePatience = 4 * time.Second
)

// transfer copies a stream by the engine's own snapshot and restore, which keep every sequence and time: what comes from the one goes on to
// the other. The copy has the replicas, the placement and the size limit that its own side wants.
//
// The requests are the server's own types. The library that the command-line tool is made of would do the same through a folder, with an
// interpreter of expressions and a set of JSON schemas in the program.
func transfer(ctx context.Context, from, to *JetStream, name string, maxBytes int64) error {
	chunks := make(chan *nats.Msg, snapshotWindow/snapshotChunk+2)
	inbox, err := from.conn.ChanSubscribe(from.conn.NewInbox(), chunks)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = inbox.Unsubscribe() }()
	var snapshot server.JSApiStreamSnapshotResponse
	err = from.ask(ctx, "$JS.API.STREAM.SNAPSHOT."+name, server.JSApiStreamSnapshotRequest{
		DeliverSubject: inbox.Subject, NoConsumers: true, CheckMsgs: true, ChunkSize: snapshotChunk, WindowSize: snapshotWindow,
	}, &snapshot, &snapshot.ApiResponse)
	if err != nil {
		return fmt.Errorf("make a snapshot: %w", err)
	}
	if snapshot.Config == nil || snapshot.State == nil {
		return errors.New("make a snapshot: the engine's answer lacks the stream")
	}
	var restore server.JSApiStreamRestoreResponse
	err = to.ask(ctx, "$JS.API.STREAM.RESTORE."+name, server.JSApiStreamRestoreRequest{
		Config: to.restored(*snapshot.Config, maxBytes), State: *snapshot.State,
	}, &restore, &restore.ApiResponse)
	if err != nil {
		return fmt.Errorf("restore the snapshot: %w", err)
	}
	if err := forward(ctx, from, to, chunks, restore.DeliverSubject); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, restoreLimit)
	defer cancel()
	return unavailable(to.awaitReplicas(ctx, name))
}

// restored returns the configuration that a stream gets in this store.
func (s *JetStream) restored(config server.StreamConfig, maxBytes int64) server.StreamConfig {
	config.Replicas = s.options.Replicas
	config.Placement = nil
	if s.options.PlacementCluster != "" || len(s.options.PlacementTags) > 0 {
		config.Placement = &server.Placement{Cluster: s.options.PlacementCluster, Tags: s.options.PlacementTags}
	}
	config.MaxBytes = -1
	if maxBytes > 0 {
		config.MaxBytes = maxBytes
	}
	metadata := map[string]string{formatKey: strconv.Itoa(formatVersion)}
	for key, value := range config.Metadata {
		if !strings.HasPrefix(key, "_nats.") { // Those tell of the server that it was on.
			metadata[key] = value
		}
	}
	config.Metadata = metadata
	return config
}

// forward passes the chunks of a snapshot on until it is whole, and the stream made.
func forward(ctx context.Context, from, to *JetStream, chunks <-chan *nats.Msg, subject string) error {
	for {
		ctx, cancel := context.WithTimeout(ctx, restoreLimit)
		var chunk *nats.Msg
		select {
		case chunk = <-chunks:
		case <-ctx.Done():
			cancel()
			return fmt.Errorf("wait for the snapshot: %w", ctx.Err())
		}
		end := len(chunk.Data) == 0
		if status := chunk.Header.Get("Status"); end && status != "" && status != "204" {
			cancel()
			return fmt.Errorf("the snapshot broke off: %s %s", status, chunk.Header.Get("Description"))
		}
		reply, err := to.pass(ctx, subject, chunk.Data)
		cancel()
		if err != nil {
			return fmt.Errorf("restore the snapshot: %w", unavailable(err))
		}
		if err := refusal(reply.Data); err != nil {
			return fmt.Errorf("restore the snapshot: %w", to.explain(err))
		}
		if end {
			return nil
		}
		if chunk.Reply != "" { // The last but one has none.
			if err := from.conn.Publish(chunk.Reply, nil); err != nil {
				return unavailable(err)
			}
		}
	}
}

// pass passes a chunk on. The server of a cluster that takes it may be another than the one that we are connected to, which may not have
// heard yet that it does: what nobody took is passed on again.
func (s *JetStream) pass(ctx context.Context, subject string, chunk []byte) (*nats.Msg, error) {
	for deadline := time.Now().Add(restorePatience); ; {
		reply, err := s.conn.RequestWithContext(ctx, subject, chunk)
		if !errors.Is(err, nats.ErrNoResponders) || time.Now().After(deadline) {
			return reply, err
		}
		select {
		case <-time.After(replicaInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask sends a request of the engine's and decodes the answer, whose part with the error is also given.
func (s *JetStream) ask(ctx context.Context, subject string, request, answer any, told *server.ApiResponse) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, restoreLimit)
	defer cancel()
	reply, err := s.conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		return s.explain(err)
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("the engine's answer: %w", err)
	}
	if told.Error != nil {
		return s.explain(refusal(reply.Data))
	}
	return nil
}

// syncTree makes all files below a folder durable, and the folders' lists of them.
func syncTree(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		file, err := root.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(file.Sync(), file.Close())
	})
	return errors.Join(err, root.Close())
}
