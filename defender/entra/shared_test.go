package entra

import (
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/secretsdir"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestSharedAsksOnce has many integrations of one application, each for alerts and devices.
func TestSharedAsksOnce(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withSecret("")
	w.config.Secrets = &storev1.Secrets{ClientSecret: plantedSecret}
	s := NewShared()
	// Whoever comes while another one uses it gets the same. One is held here first, so that there always is one: what all have given
	// back is gone with its token, and the next one asks anew.
	if _, _, err := s.Source(w.config); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			config := w.config
			config.Authentication = proto.CloneOf(config.Authentication)
			source, release, err := s.Source(config)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if _, err := source.Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if w.asked() != 1 {
		t.Errorf("%d tokens were asked for, want one", w.asked())
	}
}

// TestSharedTellsApart gives another source wherever anything differs that a token depends on.
func TestSharedTellsApart(t *testing.T) {
	base := func() Config {
		config := secretConfig(nil)
		config.Files, config.Way = &secretsdir.Dir{}, "directly"
		return config
	}
	files := base().Files
	s := NewShared()
	source := func(change func(*Config)) *Source {
		t.Helper()
		config := base()
		config.Files = files
		if change != nil {
			change(&config)
		}
		source, _, err := s.Source(config)
		if err != nil {
			t.Fatal(err)
		}
		return source
	}
	first := source(nil)
	for name, change := range map[string]func(*Config){
		"a client of its own":       func(c *Config) { c.HTTP = secretConfig(nil).HTTP },
		"scope of alerts":           func(c *Config) { c.Authentication.Scope = "other" },
		"resource of alerts":        func(c *Config) { c.Authentication.Resource = "other" },
		"secret in authentication":  func(c *Config) { c.Authentication.GetClientSecret().Value = "x" },
		"a password of a proxy":     func(c *Config) { c.Secrets.ProxyPassword = "x" },
		"the same in another place": func(c *Config) { c.Secrets = proto.CloneOf(c.Secrets) },
	} {
		if source(change) != first {
			t.Errorf("%s: another source, want the same", name)
		}
	}
	seen := map[*Source]string{first: "the first"}
	for name, change := range map[string]func(*Config){
		"authorization URL": func(c *Config) { c.Authentication.AuthorizationUrl = "https://login.test/other/oauth2/v2.0/token" },
		"client id":         func(c *Config) { c.Authentication.ClientId = "other" },
		"secret":            func(c *Config) { c.Secrets.ClientSecret = "other" },
		"file": func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: "f"}}
		},
		"certificate": func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{File: "f"}}
		},
		"workload identity": func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{}}
		},
		"token file": func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{TokenFile: "f"}}
		},
		"managed identity": func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
		},
		"scope":            func(c *Config) { c.Scope = "other" },
		"resource":         func(c *Config) { c.Scope, c.Resource = "", c.Scope },
		"another resource": func(c *Config) { c.Scope, c.Resource = "", "other" },
		"way":              func(c *Config) { c.Way = "proxy" },
		"user agent":       func(c *Config) { c.UserAgent = "other" },
		"folder":           func(c *Config) { c.Files = &secretsdir.Dir{} },
		"variable": func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{EnvVariable: "V"}}
		},
		"list of variables": func(c *Config) { c.Variables = &secretsdir.Variables{} },
		"boundary of ways":  func(c *Config) { c.Scope, c.Way = c.Scope+"d", "irectly" },
	} {
		got := source(change)
		if other, shared := seen[got]; shared {
			t.Errorf("%s: the same source as %s", name, other)
		}
		seen[got] = name
	}
	if len(s.sources) != len(seen) {
		t.Errorf("%d sources are held, want %d", len(s.sources), len(seen))
	}
}

func TestSharedReleases(t *testing.T) {
	s := NewShared()
	first, releaseFirst, err := s.Source(secretConfig(nil))
	if err != nil {
		t.Fatal(err)
	}
	second, releaseSecond, err := s.Source(secretConfig(nil))
	if err != nil || first != second {
		t.Fatalf("error %v, the same %t", err, first == second)
	}
	releaseFirst()
	releaseFirst() // the second time it has no effect
	third, releaseThird, err := s.Source(secretConfig(nil))
	if err != nil || third != second {
		t.Errorf("error %v; the source was dropped while someone used it", err)
	}
	releaseSecond()
	releaseThird()
	if len(s.sources) != 0 {
		t.Errorf("%d sources are held after all were given back", len(s.sources))
	}
	if fourth, _, err := s.Source(secretConfig(nil)); err != nil || fourth == first {
		t.Errorf("error %v; want a new source", err)
	}
}

func TestSharedRefuses(t *testing.T) {
	s := NewShared()
	for name, change := range map[string]func(*Config){
		"no secret": func(c *Config) { c.Secrets = nil }, "no authentication": func(c *Config) { c.Authentication = nil },
		"no text": func(c *Config) { c.Authentication.ClientId = "\xff" },
	} {
		config := secretConfig(nil)
		change(&config)
		source, release, err := s.Source(config)
		if e := wantError(t, err); source != nil || release != nil || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID {
			t.Errorf("%s: problem is %v", name, e.Problem)
		}
	}
	if len(s.sources) != 0 {
		t.Error("a source is held that was refused")
	}
}
