package connectivitytest_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// The names that resolve, besides those that this machine knows by itself.
const (
	namedLogin = "login.contoso.test"
	namedAPI   = "graph.contoso.test"
	// poisoned is a host of Microsoft's that a name server leads to the metadata service of clouds.
	poisoned = "graph.microsoft.com"
	// unserved is a domain whose name servers fail.
	unserved = "unserved.test"
)

// addresses are what the names resolve to.
func addresses(name string) (netip.Addr, bool) {
	switch name {
	case namedLogin + ".", namedAPI + ".":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	case poisoned + ".":
		return netip.AddrFrom4([4]byte{169, 254, 169, 254}), true
	}
	return netip.Addr{}, false
}

// askNames returns a connection to a name server that lives as long as it does. It speaks as DNS does over TCP: each message has its
// length before it (https://www.rfc-editor.org/rfc/rfc1035#section-4.2.2).
func askNames() net.Conn {
	asking, answering := net.Pipe()
	go func() {
		defer answering.Close()
		for {
			var length [2]byte
			if _, err := io.ReadFull(answering, length[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(answering, question); err != nil {
				return
			}
			answer, err := answerOf(question)
			if err != nil {
				return
			}
			if _, err := answering.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		}
	}()
	return asking
}

// answerOf answers a question: with a name's one IPv4 address, with none of another kind, that there is no such name, or that
// the server fails.
func answerOf(question []byte) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(question); err != nil {
		return nil, err
	}
	message.Response, message.Additionals = true, nil
	for _, q := range message.Questions {
		address, known := addresses(q.Name.String())
		switch {
		case strings.HasSuffix(q.Name.String(), "."+unserved+"."):
			message.RCode = dnsmessage.RCodeServerFailure
		case !known:
			message.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			message.Answers = append(message.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	return message.Pack()
}
