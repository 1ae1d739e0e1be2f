package hunting

import (
	"slices"
	"strings"
)

// control is what of Defender wrote a row of DeviceEvents.
type control struct {
	// name is what it is called, for a person.
	name string
	// blocks says that a row of this action is a block, unless its AdditionalFields say that it was an audit. What is not certain is
	// none: what was audited, what a user may click away, and what was only detected.
	blocks bool
	// antivirus says that the row's AdditionalFields decide; see [event.stopped].
	antivirus bool
}

// The pages that tell the actions. Microsoft's list of all is in the portal alone, as the table's page says (tableSource); what has no page
// of its own is spelled as that list is copied in public repositories.
const (
	tableSource      = "https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceevents-table"
	asrSource        = "https://learn.microsoft.com/en-us/defender-endpoint/attack-surface-reduction-rules-reference"
	networkSource    = "https://learn.microsoft.com/en-us/defender-endpoint/network-protection"
	foldersSource    = "https://learn.microsoft.com/en-us/defender-endpoint/controlled-folders"
	appControlSource = "https://learn.microsoft.com/en-us/windows/security/application-security/application-control/app-control-for-business/operations/querying-application-control-events-centrally-using-advanced-hunting"
	antivirusSource  = "https://learn.microsoft.com/en-us/defender-endpoint/detect-block-potentially-unwanted-apps-microsoft-defender-antivirus"
)

// controlled is the actions of one control. Each stem is an action with Blocked behind it, which is a block, and one with Audited, which
// is none; each of others is an action that is no block by its name alone.
type controlled struct {
	name   string
	source string
	stems  []string
	// enforced are blocks with another name; others are no blocks.
	enforced, others []string
	antivirus        bool
}

// controlledActions is the table of all controls whose actions are told apart. An action that it does not have is of no control.
func controlledActions() []controlled {
	return []controlled{
		{
			// Most of its blocks raise no alert, and that of credential theft never does.
			name: "attack surface reduction", source: asrSource,
			stems: []string{
				"AsrAbusedSystemTool", "AsrAdobeReaderChildProcess", "AsrExecutableEmailContent", "AsrExecutableOfficeContent",
				"AsrLsassCredentialTheft", "AsrObfuscatedScript", "AsrOfficeChildProcess", "AsrOfficeCommAppChildProcess",
				"AsrOfficeMacroWin32ApiCalls", "AsrOfficeProcessInjection", "AsrPersistenceThroughWmi", "AsrPsexecWmiChildProcess",
				"AsrRansomware", "AsrScriptExecutableDownload", "AsrUntrustedExecutable", "AsrUntrustedUsbProcess", "AsrVulnerableSignedDriver",
			},
			// Microsoft spells the audit of this one otherwise than its block. A user went on behind what WarnBypassed tells.
			enforced: []string{"AsrSafeModeRebootBlocked"},
			others:   []string{"AsrSafeModeRebootedAudited", "AsrSafeModeRebootWarnBypassed", "AsrAbusedSystemToolWarnBypassed"},
		},
		{
			// The block follows the handshake of TCP, so that a connection that was blocked can be told as ConnectionSuccess besides.
			name: "network protection", source: networkSource,
			stems: []string{"ExploitGuardNetworkProtection"},
		},
		{
			name: "controlled folder access", source: foldersSource,
			stems: []string{"ControlledFolderAccessViolation"},
		},
		{
			name: "exploit protection", source: tableSource,
			stems: []string{
				"ExploitGuardChildProcess", "ExploitGuardEafViolation", "ExploitGuardIafViolation", "ExploitGuardLowIntegrityImage",
				"ExploitGuardNonMicrosoftSigned", "ExploitGuardRopExploit", "ExploitGuardSharedBinary", "ExploitGuardWin32SystemCall",
			},
			enforced: []string{"ExploitGuardAcgEnforced"},
			others:   []string{"ExploitGuardAcgAudited"},
		},
		{
			name: "application control", source: appControlSource,
			stems: []string{
				"AppControlCIScript", "AppControlCodeIntegrityPolicy", "AppControlExecutable", "AppControlPackagedApp", "AppControlScript",
			},
		},
		{
			name: "firewall", source: tableSource,
			enforced: []string{"FirewallInboundConnectionBlocked", "FirewallOutboundConnectionBlocked"},
		},
		{
			// A user can go on behind its warnings.
			name: "SmartScreen", source: networkSource,
			others: []string{"SmartScreenAppWarning", "SmartScreenExploitWarning", "SmartScreenUrlWarning", "SmartScreenUserOverride"},
		},
		{
			name: "antivirus", source: antivirusSource, antivirus: true,
			others: []string{"AntivirusDetection"},
		},
		{
			// What becomes of what these tell is not told in them.
			name: "antivirus", source: tableSource,
			others: []string{"AmsiScriptDetection", "AntivirusDetectionActionType", "AntivirusReport"},
		},
		{
			// That it was attempted does not say that it was kept from happening.
			name: "tamper protection", source: tableSource,
			others: []string{"TamperingAttempt"},
		},
	}
}

// controlsByAction returns the table by action.
func controlsByAction() map[string]control {
	actions := map[string]control{}
	for _, c := range controlledActions() {
		add := func(blocks bool, suffix string, names []string) {
			for _, name := range names {
				actions[name+suffix] = control{name: c.name, blocks: blocks, antivirus: c.antivirus}
			}
		}
		add(true, "Blocked", c.stems)
		add(false, "Audited", c.stems)
		add(true, "", c.enforced)
		add(false, "", c.others)
	}
	return actions
}

// blockingActions returns the actions that may be blocks, sorted: they are asked for whatever else is in their rows, since some tell the
// process or the address that was blocked only in their AdditionalFields.
func blockingActions(actions map[string]control) []string {
	var blocking []string
	for action, c := range actions {
		if c.blocks || c.antivirus {
			blocking = append(blocking, action)
		}
	}
	slices.Sort(blocking)
	return blocking
}

// stopped says whether the row is of something that was blocked, by the control that wrote it. For antivirus it is what was remediated
// and did not run when it was detected, unless the report is of an antivirus in passive mode, which only looks on. What is not told is
// not certain, and no block.
func (e *event) stopped(by control) bool {
	if by.antivirus {
		passive := strings.Contains(strings.ToLower(e.details.reportSource), "passive")
		return e.details.remediated == yes && e.details.executing == no && !passive
	}
	return by.blocks && e.details.audit != yes
}
