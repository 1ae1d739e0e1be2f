package entra

import (
	"fmt"

	"defender-integration/defender/rest"
	"defender-integration/defender/secretsdir"
)

// kept is what a credential is made of, and where it is kept: in the registry, in a file, or in an environment variable.
type kept struct {
	// value is it where neither a file nor a variable is named.
	value, file, variable string
	files                 *secretsdir.Dir
	variables             *secretsdir.Variables
}

// empty says that nothing is given.
func (k *kept) empty() bool { return k.value == "" && k.file == "" && k.variable == "" }

// read returns what it is now. An error is a *defender.Error.
func (k *kept) read() ([]byte, error) {
	switch {
	case k.file != "":
		return k.files.Read(k.file)
	case k.variable != "":
		return k.variables.Read(k.variable)
	default:
		return []byte(k.value), nil
	}
}

// where says where it is kept, to go on after what it is; empty in the registry.
func (k *kept) where() string {
	switch {
	case k.file != "":
		return fmt.Sprintf(" in the file %q", rest.Excerpt(k.file))
	case k.variable != "":
		return fmt.Sprintf(" in the environment variable %q", k.variable)
	default:
		return ""
	}
}

// inspected begins what is said of a credential that is kept so.
func (k *kept) inspected(kind string) Inspection {
	return Inspection{Kind: kind, File: k.file, Variable: k.variable}
}
