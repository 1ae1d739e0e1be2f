package acceptance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"defender-integration/acceptance/process"
)

// director is a program around README.md's piece of a Director, which stands where SNIPPET does.
const director = `// Command director is a Director of its own module.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// job is what this Director knows of an attack.
type job struct {
	ID, Token    string
	Began, Ended time.Time
}

func follow(ctx context.Context, job job) error {
SNIPPET
	return nil
}

func main() {
	if err := follow(context.Background(), job{ID: "job-1", Began: time.Now(), Ended: time.Now()}); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}
`

// TestDirectorInItsOwnModule builds README.md's Director in a module of its own, which takes this one from its folder, as
// README.md says. What is compiled is what README.md shows.
func TestDirectorInItsOwnModule(t *testing.T) {
	t.Parallel()
	const section = "A Director in Go"
	var snippet, lines string
	for _, b := range readBlocks(t, "README.md") {
		switch {
		case b.section != section:
		case b.language == "go":
			snippet += b.text
		case b.language == "":
			lines += b.text
		}
	}
	root := process.Root(t)
	replaced := strings.Replace(lines, "=> ../defender-integration", "=> "+root, 1)
	if snippet == "" || replaced == lines {
		t.Fatalf("README.md has no Go code, or no replace line, under %q", section)
	}

	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.go"), strings.Replace(director, "SNIPPET", snippet, 1))
	write(t, filepath.Join(dir, "go.mod"), "module director\n\n"+requirements(t, root)+"\n"+replaced+"\n")
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.sum"), string(sums))

	for _, args := range [][]string{{"build", "-o", filepath.Join(dir, "director"), "."}, {"vet", "."}} {
		command := exec.CommandContext(t.Context(), "go", args...)
		command.Dir = dir
		// Nothing is downloaded: what this module's own build has is enough.
		command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", args[0], err, out)
		}
	}
}

// requirements returns the go line and the require lines of this module's go.mod. `go mod tidy` would find as many as are needed,
// but asks the network.
func requirements(t *testing.T, root string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(regexp.MustCompile(`(?m)^go .*\n|^require \((?s:.*?)^\)\n`).FindAllString(string(data), -1), "\n")
}

// write writes a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
