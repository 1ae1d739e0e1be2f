package secretsdir

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// planted is in every file that must not be told of.
const planted = "planted~secret"

// newDir is a folder with files of all kinds, laid out as Kubernetes does for the good one.
func newDir(t *testing.T) (dir *Dir, path string) {
	t.Helper()
	// A unix socket's path has to be short.
	base, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	path = filepath.Join(base, "secrets")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, content []byte) { must(os.WriteFile(filepath.Join(path, name), content, 0o600)) }
	link := func(to, name string) { must(os.Symlink(to, filepath.Join(path, name))) }

	must(os.MkdirAll(filepath.Join(path, "..2026_11_20", "tenant"), 0o700))
	must(os.Mkdir(filepath.Join(path, "folder"), 0o700))
	write("..2026_11_20/client-secret", []byte(planted+"\n"))
	write("..2026_11_20/tenant/client-secret", []byte("nested"))
	link("..2026_11_20", "..data")
	link("..data/client-secret", "client-secret")
	link("..data/tenant", "tenant")

	write("empty", nil)
	write("full", bytes.Repeat([]byte("x"), maxFile))
	write("large", bytes.Repeat([]byte("x"), maxFile+1))
	must(os.WriteFile(filepath.Join(base, "outside"), []byte(planted), 0o600))
	link("../outside", "link-out")
	link(filepath.Join(path, "full"), "link-absolute")
	link("/dev/zero", "link-device")
	link("link-loop", "link-loop")
	link("..", "up")
	must(syscall.Mkfifo(filepath.Join(path, "pipe"), 0o600))
	listener, err := net.Listen("unix", filepath.Join(path, "socket"))
	must(err)
	t.Cleanup(func() { _ = listener.Close() })

	dir, err = Open(path)
	must(err)
	t.Cleanup(func() { _ = dir.Close() })
	return dir, path
}

func TestRead(t *testing.T) {
	dir, _ := newDir(t)
	for name, want := range map[string]string{
		"client-secret": planted + "\n", "tenant/client-secret": "nested", "..data/client-secret": planted + "\n",
		"full": strings.Repeat("x", maxFile),
	} {
		if got, err := dir.Read(name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, error %v; want %d bytes", name, len(got), err, len(want))
		}
	}
}

func TestReadAgainFindsTheNewVersion(t *testing.T) {
	dir, path := newDir(t)
	if _, err := dir.Read("client-secret"); err != nil {
		t.Fatal(err)
	}
	// This is how Kubernetes brings a new version: the link ..data is replaced by one to another folder.
	for _, err := range []error{
		os.Mkdir(filepath.Join(path, "..2026_11_21"), 0o700),
		os.WriteFile(filepath.Join(path, "..2026_11_21", "client-secret"), []byte("new"), 0o600),
		os.Symlink("..2026_11_21", filepath.Join(path, "..data_tmp")),
		os.Rename(filepath.Join(path, "..data_tmp"), filepath.Join(path, "..data")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := dir.Read("client-secret"); err != nil || string(got) != "new" {
		t.Errorf("read %q, error %v; want the new version", got, err)
	}
}

const (
	configuration = integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID
	unusable      = integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE
)

// wantProblem checks that an error is one for an operator and tells nothing of a file's content.
func wantProblem(t *testing.T, err error, reason integrationv1.ErrorReason, words string) {
	t.Helper()
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		t.Errorf("error is %v, want a *defender.Error", err)
		return
	}
	if e.Problem.GetReason() != reason || !strings.Contains(e.Problem.GetMessage(), words) || e.Problem.GetRemedy() == "" || !e.Permanent {
		t.Errorf("problem is %v, want %s that says %q and what to do", e.Problem, reason, words)
	}
	if strings.Contains(e.Error()+e.Problem.GetRemedy(), planted) {
		t.Errorf("the error tells what is in the file: %v", e)
	}
}

func TestReadRefuses(t *testing.T) {
	dir, _ := newDir(t)
	tests := []struct {
		name   string
		reason integrationv1.ErrorReason
		words  string
	}{
		{"", configuration, "empty"},
		{"/etc/hostname", configuration, "absolute"},
		{"../outside", configuration, "`..`"},
		{"folder/../client-secret", configuration, "`..`"},
		{"folder//client-secret", configuration, "part that is empty"},
		{"./client-secret", configuration, "part that is empty or `.`"},
		{".", configuration, "part that is empty or `.`"},
		{"folder/", configuration, "part that is empty"},
		{"client\x00secret", configuration, "control characters"},
		{"client\nsecret", configuration, "control characters"},
		{strings.Repeat("x", maxName+1), configuration, "more than 512 bytes"},
		{"nothing", unusable, "does not exist"},
		{"folder/nothing", unusable, "does not exist"},
		{"empty", unusable, "it is empty"},
		{"large", unusable, "more than 1048576 bytes"},
		{"folder", unusable, "no regular file"},
		{"pipe", unusable, "no regular file"},
		{"socket", unusable, "no regular file"},
		{"link-out", unusable, "leads out of the folder"},
		{"link-absolute", unusable, "leads out of the folder"},
		{"link-device", unusable, "leads out of the folder"},
		{"link-loop", unusable, "cannot be opened"},
		{"up/outside", unusable, "leads out of the folder"},
		{"client-secret/x", unusable, "cannot be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			content, err := dir.Read(tt.name)
			wantProblem(t, err, tt.reason, tt.words)
			if content != nil {
				t.Errorf("%d bytes came with the error", len(content))
			}
			if err := dir.Check(tt.name); (err != nil) != (tt.reason == configuration) {
				t.Errorf("Check says %v", err)
			}
		})
	}
}

func TestReadWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir, path := newDir(t)
	if err := os.Chmod(filepath.Join(path, "full"), 0); err != nil {
		t.Fatal(err)
	}
	_, err := dir.Read("full")
	wantProblem(t, err, unusable, "may not read it")
}

func TestNoFolder(t *testing.T) {
	var none *Dir
	for _, dir := range []*Dir{none, {}} {
		_, err := dir.Read("client-secret")
		wantProblem(t, err, configuration, "no folder for secrets")
		wantProblem(t, dir.Check("client-secret"), configuration, "no folder for secrets")
		if !strings.Contains(err.(*defender.Error).Problem.GetRemedy(), "--secrets-dir") { //nolint:errorlint // wantProblem looked.
			t.Errorf("error is %v, want it to name the flag", err)
		}
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	_, path := newDir(t)
	for _, name := range []string{"nothing", "full"} {
		if dir, err := Open(filepath.Join(path, name)); err == nil || !strings.Contains(err.Error(), "--secrets-dir") || dir != nil {
			t.Errorf("%s: error is %v, want one that names the flag", name, err)
		}
	}
}

func TestClosed(t *testing.T) {
	dir, _ := newDir(t)
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := dir.Read("client-secret")
	wantProblem(t, err, unusable, "about to stop")
}

func TestReadFile(t *testing.T) {
	_, path := newDir(t)
	if got, err := ReadFile(filepath.Join(path, "client-secret")); err != nil || string(got) != planted+"\n" {
		t.Errorf("read %q, error %v", got, err)
	}
	for name, words := range map[string]string{
		filepath.Join(path, "nothing"): "does not exist", filepath.Join(path, "pipe"): "no regular file", path: "no regular file",
		"/dev/zero": "no regular file", filepath.Join(path, "large"): "more than", "": "does not exist",
	} {
		_, err := ReadFile(name)
		wantProblem(t, err, unusable, words)
	}
}
