package hunting

import (
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
)

// event is a row of one of the tables of events, as far as it is compared.
type event struct {
	table, action string
	// at is when it happened, by the device's clock; zero where that cannot be read.
	at                 time.Time
	deviceID, device   string
	file, image        file
	process, by        process
	parent             process
	line, byLine       string
	account, byAccount rowAccount
	remote             []netip.Addr
	details            details
}

// file names a file in a row: that which the event is about, or the image of the process that did it.
type file struct{ name, folder, sha1, sha256, md5 string }

// process names a process: the one that the event is about, the one that did it (by), or the parent of that.
type process struct {
	id int64
	// created is when it was created; zero where that is not known.
	created time.Time
}

// rowAccount is an account as a row names it.
type rowAccount struct{ domain, name, sid, upn string }

// told is what a row says of a truth value.
type told int

const (
	unsaid told = iota
	no
	yes
)

// details are what the controls tell in AdditionalFields. None of its members is documented; they are seen in public queries.
type details struct {
	// audit says that nothing was blocked.
	audit told
	// remediated and executing are antivirus's: the threat was dealt with, and it ran when it was detected.
	remediated, executing told
	reportSource          string
	// childLine is the command line of a process that was to be started.
	childLine string
}

// rawEvent is an event while it is read, with its times as they are read.
type rawEvent struct {
	event

	at, created, byCreated, parentCreated *timestamppb.Timestamp
}

// eventDecoder reads rows of the tables of events. It is not safe for concurrent use.
type eventDecoder struct {
	fields, details lenient.Fields[*rawEvent]
	row             lenient.Document
	// inner is the JSON inside a cell of text.
	inner lenient.Document
}

// newEventDecoder returns a decoder. Columns come in the case in which the query names them, and are taken in any.
func newEventDecoder() *eventDecoder {
	d := &eventDecoder{row: lenient.Document{IgnoreCase: true}, inner: lenient.Document{IgnoreCase: true}}
	d.fields = lenient.IgnoringCase(d.columns())
	d.details = lenient.IgnoringCase(detailFields())
	return d
}

// decode reads a row. The error is of its syntax: what cannot be read leaves its field empty, and then fits nothing. It shares nothing
// with raw.
func (d *eventDecoder) decode(raw []byte) (*event, error) {
	if err := d.row.Parse(raw); err != nil {
		return nil, err
	}
	e := &rawEvent{}
	if row := d.row.Root(); row.IsObject() {
		lenient.ReadObject(row, d.fields, e, passOver)
	}
	e.event.at, e.process.created = timeOf(e.at), timeOf(e.created)
	e.by.created, e.parent.created = timeOf(e.byCreated), timeOf(e.parentCreated)
	return &e.event, nil
}

// timeOf returns a time; zero where there is none.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// columns are the columns that are compared. See [decoder.columns] for how an answer writes what is null.
func (d *eventDecoder) columns() lenient.Fields[*rawEvent] {
	type row = *rawEvent
	text, number, instant := lenient.Text[row], lenient.Int[row], lenient.Time[row]
	return lenient.Fields[row]{
		"SourceTable": text(func(e row) *string { return &e.table }),
		"Timestamp":   instant(func(e row) **timestamppb.Timestamp { return &e.at }),
		"DeviceId":    text(func(e row) *string { return &e.deviceID }),
		"DeviceName":  text(func(e row) *string { return &e.device }),
		"ActionType":  text(func(e row) *string { return &e.action }),

		"FileName":   text(func(e row) *string { return &e.file.name }),
		"FolderPath": text(func(e row) *string { return &e.file.folder }),
		"SHA1":       text(func(e row) *string { return &e.file.sha1 }),
		"SHA256":     text(func(e row) *string { return &e.file.sha256 }),
		"MD5":        text(func(e row) *string { return &e.file.md5 }),

		"ProcessId":           number(func(e row) *int64 { return &e.process.id }),
		"ProcessCommandLine":  text(func(e row) *string { return &e.line }),
		"ProcessCreationTime": instant(func(e row) **timestamppb.Timestamp { return &e.created }),
		"AccountDomain":       text(func(e row) *string { return &e.account.domain }),
		"AccountName":         text(func(e row) *string { return &e.account.name }),
		"AccountSid":          text(func(e row) *string { return &e.account.sid }),
		"AccountUpn":          text(func(e row) *string { return &e.account.upn }),

		"RemoteIP": remoteAddress,

		"InitiatingProcessId":                 number(func(e row) *int64 { return &e.by.id }),
		"InitiatingProcessCommandLine":        text(func(e row) *string { return &e.byLine }),
		"InitiatingProcessCreationTime":       instant(func(e row) **timestamppb.Timestamp { return &e.byCreated }),
		"InitiatingProcessFileName":           text(func(e row) *string { return &e.image.name }),
		"InitiatingProcessFolderPath":         text(func(e row) *string { return &e.image.folder }),
		"InitiatingProcessSHA1":               text(func(e row) *string { return &e.image.sha1 }),
		"InitiatingProcessSHA256":             text(func(e row) *string { return &e.image.sha256 }),
		"InitiatingProcessMD5":                text(func(e row) *string { return &e.image.md5 }),
		"InitiatingProcessAccountDomain":      text(func(e row) *string { return &e.byAccount.domain }),
		"InitiatingProcessAccountName":        text(func(e row) *string { return &e.byAccount.name }),
		"InitiatingProcessAccountSid":         text(func(e row) *string { return &e.byAccount.sid }),
		"InitiatingProcessAccountUpn":         text(func(e row) *string { return &e.byAccount.upn }),
		"InitiatingProcessParentId":           number(func(e row) *int64 { return &e.parent.id }),
		"InitiatingProcessParentCreationTime": instant(func(e row) **timestamppb.Timestamp { return &e.parentCreated }),

		"AdditionalFields": d.additional,
	}
}

// additional reads AdditionalFields: an object of JSON as text, as the table keeps it, or as it is.
func (d *eventDecoder) additional(v lenient.Value, e *rawEvent) {
	if v.IsObject() {
		lenient.ReadObject(v, d.details, e, passOver)
		return
	}
	cell := v.Text()
	if cell == "" || d.inner.Parse([]byte(cell)) != nil {
		return
	}
	if inner := d.inner.Root(); inner.IsObject() {
		lenient.ReadObject(inner, d.details, e, passOver)
	}
}

// detailFields are the members of AdditionalFields that are read.
func detailFields() lenient.Fields[*rawEvent] {
	type row = *rawEvent
	return lenient.Fields[row]{
		"IsAudit":                   truthTold(func(e row) *told { return &e.details.audit }),
		"WasRemediated":             truthTold(func(e row) *told { return &e.details.remediated }),
		"WasExecutingWhileDetected": truthTold(func(e row) *told { return &e.details.executing }),
		"ReportSource":              lenient.Text(func(e row) *string { return &e.details.reportSource }),
		"ChildCommandLine":          lenient.Text(func(e row) *string { return &e.details.childLine }),
		"RemoteAddress":             remoteAddress,
	}
}

// truthTold is the field of a truth value, which comes as one, as a number or as a text.
func truthTold(at func(*rawEvent) *told) lenient.Field[*rawEvent] {
	read := lenient.OptionalBool(func(truth **bool) **bool { return truth })
	return func(v lenient.Value, e *rawEvent) {
		var truth *bool
		read(v, &truth)
		switch text := v.Text(); {
		case truth != nil && *truth, text == "1":
			*at(e) = yes
		case truth != nil, text == "0":
			*at(e) = no
		}
	}
}

// remoteAddress reads an address that was spoken to.
func remoteAddress(v lenient.Value, e *rawEvent) {
	if address, ok := addressOf(v.Text()); ok {
		e.remote = append(e.remote, address)
	}
}

// addressOf reads an address in the form that is compared: an IPv4 address in IPv6's clothes as itself, without a zone.
func addressOf(given string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(strings.TrimSpace(given))
	if err != nil {
		return netip.Addr{}, false
	}
	return address.Unmap().WithZone(""), true
}
