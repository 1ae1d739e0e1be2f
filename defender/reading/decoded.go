package reading

import (
	"crypto/sha256"
	"encoding/hex"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Decoder reads the elements of one API. It need not be safe for concurrent use.
type Decoder interface {
	// Decode reads one element. The only error is of its syntax: whatever JSON it is, it goes through, and what is odd about it is
	// among the alert's oddities.
	Decode(raw []byte) (Decoded, error)
}

// Decoded is a decoded element.
type Decoded struct {
	// Key is the alert's id; where it has none, "sha256:" and the hexadecimal ContentHash.
	Key string
	// ContentHash is the SHA-256 of the canonical content.
	ContentHash [sha256.Size]byte
	// Alert is the element in the contract's shape. It shares nothing with the bytes that it was read from.
	Alert *integrationv1.Alert
	// WithoutEvidence says that the element is an alert without the evidence that its API tells with each.
	WithoutEvidence bool
}

// LacksEvidence says whether an element is an alert, as one has an id and a title, that came without a list of evidence, which its
// API tells with every alert, be it empty. What is no alert at all is only odd.
func LacksEvidence(document *lenient.Document, alert *integrationv1.Alert, evidence string) bool {
	list, ok := document.Root().Member(evidence)
	return alert.GetId() != "" && alert.GetTitle() != "" && (!ok || list.Empty())
}

// NewDecoded returns a decoded element with its key.
func NewDecoded(alert *integrationv1.Alert, contentHash [sha256.Size]byte) Decoded {
	key := alert.GetId()
	if key == "" {
		key = "sha256:" + hex.EncodeToString(contentHash[:])
	}
	return Decoded{Key: key, ContentHash: contentHash, Alert: alert}
}
