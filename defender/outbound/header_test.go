package outbound

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// unlimited writes a beginning and then a line for ever to whoever asks it anything, and returns its address.
func unlimited(t *testing.T, beginning, line string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(connection).ReadString('\n')
			lines := strings.Repeat(line, 1000)
			for _, err = connection.Write([]byte(beginning)); err == nil; {
				_, err = connection.Write([]byte(lines))
			}
			_ = connection.Close()
		}
	}()
	return listener.Addr().String()
}

// tokens are of no worth to anyone.
type tokens struct{}

func (tokens) Token(context.Context) (string, error)         { return "token", nil }
func (tokens) Renew(context.Context, string) (string, error) { return "token", nil }

// Headers, and answers before the answer, that do not end are no answer.
func TestHeadersAreBounded(t *testing.T) {
	for name, address := range map[string]string{
		"one header":     unlimited(t, "HTTP/1.1 200 OK\r\nX: ", strings.Repeat("x", 100)),
		"many headers":   unlimited(t, "HTTP/1.1 200 OK\r\n", "X: y\r\n"),
		"early hints":    unlimited(t, "", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"),
		"a status line":  unlimited(t, "HTTP/1.1 200 ", "OK"),
		"no line at all": unlimited(t, "", "x"),
	} {
		t.Run(name, func(t *testing.T) {
			transport := newOutbound(t, Config{Allowed: func(string) bool { return true }}).Transport()
			defer transport.CloseIdleConnections()
			client := rest.NewClient(rest.Config{
				Name: "The list", Base: &url.URL{Scheme: "http", Host: address}, HTTP: rest.NewHTTPClient(transport), Tokens: tokens{},
				Spend: func(context.Context, defender.Limit) error { return nil }, Unreachable: Problem,
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, _, err := client.Get(ctx, client.Base())
			if e, ok := errors.AsType[*defender.Error](err); !ok || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE {
				t.Errorf("error is %v, want that there was no answer", err)
			}
		})
	}
}

// Trailers that do not end fail the body.
func TestTrailersAreBounded(t *testing.T) {
	address := unlimited(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\n[]\r\n0\r\n", "X: y\r\n")
	transport := newOutbound(t, Config{Allowed: func(string) bool { return true }}).Transport()
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := make([]byte, 100)
	for err == nil {
		var n int
		if n, err = response.Body.Read(body); n > 2 {
			t.Fatalf("the body goes on with %s", body[:n])
		}
	}
	if ctx.Err() != nil || !strings.Contains(err.Error(), "trailer") {
		t.Errorf("error is %v, want one of the trailer", err)
	}
}
