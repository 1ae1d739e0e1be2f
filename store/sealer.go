package store

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

var (
	// ErrKey says that sealed secrets cannot be opened with the key that there is.
	ErrKey = errors.New("the sealing key is another than the one the secrets were sealed with")
	// ErrNoKey says that there is no key file, and that none was to be made.
	ErrNoKey = errors.New("the sealing key's file is missing")
)

// Sealer seals secrets before they are stored, so that a copy of the data directory or of the cluster is of no use without the
// key's file: AES-256-GCM, with a Tink keyset in JSON. The file may hold several keys: the keyset's primary one seals, each of them opens.
// It is safe for concurrent use.
type Sealer struct {
	aead tink.AEAD
	// primary is the keyset's key that seals, by its id.
	primary uint32
}

// OpenSealer reads the key from the file at path. Where there is no file and create is set, it makes one with a new key, mode 0600;
// where create is not set, it returns ErrNoKey. A file that its group or others may read is refused.
//
// Set create only where the registry is empty: a new key beside old secrets opens none of them, and hides that the key was lost.
// Processes that share a registry must share the key.
func OpenSealer(path string, create bool) (*Sealer, error) {
	handle, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil, fmt.Errorf("%w: %s", ErrNoKey, path)
		}
		if err := makeKey(path); err != nil {
			return nil, fmt.Errorf("make the sealing key: %w", err)
		}
		handle, err = readKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("the sealing key: %w", err)
	}
	sealer, err := newSealer(handle)
	if err != nil {
		return nil, fmt.Errorf("the sealing key in %s: %w", path, err)
	}
	return sealer, nil
}

func newSealer(handle *keyset.Handle) (*Sealer, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	primary, err := handle.Primary()
	if err != nil {
		return nil, err
	}
	return &Sealer{aead: primitive, primary: primary.KeyID()}, nil
}

// Seal returns the secrets encrypted. They can be opened only with the same uid, so that sealed secrets that are moved to another
// record are of no use there.
func (s *Sealer) Seal(secrets *storev1.Secrets, uid string) ([]byte, error) {
	plain, err := proto.Marshal(secrets)
	if err != nil {
		return nil, errors.New("the secrets cannot be encoded") // The cause could show them.
	}
	sealed, err := s.aead.Encrypt(plain, []byte(uid))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

// Open is the reverse of Seal. It returns ErrKey where the key, the uid or the sealed bytes are not those of Seal.
func (s *Sealer) Open(sealed []byte, uid string) (*storev1.Secrets, error) {
	plain, err := s.aead.Decrypt(sealed, []byte(uid))
	if err != nil {
		return nil, ErrKey
	}
	secrets := new(storev1.Secrets)
	if err := proto.Unmarshal(plain, secrets); err != nil {
		return nil, errors.New("the opened secrets cannot be decoded")
	}
	return secrets, nil
}
