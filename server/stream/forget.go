package stream

import (
	"context"
	"slices"
)

// forget forgets the alerts of which the revision that was sent last lies before the journal's first entry: a session that is rebuilt
// from a token cannot know of them, and one that runs for long would remember ever more. A later revision of such an alert is sent
// as a new one, where it matches. Likewise it forgets the devices that only such entries have shown.
func (s *session) forget(ctx context.Context, first uint64) error {
	var gone []string
	for key, sequence := range s.sent {
		if sequence < first {
			gone = append(gone, key)
			delete(s.sent, key)
			delete(s.delivered, key)
		}
	}
	s.begun = slices.DeleteFunc(s.begun, func(key string) bool { return s.sent[key] == 0 })
	s.feed.ignore(s.subscriber, gone)
	for _, a := range s.actors {
		gone := a.unlearn(first)
		if len(gone) == 0 {
			continue
		}
		if err := s.relearn(ctx, a, gone); err != nil {
			return err
		}
		a.resolve()
		a.newKeys()
	}
	return nil
}

// ignore takes alerts from a subscriber of which it wanted the later revisions.
func (f *feed) ignore(s *subscriber, alerts []string) {
	if len(alerts) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, alert := range alerts {
		delete(s.alerts, alert)
		f.ignoreAlert(s, alert)
	}
}

// ignoreAlert takes a subscriber from those that want an alert's later revisions, under the feed's mu.
func (f *feed) ignoreAlert(s *subscriber, alert string) {
	if delete(f.byAlert[alert], s); len(f.byAlert[alert]) == 0 {
		delete(f.byAlert, alert)
	}
}
