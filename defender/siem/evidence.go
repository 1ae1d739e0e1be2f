package siem

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxParts is how many parts of a list in one string are read.
const maxParts = 1000

// evidence makes the evidence that Graph would have of what the detection tells, by Microsoft's own mapping of its members
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem): the device, the process or the file, the address, the URL
// and the user, each where something is told of it. Statuses are not set: the detection's flags tell how it ended.
func (r *row) evidence() []*integrationv1.Evidence {
	var all []*integrationv1.Evidence
	add := func(kind string, evidence *integrationv1.Evidence) {
		evidence.Type = kind
		all = append(all, evidence)
	}
	tags := r.cloudTags
	if tag := r.siem.GetDeviceCreatedMachineTags(); tag != "" {
		// A device has one tag in its registry, which may have any characters.
		tags = append([]string{tag}, tags...)
	}
	r.device.IpInterfaces = slices.Concat(r.ipv4, r.ipv6)
	if filled(r.device) || len(tags) > 0 {
		add("deviceEvidence", &integrationv1.Evidence{Tags: tags, Detail: &integrationv1.Evidence_Device{Device: r.device}})
	}
	switch {
	case r.commandLine != "":
		process := &integrationv1.ProcessEvidence{ProcessCommandLine: r.commandLine}
		if filled(r.file) {
			process.ImageFile = r.file
		}
		add("processEvidence", &integrationv1.Evidence{Detail: &integrationv1.Evidence_Process{Process: process}})
	case filled(r.file):
		add("fileEvidence", &integrationv1.Evidence{Detail: &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{FileDetails: r.file}}})
	}
	if r.address != "" {
		add("ipEvidence", &integrationv1.Evidence{Detail: &integrationv1.Evidence_Ip{Ip: &integrationv1.IpEvidence{IpAddress: r.address}}})
	}
	if r.url != "" {
		add("urlEvidence", &integrationv1.Evidence{Detail: &integrationv1.Evidence_Url{Url: &integrationv1.UrlEvidence{Url: r.url}}})
	}
	if filled(r.user) {
		add("userEvidence", &integrationv1.Evidence{Detail: &integrationv1.Evidence_User{User: &integrationv1.UserEvidence{UserAccount: r.user}}})
	}
	return all
}

// filled says whether anything is set in a message.
func filled(m proto.Message) bool { return proto.Size(m) > 0 }

// eitherText is the field of a text that goes by several names: the name that says nothing leaves what another said.
func eitherText(at func(*row) text) lenient.Field[*row] {
	return func(v lenient.Value, r *row) {
		if said := v.Text(); said != "" {
			*at(r) = said
		}
	}
}

// list is the field of a list in one string.
func list(at func(*row) *[]string) lenient.Field[*row] {
	return func(v lenient.Value, r *row) { *at(r) = split(v, v.Text()) }
}

// split takes a list in one string apart. Microsoft's examples have commas between addresses, and semicolons between users. v is
// what is told of a list that is too long.
func split(v lenient.Value, list string) []string {
	var found []string
	for part := range strings.FieldsFuncSeq(list, func(c rune) bool { return c == ',' || c == ';' }) {
		part = strings.TrimSpace(part)
		switch {
		case part == "":
		case len(found) == maxParts:
			v.Odd(integrationv1.Oddity_KIND_BEYOND_BOUND)
			return found
		default:
			found = append(found, part)
		}
	}
	return found
}

// logOnUsers reads who was logged on: `domain\user; domain\user`.
func logOnUsers(v lenient.Value, r *row) {
	r.device.LoggedOnUsers = nil
	for _, given := range split(v, v.Text()) {
		domain, account, ok := strings.Cut(given, `\`)
		if !ok {
			domain, account = "", given
		}
		r.device.LoggedOnUsers = append(r.device.LoggedOnUsers, &integrationv1.LoggedOnUser{AccountName: account, DomainName: domain})
	}
}

// machineDomain reads the device's domain, which is documented as the one in DNS. A name without a dot is none there, and would
// make a full name of the host's that nobody else knows.
func machineDomain(v lenient.Value, r *row) {
	domain := v.Text()
	r.device.DnsDomain, r.device.NtDomain = "", domain
	if strings.Contains(domain, ".") {
		r.device.DnsDomain, r.device.NtDomain = domain, ""
	}
}

// cloudTags reads the tags that were set in the portal. What stands between several is not documented.
func cloudTags(v lenient.Value, r *row) {
	r.siem.CloudCreatedMachineTags = v.Text()
	r.cloudTags = split(v, r.siem.GetCloudCreatedMachineTags())
}
