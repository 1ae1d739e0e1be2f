package graph

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// evidenceReader reads evidence: what all evidence shares by one table, the rest by its type's. It is not changed once made.
type evidenceReader struct {
	base lenient.Fields[*integrationv1.Evidence]
	// details has, for each type that concerns an endpoint, what makes a reader of its own properties for one evidence.
	details map[string]detail
	// others are the types that are known and concern no endpoint.
	others map[string]bool
}

// detail prepares an evidence for its type, and returns what reads its type's properties.
type detail func(e *integrationv1.Evidence) func(key string, v lenient.Value) bool

// detailOf makes a detail of a table.
func detailOf[D any](fields lenient.Fields[*D], set func(*integrationv1.Evidence, *D)) detail {
	return func(e *integrationv1.Evidence) func(string, lenient.Value) bool {
		d := new(D)
		set(e, d)
		return func(key string, v lenient.Value) bool {
			read, ok := fields[key]
			if ok {
				read(v, d)
			}
			return ok
		}
	}
}

func newEvidenceReader() *evidenceReader {
	type evidence = *integrationv1.Evidence
	r := &evidenceReader{
		base: lenient.Fields[evidence]{
			"createdDateTime":          lenient.Time(func(m evidence) **timestamppb.Timestamp { return &m.CreatedTime }),
			"verdict":                  lenient.Enum(lenient.NamesOf[integrationv1.EvidenceVerdict](nil), func(m evidence) *integrationv1.EvidenceVerdict { return &m.Verdict }),
			"remediationStatus":        lenient.Enum(lenient.NamesOf[integrationv1.RemediationStatus](nil), func(m evidence) *integrationv1.RemediationStatus { return &m.RemediationStatus }),
			"remediationStatusDetails": lenient.Text(func(m evidence) *string { return &m.RemediationStatusDetails }),
			"roles":                    lenient.Texts(func(m evidence) *[]string { return &m.Roles }),
			"detailedRoles":            lenient.Texts(func(m evidence) *[]string { return &m.DetailedRoles }),
			"tags":                     lenient.Texts(func(m evidence) *[]string { return &m.Tags }),
		},
		others: map[string]bool{},
	}
	for _, name := range otherTypes() {
		r.others[name] = true
	}
	r.details = r.endpointDetails()
	return r
}

// list is the field of a list of evidence.
func (r *evidenceReader) list(at func(*integrationv1.Alert) *[]*integrationv1.Evidence) lenient.Field[*integrationv1.Alert] {
	return evidenceList(r, "", at)
}

// evidenceList is the field of a list of evidence; declared is the type of those that do not say it.
func evidenceList[M any](r *evidenceReader, declared string, at func(M) *[]*integrationv1.Evidence) lenient.Field[M] {
	return func(v lenient.Value, message M) {
		v.Each(func(item lenient.Value) {
			if e := r.read(item, declared); e != nil {
				*at(message) = append(*at(message), e)
			}
		})
	}
}

// oneEvidence is the field of a single evidence within another; declared is its type where it does not say it, since OData
// leaves a type out that is the declared one.
func oneEvidence[M any](r *evidenceReader, declared string, at func(M) **integrationv1.Evidence) lenient.Field[M] {
	return func(v lenient.Value, message M) {
		*at(message) = r.read(v, declared)
	}
}

// read reads one evidence; nil where there is none to read.
func (r *evidenceReader) read(v lenient.Value, declared string) *integrationv1.Evidence {
	if v.Empty() {
		return nil
	}
	if !v.IsObject() {
		v.Odd(integrationv1.Oddity_KIND_WRONG_TYPE)
		return nil
	}
	e := &integrationv1.Evidence{Type: declared}
	if annotation, ok := v.Member("@odata.type"); ok {
		if name := annotation.Text(); name != "" {
			// "#microsoft.graph.security.deviceEvidence"
			e.Type = name[strings.LastIndexAny(name, ".#")+1:]
		}
	}
	var rest func(string, lenient.Value) bool
	switch prepare, known := r.details[e.GetType()]; {
	case known:
		rest = prepare(e)
	default:
		// Its other properties are in the raw bytes alone, and are not told one by one.
		rest = func(string, lenient.Value) bool { return true }
		if !r.others[e.GetType()] {
			v.OddText(integrationv1.Oddity_KIND_UNKNOWN_EVIDENCE_TYPE, e.GetType())
		}
	}
	lenient.ReadObject(v, r.base, e, rest)
	return e
}

// otherTypes are the types of the metadata of v1.0 (microsoftgraph/msgraph-metadata, August 2026) that concern no endpoint.
func otherTypes() []string {
	return []string{
		"activeDirectoryDomainEvidence", "aiAgentEvidence", "amazonResourceEvidence", "analyzedMessageEvidence",
		"azureResourceEvidence", "blobContainerEvidence", "blobEvidence", "cloudApplicationEvidence",
		"cloudLogonRequestEvidence", "cloudLogonSessionEvidence", "containerEvidence", "containerImageEvidence",
		"containerRegistryEvidence", "gitHubOrganizationEvidence", "gitHubRepoEvidence", "gitHubUserEvidence",
		"googleCloudResourceEvidence", "ioTDeviceEvidence",
		"kubernetesClusterEvidence", "kubernetesControllerEvidence", "kubernetesNamespaceEvidence", "kubernetesPodEvidence",
		"kubernetesSecretEvidence", "kubernetesServiceAccountEvidence", "kubernetesServiceEvidence",
		"mailboxConfigurationEvidence", "mailboxEvidence", "mailClusterEvidence", "nicEvidence", "oauthApplicationEvidence",
		"sasTokenEvidence", "servicePrincipalEvidence", "submissionMailEvidence", "teamsMessageEvidence",
	}
}
