package app

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// behind is a registry whose last record a later version wrote.
type behind struct {
	store.Store
	good int
}

func (b behind) Records(_ context.Context, after string, limit int) ([]store.Versioned, error) {
	var records []store.Versioned
	for i := range b.good {
		id := fmt.Sprintf("i%04d", i)
		if id > after && len(records) < limit {
			records = append(records, store.Versioned{Record: &storev1.Record{Integration: &integrationv1.Integration{IntegrationId: id}}})
		}
	}
	if len(records) < limit {
		return nil, fmt.Errorf("decode record last: %w", store.ErrVersion)
	}
	return records, nil
}

// A registry that a later version wrote into is told at the start, wherever in it that record stands, and no key is made beside it.
func TestRegistryOfALaterVersion(t *testing.T) {
	for _, good := range []int{0, 1, 100, 250} {
		path := filepath.Join(t.TempDir(), "key")
		_, err := openSealer(t.Context(), behind{good: good}, path, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "record last: written by a later version of the service: run the version that wrote it") {
			t.Errorf("behind %d records: %v", good, err)
		}
		if found, _ := filepath.Glob(path); len(found) != 0 {
			t.Error("a key was made")
		}
	}
}
