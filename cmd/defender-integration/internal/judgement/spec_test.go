package judgement_test

import (
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// spec is a case as its file has it. What it leaves out is as usual: the Actor ws-01.contoso.com, which the list of machines knows as
// onboarded, active and reporting, in a window from 12:00 to 13:00, asked about when that is over.
type spec struct {
	// Name is a sentence that says what holds; Because why, where that is not plain.
	Name, Because string
	// Only and Except name the APIs through which it is played, or is not, each with the reason.
	Only, Except map[string]string

	// Actor is the Actor of the request, or Actors are.
	Actor  *actorSpec
	Actors []*actorSpec
	// DeviceSource is where devices are looked up, Devices what it tells.
	DeviceSource *word[integrationv1.DeviceSource_Kind] `yaml:"device_source"`
	Devices      []*deviceSpec

	// Window and what follows are the request's.
	Window        windowSpec
	Tolerance     *span
	OnTime        *span `yaml:"on_time"`
	Wait          *span
	MinConfidence word[integrationv1.Confidence] `yaml:"min_confidence"`
	Explain       bool
	// Telemetry asks for what telemetry holds before anyone is missed.
	Telemetry bool

	// Registered is when the integration is registered, Asked when the stream is opened. Default: ten minutes before the window, and
	// when it ends; where only Asked is given, Registered is the same.
	Registered, Asked *moment
	// Alerts are what Defender shows.
	Alerts []*alertSpec
	// AlertsFail and DevicesFail are when Microsoft answers no such call.
	AlertsFail  *windowSpec `yaml:"alerts_fail"`
	DevicesFail *windowSpec `yaml:"devices_fail"`
	// Events are what devices reported, in advanced hunting's tables of events.
	Events []*eventSpec
	// NoTables are tables that the tenant does not have; MayNotHunt says that the application lacks the permission.
	NoTables   []string `yaml:"no_tables"`
	MayNotHunt bool     `yaml:"may_not_hunt"`
	// HuntingFails is when too many calls of advanced hunting are made.
	HuntingFails *windowSpec `yaml:"hunting_fails"`

	// Expect is what must come of the one Actor, ExpectEach of each of several.
	Expect     *want
	ExpectEach map[string]*want `yaml:"expect_each"`
	// Again are later requests with the token of the last event.
	Again []*againSpec
}

// againSpec is a stream that is opened again with the token of its `completed` event.
type againSpec struct {
	At         moment
	Expect     *want
	ExpectEach map[string]*want `yaml:"expect_each"`
}

// windowSpec is a span of time.
type windowSpec struct{ From, To *moment }

// begin and end are the window's.
func (s *spec) begin() time.Time { return s.Window.From.or(at("12:00")) }
func (s *spec) end() time.Time   { return s.Window.To.or(at("13:00")) }

// asked is when the stream is opened.
func (s *spec) asked() time.Time { return s.Asked.or(s.end()) }

// registered is when the integration is registered: ten minutes before the window, so that the reads of each hour do not coincide with the
// closing read.
func (s *spec) registered() time.Time {
	if s.Asked != nil {
		return s.Registered.or(s.Asked.Time)
	}
	return s.Registered.or(s.begin().Add(-10 * time.Minute))
}

// actors are the Actors of the request.
func (s *spec) actors() []*actorSpec {
	switch {
	case len(s.Actors) > 0:
		return s.Actors
	case s.Actor != nil:
		return []*actorSpec{s.Actor}
	}
	return []*actorSpec{{}}
}

// devices are what the device source tells.
func (s *spec) devices() []*deviceSpec {
	if s.Devices == nil {
		return []*deviceSpec{{}}
	}
	return s.Devices
}

// kind is where devices are looked up.
func (s *spec) kind() integrationv1.DeviceSource_Kind {
	if s.DeviceSource == nil {
		return integrationv1.DeviceSource_KIND_MACHINES
	}
	return s.DeviceSource.value
}

// usualName is the name of the Actor and of its device where a case says nothing else.
const usualName = "ws-01.contoso.com"

// actorSpec is an Actor. Where nothing identifies it, it is the usual one.
type actorSpec struct {
	ID         string
	HostName   string   `yaml:"host_name"`
	FQHostName string   `yaml:"fq_host_name"`
	Alternates []string `yaml:"alternate_host_names"`
	Addresses  []string `yaml:"ip_addresses"`
	DeviceID   string   `yaml:"mde_device_id"`
	EntraID    string   `yaml:"entra_device_id"`
	Traces     *tracesSpec
}

// tracesSpec are what the Director knows of the attack.
type tracesSpec struct {
	Processes []processSpec
	Files     []fileSpec
	Users     []string
	Technique []string `yaml:"techniques"`
	Titles    []string
	Remotes   []string `yaml:"remote_addresses"`
}

// deviceSpec is a device, in the device source or in an alert.
type deviceSpec struct {
	// Name is its name in DNS; where there are neither name nor id, the usual one.
	Name *string
	// ID and EntraID are any words: each stands for one id.
	ID          string
	EntraID     string   `yaml:"entra_id"`
	Addresses   []string `yaml:"ip_addresses"`
	LastAddress string   `yaml:"last_ip"`
	External    string   `yaml:"external_ip"`
	Health      string
	Onboarding  string
	FirstSeen   *moment `yaml:"first_seen"`
	LastSeen    *moment `yaml:"last_seen"`
	MergedInto  string  `yaml:"merged_into"`
	Duplicate   bool
	Excluded    bool
	// From and Until bound when the device source tells it like this.
	From, Until *moment
}

// alertSpec is an alert, or a revision of one.
type alertSpec struct {
	// ID is the alert's, ProviderID of no concern.
	ID         string
	Title      string
	Severity   string
	Status     string
	Source     string `yaml:"detection_source"`
	Techniques []string
	// First and Last are its activity, Created when Defender raised it, Updated when it last changed, Visible when it can be read.
	First, Last, Created, Updated, Visible *moment
	// NoActivity says that it tells no activity.
	NoActivity bool `yaml:"no_activity"`
	// Devices are the machines in it; where they are not given, the usual one.
	Devices  []*deviceSpec
	Evidence []*evidenceSpec
	// Then are its later revisions, as they were merged with what went before them.
	Then []*alertSpec
}

// evidenceSpec is a piece of evidence: one of a process, a file, a user, an address, a URL or a registry value, or Graph's JSON.
type evidenceSpec struct {
	Process  *processSpec
	File     *fileSpec
	User     *userSpec
	IP       string
	URL      string
	Registry string
	JSON     string
	// Detection, Remediation and Verdict are Microsoft's words; Added is when it was added to the alert, On the device that it is on.
	Detection, Remediation, Verdict string
	Added                           *moment
	On                              string
}

// processSpec is a process, of the traces or of the evidence.
type processSpec struct {
	ID            int64
	Started       *moment
	Parent        int64
	ParentStarted *moment `yaml:"parent_started"`
	CommandLine   string  `yaml:"command_line"`
	Image         fileSpec
	ParentImage   fileSpec `yaml:"parent_image"`
	User          userSpec
}

// fileSpec is a file. Traces name its Path, its folder and its name in one; Defender's evidence the Folder and the Name. Its hashes
// are any words: each stands for one hash.
type fileSpec struct {
	Name, Folder, Path string
	SHA1, SHA256, MD5  string
}

// userSpec is an account.
type userSpec struct{ Account, Domain, SID, Principal string }

var hexadecimal = regexp.MustCompile(`^[0-9a-fA-F]+$`)

// hashOf returns the hash that a word stands for, or the word where it is one itself.
func hashOf(word string, size int) string {
	if word == "" || hexadecimal.MatchString(word) && len(word) == size {
		return word
	}
	switch size {
	case 2 * md5.Size:
		sum := md5.Sum([]byte(word))
		return hex.EncodeToString(sum[:])
	case 2 * sha1.Size:
		sum := sha1.Sum([]byte(word))
		return hex.EncodeToString(sum[:])
	}
	sum := sha256.Sum256([]byte(word))
	return hex.EncodeToString(sum[:])
}

// deviceID returns the Defender device id that a word stands for.
func deviceID(word string) string {
	if hexadecimal.MatchString(word) && len(word) == 2*sha1.Size || word == "" {
		return word
	}
	return defendertest.DeviceID(word)
}

var guidForm = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// entraID returns the Entra id that a word stands for.
func entraID(word string) string {
	if word == "" || guidForm.MatchString(word) {
		return word
	}
	sum := hashOf(word, 2*sha1.Size)
	return fmt.Sprintf("%s-%s-%s-%s-%s", sum[:8], sum[8:12], sum[12:16], sum[16:20], sum[20:32])
}

// id is the device's id in Defender.
func (d *deviceSpec) id() string { return deviceID(cmp.Or(d.ID, d.name())) }

// name is the device's name, the usual one where it is not told.
func (d *deviceSpec) name() string {
	if d.Name != nil {
		return *d.Name
	}
	if d.ID != "" {
		return ""
	}
	return usualName
}

// devices are the machines in an alert.
func (a *alertSpec) devices() []*deviceSpec {
	if a.Devices == nil {
		return []*deviceSpec{{}}
	}
	return a.Devices
}

// updated is when the alert last changed.
func (a *alertSpec) updated() time.Time { return a.Updated.or(a.created()) }

// created is when Defender raised it: two minutes after its activity, where that is not told.
func (a *alertSpec) created() time.Time {
	return a.Created.or(a.last().Add(2 * time.Minute))
}

func (a *alertSpec) first() time.Time {
	if a.First == nil && a.Last != nil {
		return a.Last.Time
	}
	return a.First.or(at("12:10"))
}

func (a *alertSpec) last() time.Time { return a.Last.or(a.first()) }

// visible is when it can be read.
func (a *alertSpec) visible() time.Time { return a.Visible.or(a.updated()) }

// id is the alert's id.
func (a *alertSpec) id() string { return cmp.Or(a.ID, "alert") }
