package core

import (
	"time"

	"golang.org/x/time/rate"
)

// Share is what a view says of the part of each key's rate that this member has.
type Share struct {
	Mine int // this member's weight; 0: it may own no shards
	All  int // the weight of all members that may own shards, now or as soon as they have joined
	// Since names the time for which this member has been one of them, without a break: the create revision of its key.
	Since int64
	// Alone says that no other member may own shards.
	Alone bool
}

// share is the part of each key's rate that this member has. The parts of all members must never be more than the
// whole, though each member hears of a change at another moment. So a part shrinks at once, and grows only after a
// grace, in which the others have heard of the change; and a new member has nothing for that long.
//
// The tokens of a budget are a part of the whole too. So a budget that begins is empty: what it could have saved may
// have been spent by others.
type share struct {
	grace  time.Duration
	part   float64       // 0: this member may handle nothing that has a key
	since  time.Duration // when part became what it is
	of     int64         // Share.Since of the last view
	want   float64       // the part by the last view
	low    float64       // the least want since the grace began
	growAt time.Duration // when the grace ends; 0: there is none
}

// limit is what this member may do in a second.
func (s *share) limit(r Rate) rate.Limit { return rate.Limit(r.PerSecond * s.part) }

// burst is what this member may do at once. It is at least one, so that a budget can be spent at all.
func (s *share) burst(r Rate) int { return max(1, int(float64(r.Burst)*s.part)) }

// SetShare says which part of each key's rate this member has, by the newest view.
func (c *Core) SetShare(now time.Duration, to Share) {
	c.now = now
	b := c.budgets
	if b == nil {
		return
	}
	s := &b.share
	if to.Mine == 0 || to.Since != s.of {
		s.of, s.want, s.growAt = to.Since, 0, 0
		b.setPart(0, now)
	}
	if to.Mine == 0 {
		return
	}
	s.want = float64(to.Mine) / float64(to.All)
	switch {
	case s.want <= s.part:
		s.growAt = 0
		b.setPart(s.want, now)
	case to.Alone && s.part == 0:
		s.growAt = 0
		b.setPart(s.want, now)
	case s.growAt == 0:
		s.low, s.growAt = s.want, now+s.grace
	default:
		s.low = min(s.low, s.want)
	}
}

// grow ends the grace if its time has come.
func (b *budgets) grow(now time.Duration) {
	if b == nil || b.share.growAt == 0 || now < b.share.growAt {
		return
	}
	s := &b.share
	s.growAt = 0
	b.setPart(s.low, now)
	if s.want > s.part {
		s.low, s.growAt = s.want, now+s.grace
	}
}

// setPart makes all budgets of keys those of another part.
func (b *budgets) setPart(part float64, now time.Duration) {
	s := &b.share
	if part == s.part {
		return
	}
	begins := s.part == 0
	s.part, s.since = part, now
	b.admit.forgetTimes()
	b.begin.forgetTimes()
	for k := range b.limited {
		k.bar(part == 0)
		for _, l := range []*lane{&k.admit, &k.begin} {
			switch {
			case part == 0:
			case begins:
				l.limiter = b.limiter(now)
			default:
				l.limiter.SetLimitAt(moment(now), s.limit(b.perKey))
				l.limiter.SetBurstAt(moment(now), s.burst(b.perKey))
			}
		}
		b.fill(k)
		b.admit.enlist(&k.admit, now)
		b.begin.enlist(&k.begin, now)
	}
}
