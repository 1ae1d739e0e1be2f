package defendertest

import "slices"

// eventColumns are the columns of a table of events, as far as they are played, with their types as Graph names them; nil where there
// is no such table (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceevents-table and the pages of the others).
func eventColumns(table string) [][2]string {
	event := [][2]string{{"Timestamp", "DateTime"}, {"DeviceId", "String"}, {"DeviceName", "String"}, {"ActionType", "String"}, {"ReportId", "Int64"}, {"AdditionalFields", "String"}}
	file := [][2]string{{"FileName", "String"}, {"FolderPath", "String"}, {"SHA1", "String"}, {"SHA256", "String"}, {"MD5", "String"}}
	process := [][2]string{
		{"ProcessId", "Int64"}, {"ProcessCommandLine", "String"}, {"ProcessCreationTime", "DateTime"},
		{"AccountDomain", "String"}, {"AccountName", "String"}, {"AccountSid", "String"},
	}
	remote := [][2]string{{"RemoteIP", "String"}, {"RemoteUrl", "String"}}
	by := [][2]string{
		{"InitiatingProcessId", "Int64"}, {"InitiatingProcessCommandLine", "String"}, {"InitiatingProcessCreationTime", "DateTime"},
		{"InitiatingProcessFileName", "String"}, {"InitiatingProcessFolderPath", "String"}, {"InitiatingProcessSHA1", "String"},
		{"InitiatingProcessSHA256", "String"}, {"InitiatingProcessMD5", "String"}, {"InitiatingProcessAccountDomain", "String"},
		{"InitiatingProcessAccountName", "String"}, {"InitiatingProcessAccountSid", "String"}, {"InitiatingProcessAccountUpn", "String"},
		{"InitiatingProcessParentId", "Int64"}, {"InitiatingProcessParentCreationTime", "DateTime"}, {"InitiatingProcessParentFileName", "String"},
	}
	switch table {
	case TableEvents:
		return slices.Concat(event, file, process, remote, by)
	case TableProcessEvents:
		return slices.Concat(event, file, process, [][2]string{{"AccountUpn", "String"}}, by)
	case TableFileEvents:
		return slices.Concat(event, file, by)
	case TableNetworkEvents:
		return slices.Concat(event, remote, by)
	}
	return nil
}

// typeOf returns the type of a column of a table; false where the table has none of that name.
func typeOf(table, column string) (string, bool) {
	columns := eventColumns(table)
	at := slices.IndexFunc(columns, func(c [2]string) bool { return c[0] == column })
	if at < 0 {
		return "", false
	}
	return columns[at][1], true
}
