package defendertest

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// The tables of events that are played (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-schema-tables).
const (
	TableEvents        = "DeviceEvents"
	TableProcessEvents = "DeviceProcessEvents"
	TableFileEvents    = "DeviceFileEvents"
	TableNetworkEvents = "DeviceNetworkEvents"
)

// Event is a row of one of advanced hunting's tables of events.
type Event struct {
	// Table is where it stands. Default: [TableEvents].
	Table string
	// Action is the ActionType, such as ProcessCreated or AsrOfficeChildProcessBlocked.
	Action string
	// Time is when it happened, by the device's clock. Default: now.
	Time time.Time
	// DNSName is the device's full name, DeviceID its id. Default of DeviceID: the one that a device of that name has.
	DNSName, DeviceID string
	// File is what it is about: a file, or the image of a process. Process is that process, without its parent.
	File    EventFile
	Process EventProcess
	// By is the process that did it.
	By EventProcess
	// RemoteIP and RemoteURL are what was spoken to.
	RemoteIP, RemoteURL string
	// AdditionalFields is a JSON object, as text.
	AdditionalFields string
}

// EventFile is a file in an event.
type EventFile struct {
	// Name is its name, Folder its folder, mostly with the name.
	Name, Folder string
	// Its hashes, hexadecimal.
	SHA1, SHA256, MD5 string
}

// EventProcess is a process in an event.
type EventProcess struct {
	// ID and Created name it.
	ID      int64
	Created time.Time
	// CommandLine is its command line, User the account that it runs under.
	CommandLine string
	User        User
	// Image is its file, where it is not told as the event's own.
	Image EventFile
	// ParentID, ParentCreated and ParentName name its parent.
	ParentID      int64
	ParentCreated time.Time
	ParentName    string
}

// PutEvent adds a row to a table, and returns it with everything filled in.
func (t *Tenant) PutEvent(e Event) Event {
	e.Table = cmp.Or(e.Table, TableEvents)
	if e.Time.IsZero() {
		e.Time = t.server.Now()
	}
	e.Time = ticks(e.Time)
	if e.DeviceID == "" && e.DNSName != "" {
		e.DeviceID = DeviceID(e.DNSName)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	return e
}

// RemoveTable takes a table of advanced hunting out of the tenant, as where what fills it is not licensed: a query that names it is
// refused as wrong.
func (t *Tenant) RemoveTable(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noTables = append(t.noTables, name)
}

// firstMissing returns the first of the tables that the tenant does not have; empty where it has all.
func (t *Tenant) firstMissing(names ...string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		if slices.Contains(t.noTables, name) {
			return name
		}
	}
	return ""
}

// cell returns an event's value in a column: a string, an int64 or a time, nil where it is null.
func (e *Event) cell(column string) any {
	if of, ok := strings.CutPrefix(column, "InitiatingProcess"); ok {
		return e.By.cell(of)
	}
	switch column {
	case "Timestamp":
		return e.Time
	case "DeviceId":
		return e.DeviceID
	case "DeviceName":
		return e.DNSName
	case "ActionType":
		return e.Action
	case "RemoteIP":
		return e.RemoteIP
	case "RemoteUrl":
		return e.RemoteURL
	case "AdditionalFields":
		return e.AdditionalFields
	case "ReportId":
		return e.Time.UnixNano() / 100 % 1_000_000
	case "ProcessId":
		return e.Process.cell("Id")
	case "ProcessCommandLine":
		return e.Process.cell("CommandLine")
	case "ProcessCreationTime":
		return e.Process.cell("CreationTime")
	}
	if strings.HasPrefix(column, "Account") {
		return e.Process.cell(column)
	}
	return e.File.cell(column)
}

// cell returns a process's value in a column whose name has no InitiatingProcess before it.
func (p *EventProcess) cell(column string) any {
	number := func(n int64) any {
		if n == 0 {
			return nil
		}
		return n
	}
	instant := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return ticks(t)
	}
	switch column {
	case "Id":
		return number(p.ID)
	case "CreationTime":
		return instant(p.Created)
	case "CommandLine":
		return p.CommandLine
	case "AccountName":
		return p.User.Account
	case "AccountDomain":
		return p.User.Domain
	case "AccountSid":
		return p.User.SID
	case "AccountUpn":
		return p.User.Principal
	case "ParentId":
		return number(p.ParentID)
	case "ParentCreationTime":
		return instant(p.ParentCreated)
	case "ParentFileName":
		return p.ParentName
	}
	return p.Image.cell(column)
}

// cell returns a file's value in a column; empty where it has none of that name.
func (f *EventFile) cell(column string) any {
	return map[string]string{"FileName": f.Name, "FolderPath": f.Folder, "SHA1": f.SHA1, "SHA256": f.SHA256, "MD5": f.MD5}[column]
}

// RemoveEvents empties the tables of events.
func (t *Tenant) RemoveEvents() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = nil
}

// HuntingCalls returns the calls of advanced hunting in the tenant, in the order in which they came.
func (t *Tenant) HuntingCalls() []Call {
	return slices.DeleteFunc(t.server.Calls(OnRoute(RouteHunting)), func(c Call) bool { return c.Tenant != t.id })
}
