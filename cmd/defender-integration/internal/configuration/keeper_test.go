package configuration

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func acceptAll(*integrationv1.Integration, *storev1.Secrets) error { return nil }

// idle are collectors and streams of which nothing is asked here.
type idle struct{}

func (idle) Status(string) *integrationv1.IntegrationStatus { return nil }

func (idle) Stream(context.Context, *integrationv1.StreamAlertsRequest, func(*integrationv1.StreamAlertsResponse) error) error {
	return nil
}

// house is a directory, and a keeper of it on the real service.
type house struct {
	t       *testing.T
	dir     string
	store   *store.Memory
	service *server.Service
	keeper  *Keeper
	log     bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), store: store.NewMemory()}
	t.Cleanup(func() { _ = h.store.Close() })
	sealer, err := store.OpenSealer(filepath.Join(t.TempDir(), "key"), true)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&h.log, nil))
	if h.service, err = server.NewService(server.ServiceOptions{
		Rules: rules(), Records: h.store, Sealer: sealer, Collectors: idle{}, Streams: idle{}, Logger: logger, Configured: true,
		Test: func(context.Context, *integrationv1.Integration, *storev1.Secrets) *integrationv1.ConnectivityTest {
			return nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	h.write("a.yaml", entry("one"), entry("two"))
	h.write("b.yaml", entry("three"))
	h.start()
	return h
}

// start makes a keeper, as a start of the service does.
func (h *house) start() {
	h.t.Helper()
	var err error
	h.keeper, err = New(Options{Path: h.dir, Target: h.service, Logger: slog.New(slog.NewTextHandler(&h.log, nil)), Registry: prometheus.NewRegistry()})
	if err != nil {
		h.t.Fatal(err)
	}
}

// entry is a document of an integration with these further lines.
func entry(id string, lines ...string) string {
	return "integration_id: " + id + "\ntenant_id: contoso.example\nauthentication: {managed_identity: {}}\n" + strings.Join(lines, "\n")
}

func (h *house) write(name string, documents ...string) {
	writeFile(h.t, h.dir, name, strings.Join(documents, "\n---\n"))
}

func (h *house) remove(name string) {
	h.t.Helper()
	if err := os.Remove(filepath.Join(h.dir, name)); err != nil {
		h.t.Fatal(err)
	}
}

// passes lets the keeper look at the files so many times.
func (h *house) passes(n int) {
	for range n {
		h.keeper.Pass(h.t.Context())
	}
}

// want checks which integrations there are, and which of them are paused, as "one two! three".
func (h *house) want(want string) {
	h.t.Helper()
	records, err := h.store.Records(h.t.Context(), "", 100)
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		id := r.Record.GetIntegration().GetIntegrationId()
		if r.Record.GetIntegration().GetPaused() {
			id += "!"
		}
		got = append(got, id)
	}
	if all := strings.Join(got, " "); all != want {
		h.t.Errorf("there are %q, want %q; the log is\n%s", all, want, h.log.String())
	}
}

// wantProblems checks how many problems the metric counts, and that the log told each of the texts once.
func (h *house) wantProblems(n int, texts ...string) {
	h.t.Helper()
	if got := testutil.ToFloat64(h.keeper.problems); got != float64(n) {
		h.t.Errorf("%v problems, want %d", got, n)
	}
	for _, text := range texts {
		if got := strings.Count(h.log.String(), text); got != 1 {
			h.t.Errorf("the log says %q %d times:\n%s", text, got, h.log.String())
		}
	}
}

// revisions are the records' revisions: what is not written keeps its own.
func (h *house) revisions() []uint64 {
	h.t.Helper()
	records, err := h.store.Records(h.t.Context(), "", 100)
	if err != nil {
		h.t.Fatal(err)
	}
	var all []uint64
	for _, r := range records {
		all = append(all, r.Revision)
	}
	return all
}

func TestFilesAreBroughtAbout(t *testing.T) {
	h := newHouse(t)
	h.passes(1)
	h.want("one three two")
	before := h.revisions()
	h.passes(3)
	h.start() // Again, as after a restart, or on another server.
	h.passes(3)
	if after := h.revisions(); !slices.Equal(before, after) {
		t.Errorf("revisions %v became %v, and nothing was changed", before, after)
	}
	if testutil.ToFloat64(h.keeper.appliedTime) == 0 {
		t.Error("when all was brought about is not told")
	}

	h.write("a.yaml", entry("one"), entry("two", "paused: true"), entry("four"))
	h.passes(1)
	h.want("four one three two!")

	// One moves to another file, and one is in none any more: that one is deleted by the pass after.
	h.write("a.yaml", entry("one"), entry("four"))
	h.write("c.yml", entry("two", "paused: true"))
	h.remove("b.yaml")
	h.passes(1)
	h.want("four one three two!")
	h.passes(1)
	h.want("four one two!")
	h.wantProblems(0, "was deleted with its journal")
}

// Nothing is deleted, and nothing that a file brought about is changed, for a file that cannot be read or is not valid.
func TestWhatIsNotValidCostsNothing(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*house)
		words []string
	}{
		"no YAML":          {func(h *house) { h.write("b.yaml", "integration_id: [") }, []string{"file=b.yaml line=1", "no YAML"}},
		"half a file":      {func(h *house) { h.write("b.yaml", "integration_id: three\ntenant_id: cont") }, []string{"field=authentication"}},
		"an unknown field": {func(h *house) { h.write("b.yaml", entry("three", "colour: red")) }, []string{"line=4", "colour"}},
		"empty":            {func(h *house) { h.write("b.yaml") }, []string{"it is empty"}},
		"a folder in its place": {func(h *house) {
			h.remove("b.yaml")
			if err := os.Mkdir(filepath.Join(h.dir, "b.yaml"), 0o700); err != nil {
				h.t.Fatal(err)
			}
		}, []string{"no regular file"}},
		"a link to nowhere": {func(h *house) {
			h.remove("b.yaml")
			if err := os.Symlink("nowhere", filepath.Join(h.dir, "b.yaml")); err != nil {
				h.t.Fatal(err)
			}
		}, []string{"does not exist"}},
		"no file at all": {func(h *house) { h.remove("a.yaml"); h.remove("b.yaml") }, []string{"leave one with a comment alone"}},
		"the directory is gone": {func(h *house) {
			if err := os.RemoveAll(h.dir); err != nil {
				h.t.Fatal(err)
			}
		}, []string{"it does not exist"}},
		"renamed and not valid": {func(h *house) { h.remove("b.yaml"); h.write("c.yaml", "integration_id: [") }, []string{"file=c.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.passes(2)
			before := h.revisions()
			test.spoil(h)
			h.passes(5)
			h.want("one three two")
			h.wantProblems(1, test.words...)
			if after := h.revisions(); !slices.Equal(before, after) {
				t.Errorf("revisions %v became %v", before, after)
			}
			// It is mended, and one is gone from it.
			if err := os.RemoveAll(h.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(h.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			h.write("a.yaml", entry("one"), entry("two"))
			h.passes(2)
			h.want("one two")
			h.wantProblems(0, "the files of the configuration are valid")
		})
	}
}

// One integration that cannot be had keeps no other from being brought about.
func TestOthersAreBroughtAbout(t *testing.T) {
	h := newHouse(t)
	h.passes(2)
	h.write("b.yaml", entry("three", "api: API_SIEM"), entry("four"), entry("five", "endpoint: {host: evil.test}"))
	h.passes(5)
	h.want("four one three two")
	h.wantProblems(2, "api of integration", "does not allow evil.test:443")
}

// What was registered over the API is not taken over, and told until it is gone there.
func TestWhatIsRegisteredIsNotTakenOver(t *testing.T) {
	h := newHouse(t)
	register := &integrationv1.RegisterIntegrationRequest{Integration: &integrationv1.Integration{
		IntegrationId: "four", TenantId: "other.example",
		Authentication: &integrationv1.Authentication{Credential: &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}},
	}}
	if _, err := h.service.RegisterIntegration(t.Context(), register); err != nil {
		t.Fatal(err)
	}
	h.write("b.yaml", entry("three"), entry("four"))
	h.passes(3)
	h.wantProblems(1, "was registered over the API")
	if _, err := h.service.DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "four"}); err != nil {
		t.Fatal(err)
	}
	h.passes(1)
	h.want("four one three two")
	h.wantProblems(0)
}

// While the store does not answer nothing is lost, and what could not be done is done then.
func TestTheStoreIsAway(t *testing.T) {
	h := newHouse(t)
	h.passes(2)
	h.store.SetUnavailable(true)
	h.write("a.yaml", entry("one", "paused: true"))
	h.passes(3)
	h.wantProblems(0)
	h.store.SetUnavailable(false)
	h.want("one three two")
	h.passes(1)
	h.want("one! three")
}

// A server that still has older files undoes nothing of what another brought about.
func TestAnOlderReadingUndoesNothing(t *testing.T) {
	h := newHouse(t)
	// It has a problem, so that it tries again and again.
	h.write("c.yaml", "integration_id: [")
	h.passes(2)
	older := h.keeper
	newer := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml"} {
		writeFile(t, newer, name, entry(map[string]string{"a.yaml": "one", "b.yaml": "three"}[name], "paused: true"))
	}
	h.dir = newer
	h.start()
	h.passes(2)
	h.want("one! three!")
	for range 3 {
		older.Pass(t.Context())
	}
	h.want("one! three!")
}
