package match

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// traced is a value of the Director's traces: as it is compared, and as an answer tells it.
type traced[T any] struct {
	value T
	given string
}

// traces are an Actor's traces, in the form that is compared: for each criterion its values, in the order in which they were given.
// They never change.
type traces struct {
	processes, parents []traced[process]
	hashes             []traced[string]
	commandLines       []traced[commandLine]
	paths, names       []traced[string]
	accounts           []traced[account]
	techniques, titles []traced[string]
	addresses          []traced[string]
}

// newTraces reads the traces of an Actor; nil where there is nothing to compare. What cannot be read is passed over.
func newTraces(given *integrationv1.Traces) *traces {
	t := &traces{}
	for _, p := range given.GetProcesses() {
		t.processes = appendProcess(t.processes, p.GetProcessId(), p.GetProcessCreationTime())
		t.parents = appendProcess(t.parents, p.GetParentProcessId(), p.GetParentProcessCreationTime())
		if line := parseCommandLine(p.GetCommandLine()); line.text != "" {
			t.commandLines = append(t.commandLines, traced[commandLine]{line, p.GetCommandLine()})
		}
		t.addFile(p.GetImageFile())
	}
	for _, f := range given.GetFiles() {
		t.addFile(f)
	}
	for _, user := range given.GetUsers() {
		if a, ok := parseAccount(user); ok {
			t.accounts = append(t.accounts, traced[account]{a, user})
		}
	}
	for _, technique := range given.GetMitreTechniques() {
		t.techniques = appendText(t.techniques, foldText(technique), technique)
	}
	for _, title := range given.GetExpectedTitles() {
		t.titles = appendText(t.titles, foldText(title), title)
	}
	for _, remote := range given.GetRemoteAddresses() {
		if a, ok := parseAddress(remote); ok {
			t.addresses = append(t.addresses, traced[string]{addressKey(a.addr), remote})
		}
	}
	if len(t.processes)+len(t.parents)+len(t.hashes)+len(t.commandLines)+len(t.paths)+len(t.names)+
		len(t.accounts)+len(t.techniques)+len(t.titles)+len(t.addresses) == 0 {
		return nil
	}
	return t
}

func (t *traces) addFile(f *integrationv1.FileTrace) {
	for _, hash := range []string{f.GetSha256(), f.GetSha1(), f.GetMd5()} {
		t.hashes = appendText(t.hashes, foldHash(hash), hash)
	}
	t.paths = appendText(t.paths, foldPath(f.GetFilePath()), f.GetFilePath())
	name := baseName(f.GetFileName())
	if name == "" {
		name = baseName(f.GetFilePath())
	}
	t.names = appendText(t.names, foldPath(name), name)
}

func appendText(list []traced[string], folded, given string) []traced[string] {
	if folded == "" {
		return list
	}
	return append(list, traced[string]{folded, given})
}

func appendProcess(list []traced[process], id int64, created *timestamppb.Timestamp) []traced[process] {
	p := process{id: id, created: timeOf(created)}
	if !p.told() {
		return list
	}
	return append(list, traced[process]{p, p.String()})
}

// process names a process on a device.
type process struct {
	id int64
	// created is when it was created; zero where that is not known.
	created time.Time
}

// told says that there is one.
func (p process) told() bool { return p.id != 0 }

// String returns the process as an answer tells it.
func (p process) String() string {
	if p.created.IsZero() {
		return fmt.Sprintf("process id %d, creation time not known", p.id)
	}
	return fmt.Sprintf("process id %d, created at %s", p.id, clock(p.created))
}

// creationTolerance is how far apart two tell the creation of one process: each by its own rounding.
const creationTolerance = 2 * time.Second

// sameProcess compares two processes of one device. Ids are used again, so that one without a creation time tells nothing.
func sameProcess(mine, others process) comparison {
	if mine.created.IsZero() || others.created.IsZero() {
		return notComparable
	}
	return comparisonOf(mine.id == others.id && mine.created.Sub(others.created).Abs() <= creationTolerance)
}

// sameCommandLine compares two command lines. One without arguments says no more than its image's name.
func sameCommandLine(mine, others commandLine) comparison {
	if !mine.arguments || !others.arguments {
		return notComparable
	}
	return comparisonOf(mine.text == others.text)
}

// The hashes of a file that is empty, which many are.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA1   = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// foldHash returns a file's hash in the form that is compared; empty where it is none, or tells of no file: zeros, or that of nothing.
func foldHash(given string) string {
	folded := strings.ToLower(strings.TrimSpace(given))
	switch len(folded) {
	case 32, 40, 64: // MD5, SHA-1, SHA-256
	default:
		return ""
	}
	if strings.Trim(folded, "0123456789abcdef") != "" || strings.Trim(folded, "0") == "" {
		return ""
	}
	switch folded {
	case emptyMD5, emptySHA1, emptySHA256:
		return ""
	}
	return folded
}

// sameHash compares two hashes. Their lengths tell their kinds, of which each can be compared only with its own.
func sameHash(mine, others string) comparison {
	if len(mine) != len(others) {
		return notComparable
	}
	return comparisonOf(mine == others)
}

// sameTechnique compares two techniques. One and its own sub-technique are the same.
func sameTechnique(mine, others string) comparison {
	return comparisonOf(mine == others || strings.HasPrefix(mine, others+".") || strings.HasPrefix(others, mine+"."))
}

// sameText compares two texts that are folded already.
func sameText(mine, others string) comparison { return comparisonOf(mine == others) }

// foldText returns a text in the form that is compared: without case, and without spaces around it.
func foldText(given string) string { return fold(strings.TrimSpace(given)) }
