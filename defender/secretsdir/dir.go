// Package secretsdir reads the files and environment variables that the service's operator keeps secrets in: client secrets,
// certificates, tokens of other identity providers, passwords at proxies, certificates of authorities. Callers name files relative to one
// folder that the operator sets, and variables that the operator lists, so that whoever registers an integration cannot make the service
// read anything else.
//
// No error tells what is in a file or a variable.
package secretsdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	// maxFile bounds a file: the largest that makes sense is a long list of authorities.
	maxFile = 1 << 20
	// maxName bounds a file's name; the contract's fields do too.
	maxName = 512
	// flag is what the operator sets the folder with.
	flag = "--secrets-dir"
)

// Dir is the folder. A nil or zero Dir is none: every use of it fails, and says which flag sets one. It is safe for concurrent use.
//
// Links are followed as long as they stay inside the folder, as those of Kubernetes do: NAME is a link to ..data/NAME, and ..data one
// to the folder of the newest version
// (https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-files-from-a-pod). Nothing is cached: each reading
// finds what is there.
type Dir struct {
	root *os.Root
}

// Open opens the folder. Close it after use. An error is for whoever starts the service.
func Open(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("%s: the folder cannot be opened: %w", flag, err)
	}
	return &Dir{root: root}, nil
}

// Close closes the folder. Reading fails from then on.
func (d *Dir) Close() error {
	if d == nil || d.root == nil {
		return nil
	}
	return d.root.Close()
}

// Check says whether a name is one that can be read, by its form alone, and whether there is a folder: for registering. The error is
// a *defender.Error with the reason CONFIGURATION_INVALID.
func (d *Dir) Check(name string) error {
	if d == nil || d.root == nil {
		return told(integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID,
			fmt.Sprintf("The file %q cannot be read: this service has no folder for secrets.", rest.Excerpt(name)),
			"Have the service's operator start it with "+flag+" FOLDER and put the file there, or give the value itself instead of a file.")
	}
	return CheckName(name)
}

// CheckName says whether a name is one that can be read, by its form alone. The error is that of [Dir.Check].
func CheckName(name string) error {
	if wrong := wrongName(name); wrong != "" {
		return told(integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID,
			fmt.Sprintf("The file %q cannot be read: %s.", rest.Excerpt(name), wrong),
			"Give the file's name relative to the folder that the service's operator set with "+flag+", such as contoso/client-secret.")
	}
	return nil
}

// wrongName says what is wrong with a name; empty where nothing is. That links do not leave the folder is for reading to find.
func wrongName(name string) string {
	switch {
	case name == "":
		return "its name is empty"
	case len(name) > maxName:
		return fmt.Sprintf("its name has more than %d bytes", maxName)
	case strings.HasPrefix(name, "/"):
		return "its name is absolute, where one inside the folder for secrets is meant"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "its name has control characters"
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "..":
			return "its name leads out of a folder with `..`"
		case "", ".":
			return "its name has a part that is empty or `.`"
		}
	}
	return ""
}

// Read returns what is in a file, at most 1 MiB. It never waits: what is no regular file, such as a pipe, is refused. An error is
// that of [Dir.Check], or a *defender.Error with the reason CREDENTIAL_UNUSABLE.
func (d *Dir) Read(name string) ([]byte, error) {
	if err := d.Check(name); err != nil {
		return nil, err
	}
	// Opening a pipe would otherwise wait for someone who writes.
	file, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	content, err := read(file, err)
	if err != nil {
		return nil, unreadable(fmt.Sprintf("The file %q in the folder for secrets", name), err)
	}
	return content, nil
}

// ReadFile is [Dir.Read] of a file anywhere, which the operator named and no caller: such as that of AZURE_FEDERATED_TOKEN_FILE.
func ReadFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	content, err := read(file, err)
	if err != nil {
		return nil, unreadable(fmt.Sprintf("The file %q", rest.Excerpt(path)), err)
	}
	return content, nil
}

var (
	errIrregular = errors.New("it is no regular file")
	errTooLarge  = fmt.Errorf("it has more than %d bytes", maxFile)
	errEmpty     = errors.New("it is empty")
)

// read reads a file that was opened, or not, and closes it.
func read(file *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errIrregular
	}
	// The size is not gone by: the file may be written to meanwhile.
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > maxFile:
		return nil, errTooLarge
	case len(content) == 0:
		return nil, errEmpty
	}
	return content, nil
}

// unreadable tells why a file could not be read. The system's words are left out but for what they mean: they name paths of this
// machine.
func unreadable(what string, err error) *defender.Error {
	why, remedy := "it cannot be opened", "Check that it is a file that this service's user may read, and that no link leads out of the folder."
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why, remedy = "it does not exist", "Put it there, or correct its name. It is read again each time; no restart is needed."
	case errors.Is(err, fs.ErrPermission):
		why, remedy = "this service may not read it", "Give this service's user the right to read it."
	case errors.Is(err, errIrregular), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO):
		why, remedy = errIrregular.Error(), "Give the name of a file, not of a folder, a pipe or a device."
	case errors.Is(err, errTooLarge):
		why, remedy = errTooLarge.Error(), "Check that the name is the right one."
	case errors.Is(err, errEmpty):
		why, remedy = errEmpty.Error(), "Write the value into it. It is read again each time; no restart is needed."
	case errors.Is(err, os.ErrClosed):
		why, remedy = "this service is about to stop", "Nothing; it is read again after the start."
	case strings.Contains(err.Error(), "escapes"): // os keeps this error to itself
		why, remedy = "a link leads out of the folder", "Put the file itself into the folder, or a link to one inside it."
	}
	return told(integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE, what+" cannot be read: "+why+".", remedy)
}

func told(reason integrationv1.ErrorReason, message, remedy string) *defender.Error {
	return &defender.Error{
		Problem:   &integrationv1.Problem{Reason: reason, Message: message, Remedy: remedy},
		Permanent: true,
	}
}
