package entra

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender/secretsdir"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Shared gives the same [Source] to all that ask with the same application, credential and target, over the same way: one token request
// serves them all. It is safe for concurrent use, and holds a source as long as someone uses it.
type Shared struct {
	mu      sync.Mutex
	sources map[shareKey]*shared
}

// shared is a source and how many use it.
type shared struct {
	source *Source
	users  int
}

// shareKey is what sources are told apart by: a digest of everything that a token depends on, and where
// files and variables are looked for.
type shareKey struct {
	digest    [sha256.Size]byte
	files     *secretsdir.Dir
	variables *secretsdir.Variables
}

// NewShared returns a Shared without sources.
func NewShared() *Shared { return &Shared{sources: map[shareKey]*shared{}} }

// Source returns a source for a configuration, and the function that gives it back, which may be called more than once. For errors see
// [NewSource].
func (s *Shared) Source(config Config) (source *Source, release func(), err error) {
	key, err := keyOf(config)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.sources[key]
	if entry == nil {
		source, err := NewSource(config)
		if err != nil {
			return nil, nil, err
		}
		entry = &shared{source: source}
		s.sources[key] = entry
	}
	entry.users++
	return entry.source, sync.OnceFunc(func() { s.release(key) }), nil
}

func (s *Shared) release(key shareKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.sources[key]
	if entry.users--; entry.users == 0 {
		delete(s.sources, key)
	}
}

// keyOf digests a configuration. What the caller's Authentication has of scope and resource is not in it, since the target is: so alerts
// and devices share a source where they are asked for in the same scope. Each part has its length before it, so that no two
// configurations give the same bytes.
func keyOf(config Config) (shareKey, error) {
	authentication := proto.CloneOf(config.Authentication)
	if authentication == nil {
		authentication = &integrationv1.Authentication{}
	}
	authentication.Scope, authentication.Resource = "", ""
	// Values come with the secrets.
	if given := authentication.GetClientSecret(); given != nil {
		given.Value = ""
	}
	if given := authentication.GetClientCertificate(); given != nil {
		given.Pem = ""
	}
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(authentication)
	if err != nil {
		return shareKey{}, invalid("The integration's authentication cannot be used.", "Give it again.")
	}
	hash := sha256.New()
	for _, part := range []string{
		string(settings), config.Secrets.GetClientSecret(), config.Secrets.GetClientCertificate(),
		config.Scope, config.Resource, config.Way, config.UserAgent,
	} {
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		_, _ = hash.Write([]byte(part))
	}
	return shareKey{digest: [sha256.Size]byte(hash.Sum(nil)), files: config.Files, variables: config.Variables}, nil
}
