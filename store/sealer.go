package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
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

// maxKeyFile bounds what is read of a key file, in bytes. One key takes about 250.
const maxKeyFile = 64 << 10

// Sealer seals secrets before they are stored, so that a copy of the data directory or of the cluster is of no use without the
// key's file: AES-256-GCM, with a Tink keyset in JSON. It is safe for concurrent use.
type Sealer struct {
	aead tink.AEAD
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
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("the sealing key in %s: %w", path, err)
	}
	return &Sealer{aead: primitive}, nil
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

// readKey reads a key file, after its mode is found good.
func readKey(path string) (*keyset.Handle, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("%s has mode %04o and can be read by others than its owner: run chmod 600 on it", path, info.Mode().Perm())
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(io.LimitReader(file, maxKeyFile)))
	if err != nil {
		// The cause could quote the file.
		return nil, fmt.Errorf("%s is not a Tink keyset in JSON", path)
	}
	return handle, nil
}

// makeKey writes a new key to path, whole and durable or not at all, and never over a file that another process made meanwhile.
func makeKey(path string) error {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&content)); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".key-*") // With mode 0600.
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(content.Bytes())
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	// A link, unlike a renaming, fails where there is a file.
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new name in a directory durable: a key that seals something must not vanish with the power.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
