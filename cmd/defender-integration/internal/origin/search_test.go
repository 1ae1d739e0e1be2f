package origin_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// notebook takes texts of several goroutines.
type notebook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends a text.
func (n *notebook) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

// message appends a message as callers may see it: in words, and on the wire.
func (n *notebook) message(message proto.Message) {
	wire, err := proto.Marshal(message)
	if err != nil {
		wire = []byte(err.Error())
	}
	_, _ = fmt.Fprintf(n, "%s\n%s\n", protojson.Format(message), wire)
}

func (n *notebook) bytes() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Clone(n.text.Bytes())
}

// secrets are what must stand nowhere, with a name for each that can be told.
type secrets struct {
	mu sync.Mutex
	by map[string]string
}

// maxSecrets bounds how many are searched for: a failing test may ask for tokens again and again.
const maxSecrets = 500

// minSecret is the shortest text that is taken for a secret, in bytes: a shorter one stands somewhere by chance.
const minSecret = 8

func (s *secrets) add(what, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(secret) >= minSecret && len(s.by) < maxSecrets {
		s.by[secret] = what
	}
}

// addToken adds a token by its longest parts, claims and signature: the header is the same in all, and one part is too much already.
func (s *secrets) addToken(what, token string) {
	parts := strings.Split(token, ".")
	for _, part := range parts[min(1, len(parts)-1):] {
		s.add(what, part)
	}
}

// forms are how a secret may be written.
func forms(secret string) [][]byte {
	quoted, err := json.Marshal(secret)
	if err != nil {
		quoted = []byte(strconv.Quote(secret))
	}
	written := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), string(quoted[1 : len(quoted)-1]),
		hex.EncodeToString([]byte(secret)),
	}
	// In base64 a text looks otherwise by how many bytes stand before it. What mixes with its neighbours is left out.
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), secret...))
		encoded = encoded[[]int{0, 2, 3}[before]:]
		if (before+len(secret))%3 != 0 {
			encoded = encoded[:len(encoded)-1]
		}
		written = append(written, encoded, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
	}
	slices.Sort(written)
	all := make([][]byte, 0, len(written))
	for _, text := range slices.Compact(written) {
		all = append(all, []byte(text))
	}
	return all
}

// wantNone checks that a text holds no secret in any form.
func (s *secrets) wantNone(t *testing.T, where string, text []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for secret, what := range s.by {
		for _, form := range forms(secret) {
			if at := bytes.Index(text, form); at >= 0 {
				t.Errorf("%s stands in %s, as %q after %q", what, where, form, text[max(0, at-80):at])
			}
		}
	}
}

// wantNoneInFiles checks all files below a folder, of which one at least must hold a text that is no secret: that they can be
// searched.
func (s *secrets) wantNoneInFiles(t *testing.T, folder, known string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found = found || bytes.Contains(content, []byte(known))
		s.wantNone(t, "the file "+entry.Name(), content)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if !found {
		t.Errorf("no file below the data folder holds %q, so a secret would not have been found either", known)
	}
}

// What is searched for is found in each form in which it may be written: the searches of all houses rest on it.
func TestASecretIsFoundHoweverItIsWritten(t *testing.T) {
	const secret = "planted~s&cret/+ value"
	for before := range 4 {
		for after := range 4 {
			text := append(bytes.Repeat([]byte{'<'}, before), secret...)
			text = append(text, bytes.Repeat([]byte{'>'}, after)...)
			for _, written := range []string{
				string(text), url.QueryEscape(string(text)), html.EscapeString(string(text)), hex.EncodeToString(text),
				base64.StdEncoding.EncodeToString(text), base64.RawURLEncoding.EncodeToString(text),
			} {
				if !slices.ContainsFunc(forms(secret), func(form []byte) bool { return bytes.Contains([]byte(written), form) }) {
					t.Errorf("%q is not found in %q", secret, written)
				}
			}
		}
	}
}
