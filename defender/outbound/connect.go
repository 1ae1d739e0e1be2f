package outbound

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"defender-integration/defender/rest"
)

// askConnect asks an HTTP proxy, over a connection to it, for a tunnel to host:port. Its errors are without route and target.
func askConnect(ctx context.Context, connection net.Conn, p *proxy, target string) error {
	// The end of ctx ends what is being read or written.
	stop := context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })
	err := exchangeConnect(ctx, connection, p, target)
	if !stop() {
		// The deadline stays in the past, whatever the answer was.
		return &ProxyError{Fault: FaultProtocol, Err: context.Cause(ctx)}
	}
	return err
}

func exchangeConnect(ctx context.Context, connection net.Conn, p *proxy, target string) error {
	request := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: make(http.Header),
	}).WithContext(ctx)
	if p.username != "" {
		request.Header.Set("Proxy-Authorization", "Basic "+p.basic())
	}
	if err := request.Write(connection); err != nil {
		return &ProxyError{Fault: FaultProtocol, Err: err}
	}
	reader := bufio.NewReader(io.LimitReader(connection, maxHeader))
	// The body of a refusal is for people at a browser and ends with the connection; that of a tunnel is none, whatever the headers say
	// of it (https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6). Closing it would wait for it.
	answer, err := http.ReadResponse(reader, request) //nolint:bodyclose // See above.
	if err != nil {
		return &ProxyError{Fault: FaultProtocol, Err: p.withoutWords(err)}
	}
	failure := &ProxyError{Status: answer.StatusCode, Answer: rest.Excerpt(p.withoutCredentials(answer.Status))}
	switch status := answer.StatusCode; {
	case status/100 == 2 && reader.Buffered() == 0:
		return nil
	case status == http.StatusProxyAuthRequired:
		failure.Fault, failure.Schemes = FaultAuthentication, p.schemesOf(answer.Header)
	case status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		failure.Fault = FaultForbidden
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		failure.Fault = FaultTarget
	default:
		// Also a page in place of a tunnel: who opens one says nothing after its answer, for the target waits to be spoken to.
		failure.Fault = FaultProtocol
	}
	return failure
}

// schemesOf returns the names of the schemes by which a proxy lets itself be authenticated to, as it names them
// (https://www.rfc-editor.org/rfc/rfc9110#name-proxy-authenticate).
func (p *proxy) schemesOf(header http.Header) []string {
	const most = 8
	// The value of a parameter may hold commas.
	quoted := regexp.MustCompile(`"[^"]*"`)
	var schemes []string
	for _, line := range header.Values("Proxy-Authenticate") {
		// Challenges and their parameters are separated alike; a challenge begins with a word, a parameter has an equals sign.
		for part := range strings.SplitSeq(quoted.ReplaceAllLiteralString(line, "\"\""), ",") {
			words := strings.Fields(part)
			if len(words) > 0 && !strings.Contains(words[0], "=") && len(schemes) < most {
				schemes = append(schemes, rest.Excerpt(p.withoutCredentials(words[0])))
			}
		}
	}
	return schemes
}
