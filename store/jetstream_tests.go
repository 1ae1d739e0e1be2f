package store

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// SaveTest implements Tests.
func (s *JetStream) SaveTest(ctx context.Context, uid string, test *integrationv1.ConnectivityTest) error {
	value, err := encodeTest(uid, test)
	if err != nil {
		return err
	}
	return unavailable(s.write(ctx, func(ctx context.Context) error {
		_, err := s.tests.Put(ctx, uid, value)
		return err
	}))
}

// LastTest implements Tests.
func (s *JetStream) LastTest(ctx context.Context, uid string) (*integrationv1.ConnectivityTest, error) {
	if err := checkUID(uid); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	stored, err := s.tests.Get(ctx, uid)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return decodeTest(uid, stored.Value())
}
