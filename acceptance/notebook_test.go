package acceptance_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// note is what a reader keeps of an event: together with its token, in one line.
type note struct {
	// Token is the event's resume token.
	Token string `json:"token"`
	// Alert says that it was an alert; otherwise it told the present.
	Alert bool `json:"alert,omitempty"`
	// ID is the alert's id, Hash the SHA-256 of the revision's bytes as served, Kind what the revision is to the stream.
	ID   string                        `json:"id,omitempty"`
	Hash []byte                        `json:"hash,omitempty"`
	Kind integrationv1.AlertEvent_Kind `json:"kind,omitempty"`
	// Actors are the Actors that it matched.
	Actors []string `json:"actors,omitempty"`
}

// notebook is the file of a reader. A line is written at once, and what was written survives the writer's end; of a line that the
// end cut, nothing is left.
type notebook struct{ file *os.File }

// readNotes returns the whole lines of a notebook, and how many bytes they take.
func readNotes(path string) (notes []note, size int64, err error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(data) {
		var n note
		if err := json.Unmarshal(line, &n); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", path, err)
		}
		notes = append(notes, n)
	}
	return notes, int64(len(data)), nil
}

// openNotebook opens a notebook behind its last whole line, and returns that line's token.
func openNotebook(path string) (*notebook, string, error) {
	notes, size, err := readNotes(path)
	if err != nil {
		return nil, "", err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, "", err
	}
	if err := file.Truncate(size); err != nil {
		return nil, "", errors.Join(err, file.Close())
	}
	token := ""
	if len(notes) > 0 {
		token = notes[len(notes)-1].Token
	}
	return &notebook{file}, token, nil
}

// write adds a line.
func (n *notebook) write(line note) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = n.file.Write(append(data, '\n'))
	return err
}

// place is where in a journal an event stands.
type place struct {
	journal  string
	sequence uint64
	ordinal  uint32
}

// placeOf reads a resume token. To callers it is opaque; this test looks into it, for the order that callers are promised is the
// journal's.
func placeOf(token string) (place, error) {
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(data) < 4 {
		return place{}, fmt.Errorf("the token %q: %w", token, err)
	}
	var t storev1.ResumeToken
	if err := proto.Unmarshal(data[:len(data)-4], &t); err != nil {
		return place{}, fmt.Errorf("the token %q: %w", token, err)
	}
	return place{t.GetUid() + "/" + t.GetIdentity(), t.GetSequence(), t.GetOrdinal()}, nil
}

// follows says whether a place comes after another in the same journal.
func (p place) follows(before place) bool {
	return p.journal == before.journal &&
		(p.sequence > before.sequence || p.sequence == before.sequence && p.ordinal > before.ordinal)
}
