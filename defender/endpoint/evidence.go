package endpoint

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// entity is an evidence as this API tells it: one flat object for all kinds, in which null stands for what a kind does not have.
type entity struct {
	kind      string
	created   *timestamppb.Timestamp
	detection integrationv1.DetectionStatus
	// process has the ids, times and the command line, file the image or the file, parent the parent's image.
	process      *integrationv1.ProcessEvidence
	file, parent *integrationv1.FileDetails
	account      *integrationv1.UserAccount
	registry     *integrationv1.RegistryValueEvidence
	address, url string
}

// entities is the field of the list of evidence.
func entities() lenient.Field[*row] {
	fields, graph := entityFields(), evidenceTypes()
	return func(v lenient.Value, r *row) {
		v.Each(func(item lenient.Value) {
			if item.Empty() {
				return
			}
			if !item.IsObject() {
				item.Odd(integrationv1.Oddity_KIND_WRONG_TYPE)
				return
			}
			e := &entity{
				process: &integrationv1.ProcessEvidence{}, file: &integrationv1.FileDetails{}, parent: &integrationv1.FileDetails{},
				account: &integrationv1.UserAccount{}, registry: &integrationv1.RegistryValueEvidence{},
			}
			lenient.ReadObject(item, fields, e, nil)
			if known, ok := graph[strings.ToLower(e.kind)]; ok {
				e.kind = known
			} else {
				item.OddText(integrationv1.Oddity_KIND_UNKNOWN_EVIDENCE_TYPE, e.kind)
			}
			r.entities = append(r.entities, e)
		})
	}
}

// Graph's types of evidence that the API's kinds become.
const (
	processEvidence = "processEvidence"
	fileEvidence    = "fileEvidence"
	userEvidence    = "userEvidence"
	ipEvidence      = "ipEvidence"
	urlEvidence     = "urlEvidence"
	// registryEvidence stands for a key until it is known whether a value of it is told.
	registryEvidence = "registryKeyEvidence"
)

// evidenceTypes are Graph's types of evidence by this API's words for them, in lower case. Microsoft has no list of the words: the
// page on alerts shows User, Process and File, the one of the sister API the others
// (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts, https://learn.microsoft.com/en-us/defender-xdr/api-list-incidents).
func evidenceTypes() map[string]string {
	return map[string]string{
		"process":  processEvidence,
		"file":     fileEvidence,
		"user":     userEvidence,
		"ip":       ipEvidence,
		"url":      urlEvidence,
		"registry": registryEvidence,
		// What concerns no endpoint has no detail.
		"mailbox":       "mailboxEvidence",
		"mailmessage":   "analyzedMessageEvidence",
		"mailcluster":   "mailClusterEvidence",
		"securitygroup": "securityGroupEvidence",
	}
}

// entityFields are the properties of an evidence (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts), and
// registryValueName, which is served besides.
func entityFields() lenient.Fields[*entity] {
	detections := lenient.NamesOf[integrationv1.DetectionStatus](nil)
	return lenient.Fields[*entity]{
		"entityType":                lenient.Text(func(e *entity) text { return &e.kind }),
		"evidenceCreationTime":      lenient.Time(func(e *entity) moment { return &e.created }),
		"detectionStatus":           lenient.Enum(detections, func(e *entity) *integrationv1.DetectionStatus { return &e.detection }),
		"sha1":                      lenient.Text(func(e *entity) text { return &e.file.Sha1 }),
		"sha256":                    lenient.Text(func(e *entity) text { return &e.file.Sha256 }),
		"fileName":                  lenient.Text(func(e *entity) text { return &e.file.FileName }),
		"filePath":                  lenient.Text(func(e *entity) text { return &e.file.FilePath }),
		"processId":                 lenient.Int(func(e *entity) *int64 { return &e.process.ProcessId }),
		"processCommandLine":        lenient.Text(func(e *entity) text { return &e.process.ProcessCommandLine }),
		"processCreationTime":       lenient.Time(func(e *entity) moment { return &e.process.ProcessCreationTime }),
		"parentProcessId":           lenient.Int(func(e *entity) *int64 { return &e.process.ParentProcessId }),
		"parentProcessCreationTime": lenient.Time(func(e *entity) moment { return &e.process.ParentProcessCreationTime }),
		"parentProcessFileName":     lenient.Text(func(e *entity) text { return &e.parent.FileName }),
		"parentProcessFilePath":     lenient.Text(func(e *entity) text { return &e.parent.FilePath }),
		"ipAddress":                 lenient.Text(func(e *entity) text { return &e.address }),
		"url":                       lenient.Text(func(e *entity) text { return &e.url }),
		"registryKey":               lenient.Text(func(e *entity) text { return &e.registry.RegistryKey }),
		"registryHive":              lenient.Text(func(e *entity) text { return &e.registry.RegistryHive }),
		"registryValueType":         lenient.Text(func(e *entity) text { return &e.registry.RegistryValueType }),
		"registryValue":             lenient.Text(func(e *entity) text { return &e.registry.RegistryValue }),
		"registryValueName":         lenient.Text(func(e *entity) text { return &e.registry.RegistryValueName }),
		"accountName":               lenient.Text(func(e *entity) text { return &e.account.AccountName }),
		"domainName":                lenient.Text(func(e *entity) text { return &e.account.DomainName }),
		"userSid":                   lenient.Text(func(e *entity) text { return &e.account.UserSid }),
		"aadUserId":                 lenient.Text(func(e *entity) text { return &e.account.EntraUserId }),
		"userPrincipalName":         lenient.Text(func(e *entity) text { return &e.account.UserPrincipalName }),
	}
}

// evidence makes the evidence that Graph would have of the entity; machine is the id of the alert's. What an entity tells beyond
// its kind stays in the raw bytes.
func (e *entity) evidence(machine string) *integrationv1.Evidence {
	made := &integrationv1.Evidence{Type: e.kind, CreatedTime: e.created}
	switch e.kind {
	case processEvidence:
		e.process.DetectionStatus, e.process.MdeDeviceId = e.detection, machine
		if filled(e.file) {
			e.process.ImageFile = e.file
		}
		if filled(e.parent) {
			e.process.ParentProcessImageFile = e.parent
		}
		if filled(e.account) {
			e.process.UserAccount = e.account
		}
		made.Detail = &integrationv1.Evidence_Process{Process: e.process}
	case fileEvidence:
		made.Detail = &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{
			DetectionStatus: e.detection, FileDetails: e.file, MdeDeviceId: machine,
		}}
	case userEvidence:
		made.Detail = &integrationv1.Evidence_User{User: &integrationv1.UserEvidence{UserAccount: e.account}}
	case ipEvidence:
		made.Detail = &integrationv1.Evidence_Ip{Ip: &integrationv1.IpEvidence{IpAddress: e.address}}
	case urlEvidence:
		made.Detail = &integrationv1.Evidence_Url{Url: &integrationv1.UrlEvidence{Url: e.url}}
	case registryEvidence:
		e.registryDetail(made, machine)
	}
	return made
}

// registryDetail makes a registry value's evidence where a value is told, a key's otherwise: the API has one kind for both.
func (e *entity) registryDetail(made *integrationv1.Evidence, machine string) {
	r := e.registry
	if r.GetRegistryValue() == "" && r.GetRegistryValueName() == "" && r.GetRegistryValueType() == "" {
		made.Detail = &integrationv1.Evidence_RegistryKey{RegistryKey: &integrationv1.RegistryKeyEvidence{
			RegistryHive: r.GetRegistryHive(), RegistryKey: r.GetRegistryKey(),
		}}
		return
	}
	r.MdeDeviceId = machine
	made.Type, made.Detail = "registryValueEvidence", &integrationv1.Evidence_RegistryValue{RegistryValue: r}
}
