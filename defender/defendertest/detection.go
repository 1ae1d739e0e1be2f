package defendertest

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// detection is a row of the alert exporter, with what the API can select it by.
type detection struct {
	raw                []byte
	group, registryTag string // of the device: its group, and the tag that its registry sets
	portalTags         []string
}

// published are a revision's detections, and the keys of all that its alert had published with it.
type published struct {
	rows []detection
	keys map[string]bool
}

// detections are the rows that a revision published when it became visible. A row never changes: an alert's first revision
// publishes one for each file and process in its evidence, one at least; later ones publish what is new, which a change of status is
// not.
func (r *revision) detections() []detection { return r.publish().rows }

// publish works out what the revision published, once. It was shown, so that what came before it is known.
func (r *revision) publish() published {
	r.publishOnce.Do(func() {
		if r.alert == nil {
			r.published.rows = []detection{rawDetection(r.raw)}
			return
		}
		if r.before != nil {
			r.published.keys = r.before.publish().keys
		}
		fresh := map[string]flatEvidence{}
		var order []string
		for _, item := range r.alert.flatEvidence() {
			if item.entityType != "Process" && item.entityType != "File" {
				continue
			}
			key := item.identity()
			if _, again := fresh[key]; again || r.published.keys[key] {
				continue
			}
			fresh[key] = item
			order = append(order, key)
		}
		if len(order) == 0 && len(r.published.keys) == 0 {
			order = []string{""}
			fresh[""] = flatEvidence{}
		}
		if len(order) == 0 {
			return
		}
		part := len(r.published.keys)
		r.published.keys = maps.Clone(r.published.keys)
		if r.published.keys == nil {
			r.published.keys = map[string]bool{}
		}
		for i, key := range order {
			r.published.keys[key] = true
			r.published.rows = append(r.published.rows, r.detection(fresh[key], key, part+i))
		}
	})
	return r.published
}

// identity tells items of an alert's evidence apart. What was made of an item, such as that it was blocked, is not in it.
func (e *flatEvidence) identity() string {
	return strings.Join([]string{
		e.entityType, e.deviceID, e.file.Path, e.file.Name, e.file.SHA1, e.file.SHA256,
		fmt.Sprint(e.id), formatTime(e.started), e.commandLine,
	}, "\x00")
}

// detection writes a row as the documentation of 2020 shows it: what is not known is an empty string, or null where it is a flag. The
// format of 2017 has fewer members, null for both, and the misspelt IoaDefinitiondId
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem and the page on pulling detections that it followed). item is
// the file or the process that the row is about, the zero value where it is about the alert; part is its number in the alert.
func (r *revision) detection(item flatEvidence, key string, part int) detection {
	a, old := r.alert, r.tenant.server.options.SIEM.Format2017
	device := a.deviceOf(item.deviceID)
	antivirus := a.DetectionSource == "antivirus"
	sum := sha256.Sum256([]byte(a.ID + "\x00" + key))
	unique := base64.StdEncoding.EncodeToString(sum[:])
	w := &jsonWriter{b: make([]byte, 0, 3<<10)}
	text := w.present
	if old {
		text, unique = w.text, strings.ToUpper(hex.EncodeToString(sum[:]))
	}
	// These are told of what the antivirus found only.
	onlyAntivirus := func(value string) string {
		if antivirus {
			return value
		}
		return ""
	}
	address, site := "", ""
	if item.entityType == "" {
		address, site = a.network()
	}
	user := item.user
	if user == (User{}) {
		user = a.user()
	}
	threatCategory, _, _ := strings.Cut(a.ThreatName, ":")
	end := endOf(item.status, antivirus)
	happened := ""
	switch {
	case a.NoActivity:
	case item.started.IsZero():
		happened = formatTime(a.LastActivity)
	default:
		happened = formatTime(item.started)
	}

	w.object("", func() {
		text("AlertTime", happened)
		text("ComputerDnsName", device.DNSName)
		text("AlertTitle", a.Title)
		text("Category", a.Category)
		text("Severity", endpointSeverity(a.Severity))
		text("AlertId", a.ID)
		text("Actor", a.Actor)
		text("LinkToWDATP", "https://securitycenter.windows.com/alert/"+a.ID)
		text("IocName", "")
		text("IocValue", "")
		text("CreatorIocName", "")
		text("CreatorIocValue", "")
		text("Sha1", item.file.SHA1)
		text("FileName", item.file.Name)
		text("FilePath", item.file.Path)
		text("IpAddress", address)
		text("Url", site)
		if old {
			text("IoaDefinitiondId", a.DetectorID)
		} else {
			text("IoaDefinitionId", a.DetectorID)
		}
		text("UserName", user.Account)
		w.number("AlertPart", int64(part))
		text("FullId", a.ID+":"+unique)
		text("LastProcessedTimeUtc", formatTime(r.processed))
		text("ThreatCategory", onlyAntivirus(threatCategory))
		text("ThreatFamily", onlyAntivirus(a.ThreatFamily))
		text("ThreatName", onlyAntivirus(a.ThreatName))
		text("RemediationAction", end.action)
		w.flag("RemediationIsSuccess", end.success)
		text("Source", siemSource(a.DetectionSource, old))
		text("Md5", onlyAntivirus(item.file.MD5))
		text("Sha256", onlyAntivirus(item.file.SHA256))
		w.flag("WasExecutingWhileDetected", end.executing)
		if !old {
			text("UserDomain", user.Domain)
			text("LogOnUsers", logOnUsers(device.LoggedOn))
			text("MachineDomain", afterFirstLabel(device.DNSName))
			text("MachineName", firstLabel(device.DNSName))
			text("InternalIPv4List", addressList(device.IPs, netip.Addr.Is4))
			text("InternalIPv6List", addressList(device.IPs, netip.Addr.Is6))
		}
		text("FileHash", item.file.SHA1)
		if !old {
			text("DeviceID", device.ID)
			text("MachineGroup", device.RBACGroup)
			text("Description", a.Description)
			text("DeviceCreatedMachineTags", "")
			text("CloudCreatedMachineTags", strings.Join(device.Tags, ", "))
			text("CommandLine", item.commandLine)
			text("IncidentLinkToWDATP", "https://securitycenter.windows.com/incidents/byalert?alertId="+a.ID+"&source=SIEM")
			w.number("ReportID", int64(binary.BigEndian.Uint32(sum[:4])>>1))
			text("LinkToMTP", "https://security.microsoft.com/alert/"+a.ID)
			text("IncidentLinkToMTP", "https://security.microsoft.com/incidents/byalert?alertId="+a.ID+"&source=SIEM")
			external := sha1.Sum(sum[:])
			text("ExternalId", strings.ToUpper(hex.EncodeToString(external[:])))
		}
		text("IocUniqueId", unique)
		a.extra(w)
	})
	return detection{raw: w.b, group: device.RBACGroup, portalTags: device.Tags}
}

// siemSource is what the alert exporter calls a detection source of Graph's. The list of its values is not documented: the three here
// are from its samples.
func siemSource(source string, old bool) string {
	switch {
	case source == "antivirus":
		return "Antivirus"
	case source == endpointSource && old:
		return "Windows Defender ATP"
	case source == endpointSource:
		return "EDR"
	}
	return upperFirst(source)
}

// ending is how the antivirus says that a detection ended. Nil is not known.
type ending struct {
	action             string
	success, executing *bool
}

// endOf tells how an item of evidence ended. Nothing is told of what was not found by the antivirus. The values of the action are not
// documented.
func endOf(status string, antivirus bool) ending {
	yes, no := true, false
	switch {
	case !antivirus:
		return ending{}
	case status == "prevented":
		return ending{"Quarantine", &yes, &no}
	case status == "blocked":
		return ending{"Quarantine", &yes, &yes}
	case status == "detected":
		return ending{"", &no, &yes}
	}
	return ending{}
}

// deviceOf is the device of that id in the alert's evidence; the alert's first where there is none.
func (a Alert) deviceOf(id string) Device {
	for _, item := range a.Evidence {
		if e, ok := item.(DeviceEvidence); ok {
			if d := e.Device.withDefaults(a.Created); d.ID == id {
				return d
			}
		}
	}
	return a.device()
}

// network is the first address and the first URL of the alert's evidence.
func (a Alert) network() (address, site string) {
	for _, item := range a.flatEvidence() {
		address, site = cmp.Or(address, item.address), cmp.Or(site, item.url)
	}
	return address, site
}

// logOnUsers writes who was logged on, in one string as Microsoft's example does.
func logOnUsers(users []User) string {
	names := make([]string, len(users))
	for i, user := range users {
		names[i] = user.Domain + `\` + user.Account
	}
	return strings.Join(names, "; ")
}

// addressList writes the addresses of one kind, in one string as Microsoft's example does.
func addressList(addresses []string, kind func(netip.Addr) bool) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(addresses), func(text string) bool {
		address, err := netip.ParseAddr(text)
		return err != nil || !kind(address)
	}), ", ")
}

// rawDetection reads of a row's bytes what the API can select it by.
func rawDetection(raw []byte) detection {
	members := membersOf(raw)
	d := detection{raw: raw, group: members.text("MachineGroup"), registryTag: members.text("DeviceCreatedMachineTags")}
	for tag := range strings.SplitSeq(members.text("CloudCreatedMachineTags"), ",") {
		d.portalTags = append(d.portalTags, strings.TrimSpace(tag))
	}
	return d
}

// rawDetectionRevision reads of a row's bytes what it is kept by. What cannot be read stays empty.
func rawDetectionRevision(raw []byte) *revision {
	members := membersOf(raw)
	processed := members.time("LastProcessedTimeUtc", time.RFC3339Nano, zoneless)
	return &revision{
		api: SIEM, raw: raw, key: members.text("FullId"), updated: processed, created: members.time("AlertTime", time.RFC3339Nano, zoneless),
		serviceSource: endpointSource,
	}
}
