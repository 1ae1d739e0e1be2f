package defendertest

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"strconv"
)

// send writes the answer, and reports whether all of it was taken by the connection. ctx ends a pause.
func (a *Answer) send(ctx context.Context, w http.ResponseWriter) bool {
	if a.Cut && a.CutAfter < 0 {
		return false
	}
	maps.Copy(w.Header(), a.Header)
	if a.Cut {
		a.truncate(a.CutAfter)
	}
	if a.noise || a.liesAboutItsLength() {
		a.sendRaw(w)
		return false
	}
	w.WriteHeader(a.Status)
	sent := 0
	for _, piece := range a.Body {
		if a.Pause != nil && sent+len(piece) >= a.PauseAfter {
			head := piece[:max(a.PauseAfter-sent, 0)]
			if !write(w, head) || !a.pause(ctx, w) {
				return false
			}
			piece = piece[len(head):]
			sent += len(head)
		}
		if !write(w, piece) {
			return false
		}
		sent += len(piece)
	}
	if a.Pause != nil && !a.pause(ctx, w) { // PauseAfter is beyond the body
		return false
	}
	// Without the flush, small answers would still be in net/http's buffer when they are called served.
	return http.NewResponseController(w).Flush() == nil
}

func write(w http.ResponseWriter, piece []byte) bool {
	_, err := w.Write(piece)
	return err == nil
}

// pause waits for the pause's end, once; it reports whether that came before the request's.
func (a *Answer) pause(ctx context.Context, w http.ResponseWriter) bool {
	if http.NewResponseController(w).Flush() != nil {
		return false
	}
	select {
	case <-a.Pause:
		a.Pause = nil
		return true
	case <-ctx.Done():
		return false
	}
}

// liesAboutItsLength says that a Content-Length was given that is not the body's.
func (a *Answer) liesAboutItsLength() bool {
	given := a.Header.Get("Content-Length")
	return given != "" && given != strconv.Itoa(a.bodySize())
}

// sendRaw writes the answer past net/http, which sends no wrong length and nothing but HTTP, and closes the connection. Only HTTP/1
// can be spoken so: in HTTP/2 the caller is told that.
func (a *Answer) sendRaw(w http.ResponseWriter) {
	header := w.Header().Clone()
	connection, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.Header().Del("Content-Length")
		w.WriteHeader(http.StatusHTTPVersionNotSupported)
		return
	}
	defer connection.Close()
	if !a.noise {
		writeHead(buffer.Writer, a.Status, header)
	}
	for _, piece := range a.Body {
		_, _ = buffer.Write(piece)
	}
	_ = buffer.Flush()
}

// writeHead writes what comes before a body.
func writeHead(w *bufio.Writer, status int, header http.Header) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = header.Write(w)
	_, _ = w.WriteString("\r\n")
}

// WrongLength sends the true answer with a Content-Length that is by so many bytes too long; too short where by is negative. It
// needs HTTP/1.
func WrongLength(by int) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.Header.Set("Content-Length", strconv.Itoa(max(answer.bodySize()+by, 0)))
		return answer
	}
}

// Noise sends bytes that are no HTTP, and closes the connection. It needs HTTP/1.
func Noise(bytes string) Responder {
	return func(context.Context, *http.Request, func() *Answer) *Answer {
		return &Answer{Header: http.Header{}, Body: [][]byte{[]byte(bytes)}, noise: true}
	}
}
