package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"defender-integration/internal/announce"
)

// maxKeyFile bounds what is read of a key file, in bytes. One key takes about 250.
const maxKeyFile = 64 << 10

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
	owner, known := info.Sys().(*syscall.Stat_t)
	if tooOpen(info.Mode(), known && owner.Uid == 0 && os.Geteuid() != 0) {
		return nil, fmt.Errorf("%s has mode %04o and can be read by others than its owner: run chmod 600 on it", path, info.Mode().Perm())
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(io.LimitReader(file, maxKeyFile)))
	if err != nil {
		// The cause could quote the file.
		return nil, fmt.Errorf("%s is not a Tink keyset in JSON", path)
	}
	return handle, nil
}

// tooOpen says whether others than the service may use a file of a mode. One of root's may be read by its group, where the service is not
// root: Kubernetes shows a Secret so to a process that is not.
func tooOpen(mode fs.FileMode, roots bool) bool {
	if roots {
		return mode.Perm()&0o037 != 0
	}
	return mode.Perm()&0o077 != 0
}

// makeKey writes a new key to path, whole and durable or not at all, and never over a file that another process made meanwhile.
func makeKey(path string) error {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	written, err := writeKeys(path, handle)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(written) }()
	// A link, unlike a renaming, fails where there is a file.
	if err := os.Link(written, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// replaceKeys puts other keys in the place of those at path, whole and durable: whoever reads the file meanwhile, or after the process
// was killed at any point, finds the old ones or the new ones.
func replaceKeys(path string, handle *keyset.Handle) error {
	// Where path is a link, it is the file behind it that is replaced.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	// What a process that was killed left beside it holds keys too.
	if err := removeLeft(path); err != nil {
		return err
	}
	written, err := writeKeys(path, handle)
	if err == nil {
		err = keepOwner(path, written)
	}
	if err != nil {
		return err
	}
	announce.Point(announce.Key)
	if err := os.Rename(written, path); err != nil {
		return errors.Join(err, os.Remove(written))
	}
	return syncDir(filepath.Dir(path))
}

// keepOwner gives the file that was written owner, group and mode of the one in whose place it is put: who rotates as root must not leave
// a key that the service cannot read any more. Where it cannot, it removes the file.
func keepOwner(path, written string) error {
	before, err := os.Stat(path)
	if err != nil {
		return errors.Join(err, os.Remove(written))
	}
	owner, known := before.Sys().(*syscall.Stat_t)
	if known && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		err = os.Chown(written, int(owner.Uid), int(owner.Gid))
	}
	if err = errors.Join(err, os.Chmod(written, before.Mode().Perm())); err != nil {
		return errors.Join(fmt.Errorf("keep the owner and mode of %s: %w", path, err), os.Remove(written))
	}
	return nil
}

// temporary begins the names of files that keys are written to before they are in place. Nothing else beside a key file is called so.
func temporary(path string) string { return "." + filepath.Base(path) + ".new-" }

// writeKeys writes keys to a file of their own beside path, with mode 0600 and durable, and returns its name.
func writeKeys(path string, handle *keyset.Handle) (written string, err error) {
	var content bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&content)); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(filepath.Dir(path), temporary(path)+"*") // With mode 0600.
	if err != nil {
		return "", err
	}
	_, err = file.Write(content.Bytes())
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// removeLeft removes what processes that were killed left beside a key file. A start that makes its first key just now would lose it, and
// say so.
func removeLeft(path string) error {
	// No pattern: the folder's name could hold what is one.
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), temporary(path)) {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// syncDir makes a new name in a directory durable: a key that seals something must not vanish with the power.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
