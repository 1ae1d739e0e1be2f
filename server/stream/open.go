package stream

import (
	"context"
	"errors"
	"slices"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// The bounds of looking for open alerts.
const (
	openTold     = 20    // how many are told of an Actor
	openLookedAt = 100   // how many alerts are looked at for an Actor
	openInAll    = 2_000 // and how many entries for all of a stream's, shared out evenly, so that the first event comes within a second
)

// openAlerts returns the alerts about an Actor that began before the window and are not resolved, the last updated first, as far as they
// are told, and how many there are. Defender may add the activity of an attack to one of them, and raise no new one. They are
// looked for among the last alerts about the Actor; budget is how many entries may be read for that, and is lowered.
func (s *session) openAlerts(ctx context.Context, a *actor, resolution match.Resolution, budget *int) (told []*integrationv1.OpenAlert, count int32, err error) {
	_, last, _ := s.feed.bounds()
	var about []uint64
	for _, k := range slices.Concat(a.Keys(), resolution.Keys()) {
		about = append(about, s.feed.about(k, 1, last)...)
	}
	slices.Sort(about)
	looked, passed := map[string]bool{}, map[uint64]bool{}
	for _, sequence := range slices.Backward(slices.Compact(about)) {
		if len(looked) == openLookedAt || *budget == 0 {
			break
		}
		if passed[sequence] {
			continue
		}
		*budget--
		alert, key, err := s.lastRevision(ctx, sequence, last, looked)
		if err != nil {
			return nil, 0, err
		}
		if key == "" {
			continue
		}
		looked[key] = true
		for _, revision := range s.feed.revisions(key, 0, last) {
			passed[revision] = true
		}
		if s.mayAbsorb(alert) && match.MatchAlert(a.Actor, resolution, alert) != nil {
			told = append(told, openAlert(alert))
		}
	}
	slices.SortStableFunc(told, func(x, y *integrationv1.OpenAlert) int {
		return y.GetLastUpdateTime().AsTime().Compare(x.GetLastUpdateTime().AsTime())
	})
	return told[:min(len(told), openTold)], int32(len(told)), nil
}

// lastRevision returns the last revision of the alert that an entry is about, and the alert's key; "" where the entry is about none, or
// about one that was looked at.
func (s *session) lastRevision(ctx context.Context, sequence, last uint64, looked map[string]bool) (*integrationv1.Alert, string, error) {
	p, err := s.feed.entry(ctx, sequence)
	if err == nil {
		key := p.Entry.GetRevision().GetKey()
		if key == "" || looked[key] {
			return nil, "", nil
		}
		if later := s.feed.revisions(key, sequence, last); len(later) > 0 {
			p, err = s.feed.entry(ctx, later[len(later)-1])
		}
	}
	if errors.Is(err, store.ErrTrimmed) {
		return nil, "", nil
	}
	return p.Entry.GetRevision().GetAlert(), p.Entry.GetRevision().GetKey(), err
}

// mayAbsorb says that an alert began before the window and is not resolved. One that tells no status, as a detection of the SIEM API, never
// changes.
func (s *session) mayAbsorb(alert *integrationv1.Alert) bool {
	switch alert.GetStatus() {
	case integrationv1.AlertStatus_ALERT_STATUS_NEW, integrationv1.AlertStatus_ALERT_STATUS_IN_PROGRESS:
	default:
		return false
	}
	activity := match.ActivityOf(alert, s.window, s.tolerance)
	return activity == integrationv1.Activity_ACTIVITY_PRE_EXISTING || activity == integrationv1.Activity_ACTIVITY_REACTIVATED
}

func openAlert(alert *integrationv1.Alert) *integrationv1.OpenAlert {
	return &integrationv1.OpenAlert{
		AlertId: alert.GetId(), Title: alert.GetTitle(), Status: alert.GetStatus(), CreatedTime: alert.GetCreatedTime(),
		LastActivityTime: alert.GetLastActivityTime(), LastUpdateTime: alert.GetLastUpdateTime(),
	}
}
