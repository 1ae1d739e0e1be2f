package image_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// top is the folder of the Dockerfile.
const top = "../../.."

// dockerfile is the Dockerfile as BuildKit reads it.
type dockerfile struct {
	builder string // the default of the base image's argument
	stages  []instructions.Stage
}

// readDockerfile reads the Dockerfile.
func readDockerfile(t *testing.T) dockerfile {
	t.Helper()
	file, err := os.Open(filepath.Join(top, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	parsed, err := parser.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	stages, arguments, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 || len(arguments) != 1 || arguments[0].Args[0].Key != "BUILDER" {
		t.Fatalf("the Dockerfile has %d stages and the arguments %v before them", len(stages), arguments)
	}
	return dockerfile{arguments[0].Args[0].ValueString(), stages}
}

// config is what the image says of how it is run.
type config struct {
	user, volume        string
	env                 []string
	health, entry, args []string
	labels              map[string]string
}

// config returns the configuration of the last stage, for a build with some arguments.
func (d dockerfile) config(t *testing.T, arguments map[string]string) config {
	t.Helper()
	c := config{labels: map[string]string{}}
	known := map[string]string{}
	expand := expander(t, known)
	for _, command := range d.stages[1].Commands {
		switch command := command.(type) {
		case *instructions.ArgCommand:
			declare(known, command, arguments)
		case *instructions.UserCommand:
			c.user = command.User
		case *instructions.VolumeCommand:
			c.volume = strings.Join(command.Volumes, " ")
		case *instructions.EnvCommand:
			for _, pair := range command.Env {
				c.env = append(c.env, pair.Key+"="+pair.Value)
			}
		case *instructions.LabelCommand:
			for _, pair := range command.Labels {
				c.labels[expand(pair.Key)] = expand(pair.Value)
			}
		case *instructions.HealthCheckCommand:
			c.health = command.Health.Test
		case *instructions.EntrypointCommand:
			c.entry = command.CmdLine
		case *instructions.CmdCommand:
			c.args = command.CmdLine
		}
	}
	return c
}

// declare sets a stage's arguments: as given, else to their defaults.
func declare(known map[string]string, command *instructions.ArgCommand, given map[string]string) {
	for _, argument := range command.Args {
		value, ok := given[argument.Key]
		if !ok {
			value = argument.ValueString()
		}
		known[argument.Key] = value
	}
}

// expander returns what replaces variables as BuildKit does.
func expander(t *testing.T, known map[string]string) func(string) string {
	t.Helper()
	return func(text string) string {
		var env []string
		for name, value := range known {
			env = append(env, name+"="+value)
		}
		expanded, _, err := shell.NewLex('\\').ProcessWord(text, shell.EnvsFromSlice(env))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return expanded
	}
}

// What an image is run with is safe without anything being said: the user is a number that is not root, the data is a volume, and the
// health check is the program's own.
func TestTheConfigurationIsSafe(t *testing.T) {
	d := readDockerfile(t)
	if !regexp.MustCompile(`^golang:\d+\.\d+\.\d+-[a-z]+(@sha256:[0-9a-f]{64})?$`).MatchString(d.builder) {
		t.Errorf("the base image %q has no full version", d.builder)
	}
	if base := d.stages[1].BaseName; base != "scratch" {
		t.Errorf("the image is made from %q and not from nothing", base)
	}
	c := d.config(t, map[string]string{"VERSION": "v9.8.7", "REVISION": "abc"})
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(c.user) {
		t.Errorf("the user is %q, want the numbers of one that is not root", c.user)
	}
	if c.volume != "/data" || !slices.Contains(c.env, "DEFENDER_INTEGRATION_DATA_DIR=/data") {
		t.Errorf("data is kept by %q in the volume %q", c.env, c.volume)
	}
	if len(c.health) < 3 || c.health[0] != "CMD" || c.health[1] != c.entry[0] || c.health[2] != "healthcheck" {
		t.Errorf("the health check is %q", c.health)
	}
	if c.labels["org.opencontainers.image.version"] != "v9.8.7" || c.labels["org.opencontainers.image.revision"] != "abc" {
		t.Errorf("the labels are %v", c.labels)
	}
}
