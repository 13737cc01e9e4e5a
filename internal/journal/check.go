package journal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Kind says what is wrong.
type Kind string

// The kinds of faults.
const (
	Overlap   Kind = "overlap"    // handled by two at once, or twice by one
	TokenBack Kind = "token-back" // handled under a token that is not above that of an earlier claim
	Unhandled Kind = "unhandled"  // should be handled at the end, but is not
	Leftover  Kind = "leftover"   // should not be handled at the end, but is
	LongGap   Kind = "long-gap"   // not handled for longer than allowed, between two handlings
)

// Fault is one thing that is wrong with one resource.
type Fault struct {
	Kind     Kind
	Resource string
	Time     time.Time // when it began; for Unhandled and Leftover: the time of the last event
	Detail   string    // who and what, for people
}

func (f Fault) String() string { return fmt.Sprintf("%s: %s: %s", f.Kind, f.Resource, f.Detail) }

// Expect says what a journal should show.
type Expect struct {
	// Resources are those that should be handled at the end, each by exactly one member. Nil: the end is not checked.
	Resources []string
	// MaxGap is how long nobody may handle a resource between two handlings. 0: any time.
	MaxGap time.Duration
}

// Check returns the faults in a journal, in the order of their times. There are none if every resource was handled by
// one member at a time under rising tokens, and the end is as expected. Check uses the journal's order, and times only
// for MaxGap.
func Check(events []Event, want Expect) []Fault {
	c := checker{tracker: newTracker(), highest: make(map[string]claim)}
	for _, e := range events {
		if e.Action == Handle {
			c.handle(e, want.MaxGap)
		}
		c.tracker.add(e)
	}
	if want.Resources != nil {
		c.end(events, want.Resources)
	}
	slices.SortStableFunc(c.faults, func(a, b Fault) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Resource, b.Resource))
	})
	return c.faults
}

// claim is the claim with the highest token of its resource so far.
type claim struct {
	token  int64
	member string
}

type checker struct {
	tracker *tracker
	highest map[string]claim
	faults  []Fault
}

// handle checks a Handle before the tracker learns of it.
func (c *checker) handle(e Event, maxGap time.Duration) {
	if !c.tracker.gone[e.Member] {
		for _, h := range c.tracker.open(e.Resource) {
			c.fault(Overlap, e, "%s began under token %d, while %s handles it under %d", e.Member, e.Token, h.Member,
				h.Token)
		}
	}
	// One claim may be handled several times in turn, after a failure or a change; another claim has a higher token.
	top, seen := c.highest[e.Resource]
	if seen && (e.Token < top.token || e.Token == top.token && e.Member != top.member) {
		c.fault(TokenBack, e, "%s began under token %d, after %s under %d", e.Member, e.Token, top.member, top.token)
	}
	if !seen || e.Token > top.token {
		c.highest[e.Resource] = claim{e.Token, e.Member}
	}
	if maxGap > 0 {
		if gap := c.gapBefore(e); gap > maxGap {
			c.fault(LongGap, e, "handled by nobody for %s before %s began", gap.Round(time.Millisecond), e.Member)
		}
	}
}

// gapBefore is how long nobody handled the resource before a Handle; 0 for the first Handle.
func (c *checker) gapBefore(e Event) time.Duration {
	var last time.Time
	for _, h := range c.tracker.handlings[e.Resource] {
		if h.Open() {
			return 0
		}
		if h.To.After(last) {
			last = h.To
		}
	}
	if last.IsZero() {
		return 0
	}
	return e.Time.Sub(last)
}

func (c *checker) end(events []Event, want []string) {
	last := Event{}
	if len(events) > 0 {
		last.Time = events[len(events)-1].Time
	}
	left := make(map[string]bool)
	for r := range c.tracker.handlings {
		if len(c.tracker.open(r)) > 0 {
			left[r] = true
		}
	}
	for _, r := range want {
		if !left[r] {
			c.fault(Unhandled, Event{Resource: r, Time: last.Time}, "%s", c.history(r))
		}
		delete(left, r)
	}
	for _, r := range slices.Sorted(maps.Keys(left)) {
		c.fault(Leftover, Event{Resource: r, Time: last.Time}, "%s", c.history(r))
	}
}

// history says what last happened to a resource.
func (c *checker) history(r string) string {
	list := c.tracker.handlings[r]
	if len(list) == 0 {
		return "never handled"
	}
	h := list[len(list)-1]
	if h.Open() {
		return fmt.Sprintf("handled by %s under token %d", h.Member, h.Token)
	}
	return fmt.Sprintf("last handled by %s under token %d, ended by %s", h.Member, h.Token, h.End)
}

func (c *checker) fault(kind Kind, e Event, format string, args ...any) {
	c.faults = append(c.faults,
		Fault{Kind: kind, Resource: e.Resource, Time: e.Time, Detail: fmt.Sprintf(format, args...)})
}
