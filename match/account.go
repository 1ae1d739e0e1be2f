package match

import (
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// account is one way of naming an account, in the form that is compared: a security identifier, or a name with the domain where that is
// told. A user principal name is a name, and a domain in DNS.
type account struct {
	sid, name, domain string
}

// parseAccount reads an account: a security identifier, `DOMAIN\name`, a user principal name, or a name alone.
func parseAccount(given string) (account, bool) {
	folded := fold(strings.TrimSpace(given))
	if strings.HasPrefix(folded, "s-1-") {
		return account{sid: folded}, true
	}
	a := account{name: folded}
	if domain, name, ok := strings.Cut(folded, `\`); ok {
		a = account{name: name, domain: domain}
	} else if i := strings.LastIndexByte(folded, '@'); i >= 0 {
		a = account{name: folded[:i], domain: folded[i+1:]}
	}
	a.domain = foldDomain(a.domain)
	return a, a.name != ""
}

// everybodys says that the account is one that the system's services run under on every machine
// (https://learn.microsoft.com/en-us/windows-server/identity/ad-ds/manage/understand-security-identifiers).
func (a account) everybodys() bool {
	switch a.name + a.sid {
	case "system", "localsystem", "local service", "localservice", "network service", "networkservice", "root", "s-1-5-18", "s-1-5-19", "s-1-5-20":
		return true
	}
	return false
}

// foldDomain returns an account's domain in the form that is compared. The dot by itself stands for whichever machine it is.
func foldDomain(given string) string { return strings.Trim(fold(strings.TrimSpace(given)), ".") }

// sameAccount compares two accounts. A name without a domain is that name in any; a security identifier and a name tell nothing of
// each other.
func sameAccount(mine, others account) comparison {
	switch {
	case mine.sid != "" && others.sid != "":
		return comparisonOf(mine.sid == others.sid)
	case mine.sid != "" || others.sid != "":
		return notComparable
	}
	return comparisonOf(mine.name == others.name && sameDomain(mine.domain, others.domain))
}

// sameDomain says that two domains may be the same: the one of NetBIOS is the first label of the one in DNS.
func sameDomain(mine, others string) bool {
	if mine == "" || others == "" || mine == others {
		return true
	}
	bothFull := strings.Contains(mine, ".") && strings.Contains(others, ".")
	return !bothFull && firstLabel(mine) == firstLabel(others)
}

// namedAccount is an account and how it was told.
type namedAccount struct {
	account
	given string
}

// accountsOf returns the ways in which Defender names an account.
func accountsOf(user *integrationv1.UserAccount) []namedAccount {
	var list []namedAccount
	add := func(given, domain string) {
		a, ok := parseAccount(given)
		if !ok {
			return
		}
		if a.sid == "" && a.domain == "" && foldDomain(domain) != "" {
			a.domain, given = foldDomain(domain), domain+`\`+given
		}
		list = append(list, namedAccount{a, given})
	}
	add(user.GetAccountName(), user.GetDomainName())
	add(user.GetUserPrincipalName(), "")
	add(user.GetUserSid(), "")
	return list
}
