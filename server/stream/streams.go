package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// joinLimit is how long a stream waits for the collector of its integration to have opened the journal.
const joinLimit = 10 * time.Second

// Options are what [Streams] works with.
type Options struct {
	Store      store.Store
	Collectors *collector.Manager
	Log        *slog.Logger
	// Metrics is where the streams' metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer
}

// Streams sends streams of alerts. It is safe for concurrent use.
type Streams struct {
	options Options
	metrics *metrics
	ctx     context.Context //nolint:containedctx // The feeds live as long as the process, not as a call.

	mu    sync.Mutex
	feeds map[string]*feed // by journal
	reads sync.WaitGroup
}

// New returns streams whose feeds read until ctx ends; Wait returns when they have ended.
func New(ctx context.Context, options Options) *Streams {
	return &Streams{options: options, metrics: newMetrics(options.Metrics), ctx: ctx, feeds: map[string]*feed{}}
}

// Wait returns when every feed has ended.
func (s *Streams) Wait() { s.reads.Wait() }

// Stream sends the events of one stream until it ends, in order and from the caller's goroutine. It returns nil at the end of a
// bounded stream, a *failure.Error where the caller is to learn why it ends, and ctx's error when ctx ends.
func (s *Streams) Stream(ctx context.Context, request *integrationv1.StreamAlertsRequest, send SendFunc) error {
	record, _, err := s.options.Store.Record(ctx, request.GetIntegrationId())
	if errors.Is(err, store.ErrNotFound) {
		return failure.IntegrationNotFound(request.GetIntegrationId())
	}
	if err != nil {
		return err
	}
	token, err := s.requestToken(request)
	if err != nil {
		return err
	}
	joining, cancel := context.WithTimeoutCause(ctx, joinLimit, errJoinLimit)
	defer cancel()
	c, err := s.options.Collectors.Collector(joining, request.GetIntegrationId(), record.GetUid())
	if err == nil {
		err = s.join(ctx, joining, c, record.GetIntegration().GetApi(), request, token, send)
	}
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(context.Cause(joining), errJoinLimit) && errors.Is(err, context.DeadlineExceeded):
		return notJoined(c).Because(err)
	case errors.Is(err, collector.ErrStopped), errors.Is(err, errDeleted), errors.Is(err, store.ErrNotFound):
		return s.ended(ctx, request.GetIntegrationId(), record.GetUid())
	case errors.Is(err, errReplaced):
		return unavailable().Because(err) // While the stream was begun: the next try learns what came of the journal.
	case errors.Is(err, store.ErrDamaged):
		// The collector finds the same when it recovers the journal, and gives it a new identity.
		c.Recover()
		return unavailable().Because(err)
	}
	return err
}

// join makes the stream a member of its collector and runs it.
func (s *Streams) join(
	ctx, joining context.Context, c *collector.Collector, api integrationv1.Api, request *integrationv1.StreamAlertsRequest,
	token *storev1.ResumeToken, send SendFunc,
) error {
	// Who joins first and looks for its start then is behind every pair that lacks the facts about its Actors' devices.
	member, checkpoint, err := c.Join(joining, keysOf(request))
	if err != nil {
		return err
	}
	defer member.Leave()
	r := &runner{metrics: s.metrics, member: member, collector: c, send: send}
	// Finding its position may take it through the whole journal.
	r.enter(request.GetIntegrationId(), integrationv1.ProgressEvent_PHASE_CATCHING_UP)
	defer r.enter(request.GetIntegrationId(), integrationv1.ProgressEvent_PHASE_UNSPECIFIED)
	f, err := s.feed(joining, c.UID())
	if err != nil {
		return err
	}
	if checkpoint.GetIdentity() != f.identity {
		return unavailable() // The journal was replaced in between.
	}
	session, err := s.begin(ctx, request, c.UID(), f, checkpoint, token)
	if err != nil {
		return err
	}
	defer session.close()
	session.joined = member.Joined()
	session.api = api
	r.session = session
	err = r.run(ctx)
	if errors.Is(err, errReplaced) {
		oldest := proto.CloneOf(session.token)
		oldest.Identity = f.journal.Checkpoint().GetIdentity()
		oldest.Sequence, oldest.Ordinal, oldest.StartSequence, oldest.JudgedSequence = 0, wholeEntry, 0, 0
		return replaced(oldest)
	}
	return err
}

// errJoinLimit is the cause of a joining that took too long.
var errJoinLimit = errors.New("joining took too long")

// keysOf returns the keys of each Actor of a request.
func keysOf(request *integrationv1.StreamAlertsRequest) [][]string {
	var keys [][]string
	for _, a := range request.GetActors() {
		keys = append(keys, texts(match.ActorKeys(a)))
	}
	return keys
}

// feed returns the feed of a journal, begun where it was not.
func (s *Streams) feed(ctx context.Context, uid string) (*feed, error) {
	journal, err := s.options.Store.Journal(ctx, uid)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	s.mu.Lock()
	f := s.feeds[uid]
	if f == nil || f.ended() {
		f = newFeed(journal)
		s.feeds[uid] = f
		s.reads.Go(func() {
			f.run(s.ctx)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.feeds[uid] == f {
				delete(s.feeds, uid)
			}
		})
	}
	s.mu.Unlock()
	select {
	case <-f.started:
		return f, nil
	case <-f.done:
		return nil, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *feed) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// requestToken reads a request's token and refuses another request's. It returns nil where there is none.
func (s *Streams) requestToken(request *integrationv1.StreamAlertsRequest) (*storev1.ResumeToken, error) {
	if request.GetResumeToken() == "" {
		return nil, nil
	}
	token, err := decodeToken(request.GetResumeToken())
	if err != nil {
		return nil, err
	}
	if request.GetWindow().GetStartTime() == nil && token.GetStartTime() == nil {
		return nil, invalidToken("it is damaged")
	}
	own := &storev1.ResumeToken{IntegrationId: request.GetIntegrationId(), Binding: bindingOf(request)}
	if differs := foreign(token, own); differs != "" {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN,
			"resume_token was given to another request, which differs in %s; resume with the same request, or without a token", differs).
			With("differs", differs)
	}
	if n := len(token.GetVerdicts()); n > 0 && n != len(request.GetActors()) {
		return nil, invalidToken("it is damaged")
	}
	return token, nil
}

// begin makes the session of a request, at the position of its token.
func (s *Streams) begin(
	ctx context.Context, request *integrationv1.StreamAlertsRequest, uid string,
	f *feed, checkpoint *storev1.Checkpoint, token *storev1.ResumeToken,
) (*session, error) {
	fresh := &storev1.ResumeToken{
		Format:        tokenFormat,
		Uid:           uid,
		Identity:      f.identity,
		StartSequence: checkpoint.GetLastSequence(),
		IntegrationId: request.GetIntegrationId(),
		Binding:       bindingOf(request),
	}
	if request.GetWindow().GetStartTime() == nil {
		fresh.StartTime = timestamppb.Now()
	}
	// What trimming repeated lies before what it dropped is gone: the feed has it then.
	if err := f.await(ctx, checkpoint.GetLastSequence()); err != nil {
		return nil, err
	}
	first, last, floor := f.bounds()
	if token != nil && (token.GetIdentity() != f.identity || max(token.GetSequence(), token.GetStartSequence()) > max(last, checkpoint.GetLastSequence())) {
		// Another server gave it, which may know more of the journal.
		newest, err := f.journal.Refresh(ctx)
		if err != nil {
			return nil, fmt.Errorf("read how far the journal has come: %w", err)
		}
		if newest.GetIdentity() != f.identity {
			return nil, unavailable() // The journal was replaced, and the feed of what took its place is about to begin.
		}
		if err := f.await(ctx, newest.GetLastSequence()); err != nil {
			return nil, err
		}
		first, last, floor = f.bounds()
	}
	if token == nil {
		session := newSession(request, f, fresh)
		session.fresh, session.told = true, first
		session.position.sequence = max(session.position.sequence, first-1)
		if err := session.recall(ctx); err != nil {
			session.close()
			return nil, err
		}
		return session, nil
	}
	wentBack, err := f.wentBack(ctx, token)
	if err != nil {
		return nil, err
	}
	if token.GetCompleted() {
		// The same window is judged again, by a read that is made from now on: what was read meanwhile rests on devices as they were then.
		token = proto.CloneOf(token)
		token.StartSequence = max(token.GetSequence(), checkpoint.GetLastSequence())
	}
	oldest := proto.CloneOf(token)
	oldest.Uid, oldest.Identity, oldest.Completed = uid, f.identity, false
	oldest.Sequence, oldest.Ordinal = first-1, wholeEntry
	oldest.NewestEntry = uint64(f.newest.Load())
	end := max(last, checkpoint.GetLastSequence())
	switch {
	case token.GetUid() != uid, token.GetIdentity() != f.identity, wentBack, token.GetSequence() > end, token.GetStartSequence() > end:
		if oldest.StartSequence, oldest.JudgedSequence = first-1, 0; token.GetCompleted() {
			oldest.StartSequence = checkpoint.GetLastSequence()
		}
		return nil, replaced(oldest)
	case token.GetSequence()+1 < first, token.GetSequence() < first && token.GetOrdinal() != wholeEntry:
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED,
			"what came after resume_token is no longer kept (the journal reaches back to what was last updated at %s); resume with "+
				"the oldest token that works, or begin anew", floor.UTC().Format(time.RFC3339)).
			With("oldest_resume_token", encodeToken(oldest)).With("oldest_sequence", strconv.FormatUint(first, 10))
	}
	token.Completed = false
	if err := f.await(ctx, token.GetSequence()); err != nil {
		return nil, err
	}
	session := newSession(request, f, token)
	session.told = first
	if err := session.rebuild(ctx, position{token.GetSequence(), token.GetOrdinal()}); err != nil {
		session.close()
		return nil, err
	}
	return session, nil
}

// wentBack says whether a token of the journal's identity is one of a state that the journal has lost: it was put back to an earlier one,
// such as by a backup, and gave the same positions again to other entries. Those were made later than all that was read when the token
// was given. Where the positions are those of entries from before, which both states share, the token is good in both. That a position
// lies beyond the journal's end is for the caller to see.
func (f *feed) wentBack(ctx context.Context, token *storev1.ResumeToken) (bool, error) {
	at := max(token.GetSequence(), token.GetStartSequence(), token.GetJudgedSequence())
	first, last, _ := f.bounds()
	if token.GetNewestEntry() == 0 || token.GetIdentity() != f.identity || at < first || at > last {
		return false, nil
	}
	p, err := f.entry(ctx, at)
	if errors.Is(err, store.ErrTrimmed) {
		return false, nil
	}
	return err == nil && uint64(madeAt(p.Entry)) > token.GetNewestEntry(), err
}

// replaced refuses a token of a journal that is no more.
func replaced(oldest *storev1.ResumeToken) error {
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED,
		"the journal was replaced: the integration was registered again, or its journal was damaged, lost or put back; resume with the "+
			"oldest token that works, which may repeat what was sent before, or begin anew").
		With("oldest_resume_token", encodeToken(oldest))
}

// ended says why a stream's collector or journal is no more.
func (s *Streams) ended(ctx context.Context, id, uid string) error {
	record, _, err := s.options.Store.Record(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && record.GetUid() != uid:
		return failure.IntegrationNotFound(id)
	case ctx.Err() != nil:
		return ctx.Err()
	case s.ctx.Err() == nil:
		return failure.New(integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
			"this server lost touch with the store that it shares with others, and begins anew; resume with the last token, here or at another")
	}
	return failure.Draining()
}

// notJoined is the failure of a stream whose collector has not opened the journal: with what is wrong, where it says so.
func notJoined(c *collector.Collector) *failure.Error {
	if c != nil {
		now, _ := c.Snapshot()
		if p := now.Problem; p.GetReason() == integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
			return failure.New(p.GetReason(), "%s %s", p.GetMessage(), p.GetRemedy())
		}
	}
	return unavailable()
}

func unavailable() *failure.Error {
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		"the integration's journal cannot be read now; it is tried again by itself")
}
