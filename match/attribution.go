package match

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// comparison is what came of comparing two values, or by one criterion.
type comparison = integrationv1.TraceComparison_Result

const (
	met           = integrationv1.TraceComparison_RESULT_MET
	notMet        = integrationv1.TraceComparison_RESULT_NOT_MET
	notComparable = integrationv1.TraceComparison_RESULT_NOT_COMPARABLE
)

func comparisonOf(same bool) comparison {
	if same {
		return met
	}
	return notMet
}

// attribute says how surely an alert is about the attack on an Actor: t are the traces of the attack, nil where none are given, and c is
// what the alert tells. foreign says of a device's id that it is not the Actor's: what is about such a device is left out.
//
// The attack's own process makes it CERTAIN. A child of it, a file's hash or a command line with arguments make it STRONG; so does a
// file's path or name together with the user or the parent. Anything else that is met makes it WEAK, titles and techniques in any
// number too, and where nothing is, only the device ties the alert to the attack.
func attribute(t *traces, c *clues, foreign func(device string) bool) *integrationv1.Attribution {
	if t == nil {
		return &integrationv1.Attribution{
			Confidence:  integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY,
			Explanation: "The request has no traces of the attack on this Actor, so nothing but the device ties the alert to it.",
		}
	}
	var list []*integrationv1.TraceComparison
	add := func(one *integrationv1.TraceComparison) {
		if one != nil {
			list = append(list, one)
		}
	}
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS, t.processes, c.processes, foreign, sameProcess))
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_CHILD_PROCESS, t.processes, c.parents, foreign, sameProcess))
	has := c.values()
	add(compareAmong(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH, t.hashes, c.hashes, foreign, sameHash, has.hash))
	add(compareAmong(integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE, t.commandLines, c.commandLines, foreign, sameCommandLine, has.commandLine))
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_PARENT_PROCESS, t.parents, c.parents, foreign, sameProcess))
	add(compareAmong(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_PATH, t.paths, c.paths, foreign, sameText, has.path))
	add(compareAmong(integrationv1.TraceCriterion_TRACE_CRITERION_FILE_NAME, t.names, c.names, foreign, sameText, has.name))
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_USER, t.accounts, c.accounts, foreign, sameAccount))
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_TECHNIQUE, t.techniques, c.techniques, foreign, sameTechnique))
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_TITLE, t.titles, c.titles, foreign, sameText))
	add(compare(integrationv1.TraceCriterion_TRACE_CRITERION_REMOTE_ADDRESS, t.addresses, c.addresses, foreign, sameText))

	confidence, by := confidenceOf(list)
	leftOut := 0
	for _, device := range c.devices {
		if foreign(device) {
			leftOut++
		}
	}
	return &integrationv1.Attribution{Confidence: confidence, Comparisons: list, Explanation: explainAttribution(confidence, by, list, leftOut)}
}

// compare compares by one criterion; nil where the traces have no value for it. It tells the first two values that are the same; where
// there are none, the first that can be compared, and where there are none of those, the first.
func compare[T any](criterion integrationv1.TraceCriterion, wanted []traced[T], found []clue[T], foreign func(string) bool,
	same func(mine, others T) comparison,
) *integrationv1.TraceComparison {
	return compareAmong(criterion, wanted, found, foreign, same, nil)
}

// compareAmong compares as compare does. has, where it is given, says of a wanted value whether any of those that were found may be the
// same: what is in none of them costs nothing then, however many there are on both sides.
func compareAmong[T any](criterion integrationv1.TraceCriterion, wanted []traced[T], found []clue[T], foreign func(string) bool,
	same func(mine, others T) comparison, has func(T) bool,
) *integrationv1.TraceComparison {
	if len(wanted) == 0 {
		return nil
	}
	for i := range wanted {
		if has != nil && !has(wanted[i].value) {
			continue
		}
		for j := range found {
			if same(wanted[i].value, found[j].value) == met && !foreign(found[j].device) {
				return told(criterion, met, &wanted[i], &found[j])
			}
		}
	}
	var first *clue[T]
	for i := range wanted {
		for j := range found {
			if foreign(found[j].device) {
				continue
			}
			if first == nil {
				first = &found[j]
			}
			if same(wanted[i].value, found[j].value) == notMet {
				return told(criterion, notMet, &wanted[i], &found[j])
			}
		}
		if first == nil {
			break // All is about other devices.
		}
	}
	return told(criterion, notComparable, &wanted[0], first)
}

// told makes the comparison as an answer tells it.
func told[T any](criterion integrationv1.TraceCriterion, result comparison, mine *traced[T], others *clue[T]) *integrationv1.TraceComparison {
	c := &integrationv1.TraceComparison{Criterion: criterion, Result: result, TraceValue: cutValue(mine.given)}
	if others != nil {
		c.DefenderValue, c.EvidencePath = cutValue(others.given), others.path
	}
	return c
}

// maxValue is how much of a value stands in a comparison, in bytes.
const maxValue = 512

// cutValue shortens a value to maxValue, at a rune's edge.
func cutValue(value string) string {
	if len(value) <= maxValue {
		return value
	}
	end := maxValue
	for end > 0 && !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end]
}

// confidenceOf returns the confidence that the criteria which are met make, and those that it rests on.
func confidenceOf(list []*integrationv1.TraceComparison) (integrationv1.Confidence, []integrationv1.TraceCriterion) {
	const (
		process     = integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS
		child       = integrationv1.TraceCriterion_TRACE_CRITERION_CHILD_PROCESS
		hash        = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH
		commandLine = integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE
		parent      = integrationv1.TraceCriterion_TRACE_CRITERION_PARENT_PROCESS
		path        = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_PATH
		name        = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_NAME
		user        = integrationv1.TraceCriterion_TRACE_CRITERION_USER
	)
	all := criteriaWith(list, met)
	among := func(these ...integrationv1.TraceCriterion) []integrationv1.TraceCriterion {
		return slices.DeleteFunc(these, func(c integrationv1.TraceCriterion) bool { return !slices.Contains(all, c) })
	}
	if by := among(process); len(by) > 0 {
		return integrationv1.Confidence_CONFIDENCE_CERTAIN, by
	}
	if by := among(child, hash, commandLine); len(by) > 0 {
		return integrationv1.Confidence_CONFIDENCE_STRONG, by
	}
	with := among(user, parent)
	if i := slices.Index(with, user); i >= 0 && everybodys(list) {
		with = slices.Delete(with, i, i+1)
	}
	if len(among(path, name)) > 0 && len(with) > 0 {
		return integrationv1.Confidence_CONFIDENCE_STRONG, slices.Concat(among(path, name), with)
	}
	if len(all) > 0 {
		return integrationv1.Confidence_CONFIDENCE_WEAK, all
	}
	return integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY, nil
}

// everybodys says that the account which is met is one that services run under on every machine, which ties nothing to an attack.
func everybodys(list []*integrationv1.TraceComparison) bool {
	return slices.ContainsFunc(list, func(c *integrationv1.TraceComparison) bool {
		if c.GetCriterion() != integrationv1.TraceCriterion_TRACE_CRITERION_USER {
			return false
		}
		a, _ := parseAccount(c.GetTraceValue())
		return a.everybodys()
	})
}

// criteriaWith returns the criteria of which this came.
func criteriaWith(list []*integrationv1.TraceComparison, result comparison) []integrationv1.TraceCriterion {
	var criteria []integrationv1.TraceCriterion
	for _, c := range list {
		if c.GetResult() == result {
			criteria = append(criteria, c.GetCriterion())
		}
	}
	return criteria
}

// explainAttribution says in words why an alert is attributed like this. by are the criteria that the confidence rests on, leftOut is how
// many pieces of evidence are about other devices.
func explainAttribution(confidence integrationv1.Confidence, by []integrationv1.TraceCriterion, list []*integrationv1.TraceComparison, leftOut int) string {
	var text strings.Builder
	switch confidence {
	case integrationv1.Confidence_CONFIDENCE_CERTAIN:
		text.WriteString("It is about the attack: the attack's own process is in the alert, by its id and creation time.")
	case integrationv1.Confidence_CONFIDENCE_STRONG:
		fmt.Fprintf(&text, "It is about the attack by what little else shares with it: %s.", spellCriteria(by))
	case integrationv1.Confidence_CONFIDENCE_WEAK:
		fmt.Fprintf(&text, "It may be about the attack: it shares only what much else has too: %s.", spellCriteria(by))
	default:
		text.WriteString("Nothing of the attack's traces was found in the alert, so nothing but the device ties it to the attack.")
	}
	more := slices.DeleteFunc(criteriaWith(list, met), func(c integrationv1.TraceCriterion) bool { return slices.Contains(by, c) })
	for _, part := range []struct {
		title    string
		criteria []integrationv1.TraceCriterion
	}{{"Also met", more}, {"Not met", criteriaWith(list, notMet)}, {"Not comparable", criteriaWith(list, notComparable)}} {
		if len(part.criteria) > 0 {
			fmt.Fprintf(&text, " %s: %s.", part.title, spellCriteria(part.criteria))
		}
	}
	if leftOut > 0 {
		fmt.Fprintf(&text, " Left out: %s about other devices.", pieces(leftOut))
	}
	return text.String()
}

func spellCriteria(criteria []integrationv1.TraceCriterion) string {
	words := make([]string, len(criteria))
	for i, c := range criteria {
		words[i] = spell(c.String(), "TRACE_CRITERION_")
	}
	return strings.Join(words, ", ")
}

func pieces(n int) string {
	if n == 1 {
		return "1 piece of evidence"
	}
	return fmt.Sprintf("%d pieces of evidence", n)
}
