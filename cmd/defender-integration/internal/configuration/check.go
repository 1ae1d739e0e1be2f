package configuration

import (
	"cmp"
	"fmt"
	"slices"

	"defender-integration/server"
)

// Check reads the files of a directory, or one, and returns the integrations that they have, and what is wrong with them by the rules of a
// service. It calls nothing and changes nothing. It fails where the path cannot be read.
func Check(path string, rules server.Rules) ([]Document, []Problem, error) {
	files, err := read(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	documents, problems := decode(files)
	var valid []Document
	for _, d := range documents {
		err := rules.CheckIntegration(d.Integration)
		wrong := d.Problems(err)
		switch {
		case err == nil:
			valid = append(valid, d)
		case len(wrong) == 0:
			return nil, nil, err
		}
		problems = append(problems, wrong...)
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Text, b.Text))
	})
	return valid, problems, nil
}
