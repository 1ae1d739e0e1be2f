package match

import (
	"strings"
	"testing"
	"unicode"
)

// FuzzName holds the comparison of names to what it promises: without case as strings.EqualFold compares, without spaces around
// and dots behind, and stable.
func FuzzName(f *testing.F) {
	for _, seed := range [][2]string{
		{"pc1", "PC1"}, {"PC1.contoso.com.", "pc1.Contoso.COM"}, {"\u212Aey", "key"}, {"ſite", "SITE"}, {"ΟΔΟΣ", "οδος"},
		{"", "."}, {" a. .", "a"}, {"\xff", "\ufffd"}, {"İ", "i"}, {"localhost", "Localhost.localdomain"}, {"10.0.0.1", "10"}, {".a", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	trim := func(s string) string {
		return strings.TrimRightFunc(strings.TrimLeftFunc(s, unicode.IsSpace), func(r rune) bool { return r == '.' || unicode.IsSpace(r) })
	}
	f.Fuzz(func(t *testing.T, x, y string) {
		if got, want := foldName(x) == foldName(y), strings.EqualFold(trim(x), trim(y)); got != want {
			t.Errorf("%q and %q: the same name: %v, want %v", x, y, got, want)
		}
		if once := foldName(x); foldName(once) != once {
			t.Errorf("%q: folding %q again gives %q", x, once, foldName(once))
		}
		n, ok := parseName(x)
		if !ok {
			return
		}
		label := n.label().folded
		if n.folded == "" || label == "" || strings.Contains(label, ".") || !strings.HasPrefix(n.folded, label) {
			t.Errorf("%q: name %q with the label %q", x, n.folded, label)
		}
		if n.full() != (len(label) < len(n.folded)) {
			t.Errorf("%q: full = %v, label %q", x, n.full(), label)
		}
		if n.given != x {
			t.Errorf("%q is given as %q", x, n.given)
		}
	})
}

// FuzzAddress holds addresses to their promise: what is compared is never loopback, unspecified, mapped or zoned, and stable.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "::ffff:127.0.0.1", "::1", "fe80::1%eth0", "", "::", "0.0.0.0", "10.0.0.1/8", " 10.0.0.1 "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		a, ok := parseAddress(given)
		if !ok {
			return
		}
		if a.addr.IsLoopback() || a.addr.IsUnspecified() || a.addr.Is4In6() || a.addr.Zone() != "" || !a.addr.IsValid() {
			t.Errorf("%q gives %v", given, a.addr)
		}
		if again, ok := parseAddress(a.addr.String()); !ok || again.addr != a.addr {
			t.Errorf("%q gives %v, and that %v", given, a.addr, again.addr)
		}
	})
}
