package hunting

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// FuzzTracesQuery holds that nothing that a caller gives, and nothing that Defender told of a device, changes anything of a search but
// the values of its lists; that the simulated Microsoft's reader, which shares no code with what writes them, reads exactly those that
// were let in; and that a hostile text among them keeps no other from being asked for.
func FuzzTracesQuery(f *testing.F) {
	f.Add("0a1b", "ws-01.contoso.test", "ws-01", attackLine, "evil.exe", broughtPath, attackSHA1, remoteIPv4, "alex", "T1059", int64(4711), int64(0))
	for _, hostile := range []string{
		`") or true //`, `"]); DeviceInfo //`, "\\", `\"`, "a\n| take 1", "a\r\nb", "\x00", "\xff\xfe", "ж\u2028x", `'; drop`, "x\\\") | take 1", "```",
		`@"x`, "ſK", "\u202etxt.exe", "", " ", "9999999999999999999", "]);\nlet Blocking = dynamic([\"x\"", "datetime(2026)", `cmd /c "x") | union DeviceInfo"`,
	} {
		f.Add(hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile, int64(-1), int64(1<<62))
		f.Add("0a1b", "ws-01.contoso.test"+hostile, hostile+"ws-01", "cmd.exe /c "+hostile, hostile+".exe", `C:\`+hostile, attackMD5, "::1%"+hostile, hostile, hostile, int64(1), int64(1700000000))
	}
	tables, blocking := eventTables(), blockingActions(controlsByAction())
	since, through := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC), time.Date(2026, 11, 20, 11, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, id, full, short, line, name, path, hash, ip, user, title string, pid, created int64) {
		given := &defender.TelemetryQuestion{
			Since: since, Through: through, FullNames: []string{full, "ordinary.contoso.test"}, ShortNames: []string{short}, DeviceIDs: []string{id},
			Traces: &integrationv1.Traces{
				Processes: []*integrationv1.ProcessTrace{
					{
						ProcessId: pid, ProcessCreationTime: &timestamppb.Timestamp{Seconds: created}, ParentProcessId: pid,
						ParentProcessCreationTime: &timestamppb.Timestamp{Seconds: created}, CommandLine: line,
						ImageFile: &integrationv1.FileTrace{FileName: name, FilePath: path, Sha1: hash, Sha256: hash, Md5: hash},
					},
					{CommandLine: path + " " + line}, {CommandLine: line + " " + name},
				},
				Files:           []*integrationv1.FileTrace{{FilePath: path}, {FileName: name, Sha256: hash}, {FileName: "ordinary.exe", Sha1: attackSHA1}},
				RemoteAddresses: []string{ip, remoteIPv4}, Users: []string{user}, MitreTechniques: []string{title}, ExpectedTitles: []string{title},
			},
		}
		q := newQuestion(given, through)
		if q.problem != nil {
			t.Fatalf("there are ordinary values, and the question has the problem %v", q.problem)
		}
		values := valuesOfAll([]*question{q})
		query := tracesQuery(tables, blocking, values, q.since, q.through)
		want := map[string][]string{blockingList: blocking}
		harmless := make([]value, len(values))
		for i, v := range values {
			want[v.kind.list()] = append(want[v.kind.list()], v.text)
			harmless[i] = value{v.kind, "1"}
		}
		got, shape, err := defendertest.HuntingValues(query)
		if err != nil {
			t.Fatalf("the query cannot be read: %v\n%s", err, query)
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("values are read as\n%q\nwant\n%q", got, want)
		}
		_, ordinary, err := defendertest.HuntingValues(tracesQuery(tables, blocking, harmless, since, through))
		if err != nil || shape != ordinary {
			t.Errorf("the query is of the form\n%s\nwhere an ordinary one is of\n%s\nerror %v", shape, ordinary, err)
		}
		around, literals := tokensOf(t, query)
		if strings.Contains(query, "\n\n") || !utf8.ValidString(query) || strings.Count(around, "\n") != len(want)+6*len(tables) {
			t.Errorf("the query has blank lines, or others than its own:\n%s", query)
		}
		for _, text := range []string{"ordinary.exe", attackSHA1, remoteIPv4} {
			if !slices.Contains(literals, text) {
				t.Errorf("%s is not asked for", text)
			}
		}
		for _, row := range []*event{{}, {file: file{name: name, folder: path}, line: line, byLine: line, account: rowAccount{name: user}}} {
			_, _ = q.attack.fits(row, true) // It must not panic.
		}
	})
}

// FuzzEvent holds that whatever an answer's row is, reading it does no harm, and what comes of it fits its bounds.
func FuzzEvent(f *testing.F) {
	for _, raw := range []string{
		`{"SourceTable":"DeviceEvents","Timestamp":"2026-11-20T10:00:00.1234567Z","ProcessId@odata.type":"#Int64","ProcessId":4711,"AdditionalFields":"{\"IsAudit\":\"true\"}"}`,
		`{"Timestamp":{},"ProcessId":null,"AdditionalFields":{"WasRemediated":1,"WasExecutingWhileDetected":false}}`, `[]`, `null`, `{"FileName":{"a":[]},"RemoteIP":"::ffff:1.2.3.4"}`,
		`{"ProcessCommandLine":"\"C:\\a b\\c.exe\" \"x","FolderPath":"/tmp/","FileName":"/"}`, "{\"FileName\":\"\xff\"}",
	} {
		f.Add([]byte(raw))
	}
	traces := newAttack(&integrationv1.Traces{
		Processes:       []*integrationv1.ProcessTrace{{ProcessId: attackID, ProcessCreationTime: timestamppb.New(began), CommandLine: attackLine}},
		Files:           []*integrationv1.FileTrace{{FilePath: broughtPath, FileName: "a"}},
		RemoteAddresses: []string{"1.2.3.4"}, Users: []string{"alex"},
	})
	d, actions := newEventDecoder(), controlsByAction()
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := d.decode(raw)
		if err != nil {
			return
		}
		by := actions[e.action]
		blocked := e.stopped(by)
		if blocked && (by.name == "" || strings.HasSuffix(e.action, "Audited")) {
			t.Errorf("%q is a block of %q", e.action, by.name)
		}
		found, _ := traces.fits(e, blocked)
		row := newRow(e, by, blocked, found, raw)
		if len(row.GetRowJson()) > maxRow || len(row.GetDefenderValue()) > maxTold || !utf8.ValidString(row.GetRowJson()) || !utf8.ValidString(row.GetDefenderValue()) {
			t.Errorf("the row is told in %d bytes, its value in %d", len(row.GetRowJson()), len(row.GetDefenderValue()))
		}
	})
}
