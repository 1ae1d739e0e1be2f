// Package docs_test holds the pages to the code that they tell of.
package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("tenant.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block returns what stands between a block's marks.
func block(t *testing.T, name string) string {
	t.Helper()
	_, after, begun := strings.Cut(page(t), "<!-- begin "+name+" -->\n")
	text, _, ended := strings.Cut(after, "<!-- end "+name+" -->")
	if !begun || !ended {
		t.Fatalf("the page has no block %s", name)
	}
	return text
}

// code finds what stands in backquotes.
var code = regexp.MustCompile("`([^`]+)`")

func coded(cell string) []string {
	var texts []string
	for _, found := range code.FindAllStringSubmatch(cell, -1) {
		texts = append(texts, found[1])
	}
	return texts
}

// TestSettings fails where the form's table names a field that there is not, or a default that registering does not fill in.
func TestSettings(t *testing.T) {
	// tenant stands for the tenant's id in defaults.
	const tenant = "TENANT"
	field := regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)*$`)
	rows := strings.Split(strings.TrimSpace(block(t, "settings")), "\n")[2:]
	fields := 0
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "|"), "|")
		if len(cells) != 4 {
			t.Fatalf("%q has %d cells, want 4", row, len(cells))
		}
		told := coded(cells[2])
		possible := map[string]bool{}
		for _, name := range coded(cells[1]) {
			if !field.MatchString(name) {
				continue
			}
			fields++
			if path, ofActor := strings.CutPrefix(name, "actors."); ofActor {
				if (&integrationv1.Actor{}).ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(path)) == nil {
					t.Errorf("an Actor has no field %s", path)
				}
				continue
			}
			for i, api := range []integrationv1.Api{
				integrationv1.Api_API_GRAPH_SECURITY, integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, integrationv1.Api_API_SIEM,
			} {
				value := lookUp(t, defender.Complete(&integrationv1.Integration{Api: api, TenantId: tenant}), name)
				possible[value] = true
				if i == 0 && value != "" && value != tenant && !slices.Contains(told, value) {
					t.Errorf("the default of %s is %s, which the page does not tell", name, value)
				}
			}
		}
		for _, text := range told {
			if !possible[text] {
				t.Errorf("%q: %s is no default", strings.TrimSpace(cells[0]), text)
			}
		}
	}
	if fields < len(rows) {
		t.Errorf("%d fields in %d rows", fields, len(rows))
	}
}

// lookUp returns a field's value by its path, as text; empty where it is not set.
func lookUp(t *testing.T, message proto.Message, path string) string {
	t.Helper()
	m := message.ProtoReflect()
	names := strings.Split(path, ".")
	for i, name := range names {
		field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		switch {
		case field == nil:
			t.Fatalf("%s has no field %s of %s", m.Descriptor().Name(), name, path)
		case i < len(names)-1:
			m = m.Get(field).Message()
		case !m.Has(field):
			return ""
		case field.Enum() != nil:
			return string(field.Enum().Values().ByNumber(m.Get(field).Enum()).Name())
		}
		if i == len(names)-1 {
			return m.Get(field).String()
		}
	}
	return ""
}

// call finds the calls of the page, each with its method and its request.
var call = regexp.MustCompile(`(?s)IntegrationService/(\w+) <<'JSON'\n(.*?)\nJSON\n`)

// TestCalls fails where a request of the page is none that the service takes.
func TestCalls(t *testing.T) {
	// The page says that the operator allowed the proxy which is told what is in a file.
	allowed, err := defender.NewAllowList([]string{"proxy.contoso.com:3128"}, false)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, found := range call.FindAllStringSubmatch(page(t), -1) {
		request := requestOf(found[1])
		if request == nil {
			t.Errorf("no request is known for %s", found[1])
			continue
		}
		if err := protojson.Unmarshal([]byte(found[2]), request); err != nil {
			t.Errorf("%s: %v in\n%s", found[1], err, found[2])
			continue
		}
		if err := protovalidate.Validate(request); err != nil {
			t.Errorf("%s: %v in\n%s", found[1], err, found[2])
		}
		register, ok := request.(*integrationv1.RegisterIntegrationRequest)
		if !ok {
			continue
		}
		integration := register.GetIntegration()
		kinds[integration.GetApi().String()]++
		kinds[integration.GetDeviceSource().GetKind().String()]++
		kinds[fmt.Sprintf("%T", integration.GetAuthentication().GetCredential())]++
		if err := allowed.Check(defender.Complete(integration)); err != nil {
			t.Errorf("%s: %v", integration.GetIntegrationId(), err)
		}
	}
	for _, want := range []string{
		"API_UNSPECIFIED", "API_DEFENDER_FOR_ENDPOINT", "API_SIEM", "KIND_UNSPECIFIED", "KIND_HUNTING",
		"*integrationv1.Authentication_ClientSecret", "*integrationv1.Authentication_ClientCertificate",
		"*integrationv1.Authentication_WorkloadIdentity", "*integrationv1.Authentication_ManagedIdentity",
	} {
		if kinds[want] == 0 {
			t.Errorf("no example registers an integration with %s", want)
		}
	}
}

// requestOf returns an empty request of a method; nil for one that the page is not known to call.
func requestOf(method string) proto.Message {
	switch method {
	case "RegisterIntegration":
		return &integrationv1.RegisterIntegrationRequest{}
	case "TestConnectivity":
		return &integrationv1.TestConnectivityRequest{}
	case "ListEndpoints":
		return &integrationv1.ListEndpointsRequest{}
	case "StreamAlerts":
		return &integrationv1.StreamAlertsRequest{}
	}
	return nil
}

// TestRoles fails where a command grants a role that is not the table's, or that can write.
func TestRoles(t *testing.T) {
	resources, roles, names := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range places() {
		for _, permission := range p.permissions {
			resources[permission.GetResourceAppId()], names[permission.GetName()] = true, true
			if !permission.GetCanWrite() && permission.GetAppRoleId() != "" {
				roles[permission.GetResourceAppId()+" "+permission.GetAppRoleId()+" "+permission.GetName()] = true
			}
		}
	}
	granted := regexp.MustCompile(`--api (\S+) --api-permissions (\S+)=Role # (\S+)`).FindAllStringSubmatch(page(t), -1)
	if len(granted) < 4 {
		t.Errorf("%d commands grant a role, want four at least", len(granted))
	}
	for _, g := range granted {
		if !roles[strings.Join(g[1:], " ")] {
			t.Errorf("%s of %s is not the role %s of the table", g[2], g[1], g[3])
		}
	}
	if all := strings.Count(page(t), "--api-permissions"); all != len(granted) {
		t.Errorf("%d commands grant roles, %d of them say which", all, len(granted))
	}
	for _, name := range regexp.MustCompile(`[A-Z]\w+\.Read\.All`).FindAllString(page(t), -1) {
		if !names[name] {
			t.Errorf("%s is no permission of the table", name)
		}
	}
	for _, shown := range regexp.MustCompile(`az ad sp show --id (\S+)`).FindAllStringSubmatch(page(t), -1) {
		if !resources[shown[1]] {
			t.Errorf("%s is no resource application of the table", shown[1])
		}
	}
}
