package outbound

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParseRules(t *testing.T) {
	credentials := url.UserPassword(plantedUser, plantedPassword).String()
	texts := []string{
		"login.example.com=http://" + credentials + "@Proxy.example:3128",
		".example.com=https://proxy.example",
		"*.example.org:8443=socks5://[2001:db8::1]",
		"10.0.0.0/8=direct",
		"socks5h://" + credentials + "@proxy.example:1081/",
	}
	rules, err := ParseRules(texts)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, rule := range rules {
		told = append(told, rule.String())
		wantNoPassword(t, fmt.Sprintf("%v %+v %#v %s", rule, rule, rule, rule))
	}
	want := []string{
		"login.example.com=http://proxy.example:3128", ".example.com=https://proxy.example:443", "*.example.org:8443=socks5://[2001:db8::1]:1080",
		"10.0.0.0/8=direct", "socks5://proxy.example:1081",
	}
	if !slices.Equal(told, want) {
		t.Errorf("rules are %q, want %q", told, want)
	}
	for _, i := range []int{0, 4} {
		if p := rules[i].proxy; p.username != plantedUser || p.password != plantedPassword {
			t.Errorf("rule %d has the name %q and the password %q", i+1, p.username, p.password)
		}
	}
}

func TestParseRulesRefused(t *testing.T) {
	tests := []struct {
		name  string
		rules []string
		words string
	}{
		{"nothing", []string{""}, "proxy rule 1: it is not [HOST-PATTERN=]URL"},
		{"no scheme", []string{"direct", "proxy.example:3128"}, "proxy rule 2: it is not"},
		{"another scheme", []string{"ftp://proxy.example"}, "none of http, https and socks5"},
		{"no host", []string{"http://:3128"}, "not a scheme with a host and a port"},
		{"a path", []string{"http://proxy.example/path"}, "not a scheme with a host and a port"},
		{"no such port", []string{"http://proxy.example:70000"}, "1 to 65535"},
		{"an empty pattern", []string{"=direct"}, "the host pattern \"\" cannot be used"},
		{"no pattern", []string{"exa mple=direct"}, "neither a name nor a domain"},
		{"nearly direct", []string{"a.example=Directly"}, "the word direct"},
		{"the same pattern", []string{"a.example=direct", "b.example=direct", "A.example=http://proxy.example"}, "proxy rule 3 has the same hosts as rule 1"},
		{"twice for all", []string{"direct", "http://proxy.example"}, "proxy rule 2 has the same hosts as rule 1"},
		{"a password that is not encoded", []string{"http://user:" + plantedPassword + "@proxy.example"}, "percent-encoded"},
		{"a broken percent", []string{"http://user:" + plantedPassword + "%@proxy.example"}, ""},
		{"a password without a name", []string{"http://:" + url.QueryEscape(plantedPassword) + "@proxy.example"}, "without a name"},
		{"a name with a colon", []string{"http://a%3Ab:" + url.QueryEscape(plantedPassword) + "@proxy.example"}, "colon"},
		{"a long password", []string{"socks5://a:" + strings.Repeat("x", 256) + "@proxy.example"}, "255 bytes"},
	}
	for _, test := range tests {
		rules, err := ParseRules(test.rules)
		if err == nil {
			t.Errorf("%s: taken as %v", test.name, rules)
			continue
		}
		if !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %q, want %q in it", test.name, err, test.words)
		}
		wantNoPassword(t, err.Error())
	}
}
