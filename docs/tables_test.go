package docs_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestTables fails, and prints the block that is wanted, where a table of the page is not what the code says.
func TestTables(t *testing.T) {
	for name, render := range map[string]func() string{
		"permissions": permissions, "hosts": hosts, "other hosts": otherHosts, "lifecycles": lifecycles,
	} {
		if want := render(); block(t, name) != want {
			t.Errorf("the block %q of tenant.md is not what defender.Endpoints says. It should be\n%s", name, want)
		}
	}
}

// place is an API or a device source in a cloud, by what both have.
type place struct {
	name             string
	cloud            integrationv1.Cloud
	endpoint         *integrationv1.Endpoint
	target           string
	authorizationURL string
	permissions      []*integrationv1.Permission
	others           []*integrationv1.AlternativeHost
	lifecycle        *integrationv1.Lifecycle
}

// places returns every API and, behind them, every device source, each in all of its clouds, once.
func places() []place {
	var apis, sources []place
	for _, e := range defender.Endpoints() {
		target := e.GetScope()
		if strings.HasSuffix(e.GetAuthorizationUrl(), "/oauth2/token") {
			target = e.GetResource()
		}
		apis = append(apis, place{
			e.GetApi().String(), e.GetCloud(), e.GetEndpoint(), target, e.GetAuthorizationUrl(), e.GetPermissions(), e.GetAlternativeHosts(), e.GetLifecycle(),
		})
		for _, s := range e.GetDeviceSources() {
			p := place{
				s.GetKind().String(), e.GetCloud(), s.GetEndpoint(), s.GetScope(), "", s.GetPermissions(), s.GetAlternativeHosts(), s.GetLifecycle(),
			}
			if !slices.ContainsFunc(sources, func(have place) bool { return have.name == p.name && have.cloud == p.cloud }) {
				sources = append(sources, p)
			}
		}
	}
	slices.SortStableFunc(sources, func(x, y place) int { return cmp.Compare(x.name, y.name) })
	return append(apis, sources...)
}

func permissions() string {
	rows := "| to read | application permission, one of | of (application id) | app role id |\n| --- | --- | --- | --- |\n"
	seen := map[string]bool{}
	for _, p := range places() {
		for _, permission := range p.permissions {
			key := p.name + permission.GetName()
			if permission.GetCanWrite() || seen[key] {
				continue
			}
			seen[key] = true
			rows += fmt.Sprintf("| `%s` | %s | %s (`%s`) | %s |\n", p.name, permission.GetName(), permission.GetResourceApp(), permission.GetResourceAppId(),
				strings.Join(roleIDs(p.name, permission.GetName()), "; "))
		}
	}
	return rows
}

// roleIDs returns a permission's ids, each with the clouds that it is of.
func roleIDs(of, permission string) []string {
	var ids []string
	clouds := map[string][]string{}
	for _, p := range places() {
		for _, have := range p.permissions {
			if p.name == of && have.GetName() == permission {
				if clouds[have.GetAppRoleId()] == nil {
					ids = append(ids, have.GetAppRoleId())
				}
				clouds[have.GetAppRoleId()] = append(clouds[have.GetAppRoleId()], "`"+p.cloud.String()+"`")
			}
		}
	}
	for i, id := range ids {
		text := "`" + id + "`"
		if id == "" {
			text = "not published: ask for it as below"
		}
		if len(ids) > 1 {
			text = strings.Join(clouds[id], ", ") + ": " + text
		}
		ids[i] = text
	}
	return ids
}

func hosts() string {
	rows := "| | cloud | host | version | tokens are for | authorization URL |\n| --- | --- | --- | --- | --- | --- |\n"
	for _, p := range places() {
		if p.endpoint == nil {
			continue
		}
		version := "none"
		if p.endpoint.GetApiVersion() != "" {
			version = "`" + p.endpoint.GetApiVersion() + "`"
		}
		url := "as for alerts"
		if p.authorizationURL != "" {
			url = "`" + p.authorizationURL + "`"
		}
		rows += fmt.Sprintf("| `%s` | `%s` | `%s` | %s | `%s` | %s |\n", p.name, p.cloud, p.endpoint.GetHost(), version, p.target, url)
	}
	return rows
}

func otherHosts() string {
	rows := "| host | of | what it is |\n| --- | --- | --- |\n"
	var all []string
	of := map[string][]string{}
	notes := map[string]string{}
	for _, p := range places() {
		for _, other := range p.others {
			if of[other.GetHost()] == nil {
				all = append(all, other.GetHost())
			}
			of[other.GetHost()] = append(of[other.GetHost()], "`"+p.name+"`")
			notes[other.GetHost()] = other.GetNote()
		}
	}
	for _, host := range all {
		rows += fmt.Sprintf("| `%s` | %s | %s |\n", host, strings.Join(of[host], ", "), notes[host])
	}
	return rows
}

func lifecycles() string {
	rows := "| | stage | from when on it may fail | what Microsoft says |\n| --- | --- | --- | --- |\n"
	seen := map[string]bool{}
	for _, p := range places() {
		if seen[p.name] {
			continue
		}
		seen[p.name] = true
		until := ""
		if p.lifecycle.GetRetirementTime() != nil {
			until = p.lifecycle.GetRetirementTime().AsTime().Format(time.DateOnly)
		}
		rows += fmt.Sprintf("| `%s` | `%s` | %s | %s |\n", p.name, p.lifecycle.GetStage(), until, p.lifecycle.GetNote())
	}
	return rows
}
