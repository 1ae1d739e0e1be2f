package process

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Root returns the folder of the module that the test belongs to.
func Root(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// Build builds the command of a package into a folder, with flags for `go build`, and returns the program's path.
func Build(t testing.TB, dir, pkg string, flags ...string) string {
	t.Helper()
	lookAtSources(t)
	program := filepath.Join(dir, path.Base(pkg))
	// Without what debuggers need it is linked in half the time.
	command := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-ldflags=-w", "-o", program}, flags...), pkg)...)
	command.Dir = Root(t)
	// The flags of the test's own build are not meant for this one.
	command.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return program
}

// lookAtSources looks at every folder of the module. `go test` keeps the result of a test until one of its imports or a file that it
// looked at is another; what is built here is neither by itself, and a change of it would go unnoticed.
func lookAtSources(t testing.TB) {
	t.Helper()
	root := Root(t)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since its folder was read
			return nil
		case err != nil:
			return err
		}
		if entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatalf("look at the sources: %v", err)
	}
}
