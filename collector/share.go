package collector

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
)

// share says which server each application belongs to, so that no two servers differ by more than one. Everybody who knows the same
// applications, the same servers and who holds what now works out the same. Whatever is held stays where it is, as far as that is even.
func share(apps []string, servers []uint64, holders map[string]uint64) map[string]uint64 {
	if len(servers) == 0 {
		return nil
	}
	has := make(map[uint64][]string, len(servers))
	for _, server := range servers {
		has[server] = nil
	}
	apps = slices.Sorted(slices.Values(apps))
	owners := make(map[string]uint64, len(apps))
	give := func(app string, to uint64) {
		owners[app] = to
		has[to] = append(has[to], app)
	}
	var free []string
	for _, app := range apps {
		if _, there := has[holders[app]]; there {
			give(app, holders[app])
		} else {
			free = append(free, app)
		}
	}
	sorted := slices.Sorted(maps.Keys(has))
	fewest := func(app string) uint64 {
		return slices.MinFunc(sorted, func(a, b uint64) int {
			return cmp.Or(cmp.Compare(len(has[a]), len(has[b])), cmp.Compare(weight(app, a), weight(app, b)))
		})
	}
	for _, app := range free {
		give(app, fewest(app))
	}
	for {
		most := slices.MaxFunc(sorted, func(a, b uint64) int { return cmp.Compare(len(has[a]), len(has[b])) })
		if len(has[most]) == 0 {
			return owners
		}
		app := has[most][len(has[most])-1]
		to := fewest(app)
		if len(has[most])-len(has[to]) < 2 {
			return owners
		}
		has[most] = has[most][:len(has[most])-1]
		give(app, to)
	}
}

// weight orders servers for an application, in another way for each.
func weight(app string, server uint64) uint64 {
	h := fnv.New64a()
	// Writing to a hash cannot fail.
	_, _ = h.Write([]byte(app))
	_ = binary.Write(h, binary.BigEndian, server)
	return h.Sum64()
}
