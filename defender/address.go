package defender

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// BaseURL returns an endpoint's origin as a URL without a path. The port is left out where it is the protocol's own.
func BaseURL(endpoint *integrationv1.Endpoint) *url.URL {
	u := &url.URL{Scheme: "https"}
	own := int32(defaultPort)
	if endpoint.GetProtocol() == integrationv1.Protocol_PROTOCOL_HTTP {
		u.Scheme, own = "http", 80
	}
	u.Host = endpoint.GetHost()
	if strings.Contains(u.Host, ":") {
		u.Host = "[" + u.Host + "]"
	}
	if port := endpoint.GetPort(); port != 0 && port != own {
		u.Host = net.JoinHostPort(endpoint.GetHost(), strconv.Itoa(int(port)))
	}
	return u
}
