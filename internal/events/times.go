package events

import "time"

var zero time.Time

// estimator gives the events whose time nothing in etcd says an estimate.
type estimator struct {
	last time.Time // the latest time that is known, in the order of revisions
}

// estimate sets the times of events that follow one another, and came together. now is when they came, if they have
// just happened, and otherwise zero.
func (x *estimator) estimate(all []Event, now time.Time) {
	next := make([]time.Time, len(all)) // the next time that is known
	var after time.Time
	for i := len(all) - 1; i >= 0; i-- {
		if next[i] = after; !all[i].Time.IsZero() {
			after = all[i].Time
		}
	}
	for i := range all {
		e := &all[i]
		if !e.Time.IsZero() {
			x.last = e.Time
			continue
		}
		e.Estimated = true
		if e.Time = now.UTC(); now.IsZero() {
			e.Time = x.last
		}
		if !next[i].IsZero() && (e.Time.After(next[i]) || e.Time.IsZero()) {
			e.Time = next[i]
		}
	}
}
