package hunting

import "slices"

// eventTable is one of the tables that hold what devices reported.
type eventTable struct {
	name string
	// controls says that the actions of Defender's controls stand in it.
	controls bool
	// columns are those that are asked for, of those that it has.
	columns []string
}

// has says whether the table has a column, and it is asked for.
func (t eventTable) has(column string) bool { return slices.Contains(t.columns, column) }

// eventTables returns the tables that are asked, each with the columns that are compared, or by which a person knows the row again: few,
// since every byte of an answer counts against its bound. AdditionalFields is asked for where controls tell in it what they did.
//   - https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceevents-table
//   - https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceprocessevents-table
//   - https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-devicefileevents-table
//   - https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-devicenetworkevents-table
func eventTables() []eventTable {
	event := []string{"Timestamp", "DeviceId", "DeviceName", "ActionType"}
	file := []string{"FileName", "FolderPath", "SHA1", "SHA256", "MD5"}
	process := []string{"ProcessId", "ProcessCommandLine", "ProcessCreationTime", "AccountDomain", "AccountName", "AccountSid"}
	remote := []string{"RemoteIP", "RemoteUrl"}
	initiating := []string{
		"InitiatingProcessId", "InitiatingProcessCommandLine", "InitiatingProcessCreationTime", "InitiatingProcessFileName",
		"InitiatingProcessFolderPath", "InitiatingProcessSHA1", "InitiatingProcessSHA256", "InitiatingProcessMD5",
		"InitiatingProcessAccountDomain", "InitiatingProcessAccountName", "InitiatingProcessAccountSid", "InitiatingProcessAccountUpn",
		"InitiatingProcessParentId", "InitiatingProcessParentCreationTime", "InitiatingProcessParentFileName", "ReportId",
	}
	return []eventTable{
		{deviceEvents, true, slices.Concat(event, file, process, remote, initiating, []string{"AdditionalFields"})},
		{processEvents, false, slices.Concat(event, file, process, []string{"AccountUpn"}, initiating)},
		{"DeviceFileEvents", false, slices.Concat(event, file, initiating)},
		{"DeviceNetworkEvents", false, slices.Concat(event, remote, initiating)},
	}
}

// The tables that are told apart by name.
const (
	deviceEvents  = "DeviceEvents"
	processEvents = "DeviceProcessEvents"
)
