package docs_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestVerdictsPage holds the page on verdicts to the contract: it names every value of the enumerations that it explains, in a table under
// the enumeration's prefix, and no other.
func TestVerdictsPage(t *testing.T) {
	text, err := os.ReadFile("verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	for prefix, enum := range map[string]protoreflect.EnumDescriptor{
		"MATCH_CRITERION_":     integrationv1.MatchCriterion(0).Descriptor(),
		"ACTIVITY_":            integrationv1.Activity(0).Descriptor(),
		"TRACE_CRITERION_":     integrationv1.TraceCriterion(0).Descriptor(),
		"CONFIDENCE_":          integrationv1.Confidence(0).Descriptor(),
		"OUTCOME_":             integrationv1.Outcome(0).Descriptor(),
		"COUNTING_CRITERION_":  integrationv1.CountingCriterion(0).Descriptor(),
		"VERDICT_":             integrationv1.Verdict(0).Descriptor(),
		"CANNOT_JUDGE_REASON_": integrationv1.CannotJudgeReason(0).Descriptor(),
	} {
		told := firstColumn(string(text), "| `"+prefix+"` ")
		for i := range enum.Values().Len() {
			value := enum.Values().Get(i)
			if value.Number() == 0 {
				continue
			}
			if name := strings.TrimPrefix(string(value.Name()), prefix); !told[name] {
				t.Errorf("the table %s does not explain %s", prefix, name)
			} else {
				delete(told, name)
			}
		}
		for name := range told {
			t.Errorf("the table %s explains %s, which the contract does not have", prefix, name)
		}
	}
}

// TestVerdictsPageRhythms holds the page to how old a last report may be.
func TestVerdictsPageRhythms(t *testing.T) {
	text, err := os.ReadFile("verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, words := range map[integrationv1.DeviceSource_Kind]string{
		integrationv1.DeviceSource_KIND_MACHINES: "%d hours for the list of machines", integrationv1.DeviceSource_KIND_HUNTING: "%d hours for advanced",
	} {
		if want := fmt.Sprintf(words, int(defender.RhythmOf(kind).Hours())); !strings.Contains(string(text), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// firstColumn returns the names in backticks of the first column of the table whose head begins with head.
func firstColumn(page, head string) map[string]bool {
	names := map[string]bool{}
	_, table, _ := strings.Cut(page, "\n"+head)
	for i, row := range strings.Split(table, "\n") {
		if i < 2 {
			continue // The rest of the head, and the line below it.
		}
		if !strings.HasPrefix(row, "|") {
			break
		}
		first := strings.Split(row, "|")[1]
		for j, part := range strings.Split(first, "`") {
			if j%2 == 1 {
				names[part] = true
			}
		}
	}
	return names
}
