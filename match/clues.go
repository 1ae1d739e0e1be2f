package match

import (
	"fmt"
	"sync"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// clue is a value of an alert that can be compared with a trace.
type clue[T any] struct {
	value T
	// given is the value as an answer tells it; path is where it stands, as a JSON Pointer into the element.
	given, path string
	// device is the id of the device that it is about, as compared; empty where that is not told.
	device string
}

// clues are what an alert tells of an attack, in the form that is compared: for each criterion its values, in Microsoft's order. They
// never change.
type clues struct {
	processes, parents []clue[process]
	hashes             []clue[string]
	commandLines       []clue[commandLine]
	paths, names       []clue[string]
	accounts           []clue[account]
	techniques, titles []clue[string]
	addresses          []clue[string]
	// devices are the ids that its evidence bears, one for each piece that bears one.
	devices []string
	// values returns which values there are, read when it is first asked for.
	values func() *clueValues
}

// clueValues are the values of an alert of which there can be many, to be looked up.
type clueValues struct {
	hashes, paths, names, commandLines map[string]bool
}

func (v *clueValues) hash(value string) bool             { return v.hashes[value] }
func (v *clueValues) path(value string) bool             { return v.paths[value] }
func (v *clueValues) name(value string) bool             { return v.names[value] }
func (v *clueValues) commandLine(value commandLine) bool { return v.commandLines[value.text] }

// valuesOf returns the values of clues as text.
func valuesOf[T any](list []clue[T], text func(T) string) map[string]bool {
	values := make(map[string]bool, len(list))
	for i := range list {
		values[text(list[i].value)] = true
	}
	return values
}

// The members of a detection of the SIEM API that evidence is made of: there it stands in no list.
const (
	memberTitle       = "/AlertTitle"
	memberCommandLine = "/CommandLine"
	memberFileName    = "/FileName"
	memberFilePath    = "/FilePath"
	memberFileHash    = "/FileHash"
	memberSHA256      = "/Sha256"
	memberSHA1        = "/Sha1"
	memberMD5         = "/Md5"
	memberUserName    = "/UserName"
	memberIPAddress   = "/IpAddress"
)

// readClues reads what an alert tells of an attack: the alert itself, its evidence, and what stands inside of malware.
func readClues(alert *integrationv1.Alert) *clues {
	r := cluesReader{detection: alert.GetSiem() != nil, clues: &clues{}}
	for l := range eachEvidence(alert) {
		r.addEvidence(l)
	}
	r.addAlert(alert)
	r.values = sync.OnceValue(func() *clueValues {
		itself := func(value string) string { return value }
		return &clueValues{
			hashes: valuesOf(r.hashes, itself), paths: valuesOf(r.paths, itself), names: valuesOf(r.names, itself),
			commandLines: valuesOf(r.commandLines, func(line commandLine) string { return line.text }),
		}
	})
	return r.clues
}

// cluesReader gathers clues.
type cluesReader struct {
	*clues
	// detection says that the element is a detection of the SIEM API.
	detection bool
}

// source is the evidence that a value comes from: where it stands, and the device that it is about.
type source struct {
	path, device string
}

// at returns where a value stands: in a detection by its member's name, else by the evidence.
func (r cluesReader) at(s source, member string) string {
	if r.detection {
		return member
	}
	return s.path
}

func (r cluesReader) addEvidence(l located) {
	s := source{l.path(), l.device()}
	if s.device != "" && l.evidence.GetDevice() == nil {
		r.devices = append(r.devices, s.device)
	}
	switch detail := l.evidence.GetDetail().(type) {
	case *integrationv1.Evidence_Process:
		r.addProcess(s, detail.Process)
	case *integrationv1.Evidence_File:
		r.addFile(s, detail.File.GetFileDetails())
	case *integrationv1.Evidence_User:
		r.addAccount(s, detail.User.GetUserAccount())
	case *integrationv1.Evidence_Ip:
		r.addAddress(s, detail.Ip.GetIpAddress())
	case *integrationv1.Evidence_NetworkConnection:
		r.addAddress(s, detail.NetworkConnection.GetDestinationAddress().GetIp().GetIpAddress())
	case *integrationv1.Evidence_FileHash:
		// The hash of what is signed in a file is another than the file's.
		if foldText(detail.FileHash.GetAlgorithm()) != "sha256ac" {
			r.addHash(s, memberFileHash, detail.FileHash.GetValue())
		}
	}
}

func (r cluesReader) addProcess(s source, p *integrationv1.ProcessEvidence) {
	if one := (process{p.GetProcessId(), timeOf(p.GetProcessCreationTime())}); one.told() {
		r.processes = append(r.processes, clue[process]{one, one.String(), s.path, s.device})
	}
	if parent := (process{p.GetParentProcessId(), timeOf(p.GetParentProcessCreationTime())}); parent.told() {
		r.parents = append(r.parents, clue[process]{parent, parent.String(), s.path, s.device})
	}
	given := p.GetProcessCommandLine()
	if line := parseCommandLine(given); line.text != "" {
		r.commandLines = append(r.commandLines, clue[commandLine]{line, given, r.at(s, memberCommandLine), s.device})
	}
	r.addFile(s, p.GetImageFile())
	// Of the parent's image the hash alone: by its name it is mostly a shell, which starts much else.
	r.addHashes(s, p.GetParentProcessImageFile())
	r.addAccount(s, p.GetUserAccount())
}

func (r cluesReader) addFile(s source, file *integrationv1.FileDetails) {
	r.addHashes(s, file)
	if whole := wholePath(file); whole != "" {
		r.paths = append(r.paths, clue[string]{foldPath(whole), whole, r.at(s, memberFilePath), s.device})
	}
	if name := fileName(file); name != "" {
		r.names = append(r.names, clue[string]{foldPath(name), name, r.at(s, memberFileName), s.device})
	}
}

func (r cluesReader) addHashes(s source, file *integrationv1.FileDetails) {
	r.addHash(s, memberSHA256, file.GetSha256())
	r.addHash(s, memberSHA1, file.GetSha1())
	r.addHash(s, memberMD5, file.GetMd5())
}

func (r cluesReader) addHash(s source, member, given string) {
	if folded := foldHash(given); folded != "" {
		r.hashes = append(r.hashes, clue[string]{folded, given, r.at(s, member), s.device})
	}
}

func (r cluesReader) addAddress(s source, given string) {
	if a, ok := parseAddress(given); ok {
		r.addresses = append(r.addresses, clue[string]{addressKey(a.addr), given, r.at(s, memberIPAddress), s.device})
	}
}

func (r cluesReader) addAccount(s source, user *integrationv1.UserAccount) {
	for _, a := range accountsOf(user) {
		r.accounts = append(r.accounts, clue[account]{a.account, a.given, r.at(s, memberUserName), s.device})
	}
}

// addAlert adds what the alert tells beside its evidence.
func (r cluesReader) addAlert(alert *integrationv1.Alert) {
	r.addHash(source{}, memberFileHash, alert.GetSiem().GetFileHash())
	if user := alert.GetRelatedUser(); user != nil {
		for _, a := range accountsOf(&integrationv1.UserAccount{AccountName: user.GetAccountName(), DomainName: user.GetDomainName()}) {
			r.accounts = append(r.accounts, clue[account]{value: a.account, given: a.given, path: "/relatedUser"})
		}
	}
	for i, given := range alert.GetMitreTechniques() {
		if folded := foldText(given); folded != "" {
			r.techniques = append(r.techniques, clue[string]{value: folded, given: given, path: fmt.Sprintf("/mitreTechniques/%d", i)})
		}
	}
	if folded := foldText(alert.GetTitle()); folded != "" {
		path := "/title"
		if r.detection {
			path = memberTitle
		}
		r.titles = append(r.titles, clue[string]{value: folded, given: alert.GetTitle(), path: path})
	}
}
