package collector

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// maxAsked bounds how many keys an entry tells to have been asked for, so that it stays below what an entry may have. Who is beyond
// it cannot be judged.
const maxAsked = 100_000

// Asked says whether a look-up that an entry tells of asked for all of an Actor's keys: only then does it say anything of the Actor.
// One that read all devices asked for everybody.
func Asked(lookup *storev1.DeviceLookup, keys []string) bool {
	if !lookup.GetWantedOnly() {
		return true
	}
	return !slices.ContainsFunc(keys, func(key string) bool {
		_, found := slices.BinarySearch(lookup.GetAsked(), keyHash(key))
		return !found
	})
}

// StreamName stands for a stream in an entry: for the keys of all of its Actors, in whichever order.
func StreamName(keys []string) uint64 {
	sum := sha256.New()
	for _, key := range slices.Sorted(slices.Values(keys)) {
		// Each by its own hash, so that no two lists run together to the same. Writing to a hash cannot fail.
		one := sha256.Sum256([]byte(key))
		_, _ = sum.Write(one[:])
	}
	return binary.BigEndian.Uint64(sum.Sum(nil))
}

// keyHash stands for a key in an entry.
func keyHash(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:])
}

// keyHashes are those of keys, ascending.
func keyHashes(keys map[string]bool) []uint64 {
	list := make([]uint64, 0, len(keys))
	for key := range keys {
		list = append(list, keyHash(key))
	}
	slices.Sort(list)
	return list[:min(len(list), maxAsked)]
}
