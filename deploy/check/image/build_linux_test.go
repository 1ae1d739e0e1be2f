package image_test

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"
)

// builder runs a stage's steps.
type builder struct {
	root    string // what is the root folder to them
	context string // what a build is sent
	// elsewhere is put before the stage's working folder.
	elsewhere string
	// caches is the folder of what the steps keep between builds, modules that of the modules that were fetched before.
	caches, modules string

	dir string            // the working folder
	env map[string]string // variables and arguments
}

// base lays out what the base image brings: a system with a shell, Go, and certificates. It is this machine's, to be read only.
func (b *builder) base(t *testing.T) {
	t.Helper()
	for _, folder := range []string{"/usr/bin", "/usr/lib", "/usr/lib64", "/etc/ssl", "/dev/null"} {
		if _, err := os.Stat(folder); err == nil {
			bind(t, folder, filepath.Join(b.root, folder), folder == "/dev/null")
		}
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+link, filepath.Join(b.root, link)))
	}
	bind(t, goEnv(t, "GOROOT"), filepath.Join(b.root, "usr/local/go"), false)
	must(t, os.MkdirAll(filepath.Join(b.root, "tmp"), 0o777))
	processes := filepath.Join(b.root, "proc")
	must(t, os.MkdirAll(processes, 0o755))
	must(t, unix.Mount("proc", processes, "proc", 0, ""))
	b.dir = "/"
	b.env = map[string]string{
		"PATH": "/go/bin:/usr/local/go/bin:/usr/bin", "GOPATH": "/go", "GOTOOLCHAIN": "local", "HOME": "/root",
		// Modules are all there: nothing is fetched, and their sums are compared with go.sum.
		"GOPROXY": "off", "GOSUMDB": "off", "GOFLAGS": "-modcacherw",
	}
}

// build runs the steps.
func (b *builder) build(t *testing.T, stage instructions.Stage, arguments map[string]string) {
	t.Helper()
	expand := expander(t, b.env)
	for _, step := range stage.Commands {
		switch step := step.(type) {
		case *instructions.ArgCommand:
			declare(b.env, step, arguments)
		case *instructions.WorkdirCommand:
			b.dir = path.Join(b.elsewhere, step.Path)
			must(t, os.MkdirAll(filepath.Join(b.root, b.dir), 0o755))
		case *instructions.CopyCommand:
			b.copy(t, step)
		case *instructions.RunCommand:
			b.run(t, step, expand)
		default:
			t.Fatalf("no test runs the step %s", step.Name())
		}
	}
}

// copy copies from what a build is sent.
func (b *builder) copy(t *testing.T, step *instructions.CopyCommand) {
	t.Helper()
	to := step.DestPath
	if !path.IsAbs(to) {
		to = path.Join(b.dir, to)
	}
	for _, source := range step.SourcePaths {
		from := filepath.Join(b.context, source)
		info, err := os.Stat(from)
		must(t, err)
		if info.IsDir() {
			copyTree(t, from, filepath.Join(b.root, to), func(string) bool { return true })
		} else {
			must(t, copyFile(from, filepath.Join(b.root, to, filepath.Base(source))))
		}
	}
}

// run runs a command line in the root.
func (b *builder) run(t *testing.T, step *instructions.RunCommand, expand func(string) string) {
	t.Helper()
	must(t, step.Expand(func(word string) (string, error) { return expand(word), nil }))
	for _, mount := range instructions.GetMounts(step) {
		if mount.Type != instructions.MountTypeCache {
			t.Fatalf("no test makes a mount of the type %s", mount.Type)
		}
		target := filepath.Join(b.root, mount.Target)
		if _, err := os.Stat(target); err == nil {
			continue // bound for a step before
		}
		if mount.Target == "/go/pkg/mod" {
			bind(t, b.modules, target, false)
			continue
		}
		kept := filepath.Join(b.caches, strings.ReplaceAll(mount.Target, "/", "_"))
		must(t, os.MkdirAll(kept, 0o755))
		bind(t, kept, target, true)
	}
	var env []string
	for name, value := range b.env {
		env = append(env, name+"="+value)
	}
	output, err := run(command(b.root, b.dir, env, append([]string{"/bin/sh", "-c"}, step.CmdLine...)...))
	if err != nil {
		t.Fatalf("RUN %s\n%v\n%s", strings.Join(step.CmdLine, " "), err, output)
	}
}

// image puts together what the last stage copies out of the build, in an empty folder.
func (b *builder) image(t *testing.T, stage instructions.Stage, to string) {
	t.Helper()
	for _, step := range stage.Commands {
		step, ok := step.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		from := filepath.Join(b.root, step.SourcePaths[0])
		target := filepath.Join(to, step.DestPath)
		must(t, os.MkdirAll(target, 0o755))
		copyTree(t, from, target, func(string) bool { return true })
		if step.Chmod != "" {
			mode, err := strconv.ParseUint(step.Chmod, 8, 32)
			must(t, err)
			must(t, os.Chmod(target, os.FileMode(mode)))
		}
		if step.Chown != "" {
			var user, group int
			_, err := fmt.Sscanf(step.Chown, "%d:%d", &user, &group)
			must(t, err)
			must(t, os.Chown(target, user, group))
		}
	}
}

// platform is what BuildKit says of the platform that an image is built for: here this machine's.
func platform() map[string]string {
	return map[string]string{"TARGETOS": runtime.GOOS, "TARGETARCH": runtime.GOARCH}
}

// goEnv returns a setting of this machine's Go.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	must(t, err)
	return strings.TrimSpace(string(output))
}
