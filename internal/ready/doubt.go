package ready

import "time"

const (
	// Least is how many resources a member must have handled or failed for their share to mean anything.
	Least = 10
	// FirstAbsence is how long a member stays away the first time. Each further time doubles it, up to LongestAbsence.
	FirstAbsence = time.Minute
	// LongestAbsence is the longest time. A member that was back for as long begins anew with FirstAbsence.
	LongestAbsence = 10 * time.Minute
)

// Tally is how many resources are handled, and how many of them fail.
type Tally struct{ Active, Failed int }

// Of returns how many resources the tally is about.
func (t Tally) Of() int { return t.Active + t.Failed }

// share returns which part of the resources fails. It is 0 if there are too few of them to tell.
func (t Tally) share() float64 {
	if t.Of() < Least {
		return 0
	}
	return float64(t.Failed) / float64(t.Of())
}

// Doubt decides whether a member fails where others do not. If nearly all of its resources fail for a while, it asks
// how the others fare; if they do well, the member stays away for a time, and then tries again: without resources, it
// cannot know whether it would fail still. All times are by a clock of the caller's. It is not safe for concurrent use.
type Doubt struct {
	limit    float64
	after    time.Duration
	askPause time.Duration

	suspect bool
	since   time.Duration // since when it is a suspect
	asked   bool
	askedAt time.Duration

	away  bool
	until time.Duration // when the last absence ends, or has ended
	last  time.Duration // how long it is, or was; 0: there was none
}

// NewDoubt makes a Doubt: a member is a suspect while at least the share limit of its resources fails, above 0 and up
// to
// 1. After it has been one for a time, Note asks for the others' tally, once in askPause at most.
func NewDoubt(limit float64, after, askPause time.Duration) *Doubt {
	return &Doubt{limit: limit, after: after, askPause: askPause}
}

// Note notes the member's own tally. ask says that Judge is to be called with the tally of all others.
func (d *Doubt) Note(now time.Duration, own Tally) (ask bool) {
	if d.Away(now) || own.share() < d.limit {
		d.suspect = false
		return false
	}
	if !d.suspect {
		d.suspect, d.since = true, now
	}
	if now-d.since < d.after || d.asked && now-d.askedAt < d.askPause {
		return false
	}
	d.asked, d.askedAt = true, now
	return true
}

// Judge returns whether the member fails where the others do not: less than half of the limit fails of theirs, and they
// have enough resources to tell. If so, it stays away for the time that it returns.
func (d *Doubt) Judge(now time.Duration, others Tally) (away time.Duration, fails bool) {
	if others.Of() < Least || others.share() >= d.limit/2 {
		return 0, false
	}
	if d.last == 0 || now-d.until > LongestAbsence {
		d.last = FirstAbsence
	} else {
		d.last = min(2*d.last, LongestAbsence)
	}
	d.suspect, d.away, d.until = false, true, now+d.last
	return d.last, true
}

// Away says whether the member stays away.
func (d *Doubt) Away(now time.Duration) bool {
	d.away = d.away && now < d.until
	return d.away
}

// Left returns for how long it stays away still; 0 if it does not.
func (d *Doubt) Left(now time.Duration) time.Duration {
	if !d.Away(now) {
		return 0
	}
	return d.until - now
}
