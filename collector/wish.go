package collector

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// partBytes is how large a part of a wish may be, about, in bytes: well below what a note may have.
const partBytes = 256 << 10

// wished returns what the streams on this server want, but for its version; nil where there is none.
func (c *Collector) wished() *storev1.Wish {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.journal == nil || c.damagedIdentity != c.journal.Checkpoint().GetIdentity() {
		c.damagedIdentity = "" // It was made good.
	}
	if len(c.members) == 0 && c.damagedIdentity == "" {
		return nil
	}
	w := &storev1.Wish{
		Generation: c.generation, Streams: int64(len(c.members)), Keys: sortedKeys(c.interest), Damaged: c.damagedIdentity,
	}
	for m := range c.closings {
		w.Closings = append(w.Closings, &storev1.WishedClosing{
			Number: m.number, Since: timestamppb.New(m.closing.Since), Due: timestamppb.New(m.closing.Due),
			AskedTime: timestamppb.New(m.asked), Stood: durationpb.New(m.stood), Stream: m.stream,
		})
	}
	slices.SortFunc(w.GetClosings(), func(a, b *storev1.WishedClosing) int { return cmp.Compare(a.GetNumber(), b.GetNumber()) })
	var reach time.Time
	for m := range c.reaching {
		if reach.IsZero() || m.reach.Before(reach) {
			reach = m.reach
		}
	}
	w.Reach = stampOf(reach)
	for _, q := range c.questions {
		w.Questions = append(w.Questions, &storev1.WishedAnswer{
			Question: q.ID[:], Since: timestamppb.New(q.Asks.Since), Through: timestamppb.New(q.Asks.Through), Traces: q.Asks.Traces,
			DeviceIds: q.Asks.DeviceIDs, FullNames: q.Asks.FullNames, ShortNames: q.Asks.ShortNames,
		})
	}
	slices.SortFunc(w.GetQuestions(), func(a, b *storev1.WishedAnswer) int { return slices.Compare(a.GetQuestion(), b.GetQuestion()) })
	return w
}

// split cuts a wish into parts that notes have room for.
func split(w *storev1.Wish) []*storev1.Wish {
	first := proto.CloneOf(w)
	first.Keys, first.Closings, first.Questions = nil, nil, nil
	parts, size := []*storev1.Wish{first}, proto.Size(first)
	// room returns the part that has room for so many bytes.
	room := func(bytes int) *storev1.Wish {
		if size+bytes > partBytes {
			parts, size = append(parts, &storev1.Wish{Version: w.GetVersion()}), 0
		}
		size += bytes
		return parts[len(parts)-1]
	}
	const overhead = 8 // of an element, about
	for _, key := range w.GetKeys() {
		part := room(len(key) + overhead)
		part.Keys = append(part.Keys, key)
	}
	for _, closing := range w.GetClosings() {
		part := room(proto.Size(closing) + overhead)
		part.Closings = append(part.Closings, closing)
	}
	for _, question := range w.GetQuestions() {
		part := room(proto.Size(question) + overhead)
		part.Questions = append(part.Questions, question)
	}
	first.Parts = uint32(len(parts))
	return parts
}

// remote is what the streams on another server want of this collector.
type remote struct {
	version    uint64
	generation uint64
	member     *Member            // has the keys, the reach and the questions of all of them
	closings   map[uint64]*Member // by the closing's number; those that were answered too, until they are wished no more
}

// takeWishes takes in what the streams on all other servers want, and forgets those that want nothing any more.
func (c *Collector) takeWishes() {
	c.mu.Lock()
	servers := sortedKeys(c.remotes)
	c.mu.Unlock()
	for _, server := range append(servers, c.cluster.wishing(c.uid)...) {
		c.takeWish(server)
	}
}

// takeWish takes in what the streams on another server want, where this server collects.
func (c *Collector) takeWish(server uint64) {
	// What is read of the board is taken in before anybody reads it anew.
	c.wishing.Lock()
	defer c.wishing.Unlock()
	wish := c.cluster.wish(c.uid, server)
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.remotes[server]
	switch {
	case wish == nil && r != nil && c.holding && c.cluster.partly(c.uid, server):
		return // A new version of it is being written.
	case wish == nil || !c.holding:
		c.dropRemote(server)
		return
	case r == nil:
		r = &remote{member: &Member{collector: c}, closings: map[uint64]*Member{}}
		c.remotes[server] = r
	case r.version == wish.GetVersion():
		return
	}
	r.version, r.generation = wish.GetVersion(), wish.GetGeneration()
	if wish.GetStreams() > 0 {
		c.members[r.member] = struct{}{}
	} else {
		delete(c.members, r.member)
	}
	c.takeKeys(r.member, wish.GetKeys())
	c.takeClosings(r, wish.GetClosings())
	if r.member.reach = timeOf(wish.GetReach()); wish.GetReach() != nil {
		c.reaching[r.member] = struct{}{}
	} else {
		delete(c.reaching, r.member)
	}
	c.takeQuestions(r.member, wish.GetQuestions())
	if identity := wish.GetDamaged(); identity != "" && c.journal != nil && identity == c.journal.Checkpoint().GetIdentity() {
		c.damaged = true
	}
	c.wakeUp()
}

// takeKeys makes keys those of a member, in place of those that it had. The caller holds mu.
func (c *Collector) takeKeys(m *Member, keys []string) {
	had := m.keys
	m.keys = keys
	for _, k := range keys {
		// Which of the keys are one Actor's is not told: one that fits no device may be of one that is not found.
		if c.want(k) && len(c.now.Devices.Fitting([]string{k})) == 0 {
			c.unresolved = true
		}
	}
	for _, k := range had {
		c.unwant(k)
	}
}

// takeClosings makes closing reads those that are waited for. One that was answered is not asked for again. The caller holds mu.
func (c *Collector) takeClosings(r *remote, closings []*storev1.WishedClosing) {
	wished := make(map[uint64]bool, len(closings))
	for _, w := range closings {
		wished[w.GetNumber()] = true
		if r.closings[w.GetNumber()] != nil {
			continue
		}
		m := &Member{
			collector: c, asked: w.GetAskedTime().AsTime(), stood: w.GetStood().AsDuration(), stream: w.GetStream(),
			closing: &Closing{Since: w.GetSince().AsTime(), Due: w.GetDue().AsTime()},
		}
		r.closings[w.GetNumber()] = m
		c.closings[m] = struct{}{}
	}
	for number, m := range r.closings {
		if !wished[number] {
			delete(r.closings, number)
			delete(c.closings, m)
		}
	}
}

// takeQuestions makes questions those that a member waits for. The caller holds mu.
func (c *Collector) takeQuestions(m *Member, questions []*storev1.WishedAnswer) {
	wished := make(map[[16]byte]bool, len(questions))
	for _, w := range questions {
		if len(w.GetQuestion()) != len([16]byte{}) {
			continue
		}
		q := Question{ID: [16]byte(w.GetQuestion()), Asks: &defender.TelemetryQuestion{
			Since: w.GetSince().AsTime(), Through: w.GetThrough().AsTime(), Traces: w.GetTraces(),
			DeviceIDs: w.GetDeviceIds(), FullNames: w.GetFullNames(), ShortNames: w.GetShortNames(),
		}}
		wished[q.ID] = true
		c.ask(m, q)
	}
	c.withdraw(m, func(id [16]byte) bool { return wished[id] })
}

// dropRemote forgets what the streams on another server want. The caller holds mu.
func (c *Collector) dropRemote(server uint64) {
	r := c.remotes[server]
	if r == nil {
		return
	}
	delete(c.remotes, server)
	c.takeKeys(r.member, nil)
	c.takeClosings(r, nil)
	c.takeQuestions(r.member, nil)
	delete(c.members, r.member)
	delete(c.reaching, r.member)
	c.wakeUp()
}

// served returns whose keys are among those that devices are looked up by. The caller holds mu.
func (c *Collector) served() []*storev1.Served {
	if c.cluster == nil {
		return nil
	}
	list := []*storev1.Served{{Server: c.cluster.id, Generation: c.generation}}
	for _, server := range sortedKeys(c.remotes) {
		list = append(list, &storev1.Served{Server: server, Generation: c.remotes[server].generation})
	}
	return list
}

// wishes counts the servers whose streams' wish was taken in.
func (c *Collector) wishes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.remotes)
}
