package store

import (
	"fmt"
	"strings"
)

// maxKey is how long a key may be, in bytes. It becomes a part of a file's or a subject's name.
const maxKey = 128

// checkKey returns an error where key cannot be a key of a bucket: letters, digits and -_=/. may be in it, and dots separate
// parts that are not empty.
func checkKey(key string) error {
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, notOfKey) ||
		strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, "..") {
		return fmt.Errorf("%q cannot be a key: 1 to %d letters, digits, and -_=/. are", key, maxKey)
	}
	return nil
}

// checkUID returns an error where uid cannot name a journal: the engine makes it a part of a stream's name, which is also that of
// a folder.
func checkUID(uid string) error {
	if strings.ContainsAny(uid, "=/.") {
		return fmt.Errorf("%q cannot name a journal: letters, digits, - and _ can", uid)
	}
	return checkKey(uid)
}

// notOfKey says that a character cannot be in a key.
func notOfKey(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-_=/.", r)
}
