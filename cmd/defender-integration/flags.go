package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// envPrefix begins the names of the environment variables. Kubernetes sets variables such as DEFENDER_INTEGRATION_PORT and
// DEFENDER_INTEGRATION_SERVICE_HOST for a service of our name, so a variable that no flag has is no error, and no flag may be
// called `port`, `port-*` or `service-*`.
const envPrefix = "DEFENDER_INTEGRATION_"

// usageError says that a command line or an environment variable was not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// flagSet is a command's flags. Each can be given by an environment variable; the command line wins over it.
type flagSet struct {
	*flag.FlagSet
	// help says that help was asked for.
	help bool
}

func newFlagSet(name string) *flagSet {
	f := &flagSet{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.SetOutput(io.Discard)
	return f
}

// envName returns the name of a flag's environment variable.
func envName(flagName string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// parse parses a command line, and then takes from the environment what it leaves open. A variable that is empty counts as not set.
func (f *flagSet) parse(args []string, env func(string) (string, bool)) error {
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.help = true
		return nil
	}
	if err != nil {
		return usagef("%s", strings.Replace(err.Error(), "but not defined: -", "but not defined: --", 1))
	}
	if f.NArg() > 0 {
		return usagef("the argument %q is one too many", f.Arg(0))
	}
	given := make(map[string]bool)
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	f.VisitAll(func(fl *flag.Flag) {
		value, ok := env(envName(fl.Name))
		if err != nil || given[fl.Name] || !ok || value == "" {
			return
		}
		values := []string{value}
		if _, repeats := fl.Value.(*listValue); repeats {
			values = strings.Split(value, ",")
		}
		for _, value := range values {
			if setErr := f.Set(fl.Name, strings.TrimSpace(value)); setErr != nil {
				err = usagef("the environment variable %s has the value %q: %v", envName(fl.Name), value, setErr)
			}
		}
	})
	return err
}

// describe returns the help of all flags: name, kind of value, default, environment variable, what it is for.
func (f *flagSet) describe() string {
	var text strings.Builder
	text.WriteString("Flags:\n")
	f.VisitAll(func(fl *flag.Flag) {
		kind, usage := flag.UnquoteUsage(fl)
		fmt.Fprintf(&text, "  --%s", fl.Name)
		if kind != "" {
			text.WriteString(" " + kind)
		}
		fmt.Fprintf(&text, "\n        %s\n        ", strings.ReplaceAll(usage, "\n", "\n        "))
		if fl.DefValue != "" && fl.DefValue != "false" {
			fmt.Fprintf(&text, "Default: %s. ", fl.DefValue)
		}
		fmt.Fprintf(&text, "Environment: %s\n", envName(fl.Name))
	})
	return text.String()
}

// listValue is a flag that can be given several times; its environment variable has commas between the values.
type listValue []string

// String returns the values with commas between them.
func (l *listValue) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(*l, ",")
}

// Set adds a value.
func (l *listValue) Set(value string) error {
	if value == "" {
		return errors.New("must not be empty")
	}
	*l = append(*l, value)
	return nil
}

// tlsVersion is a version of TLS.
type tlsVersion uint16

// String returns the version's number.
func (v *tlsVersion) String() string { return strings.TrimPrefix(tls.VersionName(uint16(*v)), "TLS ") }

// Set reads a version that is safe.
func (v *tlsVersion) Set(value string) error {
	for _, version := range []tlsVersion{tls.VersionTLS12, tls.VersionTLS13} {
		if value == version.String() {
			*v = version
			return nil
		}
	}
	return errors.New("must be 1.3 or 1.2")
}

// modeValue is a file mode in octal digits.
type modeValue fs.FileMode

// String returns the octal digits.
func (m *modeValue) String() string { return fmt.Sprintf("%04o", uint32(*m)) }

// Set reads octal digits.
func (m *modeValue) Set(value string) error {
	mode, err := strconv.ParseUint(value, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		return errors.New("must be a file mode in octal digits, such as 0660")
	}
	*m = modeValue(mode)
	return nil
}
