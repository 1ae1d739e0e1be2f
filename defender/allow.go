package defender

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// AllowList says which hosts may be spoken to, so that what a caller registers cannot be turned against the network that the
// service stands in. The zero AllowList allows Microsoft's hosts of the table of [Endpoints] alone: these names exactly, on
// port 443, over HTTPS. It never changes, and is safe for concurrent use.
type AllowList struct {
	// extra holds what the operator added, as "host:port" in lower case.
	extra map[string]bool
	// overHTTP allows PROTOCOL_HTTP at what the operator added.
	overHTTP bool
}

// NewAllowList returns the list of Microsoft's hosts and of these `HOST:PORT` entries (an IPv6 address in brackets).
// Over HTTP, where allowHTTP permits it at all, only the entries may be spoken to, never Microsoft's hosts.
func NewAllowList(entries []string, allowHTTP bool) (AllowList, error) {
	list := AllowList{extra: make(map[string]bool, len(entries)), overHTTP: allowHTTP}
	for _, entry := range entries {
		host, port, err := net.SplitHostPort(entry)
		if err != nil {
			return AllowList{}, fmt.Errorf("allowed endpoint %q is not HOST:PORT: %w", entry, err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 || host == "" {
			return AllowList{}, fmt.Errorf("allowed endpoint %q is not HOST:PORT with a port from 1 to 65535", entry)
		}
		list.extra[hostPort(host, int(number))] = true
	}
	return list, nil
}

// NotAllowedError says that a host, port or protocol of an integration is not allowed.
type NotAllowedError struct {
	// Field is the path of the field at fault, such as `endpoint.host`.
	Field string
	// Endpoint is what was asked for, such as `graph.example.com:443`.
	Endpoint string
	// Remedy says what to do.
	Remedy string
}

// Error names the endpoint and the field.
func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("%s: this service does not allow %s", e.Field, e.Endpoint)
}

// Problem tells an operator.
func (e *NotAllowedError) Problem() *integrationv1.Problem {
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED,
		Message: "The integration cannot be used: " + e.Error() + ".",
		Remedy:  strings.ToUpper(e.Remedy[:1]) + e.Remedy[1:] + ".",
	}
}

// Check returns a *NotAllowedError for the first endpoint of a completed integration that is not allowed: its API's, its
// authorization URL's, then its device source's.
func (a AllowList) Check(integration *integrationv1.Integration) error {
	if err := a.checkEndpoint("endpoint", integration.GetEndpoint()); err != nil {
		return err
	}
	// A managed identity has no authorization URL.
	if text := integration.GetAuthentication().GetAuthorizationUrl(); text != "" || integration.GetAuthentication().GetManagedIdentity() == nil {
		if err := a.checkURL("authentication.authorization_url", text); err != nil {
			return err
		}
	}
	if err := a.checkPassword(integration.GetProxy()); err != nil {
		return err
	}
	if integration.GetDeviceSource().GetEndpoint() == nil {
		return nil
	}
	return a.checkEndpoint("device_source.endpoint", integration.GetDeviceSource().GetEndpoint())
}

// checkPassword refuses to tell what is in a file or a variable of the operator's to a proxy that the operator did not add: the proxy
// is the caller's to choose, and so is the name, which could be that of any secret there.
func (a AllowList) checkPassword(proxy *integrationv1.Proxy) error {
	field, kept := "proxy.password_file", "a file"
	switch {
	case proxy.GetPasswordEnvVariable() != "":
		field, kept = "proxy.password_env_variable", "an environment variable"
	case proxy.GetPasswordFile() == "":
		return nil
	}
	u, err := url.Parse(proxy.GetUrl())
	if err != nil {
		u = &url.URL{}
	}
	own := map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme]
	endpoint := strings.ToLower(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), own)))
	if a.Added(endpoint) {
		return nil
	}
	return &NotAllowedError{
		Field: field, Endpoint: endpoint + " to be told what is in " + kept,
		Remedy: "give the password itself, or have the service's operator start it with --allow-endpoint " + endpoint,
	}
}

func (a AllowList) checkEndpoint(field string, endpoint *integrationv1.Endpoint) error {
	inClear := endpoint.GetProtocol() == integrationv1.Protocol_PROTOCOL_HTTP
	return a.check(field+".host", field+".protocol", endpoint.GetHost(), int(endpoint.GetPort()), inClear)
}

func (a AllowList) checkURL(field, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		// The text itself is not repeated: it might hold a password.
		return &NotAllowedError{Field: field, Endpoint: "an address that is no https:// URL of a host", Remedy: "give the URL as https://HOST/TENANT/oauth2/v2.0/token"}
	}
	port := defaultPort
	if u.Scheme == "http" {
		port = 80
	}
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			return &NotAllowedError{Field: field, Endpoint: u.Host, Remedy: "give a port from 1 to 65535"}
		}
	}
	return a.check(field, field, u.Hostname(), port, u.Scheme == "http")
}

func (a AllowList) check(hostField, protocolField, host string, port int, inClear bool) error {
	endpoint := hostPort(host, port)
	known := a.extra[endpoint] || (port == defaultPort && !inClear && isMicrosofts(host))
	switch {
	case !known:
		return &NotAllowedError{
			Field: hostField, Endpoint: endpoint,
			Remedy: "use one of Microsoft's hosts that ListEndpoints names, or have the service's operator start it with --allow-endpoint " + endpoint,
		}
	case inClear && !a.overHTTP:
		return &NotAllowedError{
			Field: protocolField, Endpoint: "http://" + endpoint,
			Remedy: "use HTTPS, or, for a simulated Microsoft, have the service's operator start it with --allow-http",
		}
	}
	return nil
}

// Added says whether the operator added an entry, as `host:port`: it may lead to loopback addresses too.
func (a AllowList) Added(entry string) bool { return a.extra[strings.ToLower(entry)] }

func hostPort(host string, port int) string {
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(port))
}
