package hunting

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The kinds of values by which events are looked for, besides those of devices, in the order in which a query names them.
const (
	processID kind = address + 1 + iota
	hash
	fileName
	// term is a word of a command line.
	term
	remoteIP
)

// The bounds of a command line's word: shorter ones are in no index
// (https://learn.microsoft.com/en-us/kusto/query/datatypes-string-operators).
const (
	minTerm = 3
	maxTerm = 64
)

// list is the list of a query in which a kind of values stands, and the columns that are compared with it.
type list struct {
	name string
	// columns are compared by the operator; a table may lack some.
	operator string
	columns  []string
}

// lists says how values of events are asked for. Operators without case know ASCII's alone.
func lists() map[kind]list {
	return map[kind]list{
		processID: {"ProcessIds", "in", []string{"ProcessId", "InitiatingProcessId", "InitiatingProcessParentId"}},
		hash: {"Hashes", "in~", []string{
			"SHA1", "SHA256", "MD5", "InitiatingProcessSHA1", "InitiatingProcessSHA256", "InitiatingProcessMD5",
		}},
		fileName: {"FileNames", "in~", []string{"FileName", "InitiatingProcessFileName"}},
		term:     {"Terms", "has_any", []string{"ProcessCommandLine", "InitiatingProcessCommandLine"}},
		remoteIP: {"RemoteIPs", "in~", []string{"RemoteIP"}},
	}
}

// deviceLists are the names of the lists of devices.
func deviceLists() map[kind]string {
	return map[kind]string{deviceID: "DeviceIds", fullOrShort: "DeviceNames", label: "DeviceLabels"}
}

// deviceValues returns by what a question's devices are asked for: their ids, and names only where there is no id. A name is of a device
// that is told by its whole name, and of one that is told by the first label of it.
func deviceValues(q *defender.TelemetryQuestion) []value {
	if ids := valuesOf(defender.Wanted{DeviceIDs: q.DeviceIDs}); len(ids) > 0 {
		return ids
	}
	var wanted defender.Wanted
	for _, full := range q.FullNames {
		full = foldName(full)
		wanted.FullNames = append(wanted.FullNames, full)
		wanted.ShortNames = append(wanted.ShortNames, firstLabel(full))
	}
	for _, short := range q.ShortNames {
		wanted.Labels = append(wanted.Labels, foldName(short))
	}
	return valuesOf(wanted)
}

// traceValues returns by what the events of an attack are asked for, and how many of its values cannot be: they hold what a query
// must not. Asked broadly: whether a row fits is for [attack.fits] to say.
func traceValues(t *integrationv1.Traces) (values []value, leftOut int) {
	c := &collecting{}
	for _, p := range t.GetProcesses() {
		if p.GetProcessId() > 0 && p.GetProcessCreationTime() != nil {
			c.add(processID, formatInt(p.GetProcessId()))
		}
		c.addLine(p.GetCommandLine())
		c.addFile(p.GetImageFile())
	}
	for _, f := range t.GetFiles() {
		c.addFile(f)
	}
	for _, given := range t.GetRemoteAddresses() {
		if parsed, ok := parseAddress(given); ok {
			c.add(remoteIP, parsed)
			if strings.Contains(parsed, ".") {
				// So it is told where a socket of IPv6 speaks to an address of IPv4.
				c.add(remoteIP, "::ffff:"+parsed)
			}
		}
	}
	return sortedOnce(c.values), c.leftOut
}

// collecting is values while they are collected.
type collecting struct {
	values  []value
	leftOut int
}

func (c *collecting) add(kind kind, text string) { c.values = append(c.values, value{kind, text}) }

func (c *collecting) addFile(f *integrationv1.FileTrace) {
	for _, given := range []string{f.GetSha1(), f.GetSha256(), f.GetMd5()} {
		if folded := foldHash(given); folded != "" {
			c.add(hash, folded)
		}
	}
	c.addName(nameOf(f))
}

// addName adds a file's name. `in~` is without case for ASCII alone, so that a name with other letters is asked for as it is given and
// in either case.
func (c *collecting) addName(name string) {
	if name == "" {
		return
	}
	if !isName(name) {
		c.leftOut++
		return
	}
	c.add(fileName, strings.ToLower(name))
	if !isASCII(name) {
		c.add(fileName, name)
		c.add(fileName, strings.ToUpper(name))
	}
}

// addLine adds what a command line is asked for by: its longest word, which stands in it however it is written. A line without arguments
// is not compared; one without such a word is asked for by the name of its image.
func (c *collecting) addLine(line string) {
	image, arguments := splitLine(line)
	switch word := longestTerm(arguments); {
	case foldLine(line) == "":
	case word != "":
		c.add(term, word)
	default:
		name := imageName(image)
		c.addName(name)
		if isName(name) {
			c.addName(name + ".exe")
		}
	}
}

// longestTerm returns the longest word of ASCII letters and digits in a text that stands between other characters of ASCII, as an index
// holds it, in lower case; empty where there is none. A word with a quote at its side is passed over: without the quote it may be
// a part of a longer one.
func longestTerm(text string) string {
	longest := ""
	for start := 0; start < len(text); {
		end := start
		for end < len(text) && isTermByte(text[end]) {
			end++
		}
		if word := text[start:end]; len(word) > len(longest) && len(word) >= minTerm && len(word) <= maxTerm &&
			separates(text, start-1) && separates(text, end) {
			longest = word
		}
		start = max(end, start+1)
	}
	return strings.ToLower(longest)
}

// separates says whether what stands at a place of a text keeps two words apart in whichever way the text is written.
func separates(text string, at int) bool {
	if at < 0 || at >= len(text) {
		return true
	}
	c := text[at]
	if c != '"' && c != '\'' {
		return c < utf8.RuneSelf
	}
	// A quote does so where there is a blank, or nothing, on its other side.
	before := at == 0 || text[at-1] == ' '
	after := at == len(text)-1 || text[at+1] == ' '
	return before || after
}

func isTermByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isName says whether a text may stand in a query as a file's name; see parseName.
func isName(text string) bool {
	_, ok := parseName(text)
	return ok
}

func isASCII(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
