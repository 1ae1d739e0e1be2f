package access_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"defender-integration/server/access"
)

func parse(t *testing.T, text string) *access.Policy {
	t.Helper()
	p, err := access.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGrants(t *testing.T) {
	p := parse(t, `
rules:
  - identities: [spiffe://example.org/director]
    roles: [reader]
    integrations: [contoso]
  - identities: [spiffe://example.org/ns/*, spiffe://example.net/*]
    roles: [operator]
    integrations: [contoso, fabrikam]
  - identities: [spiffe://example.org/ns/prod/*]
    roles: [reader]
    integrations: ["*"]
  - identities: [dns:one.example.org, dns:two.example.org, uid:0, gid:1000, local:tcp, anonymous]
    roles: [reader, operator]
    integrations: [contoso]
  - identities: [dns:two.example.org]
    roles: [reader]
    integrations: [fabrikam, contoso]
`)
	const none, reader, operator, both = "", "reader", "operator", "reader operator"
	tests := []struct {
		identities string
		// What is held for contoso, for fabrikam, for one that no rule names, and for every one.
		contoso, fabrikam, another, every string
	}{
		{"spiffe://example.org/director", reader, none, none, none},
		{"spiffe://example.org/director/7", none, none, none, none},
		{"spiffe://example.org", none, none, none, none},
		{"spiffe://example.org/ns", none, none, none, none},
		{"spiffe://example.org/nsa/x", none, none, none, none},
		{"spiffe://example.org/ns/x", operator, operator, none, none},
		{"spiffe://example.org/ns/prod", operator, operator, none, none},
		{"spiffe://example.org/ns/prod/sa/y", both, both, reader, reader},
		{"spiffe://example.net/x", operator, operator, none, none},
		{"spiffe://example.net", none, none, none, none},
		{"spiffe://example.network/x", none, none, none, none},
		{"dns:one.example.org", both, none, none, none},
		{"dns:two.example.org", both, reader, none, none},
		{"dns:three.example.org dns:two.example.org", both, reader, none, none},
		{"dns:example.org", none, none, none, none},
		{"uid:0 gid:0", both, none, none, none},
		{"uid:7 gid:1000", both, none, none, none},
		{"uid:1000 gid:7", none, none, none, none},
		{"local:tcp", both, none, none, none},
		{"local:unix", none, none, none, none},
		{"anonymous", both, none, none, none},
		{"x509:CN=dns:one.example.org", none, none, none, none},
	}
	for _, test := range tests {
		t.Run(test.identities, func(t *testing.T) {
			grants := p.Grants(strings.Fields(test.identities))
			some := ""
			for id, want := range map[string]string{"contoso": test.contoso, "fabrikam": test.fabrikam, "another": test.another, "": test.every} {
				for _, role := range []access.Roles{access.Reader, access.Operator} {
					if got := grants.Allow(role, id); got != strings.Contains(want, role.String()) {
						t.Errorf("%s for %q: %t", role, id, got)
					}
				}
				if got := grants.Allow(access.All, id); got != (want != "") {
					t.Errorf("any role for %q: %t", id, got)
				}
				some += want
			}
			for _, role := range []access.Roles{access.Reader, access.Operator} {
				if got := grants.AllowSome(role); got != strings.Contains(some, role.String()) {
					t.Errorf("%s for some: %t", role, got)
				}
			}
		})
	}
}

func TestAPolicyThatIsNone(t *testing.T) {
	rule := func(identity, role, integration string) string {
		return "rules: [{identities: [" + identity + "], roles: [" + role + "], integrations: [" + integration + "]}]"
	}
	tests := map[string]struct{ text, words string }{
		"nothing":                        {"", "has no rules"},
		"comments only":                  {"# Nobody yet\n", "has no rules"},
		"no rules":                       {"rules: []", "has no rules"},
		"no mapping":                     {"- rules", "cannot unmarshal"},
		"no YAML":                        {"rules: [", "yaml:"},
		"two documents":                  {rule("uid:1", "reader", "a") + "\n---\n" + rule("uid:2", "reader", "a"), "one YAML document"},
		"a key that is not known":        {"rules: []\nversion: 1", "field version not found"},
		"a key that stands twice":        {"rules: []\nrules: []", "already defined"},
		"a key of a rule that is not":    {"rules: [{identities: [uid:1], role: [reader]}]", "field role not found"},
		"no identities":                  {rule("", "reader", "a"), "rule 1: it must have identities, roles and integrations"},
		"no roles":                       {rule("uid:1", "", "a"), "must have identities, roles"},
		"no integrations":                {rule("uid:1", "reader", ""), "must have identities, roles"},
		"a role that is none":            {rule("uid:1", "admin", "a"), `the role "admin" is none`},
		"an integration that is none":    {rule("uid:1", "reader", "Contoso"), `"Contoso" is no id`},
		"half a wildcard":                {rule("uid:1", "reader", "'a*'"), `"a*" is no id`},
		"an identity that is none":       {rule("director", "reader", "a"), `the identity "director": is none`},
		"an empty identity":              {rule("''", "reader", "a"), "is none"},
		"everyone":                       {rule("'*'", "reader", "a"), "is none"},
		"a subject":                      {rule("'x509:CN=a'", "reader", "a"), "is none"},
		"a user's name":                  {rule("uid:root", "reader", "a"), "no number"},
		"a number with a zero":           {rule("'uid:01'", "reader", "a"), "no number"},
		"a number that is too large":     {rule("gid:4294967296", "reader", "a"), "no number"},
		"a DNS name with capitals":       {rule("dns:A.example", "reader", "a"), "no DNS name"},
		"a DNS name with a wildcard":     {rule("'dns:*.example'", "reader", "a"), "no DNS name"},
		"a DNS name with a dot":          {rule("dns:a.example.", "reader", "a"), "no DNS name"},
		"a DNS name below which all are": {rule("'dns:a/*'", "reader", "a"), "no DNS name"},
		"a SPIFFE id without a domain":   {rule("spiffe://", "reader", "a"), "trust domain"},
		"every SPIFFE id":                {rule("'spiffe://*'", "reader", "a"), "scheme is missing"},
		"a SPIFFE id with a slash":       {rule("spiffe://a/b/", "reader", "a"), "slash"},
		"a SPIFFE id with a wildcard":    {rule("'spiffe://a/*/b'", "reader", "a"), "path segment"},
		"half a segment of a SPIFFE id":  {rule("'spiffe://a/b*'", "reader", "a"), "path segment"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := access.Parse([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%v does not say %q", err, test.words)
			}
		})
	}
}

func TestIdentitiesOfACertificate(t *testing.T) {
	uri := func(text string) *url.URL {
		parsed, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	id, web := uri("spiffe://example.org/director"), uri("https://example.org/director")
	tests := map[string]struct {
		certificate x509.Certificate
		want        []string
	}{
		"a SPIFFE id":                 {x509.Certificate{URIs: []*url.URL{id}}, []string{"spiffe://example.org/director"}},
		"a SPIFFE id and names":       {x509.Certificate{URIs: []*url.URL{id}, DNSNames: []string{"a"}}, []string{"spiffe://example.org/director"}},
		"two URIs":                    {x509.Certificate{URIs: []*url.URL{id, web}, DNSNames: []string{"a"}}, []string{"dns:a"}},
		"another URI":                 {x509.Certificate{URIs: []*url.URL{web}, DNSNames: []string{"a"}}, []string{"dns:a"}},
		"a SPIFFE id that is none":    {x509.Certificate{URIs: []*url.URL{uri("spiffe://example.org/a//b")}}, []string{"x509:CN=it"}},
		"names":                       {x509.Certificate{DNSNames: []string{"B.example.", "a.example"}}, []string{"dns:b.example", "dns:a.example"}},
		"a wildcard":                  {x509.Certificate{DNSNames: []string{"*.example", "a.example"}}, []string{"dns:a.example"}},
		"a name with what is none":    {x509.Certificate{DNSNames: []string{"a b", "a/*", "a..b", ""}}, []string{"x509:CN=it"}},
		"nothing but its subject":     {x509.Certificate{}, []string{"x509:CN=it"}},
		"an address and a mailbox":    {x509.Certificate{EmailAddresses: []string{"a@example"}}, []string{"x509:CN=it"}},
		"a name that is far too long": {x509.Certificate{DNSNames: []string{strings.Repeat("a.", 127) + "a"}}, []string{"x509:CN=it"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.certificate.Subject = pkix.Name{CommonName: "it"}
			if got := access.OfCertificate(&test.certificate); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// The page for the operator has policies that are valid, and speaks of each role and kind of identity.
func TestTheOperatorsPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "access.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for i, block := range strings.Split(string(text), "```") {
		if policy, ok := strings.CutPrefix(block, "yaml\n"); ok && i%2 == 1 {
			examples++
			parse(t, policy)
		}
	}
	if examples == 0 {
		t.Error("there is no example of a policy")
	}
	for _, word := range []string{"`reader`", "`operator`", "`spiffe://", "`dns:", "`uid:", "`gid:", "`local:tcp`", "`anonymous`", "`x509:"} {
		if !strings.Contains(string(text), word) {
			t.Errorf("the page does not speak of %s", word)
		}
	}
}
