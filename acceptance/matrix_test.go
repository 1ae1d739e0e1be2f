package acceptance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/acceptance/process"
)

// matrixRow is one row of the fault matrix: what came of one fault.
type matrixRow struct {
	// Fault is what was done and Where to what; together they are the row's name.
	Fault, Where string
	// Lost are the revisions that Microsoft served and a stream that they concern did not get, and was not told to have missed.
	// Twice are those that a stream got more often than once. UntruePairs are the pairs that a stream was told of before it had
	// everything that the pair vouches for.
	Lost, Twice, UntruePairs int
	// Recovery is how long it took from the fault's end until things were as before it, Calls how many calls were spent while it
	// lasted.
	Recovery time.Duration
	Calls    int
	// Told is what streams and operators were told of it. It is the same in each run.
	Told string
}

// name names the row, as a subtest too.
func (r matrixRow) name() string { return r.Fault + ", " + r.Where }

// matrix collects the rows of one block of docs/faults.md while their tests run, in any order and side by side.
type matrix struct {
	block string
	order []string // the names of all rows

	mu   sync.Mutex
	rows map[string]matrixRow
}

// newMatrix makes the matrix of a block of the page, with the names of its rows in their order.
func newMatrix(block string, names []string) *matrix {
	return &matrix{block: block, order: names, rows: map[string]matrixRow{}}
}

// add takes a row in, and fails the test unless its first three columns are zero.
func (m *matrix) add(t *testing.T, row matrixRow) {
	t.Helper()
	if row.Lost != 0 || row.Twice != 0 || row.UntruePairs != 0 {
		t.Errorf("%s: %d lost, %d twice, %d untrue pairs", row.name(), row.Lost, row.Twice, row.UntruePairs)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[row.name()] = row
}

// writeMatrix is the environment variable that makes the tests write docs/faults.md instead of comparing it.
const writeMatrix = "ACCEPTANCE_WRITE_FAULTS"

// settle is to be called when the tests of all rows are over. It writes the block where that was asked for. Else it compares: the page
// has the same rows in the same order, each with the same zeros and words as those that have run; times and calls differ from run to
// run. Rows that were not asked for (`-run`) are not missed.
func (m *matrix) settle(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if os.Getenv(writeMatrix) != "" {
		m.write(t)
		return
	}
	lines := strings.Split(strings.TrimSpace(pageBlock(t, m.block)), "\n")
	lines = lines[min(len(lines), strings.Count(matrixHead, "\n")):]
	have := make([]string, len(lines))
	for i, line := range lines {
		have[i] = strings.Join(cellsOf(line)[:2], ", ")
	}
	if !slices.Equal(have, m.order) {
		t.Errorf("docs/faults.md has other rows, run make faults: it has %q, and these are to be there: %q", have, m.order)
		return
	}
	for i, name := range m.order {
		m.compare(t, name, cellsOf(lines[i]))
	}
}

// cellsOf takes a line of the page apart; there are at least as many cells as columns.
func cellsOf(line string) []string {
	cells := strings.Split(strings.Trim(line, "|\n "), " | ")
	return append(cells, make([]string, max(matrixColumns-len(cells), 0))...)
}

// compare compares the cells of a line of the page with the row of a name, where that has run.
func (m *matrix) compare(t *testing.T, name string, cells []string) {
	t.Helper()
	row, ran := m.rows[name]
	if !ran {
		return
	}
	want := cellsOf(row.line())
	for _, i := range []int{2, 3, 4, matrixColumns - 1} {
		if cells[i] != want[i] {
			t.Errorf("docs/faults.md, the row %q: it says %q, and now it is %q: run make faults", name, cells[i], want[i])
		}
	}
}

// write puts the rows into the page.
func (m *matrix) write(t *testing.T) {
	t.Helper()
	text := matrixHead
	for _, name := range m.order {
		row, ran := m.rows[name]
		if !ran {
			t.Errorf("docs/faults.md is not written: the row %q has not run", name)
			return
		}
		text += row.line()
	}
	pageMu.Lock()
	defer pageMu.Unlock()
	page := readPage(t)
	from, to := blockOf(t, page, m.block)
	if err := os.WriteFile(pagePath(t), []byte(page[:from]+text+page[to:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

// matrixHead are the columns, matrixColumns is how many.
const matrixColumns = 8

const matrixHead = "| fault | where | lost | twice | untrue pairs | recovery | calls | told |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"

// line is the row as a line of the page.
func (r matrixRow) line() string {
	const grain = 10 * time.Millisecond
	return fmt.Sprintf("| %s | %s | %d | %d | %d | %s s | %d | %s |\n", r.Fault, r.Where, r.Lost, r.Twice, r.UntruePairs,
		strconv.FormatFloat(r.Recovery.Round(grain).Seconds(), 'f', 2, 64), r.Calls, r.Told)
}

// pageMu guards the page, into which more than one test writes its block.
var pageMu sync.Mutex

// pagePath is where the page is.
func pagePath(t *testing.T) string {
	t.Helper()
	return filepath.Join(process.Root(t), "docs", "faults.md")
}

func readPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(pagePath(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// pageBlock returns what the page has between the marks of a block.
func pageBlock(t *testing.T, name string) string {
	t.Helper()
	pageMu.Lock()
	defer pageMu.Unlock()
	page := readPage(t)
	from, to := blockOf(t, page, name)
	return page[from:to]
}

// blockOf finds a block: what is between its marks.
func blockOf(t *testing.T, page, name string) (from, to int) {
	t.Helper()
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->\n"
	from, to = strings.Index(page, begin)+len(begin), strings.Index(page, end)
	if from < len(begin) || to < from {
		t.Fatalf("docs/faults.md has no block %q", name)
	}
	return from, to
}
