package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The beginnings of the identities' textual forms.
const (
	spiffePrefix  = "spiffe://"
	dnsPrefix     = "dns:"
	uidPrefix     = "uid:"
	gidPrefix     = "gid:"
	localPrefix   = "local:"
	subjectPrefix = "x509:"
)

// Anonymous is the identity of a caller on another machine that nobody asked for a certificate. There are such callers only on a
// server that was told to be insecure.
const Anonymous = "anonymous"

// belowPath ends the form that stands for every SPIFFE id below a path.
const belowPath = "/*"

// dnsForm is what a DNS name in a certificate or a policy looks like: labels of letters, digits, hyphens and underscores, in lower case.
var dnsForm = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// localForm is what the way of a local caller is named with.
var localForm = regexp.MustCompile(`^[a-z]{1,16}$`)

// OfCertificate returns the identities of whoever holds a certificate, which the caller of this function has verified: its SPIFFE id
// where it has one, else its DNS names. What it is called otherwise is no identity that a policy could name; it stands there for the log.
func OfCertificate(leaf *x509.Certificate) []string {
	if id, ok := spiffeIDOf(leaf); ok {
		return []string{id}
	}
	var names []string
	for _, name := range leaf.DNSNames {
		// A wildcard names nobody.
		if name = plainDNS(name); len(name) <= maxDNSName && dnsForm.MatchString(name) {
			names = append(names, dnsPrefix+name)
		}
	}
	if len(names) == 0 {
		names = append(names, subjectPrefix+leaf.Subject.String())
	}
	return names
}

// maxDNSName is the length of the longest DNS name.
const maxDNSName = 253

// plainDNS returns a DNS name as it is compared: in lower case, without the dot at its end.
func plainDNS(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// spiffeIDOf returns a certificate's SPIFFE id. As the SPIFFE standard wants it, that is the only URI that the certificate has.
func spiffeIDOf(leaf *x509.Certificate) (id string, ok bool) {
	if len(leaf.URIs) != 1 {
		return "", false
	}
	parsed, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return "", false
	}
	return parsed.String(), true
}

// OfUser returns the identities of a process of this machine that runs as a user and a group.
func OfUser(uid, gid uint32) []string {
	return []string{
		uidPrefix + strconv.FormatUint(uint64(uid), 10),
		gidPrefix + strconv.FormatUint(uint64(gid), 10),
	}
}

// Local returns the identity of a process of this machine of which only the way is known that it came by, such as tcp.
func Local(way string) string { return localPrefix + way }

// checkIdentity returns an error that says what is wrong with an identity of a policy file.
func checkIdentity(identity string) error {
	kind := func(prefix string) (rest string, ok bool) { return strings.CutPrefix(identity, prefix) }
	if identity == Anonymous {
		return nil
	}
	if strings.HasPrefix(identity, spiffePrefix) {
		_, err := spiffeid.FromString(strings.TrimSuffix(identity, belowPath))
		return err
	}
	if name, ok := kind(dnsPrefix); ok {
		if len(name) > maxDNSName || !dnsForm.MatchString(name) {
			return errors.New("is no DNS name in lower case; there are no wildcards in it")
		}
		return nil
	}
	for _, prefix := range []string{uidPrefix, gidPrefix} {
		if number, ok := kind(prefix); ok {
			if n, err := strconv.ParseUint(number, 10, 32); err != nil || strconv.FormatUint(n, 10) != number {
				return errors.New("is no number of a user or group")
			}
			return nil
		}
	}
	if way, ok := kind(localPrefix); ok && localForm.MatchString(way) {
		return nil
	}
	return fmt.Errorf("is none: it must begin with %s, %s, %s or %s, or be %s or %s",
		spiffePrefix, dnsPrefix, uidPrefix, gidPrefix, Local("tcp"), Anonymous)
}
