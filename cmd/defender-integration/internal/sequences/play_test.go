package sequences_test

import (
	"errors"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxDirectors bounds how many streams a sequence has.
const maxDirectors = 6

// play is a sequence that is played. One goroutine plays it.
type play struct {
	*house
	script    script
	directors []*director
	alerts    int
	paused    bool
	// fixed are the devices whose names stay, since they are merged.
	fixed map[int]bool
	// proofs are what was found out of pairs.
	proofs map[proofKey]proven
	// damaged are the identities whose journal was damaged.
	damaged map[string]bool
}

// playScript plays a sequence in a house that was not started yet, and returns what was wrong.
func playScript(s script, h *house) (wrong []string) {
	p := &play{house: h, script: s, fixed: map[int]bool{}, damaged: map[string]bool{}}
	p.settings = h.pace.settings(s.retention)
	p.microsoft = &microsoft{pace: h.pace, skew: h.pace.of(s.skew), alerts: map[string][]showing{}, returned: map[content]bool{}}
	p.witness = &witness{logs: map[string]*log{}}
	defer func() {
		for _, d := range p.directors {
			d.cut()
		}
		if h.life != nil {
			if err := h.kill(); err != nil {
				wrong = append(wrong, fmt.Sprintf("the store does not close: %v", err))
			}
		}
	}()
	if err := errors.Join(p.start(), p.register()); err != nil {
		return []string{err.Error()}
	}
	for _, one := range s.steps {
		if err := p.step(one); err != nil {
			return []string{fmt.Sprintf("%v: %v", one, err)}
		}
		if err := p.quiet(); err != nil {
			return []string{err.Error()}
		}
	}
	return p.finish()
}

// quiet waits, in fake time, until nothing more happens at this instant, and starts the process again where it was killed.
func (p *play) quiet() error {
	for {
		if p.pace.fake {
			synctest.Wait()
		}
		select {
		case <-p.life.dead:
			if err := p.restart(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// restart ends the process, if it still lives, and starts another.
func (p *play) restart() error {
	return errors.Join(p.kill(), p.start())
}

// pass lets time pass. A process that is killed meanwhile is started again.
func (p *play) pass(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-p.life.dead:
			if err := p.restart(); err != nil {
				return err
			}
		}
	}
}

// ago returns a time some seconds ago, as Microsoft tells times: in steps of 100 ns, by its own clock.
func (p *play) ago(seconds int) time.Time {
	return time.Now().Add(p.microsoft.skew).Add(-p.pace.of(seconds)).Truncate(100 * time.Nanosecond)
}

func (p *play) in(seconds int) time.Time { return time.Now().Add(p.pace.of(seconds)) }

// longer returns seconds as they are in fake time, and few in real time.
func (p *play) longer(seconds int) int {
	if p.pace.fake {
		return seconds
	}
	return min(seconds, 120)
}

// step makes one step.
func (p *play) step(s step) error {
	m := p.microsoft
	switch s.op {
	case opAppear:
		p.alerts++
		at := p.ago(s.pick(0, 0, 0, 0, 5, 60, 240, 1800, 3*3600, 20*3600))
		alert := aboutDevice(collectortest.Alert(fmt.Sprint("a", p.alerts), "", "", at), s.of(1, devices), s.of(2, 4))
		alert.Title = "1"
		m.show(showing{alert: alert, hash: hashOf(alert)}, s.pick(3, 0, 0, 0, 0, 10, 200, 900, 3600))
	case opChange:
		versions := p.versions(s)
		if len(versions) == 0 {
			return nil
		}
		last := versions[len(versions)-1]
		alert := proto.CloneOf(last.alert)
		alert.Title = fmt.Sprint(len(versions) + 1)
		switch s.of(1, 4) {
		case 0: // with the same last update
		case 1: // with one that may be earlier
			alert.LastUpdateTime = timestamppb.New(p.ago(s.pick(2, 5, 60, 1800)))
		default:
			alert.LastUpdateTime = timestamppb.New(p.ago(0))
		}
		if s.of(3, 5) == 0 {
			alert = aboutDevice(alert, s.of(2, devices), s.of(2, 4))
		}
		m.show(showing{alert: alert, hash: hashOf(alert)}, s.pick(4, 0, 0, 0, 0, 10, 200, 3600))
	case opAgain:
		versions := p.versions(s)
		if len(versions) == 0 {
			return nil
		}
		earlier := versions[s.of(1, len(versions))]
		m.show(showing{alert: earlier.alert, hash: earlier.hash, words: byte(s.of(3, 3))}, s.pick(2, 0, 0, 30))
	case opDevice, opRename, opMerge, opGone, opIll:
		p.device(s)
	case opFail, opThrottle, opFailDevices, opBreak, opSlow:
		p.trouble(s)
	case opAppend:
		p.witness.set(func(f *faults) { f.append, f.stored = true, s.of(0, 4) })
	case opCheckpoint:
		p.witness.set(func(f *faults) { f.checkpoint, f.saved = true, s.of(0, 2) == 0 })
	case opTrim:
		p.witness.set(func(f *faults) { f.trim = true })
	case opUnavailable:
		p.witness.set(func(f *faults) { f.unavailable = p.in(s.pick(0, 1, 20, 100)) })
	case opKill:
		if err := p.kill(); err != nil {
			return err
		}
		if s.of(0, 2) == 0 {
			time.Sleep(p.pace.of(p.longer(s.pick(1, 1, 30, 600, 3*3600))))
		}
		return p.start()
	case opKillWriting:
		p.witness.set(func(f *faults) { f.crash, f.crashAfter = 1+s.of(0, 6), s.of(1, 2) == 0 })
	case opOpen:
		if len(p.directors) < maxDirectors {
			p.open(s)
		}
	case opCut, opCutAfter, opResume:
		p.direct(s)
	case opPause:
		p.paused = !p.paused
		return p.update(func(i *integrationv1.Integration) { i.Paused = p.paused })
	case opUpdate:
		return p.update(func(i *integrationv1.Integration) { i.DisplayName = fmt.Sprint("Contoso ", s.n[0]) })
	case opDamage:
		p.damage(s)
	case opPass:
		return p.pass(p.pace.of(p.longer(s.pick(0, 1, 1, 2, 5, 10, 30, 31, 60, 61, 120, 300, 301, 600, 1800))))
	case opHours:
		return p.pass(p.pace.of(p.longer(s.pick(0, 2*3600, 4*3600))))
	}
	return nil
}

// versions returns the versions of the alert that a step is about.
func (p *play) versions(s step) []showing {
	if p.alerts == 0 {
		return nil
	}
	p.microsoft.mu.Lock()
	defer p.microsoft.mu.Unlock()
	return p.microsoft.alerts[fmt.Sprint("a", 1+s.of(0, p.alerts))]
}

// The devices of a sequence: their number, the names that they may have, and what of them evidence tells.
const devices = 4

func deviceID(n int) string { return fmt.Sprintf("%040x", n+0xd0) }

func deviceName(n int) string {
	return []string{"ws-0.contoso.test", "ws-1.contoso.test", "ws-2.contoso.test", "ws-0.fabrikam.test", "other.contoso.test"}[n]
}

const names = 5

// aboutDevice makes an alert one about a device: by its id, by the name that it has at first, or by both.
func aboutDevice(alert *integrationv1.Alert, device, how int) *integrationv1.Alert {
	id, name := deviceID(device), deviceName(device)
	switch how {
	case 0:
		id = ""
	case 1:
	default:
		name = ""
	}
	evidence := alert.GetEvidence()
	evidence[0].GetDevice().MdeDeviceId, evidence[0].GetDevice().DeviceDnsName = id, name
	evidence[1].GetFile().MdeDeviceId = id
	return alert
}

// device changes what is told of a device.
func (p *play) device(s step) {
	n := s.of(0, devices)
	id := deviceID(n)
	switch s.op {
	case opDevice:
		p.microsoft.changeDevice(id, func(d *integrationv1.Device) *integrationv1.Device {
			if d != nil {
				d.LastSeenTime = timestamppb.New(p.ago(0))
				return d
			}
			name := n
			if s.of(1, 3) == 0 && !p.fixed[n] {
				name = s.of(2, names)
			}
			return collectortest.Device(id, deviceName(name), p.ago(s.pick(3, 0, 0, 3600, 72*3600)))
		})
	case opRename:
		p.microsoft.changeDevice(id, func(d *integrationv1.Device) *integrationv1.Device {
			if d != nil && !p.fixed[n] {
				d.DeviceDnsName = deviceName(s.of(1, names))
			}
			return d
		})
	case opMerge:
		// Of a device that changes its name and is merged, too, what it is depends on what the stream learned of it.
		into := s.of(1, devices)
		p.microsoft.changeDevice(id, func(d *integrationv1.Device) *integrationv1.Device {
			if d != nil && into != n {
				p.fixed[n], p.fixed[into] = true, true
				d.MergedIntoDeviceId = deviceID(into)
			}
			return d
		})
	case opGone:
		p.microsoft.changeDevice(id, func(*integrationv1.Device) *integrationv1.Device { return nil })
	case opIll:
		p.microsoft.changeDevice(id, func(d *integrationv1.Device) *integrationv1.Device {
			if d != nil {
				ill := d.GetHealthStatus() == integrationv1.HealthStatus_HEALTH_STATUS_INACTIVE
				d.HealthStatus = integrationv1.HealthStatus_HEALTH_STATUS_INACTIVE
				if ill {
					d.HealthStatus = integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE
				}
			}
			return d
		})
	}
}

// trouble makes Microsoft fail.
func (p *play) trouble(s step) {
	m := p.microsoft
	m.mu.Lock()
	defer m.mu.Unlock()
	until := p.in(s.pick(0, 1, 35, 120, 600))
	switch s.op {
	case opFail:
		m.trouble.until, m.trouble.err = until, func() error { return errors.New("Microsoft fails") }
	case opFailDevices:
		m.trouble.devicesUntil, m.trouble.err = until, func() error { return errors.New("Microsoft tells no devices") }
	case opThrottle:
		// What Microsoft said holds, also when all is well again: not for longer than a sequence settles.
		until = p.in(s.pick(0, 1, 35, 120))
		m.trouble.until, m.trouble.err = until, func() error {
			problem := &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, Message: "Too many calls."}
			return &defender.Error{Problem: problem, RetryAt: until}
		}
	case opBreak, opSlow:
		m.trouble.breakNext, m.trouble.breakAfter, m.trouble.breakFails = true, s.of(0, 4), s.op == opBreak
		m.trouble.pause = p.pace.of(s.pick(1, 0, 1, 10, 90))
	}
}

// damage makes an entry of the journal unreadable, or cuts its end off.
func (p *play) damage(s step) {
	log := p.witness.current()
	if log == nil || log.last() == 0 || p.damaged[log.identity] {
		return
	}
	p.damaged[log.identity] = true
	first := log.first(time.Now())
	if log.last() < first {
		return
	}
	sequence := first + uint64(s.of(0, int(log.last()-first+1)))
	if s.of(1, 2) == 0 {
		p.memory.Damage(journalUID, sequence)
	} else {
		p.memory.Cut(journalUID, sequence)
	}
}

// open opens a stream: for every device or for Actors, with a window or without, with an end or without.
func (p *play) open(s step) {
	request := &integrationv1.StreamAlertsRequest{IntegrationId: integrationID, Actors: actorsOf(s)}
	name := fmt.Sprint("stream ", len(p.directors))
	if kind := s.of(1, 3); kind > 0 {
		start := p.ago(s.pick(2, 0, 60, 600, 1800, 2*3600))
		request.Window = &integrationv1.Window{StartTime: timestamppb.New(start)}
		if kind == 2 {
			request.Window.EndTime = timestamppb.New(start.Add(p.pace.of(s.pick(3, 1, 60, 300, 900))))
			request.Wait = durationpb.New(p.pace.of(s.pick(4, 0, 30, 300, 900)))
		}
	}
	request.Tolerance = durationpb.New(p.pace.of(s.pick(3, 0, 300, 300)))
	if request.Explain = s.of(4, 3) > 0; request.GetExplain() {
		for _, a := range request.GetActors() {
			a.Traces = &integrationv1.Traces{ExpectedTitles: []string{"1"}} // As some versions of an alert have, and others do not.
		}
	}
	d := &director{house: p.house, request: request, name: name}
	p.directors = append(p.directors, d)
	d.resume(0)
	if s.of(0, 3) == 0 && len(p.directors) < maxDirectors {
		// Another that is never cut: both must say the same.
		steady := &director{house: p.house, request: request, name: name + ", steady", steady: true}
		p.directors = append(p.directors, steady)
		steady.resume(0)
	}
}

// actorsOf returns the Actors that a step asks for.
func actorsOf(s step) []*integrationv1.Actor {
	one := func(kind, n int) *integrationv1.Actor {
		a := &integrationv1.Actor{ActorId: fmt.Sprint("actor ", kind, " ", n)}
		switch kind {
		case 0:
			a.FqHostName = deviceName(n)
		case 1:
			a.MdeDeviceId = deviceID(n)
		case 2:
			a.AlternateHostNames = []string{deviceName(n)}
		default:
			a.HostName = "ws-0"
		}
		return a
	}
	switch n := int(s.n[0] / 8 % devices); s.of(0, 8) {
	case 0, 1:
		return nil
	case 2, 3:
		return []*integrationv1.Actor{one(0, n)}
	case 4:
		return []*integrationv1.Actor{one(1, n)}
	case 5:
		return []*integrationv1.Actor{one(2, n)}
	case 6:
		return []*integrationv1.Actor{one(3, n)}
	default:
		return []*integrationv1.Actor{one(0, n), one(1, (n+1)%devices)}
	}
}

// direct cuts or resumes a stream.
func (p *play) direct(s step) {
	if len(p.directors) == 0 {
		return
	}
	d := p.directors[s.of(0, len(p.directors))]
	switch {
	case d.steady:
	case s.op == opCut:
		d.cut()
	case s.op == opCutAfter && d.running():
		d.cutAfter(1 + s.of(1, 5))
	case s.op == opResume && !d.running():
		d.cut()
		forget := s.pick(1, 0, 0, 0, 1, 2, 5, 20)
		if forget > 0 {
			p.forgetting(d, forget)
		}
		d.resume(forget)
	}
}

// heal ends everything that is wrong.
func (p *play) heal() error {
	p.microsoft.mu.Lock()
	p.microsoft.trouble = trouble{}
	p.microsoft.mu.Unlock()
	p.witness.set(func(f *faults) { *f = faults{} })
	if p.paused {
		p.paused = false
		if err := p.update(func(i *integrationv1.Integration) { i.Paused = false }); err != nil {
			return err
		}
	}
	for _, d := range p.directors {
		d.cutAfter(-1)
		if !d.running() && !d.done {
			d.resume(0)
		}
	}
	return p.quiet()
}

// settle is how long a sequence is played on when everything is well again, in seconds: long enough for a deeper re-read, and for a
// closing read that never comes to be given up.
const settle = 690

// finish heals everything, plays on, and returns what was wrong.
func (p *play) finish() []string {
	if err := p.heal(); err != nil {
		return []string{err.Error()}
	}
	healed := time.Now()
	var wrong []string
	if p.pace.fake {
		if err := p.settle(); err != nil {
			return []string{err.Error()}
		}
		for _, d := range p.directors {
			d.cut()
		}
		wrong = p.check(healed)
	} else {
		wrong = p.finishInTime(healed)
	}
	if len(wrong) == 0 {
		wrong = p.readAgain()
	}
	return wrong
}

// settlings bounds how often settling begins anew: a journal is damaged once, and none of those that stand in for it is.
const settlings = 3

// settle plays on until everything has settled. Damage is found when it is read, which may be at the end, as by a closing read: what
// settles is then the journal that stands in, and what streams say when they have come again.
func (p *play) settle() error {
	for range settlings {
		before := p.witness.current()
		if err := errors.Join(p.pass(p.pace.of(settle)), p.quiet()); err != nil {
			return err
		}
		again := slices.ContainsFunc(p.directors, (*director).comesAgain)
		if now := p.witness.current(); !again && (before == nil || now.identity == before.identity) {
			break
		}
	}
	return nil
}

// finishInTime plays on in real time until nothing is wrong any more, or for so long that it must be.
func (p *play) finishInTime(healed time.Time) []string {
	deadline := time.Now().Add(time.Minute)
	wait := p.pace.of(settle)
	for {
		if err := p.pass(wait); err != nil {
			return []string{err.Error()}
		}
		for _, d := range p.directors {
			d.cut()
		}
		wrong := p.check(healed)
		if len(wrong) == 0 || time.Now().After(deadline) {
			return wrong
		}
		wait = 300 * time.Millisecond
		for _, d := range p.directors {
			if !d.done {
				d.resume(0)
			}
		}
	}
}
