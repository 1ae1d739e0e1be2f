package defendertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
)

// The bytes of SOCKS 5 (https://www.rfc-editor.org/rfc/rfc1928), and of its name and password
// (https://www.rfc-editor.org/rfc/rfc1929).
const (
	socksVersion     = 5
	socksNoPassword  = 0
	socksPassword    = 2
	socksNoMethod    = 0xff
	socksConnect     = 1
	socksIPv4        = 1
	socksName        = 3
	socksIPv6        = 4
	socksUnreachable = 4
	socksRefused     = 5
	socksNoCommand   = 7
	socksNoAddress   = 8
	passwordVersion  = 1
)

// serveSOCKS reads what a client asks for, and answers with a tunnel or a refusal.
func (p *Proxy) serveSOCKS(client *heard) {
	request := ProxyRequest{Method: http.MethodConnect, Status: socksNoMethod}
	refusal, err := p.greet(client, &request)
	if err != nil {
		return
	}
	if refusal != nil {
		p.requests.add(request, client)
		_, _ = client.Write(refusal)
		return
	}
	reply, err := readSOCKSRequest(client, &request)
	if err != nil {
		return
	}
	var target net.Conn
	if reply == 0 {
		reply, target = p.decideSOCKS(request.Target)
	}
	request.Status, request.Opened = int(reply), target != nil
	p.requests.add(request, client)
	// The address is that of the proxy's end, which nobody needs.
	_, _ = client.Write([]byte{socksVersion, reply, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	if target == nil {
		return
	}
	host, _, _ := net.SplitHostPort(request.Target)
	p.tunnel(client, client, target, host)
}

// greet agrees on a method of authentication and goes through it. Who may not go on is to be answered the refusal that it returns.
// Its errors are the end of the connection.
func (p *Proxy) greet(client io.ReadWriter, request *ProxyRequest) (refusal []byte, err error) {
	head, err := take(client, 2)
	if err != nil {
		return nil, err
	}
	methods, err := take(client, int(head[1]))
	if err != nil {
		return nil, err
	}
	method := byte(socksNoPassword)
	if p.options.Username != "" {
		method = socksPassword
	}
	if head[0] != socksVersion || !bytes.Contains(methods, []byte{method}) {
		return []byte{socksVersion, socksNoMethod}, nil
	}
	if _, err := client.Write([]byte{socksVersion, method}); err != nil || method == socksNoPassword {
		return nil, err
	}
	if _, err := take(client, 1); err != nil {
		return nil, err
	}
	for _, text := range []*string{&request.Username, &request.Password} {
		if *text, err = takeText(client); err != nil {
			return nil, err
		}
	}
	if request.Username != p.options.Username || request.Password != p.options.Password {
		const failed = 1
		return []byte{passwordVersion, failed}, nil
	}
	_, err = client.Write([]byte{passwordVersion, 0})
	return nil, err
}

// readSOCKSRequest reads what is asked for into request. reply is 0 where that can be answered.
func readSOCKSRequest(client io.Reader, request *ProxyRequest) (reply byte, err error) {
	head, err := take(client, 4)
	if err != nil {
		return 0, err
	}
	var host string
	switch head[3] {
	case socksIPv4, socksIPv6:
		size := net.IPv4len
		if head[3] == socksIPv6 {
			size = net.IPv6len
		}
		bytes, err := take(client, size)
		if err != nil {
			return 0, err
		}
		address, _ := netip.AddrFromSlice(bytes) // it has one of the two sizes
		host = address.String()
	case socksName:
		if host, err = takeText(client); err != nil {
			return 0, err
		}
	default:
		return socksNoAddress, nil
	}
	port, err := take(client, 2)
	if err != nil {
		return 0, err
	}
	request.Target = net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port))))
	if head[1] != socksConnect {
		return socksNoCommand, nil
	}
	return 0, nil
}

// decideSOCKS tells the reply for a target, and returns the connection to it where that is 0.
func (p *Proxy) decideSOCKS(address string) (byte, net.Conn) {
	if p.options.Refuse != 0 {
		return byte(p.options.Refuse), nil
	}
	target, err := p.dial(address)
	switch {
	case err == nil:
		return 0, target
	case errors.Is(err, syscall.ECONNREFUSED):
		return socksRefused, nil
	default:
		return socksUnreachable, nil
	}
}

// take reads n bytes, of which there are at most 255.
func take(from io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(from, b)
	return b, err
}

// takeText reads a text with its length before it.
func takeText(from io.Reader) (string, error) {
	size, err := take(from, 1)
	if err != nil {
		return "", err
	}
	text, err := take(from, int(size[0]))
	return string(text), err
}
