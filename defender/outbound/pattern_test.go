package outbound

import "testing"

func TestPatternFits(t *testing.T) {
	tests := []struct {
		pattern string
		fits    []string
		not     []string
	}{
		{"login.example.com", []string{"https://login.example.com", "https://LOGIN.example.com.:8443"}, []string{"https://a.login.example.com", "https://xlogin.example.com", "https://example.com"}},
		{"Login.Example.com.", []string{"https://login.example.com"}, []string{"https://example.com"}},
		{".example.com", []string{"https://example.com", "https://a.example.com", "https://b.a.example.com"}, []string{"https://notexample.com", "https://example.com.org"}},
		{"*.example.com", []string{"https://a.example.com", "https://b.a.example.com"}, []string{"https://example.com", "https://notexample.com"}},
		{"example.com:8443", []string{"https://example.com:8443"}, []string{"https://example.com", "https://example.com:84430"}},
		{"*.example.com:443", []string{"https://a.example.com"}, []string{"https://a.example.com:8443"}},
		{"localhost", []string{"https://localhost"}, []string{"https://127.0.0.1"}},
		{"10.0.0.0/8", []string{"https://10.1.2.3", "https://[::ffff:10.1.2.3]"}, []string{"https://11.1.2.3", "https://10.example.com"}},
		{"10.9.9.9/8:443", []string{"https://10.1.2.3"}, []string{"https://10.1.2.3:8443"}},
		{"10.1.2.3", []string{"https://10.1.2.3"}, []string{"https://10.1.2.4", "https://110.1.2.3"}},
		{"10.1.2.3:8443", []string{"https://10.1.2.3:8443"}, []string{"https://10.1.2.3"}},
		{"2001:db8::/32", []string{"https://[2001:db8::1]"}, []string{"https://[2001:db9::1]"}},
		{"2001:DB8::1", []string{"https://[2001:db8:0::1]"}, []string{"https://[2001:db8::2]"}},
		{"[2001:db8::1]", []string{"https://[2001:db8::1]"}, []string{"https://[2001:db8::2]"}},
		{"[2001:db8::1]:8443", []string{"https://[2001:db8::1]:8443"}, []string{"https://[2001:db8::1]"}},
		{"[2001:db8::/32]:443", []string{"https://[2001:db8::7]"}, []string{"https://[2001:db8::7]:8443"}},
		{"::ffff:10.1.2.3", []string{"https://10.1.2.3"}, []string{"https://10.1.2.4"}},
	}
	for _, test := range tests {
		p, err := parsePattern(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		check := func(address string, want bool) {
			target, err := targetOf(mustURL(t, address))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.fits(target); got != want {
				t.Errorf("%s fits %s: %t, want %t", test.pattern, address, got, want)
			}
		}
		for _, address := range test.fits {
			check(address, true)
		}
		for _, address := range test.not {
			check(address, false)
		}
	}
}

func TestPatternRefused(t *testing.T) {
	for _, text := range []string{
		"", "*", ".", "*.", "..", "a..b", "exa mple.com", "https://example.com", "example.com/path", "user@example.com", "*example.com",
		"a.*.com", "example.com:", "example.com:0", "example.com:65536", "example.com:https", "10.0.0.0/33", "[2001:db8::1", "[2001:db8::1]443",
		"2001:db8::1:443443", "[example.com", "пример.example",
	} {
		if p, err := parsePattern(text); err == nil {
			t.Errorf("%q was taken as %+v", text, p)
		}
	}
}
