package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// everyIntegration stands for every integration, there or not.
const everyIntegration = "*"

// integrationForm is what an integration's id looks like; the rule for callers stands in integration.proto.
var integrationForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Policy says which identities hold which roles for which integrations. It never changes, so that it can be told by its address
// whether another is in force.
type Policy struct {
	// exact are the grants of single identities, below those of every SPIFFE id that begins with a path, which ends in a slash.
	exact map[string]Grants
	below map[string]Grants
}

// file is a policy file.
type file struct {
	Rules []rule `yaml:"rules"`
}

// rule gives each of its identities each of its roles for each of its integrations.
type rule struct {
	Identities   []string `yaml:"identities"`
	Roles        []string `yaml:"roles"`
	Integrations []string `yaml:"integrations"`
}

// Parse reads a policy file: YAML with a list of rules. What it does not know is an error, and so is a file that gives nobody anything,
// for that is what is left of one that was cut off.
func Parse(data []byte) (*Policy, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var f file
	if err := decoder.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it must be one YAML document")
	}
	if len(f.Rules) == 0 {
		return nil, errors.New("it has no rules, so nobody could call anything")
	}
	p := &Policy{exact: make(map[string]Grants), below: make(map[string]Grants)}
	for i, r := range f.Rules {
		if err := p.add(r); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return p, nil
}

// add adds a rule.
func (p *Policy) add(r rule) error {
	if len(r.Identities) == 0 || len(r.Roles) == 0 || len(r.Integrations) == 0 {
		return errors.New("it must have identities, roles and integrations")
	}
	var roles Roles
	for _, name := range r.Roles {
		switch name {
		case Reader.String():
			roles |= Reader
		case Operator.String():
			roles |= Operator
		default:
			return fmt.Errorf("the role %q is none: it must be %s or %s", name, Reader, Operator)
		}
	}
	for _, id := range r.Integrations {
		if id != everyIntegration && !integrationForm.MatchString(id) {
			return fmt.Errorf("%q is no id of an integration; \"*\" stands for every one", id)
		}
	}
	for _, identity := range r.Identities {
		if err := checkIdentity(identity); err != nil {
			return fmt.Errorf("the identity %q: %w", identity, err)
		}
		grants, key := p.exact, identity
		if before, ok := strings.CutSuffix(identity, belowPath); ok {
			grants, key = p.below, before+"/"
		}
		grants[key] = grants[key].with(roles, r.Integrations)
	}
	return nil
}

// with returns the grants with these roles for these integrations beside.
func (g Grants) with(roles Roles, integrations []string) Grants {
	for _, id := range integrations {
		if id == everyIntegration {
			g.everywhere |= roles
			continue
		}
		if g.of == nil {
			g.of = make(map[string]Roles)
		}
		g.of[id] |= roles
	}
	return g
}

// Grants returns what a caller with these identities holds: all that the rules give any of them.
func (p *Policy) Grants(identities []string) Grants {
	var all Grants
	for _, identity := range identities {
		all = all.and(p.exact[identity])
		if !strings.HasPrefix(identity, spiffePrefix) {
			continue
		}
		for i := len(spiffePrefix); i < len(identity); i++ {
			if identity[i] == '/' {
				all = all.and(p.below[identity[:i+1]])
			}
		}
	}
	return all
}

// and returns what both hold. It changes neither.
func (g Grants) and(other Grants) Grants {
	sum := Grants{everywhere: g.everywhere | other.everywhere}
	if len(g.of)+len(other.of) == 0 {
		return sum
	}
	sum.of = make(map[string]Roles, len(g.of)+len(other.of))
	for _, part := range []Grants{g, other} {
		for id, roles := range part.of {
			sum.of[id] |= roles
		}
	}
	return sum
}
