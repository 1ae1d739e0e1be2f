// Package configuration brings integrations from YAML files into the registry, and keeps them there as the files say: what a sidecar in
// Kubernetes expects. It knows how files are found, read and told of; which settings an integration may have, and how it is registered,
// changed and deleted, is the service's own code, the same as for calls of the API.
package configuration

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"defender-integration/defender/secretsdir"
)

// maxFiles bounds how many files a directory may have.
const maxFiles = 1000

// file is a file as it was read.
type file struct {
	// name is relative to the directory; the last part of its path where the file itself was named.
	name    string
	content []byte
	// err is why it could not be read.
	err error
}

// read reads a directory's files whose names end in .yaml or .yml, in the order of their names, or one file. What begins with a dot is
// left out, and so are folders: a directory that Kubernetes mounts has links to files beside folders of its own
// (https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically). It fails where path cannot
// be read, and where a directory has no such file: an empty one is taken for a mount that failed, and not for the wish to have nothing.
func read(path string) ([]file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cannotRead(err)
	}
	if !info.IsDir() {
		return []file{readFile(path)}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, cannotRead(err)
	}
	var files []file
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".yaml") && !strings.HasSuffix(name, ".yml") {
			continue
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("it has more than %d files", maxFiles)
		}
		files = append(files, readFile(filepath.Join(path, name)))
	}
	if len(files) == 0 {
		return nil, errors.New("it has no file whose name ends in .yaml or .yml; to have no integrations, leave one with a comment alone")
	}
	return files, nil
}

// cannotRead is an error of the system's in words.
func cannotRead(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it does not exist")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("this service may not read it")
	default:
		return errors.New("it cannot be read")
	}
}

// readFile reads a file of at most 1 MiB. One that is empty is not taken for one without integrations: it may be about to be written.
func readFile(path string) file {
	content, err := secretsdir.ReadFile(path)
	return file{name: filepath.Base(path), content: content, err: err}
}

// digest tells readings apart. Each part has its length before it, so that no two readings give the same bytes.
func digest(files []file, err error) [sha256.Size]byte {
	hash := sha256.New()
	add := func(text string) {
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text)))) // a hash never fails
		_, _ = hash.Write([]byte(text))
	}
	if err != nil {
		add(err.Error())
	}
	for _, f := range files {
		add(f.name)
		add(string(f.content))
		if f.err != nil {
			add(f.err.Error())
		}
	}
	return [sha256.Size]byte(hash.Sum(nil))
}
