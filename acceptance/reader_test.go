package acceptance_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	"defender-integration/acceptance/process"
	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// readerConfig says what a reader reads: from the service's socket, for each notebook the events of a request.
type readerConfig struct {
	Socket string
	// Streams are the requests as JSON, by the path of the notebook.
	Streams map[string]json.RawMessage
}

// startReader starts a reader: the Director's side of the kill test, in a process of its own so that it can be killed as well.
func startReader(t *testing.T, socket string, streams map[string]*integrationv1.StreamAlertsRequest) *process.Process {
	t.Helper()
	config := readerConfig{Socket: socket, Streams: map[string]json.RawMessage{}}
	for path, request := range streams {
		data, err := protojson.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		config.Streams[path] = data
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return process.Start(t, process.Command{Path: os.Args[0], Env: []string{readerVariable + "=" + string(data)}})
}

// readerMain is the reader's main function. It reads until it is killed; everything else is a failure.
func readerMain(text string) int {
	err := read(text)
	fmt.Fprintf(os.Stderr, "%s the reader ended: %v\n", time.Now().Format(time.TimeOnly), err)
	return 1
}

func read(text string) error {
	var config readerConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	conn, err := dial(config.Socket)
	if err != nil {
		return err
	}
	c := client.New(conn, client.WithWaits(10*time.Millisecond, 100*time.Millisecond))
	group, ctx := errgroup.WithContext(context.Background())
	for path, data := range config.Streams {
		var request integrationv1.StreamAlertsRequest
		if err := protojson.Unmarshal(data, &request); err != nil {
			return err
		}
		group.Go(func() error { return readStream(ctx, c, &request, path) })
	}
	return group.Wait()
}

// readStream notes the events of one stream, as the package client asks of a Director: event and token together, then Ack.
func readStream(ctx context.Context, c *client.Client, request *integrationv1.StreamAlertsRequest, path string) error {
	book, token, err := openNotebook(path)
	if err != nil {
		return err
	}
	request.ResumeToken = token
	for event, err := range c.Alerts(request).Events(ctx) {
		if err != nil {
			return err
		}
		line := note{Token: event.GetResumeToken()}
		if alert := event.GetAlert(); alert != nil {
			hash := sha256.Sum256(alert.GetRaw())
			line.Alert, line.ID, line.Hash, line.Kind = true, alert.GetAlert().GetId(), hash[:], alert.GetKind()
			for _, a := range alert.GetActors() {
				line.Actors = append(line.Actors, a.GetActorId())
			}
		}
		if gap := event.GetGap(); gap != nil {
			return fmt.Errorf("a gap: %v", gap)
		}
		if err := book.write(line); err != nil {
			return err
		}
		event.Ack()
	}
	return nil
}
