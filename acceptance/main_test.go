package acceptance_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"defender-integration/acceptance/process"
)

// The test binary runs itself again as the reader of the kill test, where this variable is set.
const readerVariable = "ACCEPTANCE_READER"

// testsAtOnce is how many tests run side by side.
const testsAtOnce = 3

// full says that the tests are to be as large as what they are about, which takes longer than everybody's run may.
func full() bool { return os.Getenv("ACCEPTANCE_FULL") != "" }

// programs is where the programs are built that the tests run; each is built once.
var programs struct {
	dir string
	mu  sync.Mutex
	by  map[string]string
}

func TestMain(m *testing.M) {
	if config := os.Getenv(readerVariable); config != "" {
		os.Exit(readerMain(config))
	}
	dir, err := os.MkdirTemp("", "acceptance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs.dir, programs.by = dir, map[string]string{}
	// Most of their time the tests wait, so more run at once than there are processors. What the command line says comes after, and wins.
	if err := flag.Set("test.parallel", strconv.Itoa(testsAtOnce)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = max(status, 1)
		}
		os.Exit(status)
	}))
}

// built returns a program that was built from a package with flags. ACCEPTANCE_BUILD_FLAGS adds flags, such as -race.
func built(t *testing.T, pkg string, flags ...string) string {
	t.Helper()
	programs.mu.Lock()
	defer programs.mu.Unlock()
	key := fmt.Sprint(pkg, flags)
	if programs.by[key] == "" {
		dir := filepath.Join(programs.dir, fmt.Sprint(len(programs.by)))
		programs.by[key] = process.Build(t, dir+string(filepath.Separator), pkg, append(strings.Fields(os.Getenv("ACCEPTANCE_BUILD_FLAGS")), flags...)...)
	}
	return programs.by[key]
}

// service returns the service's program.
func service(t *testing.T) string {
	t.Helper()
	return built(t, "defender-integration/cmd/defender-integration")
}

// announcing returns the service's program, built to wait at the points of package announce.
func announcing(t *testing.T) string {
	t.Helper()
	return built(t, "defender-integration/cmd/defender-integration", "-tags=announce")
}

// grpcurl returns the program grpcurl of the version in tools/go.mod.
func grpcurl(t *testing.T) string {
	t.Helper()
	return built(t, "github.com/fullstorydev/grpcurl/cmd/grpcurl", "-modfile=tools/go.mod")
}
