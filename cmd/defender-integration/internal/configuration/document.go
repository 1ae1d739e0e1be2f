package configuration

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// Problem is what is wrong with a file. It tells no value that stands in one.
type Problem struct {
	// File is the file's name; Line counts from 1, 0 where it is the whole file; Field is the path of a field of an integration as it
	// stands in the proto files, empty where it is none.
	File  string
	Line  int
	Field string
	// Text is what is wrong.
	Text string
}

// String tells it in a line: FILE:LINE: FIELD: TEXT.
func (p Problem) String() string {
	text := p.File
	if p.Line > 0 {
		text += ":" + strconv.Itoa(p.Line)
	}
	if p.Field != "" {
		text += ": " + p.Field
	}
	return text + ": " + p.Text
}

// Document is an integration as a file has it.
type Document struct {
	// File is the file's name, Line where the document begins.
	File string
	Line int
	// Integration is what it says. Defaults are not filled in.
	Integration *integrationv1.Integration
	// lines are where fields stand, by their paths.
	lines map[string]int
}

// maxDocuments bounds how many integrations a file may have.
const maxDocuments = 10_000

// decode decodes files: the documents that could be decoded, and what is wrong with the others.
func decode(files []file) (documents []Document, problems []Problem) {
	for _, f := range files {
		if f.err != nil {
			problems = append(problems, Problem{File: f.name, Text: told(f.err)})
			continue
		}
		found, wrong := decodeFile(f)
		documents, problems = append(documents, found...), append(problems, wrong...)
	}
	return unique(documents, problems)
}

// told is an error in words for the operator.
func told(err error) string {
	if known, ok := errors.AsType[*defender.Error](err); ok {
		return known.Problem.GetMessage() + " " + known.Problem.GetRemedy()
	}
	return err.Error()
}

// unique drops documents whose id another has too: which of them is meant cannot be known.
func unique(documents []Document, problems []Problem) ([]Document, []Problem) {
	by := make(map[string][]Document)
	for _, d := range documents {
		id := d.Integration.GetIntegrationId()
		by[id] = append(by[id], d)
	}
	documents = slices.DeleteFunc(documents, func(d Document) bool {
		same := by[d.Integration.GetIntegrationId()]
		if len(same) < 2 || d.Integration.GetIntegrationId() == "" {
			return false
		}
		other := same[0]
		if other.File == d.File && other.Line == d.Line {
			other = same[1]
		}
		problems = append(problems, d.problem("integration_id", fmt.Sprintf("%q is the id of the integration at %s:%d too",
			d.Integration.GetIntegrationId(), other.File, other.Line)))
		return true
	})
	return documents, problems
}

// problem is what is wrong with a field of the document.
func (d *Document) problem(field, text string) Problem {
	return Problem{File: d.File, Line: d.lineOf(field), Field: field, Text: text}
}

// lineOf returns the line of a field, or of the nearest one around it that the document has.
func (d *Document) lineOf(field string) int {
	for field != "" {
		if line := d.lines[field]; line != 0 {
			return line
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
	return d.Line
}

// Problems tells why the service does not take the document. It returns none where err is of another kind, such as a store's that does
// not answer: then the document is not to blame.
func (d *Document) Problems(err error) []Problem {
	failed, ok := errors.AsType[*failure.Error](err)
	if !ok {
		return nil
	}
	inside := func(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, "integration"), ".") }
	var problems []Problem
	for _, field := range failed.Fields {
		problems = append(problems, d.problem(inside(field.Path), field.Description))
	}
	if len(problems) == 0 {
		field, text := inside(failed.Metadata["field"]), failed.Message
		if within, ok := strings.CutPrefix(text, "integration."); ok && field == "" {
			field, _, _ = strings.Cut(within, ":")
			text = within
		}
		text = strings.TrimPrefix(text, field+": ")
		problems = append(problems, d.problem(cmp.Or(field, "integration_id"), text))
	}
	return problems
}

// decodeFile decodes the documents of a file. Where the file is no YAML, none of it counts.
func decodeFile(f file) (documents []Document, problems []Problem) {
	source := yaml.NewDecoder(bytes.NewReader(f.content))
	for {
		var node yaml.Node
		err := source.Decode(&node)
		if errors.Is(err, io.EOF) {
			return documents, problems
		}
		if err == nil && len(documents)+len(problems) >= maxDocuments {
			err = fmt.Errorf("yaml: it has more than %d documents", maxDocuments)
		}
		if err != nil {
			return nil, []Problem{syntaxProblem(f.name, err)}
		}
		if len(node.Content) == 0 || node.Content[0].Tag == "!!null" {
			continue // A document of comments alone.
		}
		d := decoder{Document: Document{
			File: f.name, Line: node.Content[0].Line, Integration: &integrationv1.Integration{}, lines: make(map[string]int),
		}}
		d.message(node.Content[0], d.Integration.ProtoReflect(), "")
		if len(d.problems) > 0 {
			problems = append(problems, d.problems...)
			continue
		}
		documents = append(documents, d.Document)
	}
}

var (
	// syntaxLine is how the library says where something is wrong.
	syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	// quoted are parts of the file in what the library says.
	quoted = regexp.MustCompile(`'[^']*'|"[^"]*"|` + "`[^`]*`")
)

// syntaxProblem tells that a file is no YAML, in the library's words but for what those quote of it.
func syntaxProblem(name string, err error) Problem {
	text := err.Error()
	p := Problem{File: name}
	if match := syntaxLine.FindStringSubmatch(text); match != nil {
		p.Line, _ = strconv.Atoi(match[1]) // No number leaves the line open.
		text = text[len(match[0]):]
	}
	p.Text = "it is no YAML: " + quoted.ReplaceAllString(strings.ReplaceAll(text, "\n", " "), "...")
	return p
}
