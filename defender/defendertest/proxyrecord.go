package defendertest

import (
	"bytes"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxRequests is how many requests a proxy's record keeps; the oldest are dropped beyond it.
	maxRequests = 1024
	// maxSaid is how much of what a client says is kept, in bytes.
	maxSaid = 16 << 10
)

// ProxyRequest is what a [Proxy] was asked, and what became of it.
type ProxyRequest struct {
	// Method is the request's: CONNECT where a tunnel was asked for, by HTTP or by SOCKS.
	Method string
	// Target is what was to be reached: host:port for a tunnel, an address for another request of HTTP. It is empty where SOCKS
	// refused the name and password, which go first.
	Target string
	// Username and Password are what was given, readable.
	Username, Password string
	// Header is the request's; nil for SOCKS.
	Header http.Header
	// Status is what it was answered: a status of HTTP, or a reply of SOCKS. It is 0xff where SOCKS refused the name and password, or
	// that none were offered.
	Status int
	// Opened says that there is, or was, a tunnel.
	Opened bool
	// Received and Sent are how many bytes came from the client and went to it: the request, its answer and what the tunnel took,
	// without the TLS of an https:// proxy.
	Received, Sent int64
	// Said is the beginning of what the client said, request and tunnel: 16 KiB of those that Received counts.
	Said []byte
}

// Requests returns what the proxy was asked so far, in the order in which it was asked. The last 1,024 are kept.
func (p *Proxy) Requests() []ProxyRequest { return p.requests.list() }

// proxyRecord is the record of requests.
type proxyRecord struct {
	mu      sync.Mutex
	entries []*proxyEntry
}

// proxyEntry is a request, and the connection that it came over, which still counts.
type proxyEntry struct {
	request ProxyRequest
	client  *heard
}

// add puts a request down when it was decided, before it is answered.
func (r *proxyRecord) add(request ProxyRequest, client *heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) == maxRequests {
		r.entries = slices.Delete(r.entries, 0, 1)
	}
	r.entries = append(r.entries, &proxyEntry{request: request, client: client})
}

func (r *proxyRecord) list() []ProxyRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests := make([]ProxyRequest, len(r.entries))
	for i, entry := range r.entries {
		requests[i] = entry.request
		requests[i].Header = entry.request.Header.Clone()
		requests[i].Received, requests[i].Sent = entry.client.received.Load(), entry.client.sent.Load()
		requests[i].Said = entry.client.saidSoFar()
	}
	return requests
}

// heard is a connection to a client that counts what goes over it, and keeps the beginning of what the client says.
type heard struct {
	net.Conn
	received, sent atomic.Int64

	mu   sync.Mutex
	said []byte
}

// Read reads what the client says.
func (h *heard) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.received.Add(int64(n))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, b[:min(n, maxSaid-len(h.said))]...)
	return n, err
}

// Write answers the client.
func (h *heard) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	h.sent.Add(int64(n))
	return n, err
}

func (h *heard) saidSoFar() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.said)
}
