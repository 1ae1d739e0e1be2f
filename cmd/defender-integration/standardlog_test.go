package main

import (
	"bytes"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is a buffer that is written and read at one time.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// What a host sends unasked is told by the client in a line of the service's log, which does not quote it.
func TestWhatLibrariesLog(t *testing.T) {
	var out lockedBuffer
	restore := leadStandardLog(slog.New(slog.NewJSONHandler(&out, nil)))
	defer restore()
	const planted = "planted-words"
	// The client keeps the connection, and so sees what comes unasked, where it has noticed that the request was written before the answer is
	// there; and it tells of nothing on a connection that is closed meanwhile.
	written, told := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		<-written
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + planted))
		<-told
	}))
	defer server.Close()
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(written) }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); out.String() == "" && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(told)
	server.Close()
	if text := out.String(); !strings.Contains(text, `"msg":"a library says","text":"Unsolicited response`) || strings.Contains(text, planted) {
		t.Errorf("the log has\n%s", text)
	}
	restore()
	if _, led := log.Writer().(standardLog); led {
		t.Error("the standard logger is not what it was")
	}
}
