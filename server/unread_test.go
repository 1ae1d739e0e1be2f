package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

const (
	unreadLimit = 2 * time.Minute
	unreadGrace = 30 * time.Second
)

// The references of the streams of these tests: one whose events have no end, one that sends an event a minute, one that ends by
// itself after more events than a client that does not read lets through.
const (
	endless = "endless"
	quiet   = "quiet"
	ending  = "ending"
)

// manyEvents is how many events a stream with the reference ending has: of 600 bytes they are more than a window of 64 KiB, and less
// than what is handed to gRPC ahead.
const manyEvents = 130

// handled is how a stream's handler ended, and when.
type handled struct {
	reference string
	err       error
	at        time.Time
}

// play makes the streams of these tests, each of events of so many bytes, and returns where the ends of the handlers are told. Tokens
// count on from the request's.
func (h *harness) play(size int) <-chan handled {
	ended := make(chan handled, 16)
	h.streams.run = func(ctx context.Context, request *integrationv1.StreamAlertsRequest, send send) error {
		err := playStream(ctx, request, send, size)
		ended <- handled{request.GetReference(), err, time.Now()}
		return err
	}
	return ended
}

func playStream(ctx context.Context, request *integrationv1.StreamAlertsRequest, send send, size int) error {
	token, _ := strconv.Atoi(request.GetResumeToken()) // Without one it begins at 0.
	for i := 1; request.GetReference() != ending || i <= manyEvents; i++ {
		if err := send(&integrationv1.StreamAlertsResponse{
			ResumeToken: strconv.Itoa(token + i), Reference: strings.Repeat("r", size),
		}); err != nil {
			return err
		}
		if request.GetReference() != quiet {
			continue
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// open opens a stream on a connection and receives its first event, with the token after the one that it began with.
func open(
	t *testing.T, conn *grpc.ClientConn, reference string, token int,
) grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse] {
	t.Helper()
	stream, err := integrationv1.NewIntegrationServiceClient(conn).StreamAlerts(t.Context(), &integrationv1.StreamAlertsRequest{
		IntegrationId: "contoso", Reference: reference, ResumeToken: strconv.Itoa(token),
	})
	if err != nil {
		t.Fatal(err)
	}
	event, err := stream.Recv()
	if err != nil || event.GetResumeToken() != strconv.Itoa(token+1) {
		t.Fatalf("the first event is %v, %v", event, err)
	}
	return stream
}

// fixedWindow gives a connection's streams windows of 64 KiB: in fake time it is endlessly fast, and what gRPC estimates for it has no
// end.
func fixedWindow() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithStaticStreamWindowSize(64 << 10), grpc.WithStaticConnWindowSize(1 << 20)}
}

// rest receives what comes after a token, to the end. It fails unless the tokens go on by one, and returns the last with the error.
func rest(t *testing.T, stream grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse], token int) (int, error) {
	t.Helper()
	for {
		event, err := stream.Recv()
		if err != nil {
			return token, err
		}
		if token++; event.GetResumeToken() != strconv.Itoa(token) {
			t.Fatalf("the event after %d is %s", token-1, event.GetResumeToken())
		}
	}
}

// unreadCounted returns how many streams were ended as unread, and how many connections closed.
func (h *harness) unreadCounted(t *testing.T) (streams, connections int) {
	t.Helper()
	return int(h.counter(t, "defender_integration_streams_unread_total", nil)),
		int(h.counter(t, "defender_integration_connections_unread_total", nil))
}

func wantUnread(t *testing.T, err error, limit time.Duration) {
	t.Helper()
	info := wantFailure(t, err, codes.ResourceExhausted, integrationv1.ErrorReason_ERROR_REASON_STREAM_UNREAD, "left unread", "resume")
	if info.GetMetadata()["limit"] != limit.String() {
		t.Errorf("metadata %v", info.GetMetadata())
	}
	wantRetry(t, err)
}

func TestAStreamThatIsLeftUnreadEndsWithAReasonAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, harnessOptions{})
		ended := h.play(6000)
		began := time.Now()
		stream := open(t, h.conn, endless, 0)
		end := <-ended
		if took := end.at.Sub(began); took != unreadLimit {
			t.Errorf("it ended after %s", took)
		}
		synctest.Wait() // The line comes after the handler's end.
		if lines := h.log.lines("left unread", `"limit":"2m0s"`, `"reference":"endless"`, `"integration_id":"contoso"`); len(lines) != 1 {
			t.Errorf("the log says so %d times", len(lines))
		}
		// What was sent comes first.
		last, err := rest(t, stream, 1)
		wantUnread(t, err, unreadLimit)
		if last < 10 {
			t.Errorf("%d events were sent ahead", last)
		}
		if n := h.counted(t, "StreamAlerts", "ResourceExhausted"); n != 1 {
			t.Errorf("%v calls are counted", n)
		}

		// The connection is as good as before, then and after the grace, and the stream goes on where it ended.
		again := open(t, h.conn, quiet, last)
		for range 3 {
			if _, err := again.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if streams, connections := h.unreadCounted(t); streams != 1 || connections != 0 {
			t.Errorf("%d streams and %d connections are counted", streams, connections)
		}
	})
}

func TestTheConnectionOfAStreamThatStaysUnreadIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, harnessOptions{})
		ended := h.play(6000)
		began := time.Now()
		elsewhere := open(t, h.dial(t), quiet, 0)
		stream, beside := open(t, h.conn, endless, 0), open(t, h.conn, quiet, 0)
		<-ended

		// The stream beside it was as good as ever, up to the grace's end.
		last, err := rest(t, beside, 1)
		if status.Code(err) != codes.Unavailable || last != 3 || time.Since(began) != unreadLimit+unreadGrace {
			t.Errorf("the stream beside it ended after %s and %d events with %v", time.Since(began), last, err)
		}
		if lines := h.log.lines("its connection is closed", `"caller":"local:bufconn"`, `"reference":"endless"`); len(lines) != 1 {
			t.Errorf("the log says so %d times", len(lines))
		}
		if streams, connections := h.unreadCounted(t); streams != 1 || connections != 1 {
			t.Errorf("%d streams and %d connections are counted", streams, connections)
		}
		for range 5 {
			if _, err := elsewhere.Recv(); err != nil {
				t.Fatalf("the stream on another connection ended with %v", err)
			}
		}

		// It ended without a status: what had come can be read, and it resumes behind that.
		last, err = rest(t, stream, 1)
		if status.Code(err) != codes.Unavailable {
			t.Errorf("it ended with %v", err)
		}
		open(t, h.conn, quiet, last)
	})
}

// What a client has read reaches the server by quarters of its window, here 16 KiB: less than one event.
func TestASlowStreamIsNeverEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, harnessOptions{})
		ended := h.play(20_000)
		slow := open(t, h.dial(t, fixedWindow()...), endless, 0)
		for i := range 30 {
			select {
			case end := <-ended:
				t.Fatalf("it was ended after %d events: %v", i+1, end.err)
			case <-time.After(unreadLimit - time.Nanosecond):
			}
			if _, err := slow.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if end := <-ended; end.err == nil {
			t.Error("it was not ended when nothing was read any more")
		}
		// So slowly it reads on, and is left alone too, to its status.
		for {
			_, err := slow.Recv()
			if err != nil {
				wantUnread(t, err, unreadLimit)
				break
			}
			time.Sleep(unreadGrace - time.Nanosecond)
		}
		if streams, connections := h.unreadCounted(t); streams != 1 || connections != 0 {
			t.Errorf("%d streams and %d connections are counted", streams, connections)
		}
	})
}

func TestAStreamThatEndedByItselfIsNotLeftUnreadEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, harnessOptions{})
		ended := h.play(600)
		began := time.Now()
		conn := h.dial(t, fixedWindow()...)
		read, left := open(t, h.dial(t), ending, 0), open(t, conn, ending, 0)
		for range 2 {
			if end := <-ended; end.err != nil || !end.at.Equal(began) {
				t.Fatalf("the handler ended at %s with %v", end.at.Sub(began), end.err)
			}
		}
		if last, err := rest(t, read, 1); !errors.Is(err, io.EOF) || last != manyEvents {
			t.Errorf("the one ended after %d events with %v", last, err)
		}
		beside := open(t, conn, quiet, 0)
		if _, err := rest(t, beside, 1); status.Code(err) != codes.Unavailable || time.Since(began) != unreadLimit {
			t.Errorf("the connection ended after %s with %v", time.Since(began), err)
		}
		if streams, connections := h.unreadCounted(t); streams != 0 || connections != 1 {
			t.Errorf("%d streams and %d connections are counted", streams, connections)
		}
		if last, err := rest(t, left, 1); status.Code(err) != codes.Unavailable || last >= manyEvents {
			t.Errorf("the other ended after %d events with %v", last, err)
		}
	})
}

func TestDrainingEndsWithinItsTimeoutThoughAStreamIsUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 15 * time.Second
		h := newHarness(t, harnessOptions{change: func(o *server.Options) { o.DrainTimeout = timeout }})
		ended := h.play(6000)
		open(t, h.conn, endless, 0)
		streams := []grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse]{open(t, h.conn, quiet, 0), open(t, h.dial(t), quiet, 0)}
		synctest.Wait() // Until nothing more is read, nothing more can be sent.
		began := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- h.stop() }()
		for _, stream := range streams {
			_, err := rest(t, stream, 1)
			wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING)
		}
		for range 3 {
			if end := <-ended; !errors.Is(end.err, context.Canceled) {
				t.Errorf("%s ended with %v", end.reference, end.err)
			}
		}
		if time.Since(began) != 0 {
			t.Errorf("the others and all handlers ended after %s", time.Since(began))
		}
		if err := <-stopped; err != nil || time.Since(began) != timeout {
			t.Errorf("it stopped after %s with %v", time.Since(began), err)
		}
		if lines := h.log.lines("cut off"); len(lines) != 1 {
			t.Errorf("the log says so %d times", len(lines))
		}
	})
}

// Over real sockets: the connection is closed, whatever the kind, and freed of all that it held.
func TestUnreadStreamsOverSockets(t *testing.T) {
	ca := newAuthority(t, "ca")
	certFile, keyFile := ca.server(t)
	socket := filepath.Join(t.TempDir(), "s")
	s, h := start(t, server.Options{
		Address: "127.0.0.1:0", UnixSocket: socket, UnreadLimit: 50 * time.Millisecond,
		TLS: server.TLSFiles{Certificate: certFile, Key: keyFile, ClientCA: ca.file},
	})
	h.play(6000)
	// What is left unread begins once the first event was read, so that there is one, however late it came.
	run, read := h.streams.run, make(chan struct{})
	h.streams.run = func(ctx context.Context, request *integrationv1.StreamAlertsRequest, send send) error {
		sent := 0
		return run(ctx, request, func(event *integrationv1.StreamAlertsResponse) error {
			if sent++; sent == 2 && request.GetReference() == endless {
				select {
				case <-read:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return send(event)
		})
	}
	healthy := open(t, h.conn, quiet, 0)
	for i, test := range []struct {
		target, caller string
		security       credentials.TransportCredentials
	}{
		{s.Addresses()[1].String(), "dns:director", credentials.NewTLS(ca.trusting(ca.client(t)))},
		{"unix://" + socket, fmt.Sprintf("uid:%d", os.Getuid()), insecure.NewCredentials()},
	} {
		t.Run(test.caller, func(t *testing.T) {
			// A window that gRPC widens afterwards would let the status through.
			conn, err := grpc.NewClient(test.target, append(fixedWindow(), grpc.WithTransportCredentials(test.security))...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			stream := open(t, conn, endless, 0)
			read <- struct{}{}
			eventually(t, "the connection is closed", func() bool {
				streams, connections := h.unreadCounted(t)
				return streams == i+1 && connections == i+1
			})
			if lines := h.log.lines("its connection is closed", `"caller":"`+test.caller+`"`); len(lines) != 1 {
				t.Errorf("the log says so %d times", len(lines))
			}
			last, err := rest(t, stream, 1)
			if status.Code(err) != codes.Unavailable {
				t.Errorf("it ended with %v", err)
			}
			open(t, conn, quiet, last)
		})
	}
	// Had anything of them been left, the server would not stop in order.
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	if lines := h.log.lines("cut off"); len(lines) > 0 {
		t.Errorf("something had to be cut off: %s", lines)
	}
	_, err := rest(t, healthy, 1)
	wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING)
}
