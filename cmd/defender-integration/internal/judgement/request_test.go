package judgement_test

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// request is what the Director asks for.
func (s *spec) request(integrationID string) *integrationv1.StreamAlertsRequest {
	r := &integrationv1.StreamAlertsRequest{
		IntegrationId: integrationID, Reference: s.Name,
		Window:        &integrationv1.Window{StartTime: timestamppb.New(s.begin()), EndTime: timestamppb.New(s.end())},
		MinConfidence: s.MinConfidence.value, Explain: s.Explain, Telemetry: s.Telemetry,
		Tolerance: s.Tolerance.message(), OnTime: s.OnTime.message(), Wait: s.Wait.message(), IncludeRaw: true,
	}
	for _, a := range s.actors() {
		r.Actors = append(r.Actors, a.message())
	}
	return r
}

func (s *span) message() *durationpb.Duration {
	if s == nil {
		return nil
	}
	return durationpb.New(s.Duration)
}

func (m *moment) message() *timestamppb.Timestamp {
	if m == nil {
		return nil
	}
	return timestamppb.New(m.Time)
}

// id is the Actor's id in the request.
func (a *actorSpec) id() string {
	if a.ID == "" {
		return "actor"
	}
	return a.ID
}

// message is the Actor.
func (a *actorSpec) message() *integrationv1.Actor {
	actor := &integrationv1.Actor{
		ActorId: a.id(), HostName: a.HostName, FqHostName: a.FQHostName, AlternateHostNames: a.Alternates,
		IpAddresses: a.Addresses, MdeDeviceId: deviceID(a.DeviceID), EntraDeviceId: entraID(a.EntraID),
	}
	if a.HostName == "" && a.FQHostName == "" && len(a.Alternates) == 0 && len(a.Addresses) == 0 && a.DeviceID == "" && a.EntraID == "" {
		actor.FqHostName = usualName
	}
	if t := a.Traces; t != nil {
		actor.Traces = &integrationv1.Traces{Users: t.Users, MitreTechniques: t.Technique, ExpectedTitles: t.Titles, RemoteAddresses: t.Remotes}
		for i := range t.Processes {
			actor.Traces.Processes = append(actor.Traces.Processes, t.Processes[i].trace())
		}
		for _, file := range t.Files {
			actor.Traces.Files = append(actor.Traces.Files, file.trace())
		}
	}
	return actor
}

func (p *processSpec) trace() *integrationv1.ProcessTrace {
	return &integrationv1.ProcessTrace{
		ProcessId: p.ID, ProcessCreationTime: p.Started.message(), ParentProcessId: p.Parent,
		ParentProcessCreationTime: p.ParentStarted.message(), CommandLine: p.CommandLine, ImageFile: p.Image.trace(),
	}
}

func (f fileSpec) trace() *integrationv1.FileTrace {
	if f == (fileSpec{}) {
		return nil
	}
	return &integrationv1.FileTrace{
		FileName: f.Name, FilePath: f.Path,
		Md5: hashOf(f.MD5, 2*md5.Size), Sha1: hashOf(f.SHA1, 2*sha1.Size), Sha256: hashOf(f.SHA256, 2*sha256.Size),
	}
}

// deadline is until when a stream of a case must be complete.
func deadline(opened time.Time) time.Time { return opened.Add(10 * 24 * time.Hour) }
