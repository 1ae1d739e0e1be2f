package configuration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// planted is a secret that stands in files where none may, and that nothing may tell.
const planted = "planted~secret"

func rules() server.Rules {
	return server.Rules{
		Check: acceptAll,
		CheckFile: func(name string) error {
			if strings.Contains(name, "..") {
				return errors.New("leads out of the folder")
			}
			return nil
		},
		CheckVariable: func(string) error { return errors.New("did not list it") },
	}
}

func writeFile(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

const whole = `# Contoso, by the fields' names in the proto files.
integration_id: contoso
display_name: 0123
tenant_id: contoso.onmicrosoft.com
api: API_GRAPH_SECURITY
authentication:
  client_id: 11111111-2222-4333-8444-555555555555
  client_secret: {file: contoso/client-secret}
polling:
  fast_interval: 15s
  slow_interval: 90s
proxy:
  url: http://proxy.contoso.com:3128
  exceptions:
    - 10.0.0.0/8
    - .contoso.com
---
# Fabrikam, by their names in JSON.
{"integrationId": "fabrikam", "tenantId": "fabrikam.example", "paused": true,
 "endpoint": {"host": "graph.microsoft.com", "port": 443},
 "authentication": {"managedIdentity": {}}, "deviceSource": {"kind": "KIND_NONE"}}
---
# nothing
`

func TestDecode(t *testing.T) {
	documents, problems := decode([]file{{name: "a.yaml", content: []byte(whole)}})
	if len(problems) > 0 || len(documents) != 2 {
		t.Fatalf("%d documents, %v", len(documents), problems)
	}
	want := &integrationv1.Integration{
		IntegrationId: "contoso", DisplayName: "0123", TenantId: "contoso.onmicrosoft.com", Api: integrationv1.Api_API_GRAPH_SECURITY,
		Authentication: &integrationv1.Authentication{
			ClientId: "11111111-2222-4333-8444-555555555555",
			Credential: &integrationv1.Authentication_ClientSecret{
				ClientSecret: &integrationv1.ClientSecret{File: "contoso/client-secret"},
			},
		},
		Polling: &integrationv1.Polling{FastInterval: durationpb.New(15 * time.Second), SlowInterval: durationpb.New(90 * time.Second)},
		Proxy:   &integrationv1.Proxy{Url: "http://proxy.contoso.com:3128", Exceptions: []string{"10.0.0.0/8", ".contoso.com"}},
	}
	if got := documents[0]; !proto.Equal(got.Integration, want) || got.Line != 2 || got.File != "a.yaml" {
		t.Errorf("%s:%d: %v, want %v", got.File, got.Line, got.Integration, want)
	}
	want = &integrationv1.Integration{
		IntegrationId: "fabrikam", TenantId: "fabrikam.example", Paused: true,
		Endpoint:       &integrationv1.Endpoint{Host: "graph.microsoft.com", Port: 443},
		Authentication: &integrationv1.Authentication{Credential: &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}},
		DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE},
	}
	if got := documents[1]; !proto.Equal(got.Integration, want) || got.Line != 19 {
		t.Errorf("line %d: %v, want %v", got.Line, got.Integration, want)
	}
}

// head begins a document that is valid up to there, in three lines.
const head = "integration_id: contoso\ntenant_id: contoso.example\nauthentication:\n"

// Each problem is told with its line and field, and no value of the file is in it.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		want    []string // FILE:LINE: FIELD, and a part of the text.
	}{
		"no YAML":                      {"a: b\n\t- c: " + planted, []string{"a.yaml:2", "no YAML"}},
		"an unknown anchor":            {"integration_id: *planted~secret", []string{"a.yaml", "no YAML"}},
		"no mapping":                   {"- " + planted, []string{"a.yaml:1", "must be a mapping"}},
		"a text alone":                 {planted, []string{"a.yaml:1", "must be a mapping"}},
		"an unknown field":             {head + "  client_id: x\n  managed_identity: {}\ncolour: " + planted, []string{"a.yaml:6", `no field "colour"`}},
		"an unknown field inside":      {head + "  client_id: x\n  client_secret:\n    path: " + planted, []string{"a.yaml:6: authentication.client_secret", "no such field; there are value, file, env_variable"}},
		"a secret in a field's place":  {head + "  client_id: x\n  client_secret: {" + planted + "}", []string{"a.yaml:5: authentication.client_secret", "no such field"}},
		"a secret by value":            {head + "  client_id: x\n  client_secret:\n    value: " + planted, []string{"a.yaml:6: authentication.client_secret.value", "--secrets-dir"}},
		"a secret that is a number":    {head + "  client_id: x\n  client_secret: {value: 12345678}", []string{"a.yaml:5: authentication.client_secret.value", "--secret-env"}},
		"a certificate by value":       {head + "  client_id: x\n  client_certificate:\n    pem: |\n      " + planted, []string{"a.yaml:6: authentication.client_certificate.pem", "does not belong here"}},
		"a password by value":          {head + "  managed_identity: {}\nproxy:\n  url: http://p.test:1\n  username: u\n  password: " + planted, []string{"a.yaml:8: proxy.password", "does not belong here"}},
		"what the service sets":        {head + "  managed_identity: {}\nmanaged_by: other.yaml\netag: \"1\"", []string{"a.yaml:5: managed_by", "service alone", "a.yaml:6: etag", "service alone"}},
		"a field twice":                {head + "  managed_identity: {}\ntenantId: " + planted, []string{"a.yaml:5: tenant_id", "given twice, in line 2"}},
		"two credentials":              {head + "  managed_identity: {}\n  workload_identity: {}", []string{"a.yaml:5: authentication.workload_identity", "cannot go with managed_identity"}},
		"no such word":                 {head + "  managed_identity: {}\napi: " + planted, []string{"a.yaml:5: api", "must be one of API_GRAPH_SECURITY, "}},
		"no number":                    {head + "  managed_identity: {}\nendpoint: {port: " + planted + "}", []string{"a.yaml:5: endpoint.port", "whole number"}},
		"no truth":                     {head + "  managed_identity: {}\npaused: " + planted, []string{"a.yaml:5: paused", "true or false"}},
		"no time":                      {head + "  managed_identity: {}\npolling: {fast_interval: " + planted + "}", []string{"a.yaml:5: polling.fast_interval", "such as 30s"}},
		"no list":                      {head + "  managed_identity: {}\nproxy: {url: 'http://p.test:1', exceptions: " + planted + "}", []string{"a.yaml:5: proxy.exceptions", "must be a list"}},
		"no text":                      {head + "  managed_identity: {}\ndisplay_name: [" + planted + "]", []string{"a.yaml:5: display_name", "must be one value"}},
		"a list in a list":             {head + "  managed_identity: {}\nproxy:\n  url: http://p.test:1\n  exceptions:\n    - [a]", []string{"a.yaml:8: proxy.exceptions[0]", "must be one value"}},
		"a rule of the proto files":    {"integration_id: contoso\ntenant_id: common\nauthentication:\n  managed_identity: {}", []string{"a.yaml:2: tenant_id", "verified domains"}},
		"a rule for an item":           {head + "  managed_identity: {}\nproxy:\n  url: http://p.test:1\n  exceptions:\n    - good\n    - a b", []string{"a.yaml:9: proxy.exceptions[1]", "match"}},
		"what is left out":             {"integration_id: contoso\ntenant_id: contoso.example\n", []string{"a.yaml:1: authentication", "required"}},
		"no id":                        {"tenant_id: contoso.example\nauthentication: {managed_identity: {}}", []string{"a.yaml:1: integration_id", "must be given"}},
		"no secret":                    {head + "  client_id: x\n  client_secret: {}", []string{"a.yaml:5: authentication.client_secret.value", "or the file or environment variable"}},
		"a file elsewhere":             {head + "  client_id: x\n  client_secret:\n    file: ../x", []string{"a.yaml:6: authentication.client_secret.file", "leads out"}},
		"a variable that is no secret": {head + "  client_id: x\n  client_secret:\n    env_variable: PATH", []string{"a.yaml:6: authentication.client_secret.env_variable", "did not list it"}},
		"a host that is not allowed":   {head + "  managed_identity: {}\nendpoint:\n  host: evil.test", []string{"a.yaml:6: endpoint.host", "evil.test:443"}},
		"a retired API":                {head + "  managed_identity: {}\napi: API_GRAPH_SECURITY_LEGACY", []string{"a.yaml:5: api", "15 October 2026"}},
		"one id twice": {head + "  managed_identity: {}\n---\n" + head + "  managed_identity: {}", []string{
			"a.yaml:1: integration_id", "a.yaml:6 too", "a.yaml:6: integration_id", "a.yaml:1 too",
		}},
		"an empty file": {"", []string{"a.yaml: ", "it is empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, dir, "a.yaml", test.content)
			documents, problems, err := Check(dir, rules())
			if err != nil || len(documents) > 0 {
				t.Fatalf("%d documents are valid, %v", len(documents), err)
			}
			var lines []string
			for _, p := range problems {
				lines = append(lines, p.String())
			}
			all := strings.Join(lines, "\n")
			if len(problems) != len(test.want)/2 {
				t.Errorf("%d problems, want %d:\n%s", len(problems), len(test.want)/2, all)
			}
			for i, want := range test.want {
				if at := strings.Index(all, want); at < 0 || i%2 == 0 && at > 0 && all[at-1] != '\n' {
					t.Errorf("it is not told %q:\n%s", want, all)
				}
			}
			if strings.Contains(all, planted) || strings.Contains(all, "12345678") {
				t.Errorf("a value of the file is told:\n%s", all)
			}
		})
	}
}

// A directory as Kubernetes mounts it: the files are links into a folder whose name begins with dots.
func TestReadOfAMount(t *testing.T) {
	dir := t.TempDir()
	version := filepath.Join(dir, "..2026_11_26")
	if err := errors.Join(os.Mkdir(version, 0o700), os.Symlink("..2026_11_26", filepath.Join(dir, "..data"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b.yml", "a.yaml", "notes.txt", ".hidden.yaml"} {
		writeFile(t, version, name, "# "+name)
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := read(dir)
	if err != nil || len(files) != 2 || files[0].name != "a.yaml" || files[1].name != "b.yml" || string(files[1].content) != "# b.yml" {
		t.Errorf("read %v, %v", files, err)
	}
	files, err = read(filepath.Join(dir, "b.yml"))
	if err != nil || len(files) != 1 || files[0].name != "b.yml" {
		t.Errorf("the one file: %v, %v", files, err)
	}
}

func TestReadRefuses(t *testing.T) {
	empty := t.TempDir()
	for path, words := range map[string]string{filepath.Join(empty, "nothing"): "does not exist", empty: "leave one with a comment alone"} {
		if _, err := read(path); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", path, err, words)
		}
	}
}

// Whatever bytes a file has, nothing of it panics, and it ends.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &a [*a, *a]\nb: *a"))
	f.Add([]byte("&x {proxy: *x}"))
	f.Add([]byte("%TAG ! x\n---\n? - a\n: b"))
	f.Fuzz(func(_ *testing.T, content []byte) {
		decode([]file{{name: "a.yaml", content: content}})
	})
}
