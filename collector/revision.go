package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// sizeOf estimates how large an entry is, in bytes, without walking through it: a revision is about its raw bytes and as much
// again for the alert, or what an entry may have where it had to be cut.
func sizeOf(entry *storev1.Entry) int {
	if entry.GetRevision().GetOmission().GetRawOmitted() {
		return store.MaxEntrySize
	}
	return 1<<10 + 2*len(entry.GetRevision().GetRaw())
}

// textBound is how much of a text is kept of an alert that is too large even without raw bytes and evidence, in bytes.
const textBound = 16 << 10

// newRevision makes the entry of an element, cut to what an entry can hold.
func newRevision(e *defender.Element, seen, firstSeen time.Time, previous uint64) *storev1.Entry {
	rev := &storev1.Revision{
		Key:           e.Key,
		ContentHash:   e.ContentHash[:],
		RawHash:       append([]byte(nil), e.RawHash[:]...),
		UpdatedTime:   timestamppb.New(e.Updated),
		SeenTime:      timestamppb.New(seen),
		FirstSeenTime: timestamppb.New(firstSeen),
		Alert:         e.Alert,
		Raw:           append([]byte(nil), e.Raw...),

		PreviousSequence: previous,
	}
	entry := &storev1.Entry{EntryTime: timestamppb.New(seen), Body: &storev1.Entry_Revision{Revision: rev}}
	fit(entry, rev)
	return entry
}

// fit cuts a revision that is too large for an entry: first the raw bytes go, then evidence from the end, then long texts. What
// went is told.
func fit(entry *storev1.Entry, rev *storev1.Revision) {
	if proto.Size(entry) <= store.MaxEntrySize {
		return
	}
	rev.Omission = &integrationv1.Omission{
		RawSize:    int64(len(rev.GetRaw())),
		RawSha256:  hex.EncodeToString(rev.GetRawHash()),
		RawOmitted: true,
	}
	rev.Raw = nil
	alert := rev.GetAlert()
	for size := proto.Size(entry); size > store.MaxEntrySize && len(alert.GetEvidence()) > 0; {
		last := len(alert.GetEvidence()) - 1
		size -= proto.Size(alert.GetEvidence()[last])
		alert.Evidence = alert.GetEvidence()[:last]
		rev.Omission.EvidenceOmitted++
	}
	if proto.Size(entry) <= store.MaxEntrySize {
		return
	}
	cutTexts(alert)
}

// boundedKey returns the key that revisions go by: the element's, or its hash where it is longer than any id of Microsoft's.
func boundedKey(key string) string {
	if len(key) <= 512 {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// cutTexts cuts every text of an alert to textBound, and every list to a hundred items.
func cutTexts(alert *integrationv1.Alert) {
	for _, text := range []*string{
		&alert.Id, &alert.ProviderAlertId, &alert.IncidentId, &alert.TenantId, &alert.Title, &alert.Description,
		&alert.RecommendedActions, &alert.Category, &alert.ServiceSource, &alert.DetectionSource, &alert.ProductName,
		&alert.DetectorId, &alert.AlertPolicyId, &alert.InvestigationState, &alert.AssignedTo, &alert.ActorDisplayName,
		&alert.ThreatDisplayName, &alert.ThreatFamilyName, &alert.AlertWebUrl, &alert.IncidentWebUrl,
	} {
		*text = cut(*text, textBound)
	}
	// A cut JSON text is no JSON: it is in neither place, and the omission says that the raw bytes are gone.
	alert.AdditionalDataJson, alert.CustomDetailsJson = "", ""
	alert.Comments = alert.GetComments()[:min(len(alert.GetComments()), 100)]
	for _, c := range alert.GetComments() {
		c.Comment, c.CreatedBy = cut(c.GetComment(), 1<<10), cut(c.GetCreatedBy(), 1<<10)
	}
	for _, list := range []*[]string{&alert.Categories, &alert.MitreTechniques, &alert.SystemTags} {
		*list = (*list)[:min(len(*list), 100)]
		for i, s := range *list {
			(*list)[i] = cut(s, 1<<10)
		}
	}
}

// cut shortens a text to at most n bytes, at a rune's edge.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
