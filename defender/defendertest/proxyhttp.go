package defendertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxProxyHeader bounds a request's line and headers, in bytes.
const maxProxyHeader = 64 << 10

// serveHTTP reads one request, and answers it with a tunnel or a refusal. A refused client asks again over another connection.
func (p *Proxy) serveHTTP(client *heard) {
	limited := &io.LimitedReader{R: client, N: maxProxyHeader}
	reader := bufio.NewReader(limited)
	asked, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	// What is said in the tunnel has no end.
	limited.N = 1 << 62
	request := ProxyRequest{Method: asked.Method, Target: asked.RequestURI, Header: asked.Header}
	request.Username, request.Password, _ = basicOf(asked.Header)
	var target net.Conn
	request.Status, target = p.decide(&request)
	request.Opened = target != nil
	p.requests.add(request, client)
	if target == nil {
		p.refuse(client, request.Status)
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n") // the tunnel sees whether that went through
	host, _, _ := net.SplitHostPort(request.Target)
	p.tunnel(client, reader, target, host)
}

// decide tells the status for a request, and returns the connection to its target where that is 200.
func (p *Proxy) decide(request *ProxyRequest) (int, net.Conn) {
	switch {
	case len(p.options.Schemes) > 0,
		p.options.Username != "" && (request.Username != p.options.Username || request.Password != p.options.Password):
		return http.StatusProxyAuthRequired, nil
	case request.Method != http.MethodConnect:
		return http.StatusMethodNotAllowed, nil
	case p.options.Refuse != 0:
		return p.options.Refuse, nil
	}
	target, err := p.dial(request.Target)
	if err != nil {
		return http.StatusBadGateway, nil
	}
	return http.StatusOK, target
}

// refuse answers with a status and nothing else.
func (p *Proxy) refuse(client net.Conn, status int) {
	var answer strings.Builder
	fmt.Fprintf(&answer, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	switch status {
	case http.StatusProxyAuthRequired:
		schemes := p.options.Schemes
		if len(schemes) == 0 {
			schemes = []string{`Basic realm="simulated, of a test"`}
		}
		for _, scheme := range schemes {
			fmt.Fprintf(&answer, "Proxy-Authenticate: %s\r\n", scheme)
		}
	case http.StatusMethodNotAllowed:
		answer.WriteString("Allow: CONNECT\r\n")
	}
	fmt.Fprintf(&answer, "Date: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", time.Now().UTC().Format(http.TimeFormat))
	_, _ = io.WriteString(client, answer.String()) // the client may be gone
}

// basicOf reads what a proxy is told by Basic.
func basicOf(header http.Header) (username, password string, ok bool) {
	return (&http.Request{Header: http.Header{"Authorization": header.Values("Proxy-Authorization")}}).BasicAuth()
}
