package hunting

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Whatever a caller names comes into a query's text, since runHuntingQuery takes no parameters. Two guards keep it a value: only
// what can be the value of a device is let in at all, and that is quoted. azure-kusto-go's kql.QuoteString is not used for
// the second: beyond Latin-1 it writes \u and the code point, which for one of five digits is another text. What is left to quote here,
// printable text, needs two characters escaped.

// The bounds of values, in characters.
const (
	maxID   = 64
	maxName = 255
)

// quote writes printable text as a string literal of KQL (https://learn.microsoft.com/en-us/kusto/query/scalar-data-types/string). The
// request is UTF-8, so what is not ASCII stands for itself.
func quote(text string) string {
	var literal strings.Builder
	literal.WriteByte('"')
	for _, r := range text {
		if r == '"' || r == '\\' {
			literal.WriteByte('\\')
		}
		literal.WriteRune(r)
	}
	literal.WriteByte('"')
	return literal.String()
}

// parseID reads an id of a device: hexadecimal digits and hyphens, as both kinds of ids are made of. It returns it in lower case, as
// Defender writes its own, which are compared with case.
func parseID(given string) (string, bool) {
	id := strings.ToLower(given)
	if id == "" || len(id) > maxID || strings.Trim(id, "0123456789abcdef-") != "" {
		return "", false
	}
	return id, true
}

// parseName reads a name of a device, and returns it in lower case. Not only DNS's letters can stand in one: Windows takes names of
// any script, and of a phone the name is what its management calls it, such as `anna_AndroidForWork_11/2/2026_9:05 AM`. So what is
// printable is let in. Control characters, line breaks, characters that do not show and bytes that are no text are in no
// device's name.
func parseName(given string) (string, bool) {
	if given == "" || utf8.RuneCountInString(given) > maxName || !utf8.ValidString(given) {
		return "", false
	}
	for _, r := range given {
		if !unicode.IsPrint(r) {
			return "", false
		}
	}
	return strings.ToLower(given), true
}

// parseLabel reads the first label of a name, and returns it in lower case. One with a dot is no label.
func parseLabel(given string) (string, bool) {
	label, ok := parseName(given)
	return label, ok && !strings.Contains(label, ".")
}

// parseForeign reads a name that is not all ASCII, and returns its first label in lower case.
func parseForeign(given string) (string, bool) {
	name, ok := parseName(given)
	if !ok || strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		return "", false
	}
	label, _, _ := strings.Cut(name, ".")
	return label, label != ""
}

// parseAddress reads an IP address and returns it as Windows and Linux spell it: an IPv4 address in IPv6's clothes as itself,
// without a zone. Loopback and unspecified addresses are every machine's.
func parseAddress(given string) (string, bool) {
	address, err := netip.ParseAddr(given)
	if err != nil {
		return "", false
	}
	address = address.Unmap().WithZone("")
	return address.String(), !address.IsLoopback() && !address.IsUnspecified()
}
