package outbound

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"defender-integration/defender/rest"
)

// Kind is how a proxy is spoken to.
type Kind string

// The kinds.
const (
	// KindHTTP is spoken to in clear, and asked for a tunnel by CONNECT
	// (https://www.rfc-editor.org/rfc/rfc9110#name-connect).
	KindHTTP Kind = "http"
	// KindHTTPS is asked likewise, over TLS.
	KindHTTPS Kind = "https"
	// KindSOCKS5 speaks SOCKS 5 (https://www.rfc-editor.org/rfc/rfc1928) and looks up the target's name itself, as socks5h does
	// elsewhere.
	KindSOCKS5 Kind = "socks5"
)

// maxCredential bounds name and password of a SOCKS proxy, in bytes (https://www.rfc-editor.org/rfc/rfc1929).
const maxCredential = 255

// proxy is a forward proxy with what it is told. Others hold it by its pointer, which prints without what is behind it.
type proxy struct {
	kind Kind
	// address is host:port in lower case, host its first part.
	address, host string
	// username is empty where nothing is told.
	username, password string
}

// newProxy reads a proxy's URL, in which there is no name and password. Its errors repeat neither.
func newProxy(text, username, password string) (*proxy, error) {
	u, err := url.Parse(text)
	if err != nil {
		// The parser's error would repeat the text, in which a password could stand.
		return nil, errors.New("it is not a URL; special characters in a name or password must be percent-encoded")
	}
	if u.User != nil {
		return nil, errors.New("name and password do not belong in its URL")
	}
	return newProxyOf(u, username, password)
}

// newProxyWithUser reads a proxy's URL, in which name and password may stand, percent-encoded.
func newProxyWithUser(text string) (*proxy, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is not a URL; special characters in a name or password must be percent-encoded")
	}
	password, _ := u.User.Password()
	if u.User.Username() == "" && password != "" {
		return nil, errors.New("it has a password without a name")
	}
	return newProxyOf(u, u.User.Username(), password)
}

func newProxyOf(u *url.URL, username, password string) (*proxy, error) {
	p := &proxy{username: username, password: password, host: strings.ToLower(u.Hostname())}
	var own string
	switch strings.ToLower(u.Scheme) {
	case "http":
		p.kind, own = KindHTTP, "80"
	case "https":
		p.kind, own = KindHTTPS, "443"
	case "socks5", "socks5h":
		p.kind, own = KindSOCKS5, "1080"
	default:
		return nil, errors.New("its scheme is none of http, https and socks5")
	}
	port := cmp.Or(u.Port(), own)
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case p.host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("it is not a scheme with a host and a port")
	case err != nil || number == 0:
		return nil, errors.New("its port is not a number from 1 to 65535")
	case p.kind != KindSOCKS5 && strings.Contains(username, ":"):
		// https://www.rfc-editor.org/rfc/rfc7617#section-2
		return nil, errors.New("a name with a colon cannot be told to an HTTP proxy")
	case p.kind == KindSOCKS5 && (len(username) > maxCredential || len(password) > maxCredential):
		return nil, fmt.Errorf("name and password of a SOCKS proxy have at most %d bytes each", maxCredential)
	}
	p.address = net.JoinHostPort(p.host, strconv.FormatUint(number, 10))
	return p, nil
}

// basic returns name and password as HTTP proxies are told them (https://www.rfc-editor.org/rfc/rfc7617).
func (p *proxy) basic() string {
	return base64.StdEncoding.EncodeToString([]byte(p.username + ":" + p.password))
}

// withoutCredentials returns a proxy's words without what it was told, should it repeat that.
func (p *proxy) withoutCredentials(words string) string {
	if p.username == "" {
		return words
	}
	for _, basic := range []string{p.basic(), strings.TrimRight(p.basic(), "=")} {
		words = strings.ReplaceAll(words, basic, "[credentials]")
	}
	if p.password != "" {
		words = strings.ReplaceAll(words, p.password, "[password]")
	}
	return words
}

// withoutWords returns an error of reading a proxy's answer as it may be told. The library repeats what it cannot read, without a
// bound, and what answers may be something that repeats what it was told.
func (p *proxy) withoutWords(err error) error {
	if _, ok := errors.AsType[net.Error](err); ok {
		return err
	}
	return errors.New(rest.Excerpt(p.withoutCredentials(err.Error())))
}
