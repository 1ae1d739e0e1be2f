package defendertest

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// machine are the members that the list of machines is read for.
type machine struct {
	ID            string   `json:"id"`
	ComputerDNS   string   `json:"computerDnsName"`
	LastSeen      string   `json:"lastSeen"`
	Health        string   `json:"healthStatus"`
	Onboarding    string   `json:"onboardingStatus"`
	RBACGroupID   int64    `json:"rbacGroupId"`
	OSBuild       *int64   `json:"osBuild"`
	AADDeviceID   *string  `json:"aadDeviceId"`
	MergedInto    *string  `json:"mergedIntoMachineId"`
	Duplicate     bool     `json:"isPotentialDuplication"`
	Tags          []string `json:"machineTags"`
	IPAddresses   []struct{ IPAddress, Type string }
	LastIPAddress string
}

func TestMachinesWireTypes(t *testing.T) {
	w := newWorld(t, Options{})
	device := SampleDevices()[0]
	device.MergedInto, device.PotentialDuplicate = "abc", true
	w.tenant.AddDevice(device)
	w.tenant.AddDevice(Device{DNSName: "tux", OSPlatform: "Linux", Health: "Inactive", Onboarding: "CanBeOnboarded"})
	w.tenant.AddRawDevice("raw", []byte(`{"id" : "raw"}`))
	got := w.list(w.token(DefenderForEndpoint), "/api/machines")
	if len(got.Value) != 3 || string(got.Value[2]) != `{"id" : "raw"}` {
		t.Fatalf("%s", got.Value)
	}
	first, second := decode[machine](t, string(got.Value[0])), decode[machine](t, string(got.Value[1]))
	if first.ID != DeviceID("ws-anna-01.corp.contoso.test") || len(first.ID) != 40 || first.ComputerDNS != "ws-anna-01.corp.contoso.test" ||
		first.LastSeen != "2026-11-20T09:00:00.1234567Z" || first.Health != "Active" || first.Onboarding != "Onboarded" || first.RBACGroupID != 12 ||
		*first.OSBuild != 26100 || *first.AADDeviceID != device.EntraID || *first.MergedInto != "abc" || !first.Duplicate ||
		!slices.Equal(first.Tags, []string{"Finance"}) || len(first.IPAddresses) != 2 || first.IPAddresses[1].IPAddress != "fd00:20:4::11" ||
		first.LastIPAddress != "10.20.4.11" {
		t.Errorf("%s\n%+v", got.Value[0], first)
	}
	if second.OSBuild != nil || second.AADDeviceID != nil || second.MergedInto != nil || second.Health != "Inactive" || second.Onboarding != "CanBeOnboarded" {
		t.Errorf("%s", got.Value[1])
	}

	w.tenant.AddDevice(Device{DNSName: "TUX", Health: "Active"})
	w.tenant.RemoveDevice("raw")
	got = w.list(w.token(DefenderForEndpoint), "/api/machines")
	if len(got.Value) != 2 || decode[machine](t, string(got.Value[1])).Health != "Active" {
		t.Errorf("after a change: %s", got.Value)
	}
}

func TestMachinesPaging(t *testing.T) {
	const n = 25
	w := newWorld(t, Options{Machines: MachinesOptions{PageSize: 10}})
	token := w.token(DefenderForEndpoint)
	var want []string
	for i := range n {
		want = append(want, w.tenant.AddDevice(Device{DNSName: fmt.Sprintf("d%d.contoso.test", i)}).ID)
	}
	page := w.list(token, "/api/machines")
	if page.NextLink != w.server.URL()+"/api/machines?$skip=10" {
		t.Errorf("next link %q", page.NextLink)
	}
	ids := page.ids(t)
	for page.NextLink != "" && len(ids) <= n {
		page = w.list(token, page.NextLink)
		ids = append(ids, page.ids(t)...)
	}
	if !slices.Equal(ids, want) {
		t.Errorf("linked pages: %v", ids)
	}
	// With $top the answer is capped, and nothing links on.
	page = w.list(token, "/api/machines", "$top", "7", "$skip", "5")
	if !slices.Equal(page.ids(t), want[5:12]) || page.NextLink != "" {
		t.Errorf("$top: %v %q", page.ids(t), page.NextLink)
	}
	if page = w.list(token, "/api/machines", "$skip", "100"); len(page.Value) != 0 || page.NextLink != "" {
		t.Errorf("beyond the end: %v", page)
	}
	for _, query := range []string{"$top=0", "$top=10001", "$skip=-1", "$skip=1e4", "$filter=x", "%zz"} {
		if got := w.get(token, "/api/machines?"+query); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}

func TestNoMachines(t *testing.T) {
	w := newWorld(t, Options{})
	checkError(t, w.get(w.token(DefenderForEndpoint), "/api/machines"), http.StatusNotFound, "ResourceNotFound", "No recent machines were found.")
	w = newWorld(t, Options{Machines: MachinesOptions{EmptyList: true}})
	if got := w.list(w.token(DefenderForEndpoint), "/api/machines"); got.Value == nil || len(got.Value) != 0 {
		t.Errorf("%+v", got)
	}
}
