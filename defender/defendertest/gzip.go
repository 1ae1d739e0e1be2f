package defendertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
)

// Gzip compresses the true answer.
func Gzip() Responder {
	return compressed(func(answer *Answer, body []byte) {
		answer.Body = [][]byte{body}
		answer.size = len(body)
	})
}

// GzipCut compresses the true answer and ends it after n bytes of that, as if they were all.
func GzipCut(n int) Responder {
	return compressed(func(answer *Answer, body []byte) {
		answer.Body = [][]byte{body[:min(n, len(body))]}
		answer.Spoiled = true
	})
}

// GzipLie sends the true answer as it is, and says that it is compressed.
func GzipLie() Responder {
	return compressed(func(answer *Answer, _ []byte) { answer.Spoiled = true })
}

// compressed makes a responder that says that its answer is compressed; change gets the true one and what it is compressed.
func compressed(change func(answer *Answer, body []byte)) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.Header.Set("Content-Encoding", "gzip")
		change(answer, deflate(answer.Body...))
		return answer
	}
}

// GzipBomb answers with an empty list of which the white space expands to so many bytes, from a thousandth of that.
func GzipBomb(expanded int) Responder {
	const block = 1 << 20
	// Compressed texts may be joined: the same block stands for all of them.
	space := deflate(bytes.Repeat([]byte{' '}, block))
	body := [][]byte{deflate([]byte(`{"value":[`))}
	for range expanded / block {
		body = append(body, space)
	}
	body = append(body, deflate([]byte("]}")))
	return func(context.Context, *http.Request, func() *Answer) *Answer {
		answer := NewAnswer(http.StatusOK, "")
		answer.Header.Set("Content-Encoding", "gzip")
		answer.Body = body
		return answer
	}
}

// deflate compresses a text.
func deflate(pieces ...[]byte) []byte {
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	for _, piece := range pieces {
		_, _ = writer.Write(piece) // a buffer takes everything
	}
	_ = writer.Close()
	return compressed.Bytes()
}
