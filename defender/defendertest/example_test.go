package defendertest_test

import (
	"fmt"

	"defender-integration/defender/defendertest"
)

// A test scripts a tenant, lets the code under test read it, and asks the record what was held and served.
func Example() {
	microsoft, err := defendertest.New(defendertest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = microsoft.Close() }()
	tenant := microsoft.AddTenant("11111111-2222-4333-8444-555555555555")
	tenant.AddApplication("app", "secret", defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead)
	device := tenant.AddDevice(defendertest.Device{DNSName: "ws-anna-01.corp.contoso.test", IPs: []string{"10.20.4.11"}})
	alert := tenant.AddAlert(defendertest.Alert{
		Title: "Suspicious PowerShell command line",
		Evidence: []defendertest.Evidence{
			defendertest.DeviceEvidence{Device: device},
			defendertest.ProcessEvidence{DeviceID: device.ID, ID: 4711, CommandLine: "powershell.exe -enc AAAA", DetectionStatus: "prevented"},
		},
	})
	if _, err := tenant.Change(alert.ID, func(a *defendertest.Alert) { a.Status = "resolved" }, defendertest.Withheld()); err != nil {
		fmt.Println(err)
		return
	}
	microsoft.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Respond: defendertest.Respond(503, nil, "")})

	// Point the code under test at microsoft.Host(), microsoft.Port() and microsoft.TokenURL(tenant.ID()) here, and let it read:
	// tenant.WaitServed returns when it has. Then the withheld change is shown.
	tenant.Release(alert.ID)

	for _, revision := range tenant.Revisions(alert.ID) {
		fmt.Println(revision.Number, revision.Visible, revision.Served)
	}
	// Output:
	// 1 false 0
	// 2 true 0
}
