package outbound

import (
	"errors"
	"fmt"
	"strings"
)

// directWord stands in a rule where no proxy is used.
const directWord = "direct"

// Rule is one of the operator's rules: which proxy leads to some hosts, or to all. It prints without name and password.
type Rule struct {
	// fits is nil where the rule is for all.
	fits *pattern
	// proxy is nil where the way is direct.
	proxy *proxy
}

// ParseRules reads the operator's rules, each `[HOST-PATTERN=]URL`. The URL is `http://HOST:PORT`, `https://HOST:PORT` (the way to the
// proxy itself is over TLS) or `socks5://HOST:PORT`, with `USER:PASSWORD@` before the host where the proxy wants that (special
// characters percent-encoded), or the word `direct`. The pattern is as in an integration's exceptions: a name
// (`login.example.com`), a domain with all names below it (`.example.com`, without the domain itself `*.example.com`), an address or
// a block of them (`10.0.0.0/8`), each with `:PORT` where one port is meant.
//
// The first rule whose pattern fits a host counts. The one without a pattern counts for hosts that no pattern fits, wherever it
// stands. Two rules of one pattern are refused: the second could never count. An error tells which rule it is by its place and
// pattern, never by its URL.
func ParseRules(texts []string) ([]Rule, error) {
	rules := make([]Rule, 0, len(texts))
	seen := make(map[string]int, len(texts))
	for i, text := range texts {
		rule, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("proxy rule %d: %w", i+1, err)
		}
		if first, ok := seen[rule.pattern()]; ok {
			return nil, fmt.Errorf("proxy rule %d has the same hosts as rule %d, and would never count", i+1, first)
		}
		seen[rule.pattern()] = i + 1
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseRule(text string) (Rule, error) {
	var rule Rule
	address := text
	// A password may have an equals sign, a pattern has none.
	if before, after, found := strings.Cut(text, "="); found && !strings.Contains(before, "://") {
		var err error
		if rule.fits, err = parsePattern(before); err != nil {
			return Rule{}, fmt.Errorf("the host pattern %q cannot be used: %w", before, err)
		}
		address = after
	}
	if address == directWord {
		return rule, nil
	}
	if !strings.Contains(address, "://") {
		return Rule{}, errors.New("it is not [HOST-PATTERN=]URL with a URL of http://, https:// or socks5://, or the word direct")
	}
	var err error
	if rule.proxy, err = newProxyWithUser(address); err != nil {
		return Rule{}, fmt.Errorf("its proxy cannot be used: %w", err)
	}
	return rule, nil
}

// pattern is what the rule is for; empty for all.
func (r Rule) pattern() string {
	if r.fits == nil {
		return ""
	}
	return strings.ToLower(r.fits.text)
}

// String tells the rule without name and password.
func (r Rule) String() string {
	way := directWord
	if r.proxy != nil {
		way = string(r.proxy.kind) + "://" + r.proxy.address
	}
	if r.fits == nil {
		return way
	}
	return r.fits.text + "=" + way
}
