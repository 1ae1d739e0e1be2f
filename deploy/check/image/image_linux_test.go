package image_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// version and epoch are what the image is built with.
	version = "v9.8.7-test"
	epoch   = "1750000000"
	// most is how large the image may be, in bytes. A library that makes it larger is to be noticed.
	most = 64 << 20
	// patience is how long a step has. It bounds a failing test, never a passing one.
	patience = 2 * time.Minute
)

// TestImage builds the image twice, in different folders and with nothing kept from one build to the other, compares the two byte by
// byte, and runs what came out.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles the whole program twice, with nothing from before: make deployment does")
	}
	if os.Getuid() != 0 {
		t.Skip("another root folder and another user need root: the Dockerfile's steps are not run")
	}
	fetch := exec.CommandContext(t.Context(), "go", "mod", "download")
	fetch.Dir = top
	if output, err := fetch.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	d := readDockerfile(t)
	t.Logf("the Dockerfile names %s; built here with %s", d.builder, goEnv(t, "GOVERSION"))
	context := t.TempDir()
	copyContext(t, context)

	images := []string{t.TempDir(), t.TempDir()}
	for i, elsewhere := range []string{"/", "/home/another/place"} {
		b := &builder{root: t.TempDir(), context: context, elsewhere: elsewhere, caches: t.TempDir(), modules: goEnv(t, "GOMODCACHE")}
		built := t.Run(fmt.Sprintf("build %d", i+1), func(t *testing.T) {
			apart(t)
			b.base(t)
			arguments := platform()
			maps.Copy(arguments, map[string]string{"VERSION": version, "SOURCE_DATE_EPOCH": epoch})
			b.build(t, d.stages[0], arguments)
			b.image(t, d.stages[1], images[i])
		})
		if !built {
			return
		}
	}
	if _, err := os.Stat(filepath.Join(images[0], "defender-integration")); err != nil {
		t.Skip("nothing was built")
	}
	first, second := list(t, images[0]), list(t, images[1])
	if !maps.Equal(first, second) {
		t.Errorf("two builds differ:\n%v\n%v", first, second)
	}
	size := int64(0)
	for _, path := range slices.Sorted(maps.Keys(first)) {
		size += first[path].size
		t.Logf("%-40s %v", path, first[path])
	}
	t.Logf("the image has %d bytes", size)
	if size > most {
		t.Errorf("the image has %d bytes, which are more than %d", size, most)
	}
	t.Run("run", func(t *testing.T) {
		apart(t)
		runImage(t, images[0], d.config(t, map[string]string{"VERSION": version}))
	})
}

// entry is a file or folder of an image.
type entry struct {
	mode     fs.FileMode
	owner    uint32
	modified int64 // of a file
	size     int64
	content  string
}

// String leaves the content out.
func (e entry) String() string { return fmt.Sprintf("%v %d %d bytes", e.mode, e.owner, e.size) }

// list returns what is below a folder, by its path.
func list(t *testing.T, root string) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	must(t, filepath.WalkDir(root, func(path string, found fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := found.Info()
		if err != nil {
			return err
		}
		e := entry{mode: info.Mode(), owner: info.Sys().(*syscall.Stat_t).Uid}
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			e.size, e.modified, e.content = info.Size(), info.ModTime().Unix(), string(data)
		}
		entries[path[len(root):]] = e
		return nil
	}))
	return entries
}

// runImage runs the image as a container is run: as its user and as the first process, nothing writable but the volume. The service
// serves, its health check passes, it is told to end and does; and all that was written is in the volume.
func runImage(t *testing.T, image string, c config) {
	t.Helper()
	user, err := strconv.ParseUint(strings.Split(c.user, ":")[0], 10, 32)
	must(t, err)
	before := list(t, image)
	bind(t, image, image, false)
	volume := filepath.Join(filepath.Dir(image), "volume")
	must(t, os.Mkdir(volume, 0o700))
	must(t, os.Chown(volume, int(user), int(user)))
	bind(t, volume, filepath.Join(image, c.volume), true)

	told, err := run(as(t, command(image, "/", c.env, append(slices.Clone(c.entry), "version")...), uint32(user)))
	if err != nil || !strings.Contains(told, version) {
		t.Errorf("version tells %q, %v", told, err)
	}
	if output, err := run(as(t, command(image, "/", c.env, c.health[1:]...), uint32(user))); err == nil {
		t.Errorf("the health check passes before anything runs: %s", output)
	}

	service := as(t, command(image, "/", c.env, append(slices.Clone(c.entry), c.args...)...), uint32(user))
	// As in a container, the first process: a signal that it does not handle would do nothing.
	service.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	var log bytes.Buffer
	service.Stdout, service.Stderr = &log, &log
	must(t, service.Start())
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()
	healthy(t, func() (string, error) {
		return run(as(t, command(image, "/", c.env, c.health[1:]...), uint32(user)))
	}, ended, &log)
	must(t, service.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after SIGTERM it ends with %v:\n%s", err, &log)
		}
	case <-time.After(patience):
		t.Fatal("SIGTERM does not end it")
	}

	written := 0
	for path, e := range list(t, image) {
		switch {
		case strings.HasPrefix(path, c.volume+"/"):
			written++
			if uint64(e.owner) != user {
				t.Errorf("%s belongs to %d", path, e.owner)
			}
		case path != c.volume && before[path] != e:
			t.Errorf("%s was written, and is not in the volume", path)
		}
	}
	if written == 0 {
		t.Error("nothing was written at all")
	}
	t.Logf("%d files and folders were written, all in %s", written, c.volume)
}

// healthy waits until the health check passes.
func healthy(t *testing.T, check func() (string, error), ended <-chan error, log *bytes.Buffer) {
	t.Helper()
	deadline := time.After(patience)
	for {
		output, err := check()
		if err == nil {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended with %v:\n%s", err, log)
		case <-deadline:
			t.Fatalf("the health check: %v\n%s", err, output)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
