package secretsdir

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// variablesFlag is what the operator lists a variable with.
const variablesFlag = "--secret-env"

// variableForm is what a variable's name looks like; the contract's fields have the same rule.
var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// Variables are the environment variables of this process that the service's operator lists for secrets. Callers name one of them and no
// other, since the environment holds more than what is meant for them. A nil or zero Variables lists none: every use of it fails, and
// says which flag lists one. It is safe for concurrent use.
type Variables struct {
	names []string
}

// NewVariables returns the variables of these names, which need not be set. An error is for whoever starts the service.
func NewVariables(names []string) (*Variables, error) {
	for _, name := range names {
		if !variableForm.MatchString(name) {
			return nil, fmt.Errorf("%s: %q cannot be the name of an environment variable: letters, digits and underscores can", variablesFlag, name)
		}
	}
	return &Variables{names: slices.Clone(names)}, nil
}

// Unset returns the names of those that are not set or empty, for whoever starts the service.
func (v *Variables) Unset() []string {
	return slices.DeleteFunc(slices.Clone(v.names), func(name string) bool { return os.Getenv(name) != "" })
}

// Check says whether a name is one of those that are listed: for registering. Whether it is set is told when it is used, and of one that
// is not listed never. The error is a *defender.Error with the reason CONFIGURATION_INVALID.
func (v *Variables) Check(name string) error {
	if v != nil && slices.Contains(v.names, name) {
		return nil
	}
	return told(integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID,
		fmt.Sprintf("The environment variable %q cannot be read: this service's operator did not list it for secrets.", rest.Excerpt(name)),
		"Have the service's operator start it with "+variablesFlag+" NAME, or give the value itself or a file instead of a variable.")
}

var (
	errUnset     = errors.New("it is not set")
	errNoContent = errors.New("it is empty")
)

// Read returns what a variable holds. An error is that of [Variables.Check], or a *defender.Error with the reason CREDENTIAL_UNUSABLE.
func (v *Variables) Read(name string) ([]byte, error) {
	if err := v.Check(name); err != nil {
		return nil, err
	}
	value, set := os.LookupEnv(name)
	why := errNoContent
	switch {
	case value != "":
		return []byte(value), nil
	case !set:
		why = errUnset
	}
	return nil, told(integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE,
		fmt.Sprintf("The environment variable %q cannot be used: %s.", name, why),
		"Have the service's operator set it to the value and start the service again: what a process has in its environment does not change.")
}
