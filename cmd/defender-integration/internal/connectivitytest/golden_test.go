package connectivitytest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// golden compares a text with the golden file of that name, or writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("the answer is not that of %s; if it should be, go test -update writes it anew. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

// width is how wide a golden file's lines are.
const width = 118

// written writes a test's answer as an operator would want it on paper: what is set up, how it went over all, then each stage.
func (w *world) written(setUp string, test *integrationv1.ConnectivityTest) string {
	var b strings.Builder
	w.paragraph(&b, "", setUp)
	b.WriteString("\n")
	w.paragraph(&b, "", strings.TrimPrefix(test.GetHealth().String(), "HEALTH_")+". "+test.GetSummary())
	for _, s := range test.GetStages() {
		fmt.Fprintf(&b, "\n%s %s\n", strings.TrimPrefix(s.GetResult().String(), "RESULT_"), nameOf(s.GetLink(), s.GetTarget()))
		w.paragraph(&b, "    ", s.GetSeen())
		for _, line := range []struct{ what, text string }{
			{"remedy", s.GetRemedy()},
			{"reason", strings.TrimPrefix(s.GetReason().String(), "ERROR_REASON_")},
			{"upstream code", s.GetUpstreamCode()},
			{"upstream request", s.GetUpstreamRequestId()},
			{"roles present", strings.Join(s.GetPresentRoles(), ", ")},
			{"roles missing", strings.Join(s.GetMissingRoles(), ", ")},
			{"cause", causeOf(s)},
		} {
			if line.text != "" && line.text != "UNSPECIFIED" {
				w.paragraph(&b, "    "+line.what+": ", line.text)
			}
		}
	}
	return b.String()
}

// nameOf names a stage as the tables do, such as "TOKEN API".
func nameOf(link integrationv1.ConnectivityStage_Link, target integrationv1.ConnectivityStage_Target) string {
	name := strings.TrimPrefix(link.String(), "LINK_")
	if target != integrationv1.ConnectivityStage_TARGET_UNSPECIFIED {
		name += " " + strings.TrimPrefix(target.String(), "TARGET_")
	}
	return name
}

// causeOf names the stage that a stage was skipped for; empty where there is none.
func causeOf(s *integrationv1.ConnectivityStage) string {
	if s.GetCause() == nil {
		return ""
	}
	return nameOf(s.GetCause().GetLink(), s.GetCause().GetTarget())
}

// paragraph writes a text in lines: the first after prefix, the others below it.
func (w *world) paragraph(b *strings.Builder, prefix, text string) {
	indent := strings.Repeat(" ", len(prefix)-len(strings.TrimLeft(prefix, " ")))
	if indent != prefix {
		indent += "    "
	}
	line := prefix
	for i, word := range strings.Fields(w.normal(text)) {
		switch {
		case i == 0:
			line += word
		case len(line)+1+len(word) > width:
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// normal replaces what differs from run to run.
func (w *world) normal(text string) string {
	const guid = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	text = strings.NewReplacer(w.tenant.ID(), "<tenant>", clientID, "<client>").Replace(text)
	for _, changing := range []struct{ form, name string }{
		{`(127\.0\.0\.1|\.test|\.invalid):\d{5}`, "$1:<port>"},
		{guid, "<id>"},
		{`\b([0-9A-F]{40}|[0-9A-F]{64})\b`, "<thumbprint>"},
		{`\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z?)?`, "<time>"},
		{`\d+m\d+s`, "<duration>"},
	} {
		text = regexp.MustCompile(changing.form).ReplaceAllString(text, changing.name)
	}
	return text
}
