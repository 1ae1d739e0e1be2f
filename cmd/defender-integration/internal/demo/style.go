package demo

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// colour is how a piece of text looks on a terminal: the numbers of an ANSI escape sequence.
type colour string

const (
	plain   colour = ""
	bold    colour = "1"
	dim     colour = "2"
	red     colour = "1;31"
	green   colour = "1;32"
	yellow  colour = "1;33"
	blue    colour = "1;34"
	magenta colour = "1;35"
	cyan    colour = "1;36"
)

// width is how many columns the lines take at the most; a terminal of a usual size shows them whole.
const width = 100

// paint colours a text where colours are shown.
func (n *narrator) paint(c colour, text string) string {
	if !n.colours || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// verdictColour is how a verdict looks.
func verdictColour(v integrationv1.Verdict) colour {
	switch v {
	case integrationv1.Verdict_VERDICT_PREVENTED:
		return green
	case integrationv1.Verdict_VERDICT_DETECTED:
		return cyan
	case integrationv1.Verdict_VERDICT_DETECTED_LATE, integrationv1.Verdict_VERDICT_LOGGED:
		return yellow
	case integrationv1.Verdict_VERDICT_MISSED:
		return red
	default:
		return magenta
	}
}

// wordOf returns an enumeration's value without the prefix that all its values share: VERDICT_MISSED is MISSED.
func wordOf(value interface {
	protoreflect.Enum
	String() string
},
) string {
	var prefix strings.Builder
	for i, r := range string(value.Descriptor().Name()) {
		if i > 0 && 'A' <= r && r <= 'Z' {
			prefix.WriteByte('_')
		}
		prefix.WriteRune(r)
	}
	return strings.TrimPrefix(value.String(), strings.ToUpper(prefix.String())+"_")
}

// wordsOf returns enumeration's values as a person reads them, with commas between; "nothing" where there is none.
func wordsOf[E interface {
	protoreflect.Enum
	String() string
}](values []E,
) string {
	if len(values) == 0 {
		return "nothing"
	}
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = inWords(wordOf(value))
	}
	return strings.Join(words, ", ")
}

// inWords returns an enumeration's value as a person reads it: DEVICE_UNKNOWN is "device unknown".
func inWords(word string) string { return strings.ToLower(strings.ReplaceAll(word, "_", " ")) }

// pad fills a text up to a number of columns.
func pad(text string, columns int) string {
	return text + strings.Repeat(" ", max(columns-utf8.RuneCountInString(text), 0))
}

// wrap breaks a text into lines of so many columns at the most. A longer word has a line of its own.
func wrap(text string, columns int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= columns:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line == "" && len(lines) > 0 {
		return lines
	}
	return append(lines, line)
}

// shorten cuts a text to a number of columns.
func shorten(text string, columns int) string {
	runes := []rune(text)
	if len(runes) <= columns {
		return text
	}
	return string(runes[:columns-1]) + "…"
}

// shortName is a host name up to its first dot.
func shortName(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}
