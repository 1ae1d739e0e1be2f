package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

func TestSealer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	_, err := OpenSealer(path, false)
	wantError(t, err, ErrNoKey)
	sealer, err := OpenSealer(path, true)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key file has mode %o", info.Mode().Perm())
	}

	secrets := &storev1.Secrets{ClientSecret: "correct horse"}
	sealed, err := sealer.Seal(secrets, "uid")
	must(t, err)
	if bytes.Contains(sealed, []byte("horse")) {
		t.Error("the sealed bytes show the secret")
	}
	again, err := sealer.Seal(secrets, "uid")
	must(t, err)
	if bytes.Equal(sealed, again) {
		t.Error("the same secrets are sealed to the same bytes")
	}

	reopened, err := OpenSealer(path, true) // The file is there: no new key is made.
	must(t, err)
	opened, err := reopened.Open(sealed, "uid")
	must(t, err)
	if !proto.Equal(opened, secrets) {
		t.Errorf("opened %v", opened)
	}
	_, err = reopened.Open(sealed, "uid-2")
	wantError(t, err, ErrKey)
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	_, err = reopened.Open(damaged, "uid")
	wantError(t, err, ErrKey)
	_, err = reopened.Open(nil, "uid")
	wantError(t, err, ErrKey)
	other, err := OpenSealer(filepath.Join(t.TempDir(), "key.json"), true)
	must(t, err)
	_, err = other.Open(sealed, "uid")
	wantError(t, err, ErrKey)
}

func TestSealerRefusesAnOpenKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	_, err := OpenSealer(path, true)
	must(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		must(t, os.Chmod(path, mode))
		if _, err := OpenSealer(path, true); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	must(t, os.Chmod(path, 0o400))
	if _, err := OpenSealer(path, true); err != nil {
		t.Error(err)
	}
}

func TestSealerRefusesWhatIsNoKey(t *testing.T) {
	for _, content := range []string{"", "{}", "secret words", `{"primaryKeyId":1,"key":[]}`} {
		path := filepath.Join(t.TempDir(), "key.json")
		must(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := OpenSealer(path, true)
		if err == nil {
			t.Errorf("%q was taken for a key", content)
			continue
		}
		if strings.Contains(err.Error(), "secret words") {
			t.Errorf("the error quotes the file: %v", err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != content {
			t.Errorf("%q became %q, %v", content, kept, err)
		}
	}
	if _, err := OpenSealer(filepath.Join(t.TempDir(), "missing", "key.json"), true); err == nil {
		t.Error("a key was made in no directory")
	}
}

// Several processes that start at once must come to one key.
func TestSealersMakeOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	sealers := make([]*Sealer, 8)
	var group sync.WaitGroup
	for i := range sealers {
		group.Go(func() {
			sealer, err := OpenSealer(path, true)
			if err != nil {
				t.Error(err)
			}
			sealers[i] = sealer
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	sealed, err := sealers[0].Seal(&storev1.Secrets{ClientSecret: "x"}, "uid")
	must(t, err)
	for _, sealer := range sealers {
		_, err := sealer.Open(sealed, "uid")
		must(t, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
