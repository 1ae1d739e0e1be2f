package hunting

import (
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// attack is the traces of an attack in the form that is compared. Values that are told stand beside those that are compared, as they
// were given. It never changes.
type attack struct {
	processes, parents []process
	hashes, lines      map[string]string
	// paths and names are of all files, brought of the paths of those that the attack brought along: not of the images of its processes,
	// which may be the system's own programs.
	paths, names map[string]string
	brought      map[string]bool
	users        []string
	addresses    map[netip.Addr]string
}

// newAttack reads traces. What cannot be read is passed over.
func newAttack(given *integrationv1.Traces) *attack {
	a := &attack{
		hashes: map[string]string{}, lines: map[string]string{}, paths: map[string]string{}, names: map[string]string{},
		brought: map[string]bool{}, addresses: map[netip.Addr]string{}, users: given.GetUsers(),
	}
	for _, p := range given.GetProcesses() {
		a.processes = appendProcess(a.processes, p.GetProcessId(), p.GetProcessCreationTime())
		a.parents = appendProcess(a.parents, p.GetParentProcessId(), p.GetParentProcessCreationTime())
		note(a.lines, foldLine(p.GetCommandLine()), p.GetCommandLine())
		a.addFile(p.GetImageFile())
	}
	for _, f := range given.GetFiles() {
		a.addFile(f)
		if path := foldPath(f.GetFilePath()); strings.Contains(path, "/") {
			a.brought[path] = true
		}
	}
	for _, given := range given.GetRemoteAddresses() {
		// Loopback and unspecified addresses are every machine's.
		if address, ok := addressOf(given); ok && !address.IsLoopback() && !address.IsUnspecified() {
			a.addresses[address] = given
		}
	}
	return a
}

func (a *attack) addFile(f *integrationv1.FileTrace) {
	for _, hash := range []string{f.GetSha1(), f.GetSha256(), f.GetMd5()} {
		note(a.hashes, foldHash(hash), hash)
	}
	note(a.paths, foldPath(f.GetFilePath()), f.GetFilePath())
	name := nameOf(f)
	note(a.names, fold(name), name)
}

// nameOf returns a file's name, without its folder.
func nameOf(f *integrationv1.FileTrace) string {
	if name := baseName(f.GetFileName()); name != "" {
		return name
	}
	return baseName(f.GetFilePath())
}

// note keeps the first way in which a value is given.
func note(values map[string]string, folded, given string) {
	if _, ok := values[folded]; folded != "" && !ok {
		values[folded] = given
	}
}

func appendProcess(list []process, id int64, created *timestamppb.Timestamp) []process {
	if p := (process{id, timeOf(created)}); p.told() {
		return append(list, p)
	}
	return list
}

// fit is by what a row fits an attack.
type fit struct {
	criterion          integrationv1.TraceCriterion
	trace, defenderHas string
}

// fits says by what a row fits the attack, by the strongest criterion; false where it does not fit. blocked says that the row is a block.
//
// What makes a row fit is what little else has: the attack's own process, a child of it, a hash, a command line with arguments, a file
// that the attack brought along by its whole path, and an address that it spoke to, on its device and in its window. A file's name, or the
// path of a process's image, which may be one of the system's own programs, makes it fit together with the user or with the parent;
// of a block it does so alone. A user or a parent alone makes no row fit: they are of much else, and one program may start many
// attacks.
func (a *attack) fits(e *event, blocked bool) (fit, bool) {
	for _, met := range []func(*event) (fit, bool){a.byProcess, a.byChild, a.byHash, a.byLine} {
		if found, ok := met(e); ok {
			return found, true
		}
	}
	parent, byParent := a.byParent(e)
	path, byPath := a.byPath(e)
	name, byName := a.byName(e)
	switch {
	case byParent && (byPath || byName):
		return parent, true
	case byPath && (blocked || a.brought[foldPath(path.trace)] || a.byUser(e)):
		return path, true
	case byName && (blocked || a.byUser(e)):
		return name, true
	}
	return a.byAddress(e)
}

// byProcess: the event is of the attack's own process, or that did it. Of a process that was started, the one that did it is the parent.
func (a *attack) byProcess(e *event) (fit, bool) {
	of := []process{e.process}
	if e.table != processEvents {
		of = append(of, e.by)
	}
	return sameProcess(integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS, a.processes, of...)
}

// byChild: the event is of a child of the attack's process, or a child did it.
func (a *attack) byChild(e *event) (fit, bool) {
	of := []process{e.parent}
	if e.table == processEvents {
		of = append(of, e.by)
	}
	return sameProcess(integrationv1.TraceCriterion_TRACE_CRITERION_CHILD_PROCESS, a.processes, of...)
}

// byParent: the event is of a process that has the same parent as one of the attack's, or such a process did it.
func (a *attack) byParent(e *event) (fit, bool) {
	of := []process{e.parent}
	if e.table == processEvents {
		of = append(of, e.by)
	}
	return sameProcess(integrationv1.TraceCriterion_TRACE_CRITERION_PARENT_PROCESS, a.parents, of...)
}

func sameProcess(criterion integrationv1.TraceCriterion, given []process, of ...process) (fit, bool) {
	for _, mine := range given {
		for _, other := range of {
			if mine.same(other) {
				return fit{criterion, mine.String(), other.String()}, true
			}
		}
	}
	return fit{}, false
}

func (a *attack) byHash(e *event) (fit, bool) {
	return lookUpEach(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH, a.hashes, foldHash,
		e.file.sha256, e.file.sha1, e.file.md5, e.image.sha256, e.image.sha1, e.image.md5)
}

func (a *attack) byLine(e *event) (fit, bool) {
	return lookUpEach(integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE, a.lines, foldLine, e.line, e.byLine, e.details.childLine)
}

func (a *attack) byPath(e *event) (fit, bool) {
	return lookUpEach(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_PATH, a.paths, foldPath, e.file.path(), e.image.path())
}

func (a *attack) byName(e *event) (fit, bool) {
	return lookUpEach(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_NAME, a.names, fold, e.file.baseName(), e.image.baseName())
}

// lookUpEach returns the first of a row's values that the attack has too.
func lookUpEach(criterion integrationv1.TraceCriterion, given map[string]string, folded func(string) string, of ...string) (fit, bool) {
	for _, value := range of {
		if mine, ok := given[folded(value)]; ok {
			return fit{criterion, mine, value}, true
		}
	}
	return fit{}, false
}

func (a *attack) byUser(e *event) bool {
	for _, user := range a.users {
		if e.account.same(user) || e.byAccount.same(user) {
			return true
		}
	}
	return false
}

// byAddress: the device spoke to an address that the attack spoke to. What that address began is not the attack's: a firewall drops much
// that comes in, and to take one such block for one of the attack would be wrong.
func (a *attack) byAddress(e *event) (fit, bool) {
	if strings.Contains(e.action, "Inbound") {
		return fit{}, false
	}
	for _, address := range e.remote {
		if given, ok := a.addresses[address]; ok {
			return fit{integrationv1.TraceCriterion_TRACE_CRITERION_REMOTE_ADDRESS, given, address.String()}, true
		}
	}
	return fit{}, false
}

// String returns the process as an answer tells it.
func (p process) String() string {
	return "process id " + formatInt(p.id) + ", created at " + p.created.UTC().Format(time.RFC3339Nano)
}
