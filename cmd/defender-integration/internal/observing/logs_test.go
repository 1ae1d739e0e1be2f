package observing_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// line is a line of the log.
type line map[string]any

// text returns a value that is text; empty where there is none.
func (l line) text(key string) string {
	value, _ := l[key].(string)
	return value
}

// keys are those that lines may have, so that what is searched for has one name.
func keys() []string {
	return []string{
		"time", "level", "msg", "error", "reason", "code", "method", "caller", "request_id", "integration_id", "reference", "trace_id", "span_id",
		"address", "network", "version", "timeout", "lasted", "again_at", "journal", "entries", "alerts", "last_sequence", "first_sequence", "floor",
		"api", "status", "took",
		// The library's, of the line that each call leaves.
		"protocol", "grpc.method_type", "peer.address", "grpc.start_time", "grpc.request.deadline", "grpc.code", "grpc.error", "grpc.time_ms",
		"grpc.service", "grpc.method",
	}
}

// wantLog checks the lines of the day.
func (h *house) wantLog(t *testing.T) {
	var lines []line
	count := map[string]int{}
	for _, text := range h.log.lines() {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, l)
		count[l.text("msg")]++
		for key, value := range l {
			if !slices.Contains(keys(), key) {
				t.Errorf("an unknown key %s: %s", key, text)
			}
			// What a number stands for is not told by it.
			if _, number := value.(float64); number && slices.Contains([]string{"reason", "code", "took", "level"}, key) {
				t.Errorf("%s is a number: %s", key, text)
			}
		}
		if l.text("level") == "ERROR" {
			t.Errorf("an error on a day without one: %s", text)
		}
	}
	for message, want := range map[string]int{
		"listening": 1, "serving metrics": 1, "serving profiles": 1, "ready": 1, "journal recovered": 1,
		"reading alerts works again": 1, "draining": 1, "stopped": 1, "not ready": 0,
	} {
		if count[message] != want {
			t.Errorf("%d lines %q, want %d", count[message], message, want)
		}
	}
	if count["reading alerts failed"] == 0 || count["called Microsoft"] == 0 {
		t.Errorf("the lines are %v", count)
	}
	h.wantCallLines(t, lines)
	wantKnownLines(t, lines)
}

// wantCallLines checks what stands on the lines of calls and of collectors.
func (h *house) wantCallLines(t *testing.T, lines []line) {
	t.Helper()
	found := map[string]int{}
	for _, l := range lines {
		switch {
		case l.text("msg") == "called Microsoft" && l.text("level") != "DEBUG":
			t.Errorf("a call at Microsoft is at level %s", l.text("level"))
		case l.text("msg") == "reading alerts failed":
			if l.text("integration_id") != "contoso" || l.text("reason") != "ERROR_REASON_UPSTREAM_FAILED" || l.text("level") != "WARN" || l.text("trace_id") == "" {
				t.Errorf("a failed read: %v", l)
			}
		case l.text("msg") == "finished call" || l.text("msg") == "audit":
			method := l.text("method") + l.text("grpc.method")
			found[l.text("msg")+" "+method]++
			if l.text("request_id") == "" || l.text("trace_id") == "" {
				t.Errorf("a call without ids: %v", l)
			}
			if method == "TestConnectivity" && (l.text("request_id") != "the-test" || l.text("trace_id") != trace || l.text("integration_id") != "contoso") {
				t.Errorf("the test: %v", l)
			}
			if method == "StreamAlerts" && l.text("reference") != "following" && l.text("reference") != "judged" {
				t.Errorf("a stream: %v", l)
			}
		}
	}
	for what, want := range map[string]int{
		"audit RegisterIntegration": 1, "audit TestConnectivity": 1, "audit DeleteIntegration": 1, "audit StreamAlerts": 2,
		"finished call RegisterIntegration": 1, "finished call StreamAlerts": 2,
	} {
		if found[what] != want {
			t.Errorf("%d lines %q, want %d", found[what], what, want)
		}
	}
}

// linesPage is the page that tells the lines an operator should know.
const linesPage = "../../../../docs/observing.md"

// told finds a line's message in the page's table.
var told = regexp.MustCompile("(?m)^\\| (debug|info|warn|error) \\| `([^`]+)` \\|")

// wantKnownLines checks that the page tells every line of the day that asks for attention, at its level, and none that nothing writes.
func wantKnownLines(t *testing.T, lines []line) {
	t.Helper()
	page, err := os.ReadFile(linesPage)
	if err != nil {
		t.Fatal(err)
	}
	levels := map[string]string{}
	source := sources(t)
	for _, found := range told.FindAllStringSubmatch(string(page), -1) {
		levels[found[2]] = strings.ToUpper(found[1])
		if !strings.Contains(source, `"`+found[2]) {
			t.Errorf("the page tells of a line %q, which nothing writes", found[2])
		}
	}
	for _, l := range lines {
		level, message := l.text("level"), l.text("msg")
		if want, ok := levels[message]; ok && want != level && message != "finished call" || !ok && level != "DEBUG" && level != "INFO" {
			t.Errorf("a line %q at level %s, of which the page says %q", message, level, want)
		}
	}
}

// sources returns the text of all of the program's files, and the message of the library that logs calls.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	all.WriteString(`"finished call"`)
	err := filepath.WalkDir("../../../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
