package secretsdir

import (
	"slices"
	"strings"
	"testing"
)

func TestVariables(t *testing.T) {
	t.Setenv("SET_AND_LISTED", planted)
	t.Setenv("EMPTY_AND_LISTED", "")
	t.Setenv("SET_AND_SECRET", planted)
	listed, err := NewVariables([]string{"SET_AND_LISTED", "EMPTY_AND_LISTED", "NEVER_SET"})
	if err != nil {
		t.Fatal(err)
	}
	if value, err := listed.Read("SET_AND_LISTED"); err != nil || string(value) != planted {
		t.Errorf("read %q, %v", value, err)
	}
	if unset := listed.Unset(); !slices.Equal(unset, []string{"EMPTY_AND_LISTED", "NEVER_SET"}) {
		t.Errorf("not set are %v", unset)
	}
	_, err = listed.Read("EMPTY_AND_LISTED")
	wantProblem(t, err, unusable, "it is empty")
	_, err = listed.Read("NEVER_SET")
	wantProblem(t, err, unusable, "it is not set")

	var none *Variables
	for _, name := range []string{"SET_AND_SECRET", "NEVER_SET_NOR_LISTED", "PATH", "", "SET_AND_LISTED "} {
		// Of what is not listed nothing is told, not even whether it is there.
		for _, variables := range []*Variables{listed, none, {}} {
			value, err := variables.Read(name)
			wantProblem(t, err, configuration, "did not list it")
			if value != nil || variables.Check(name) == nil {
				t.Errorf("%q: read %d bytes, and Check says %v", name, len(value), variables.Check(name))
			}
		}
	}
	if err := listed.Check("NEVER_SET"); err != nil {
		t.Errorf("a variable that is listed and not set yet: %v", err)
	}
}

func TestVariablesRefuseNames(t *testing.T) {
	for _, name := range []string{"", "A-B", "1A", "A B", "A=B", "Ä", strings.Repeat("A", 129)} {
		if _, err := NewVariables([]string{"GOOD", name}); err == nil || !strings.Contains(err.Error(), "--secret-env") {
			t.Errorf("%q: %v, want an error that names the flag", name, err)
		}
	}
}
