package journal

import "time"

// Handling is one stretch of time in which one member handled one resource.
type Handling struct {
	Resource string
	Member   string
	Token    int64
	From     time.Time // when it was begun
	To       time.Time // when it ended; zero while it goes on
	End      Action    // Terminate or Gone; empty while it goes on
}

// Open reports whether the handling goes on.
func (h Handling) Open() bool { return h.End == "" }

// Timeline turns events into handlings, by resource, in the order in which they began.
//
// A handle of a member that is Gone, and not Started again, begins nothing that lasts: it was on its way when the
// member died. It appears as a handling of no length.
func Timeline(events []Event) map[string][]Handling {
	t := newTracker()
	for _, e := range events {
		t.add(e)
	}
	return t.handlings
}

// tracker follows a journal event by event.
type tracker struct {
	handlings map[string][]Handling
	gone      map[string]bool
}

func newTracker() *tracker {
	return &tracker{handlings: make(map[string][]Handling), gone: make(map[string]bool)}
}

// open returns the handlings of a resource that go on.
func (t *tracker) open(resource string) []*Handling {
	var open []*Handling
	list := t.handlings[resource]
	for i := range list {
		if list[i].Open() {
			open = append(open, &list[i])
		}
	}
	return open
}

func (t *tracker) add(e Event) {
	switch e.Action {
	case Handle:
		h := Handling{Resource: e.Resource, Member: e.Member, Token: e.Token, From: e.Time}
		if t.gone[e.Member] {
			h.To, h.End = e.Time, Gone
		}
		t.handlings[e.Resource] = append(t.handlings[e.Resource], h)
	case Terminate:
		for _, h := range t.open(e.Resource) {
			if h.Member == e.Member && h.Token == e.Token {
				h.To, h.End = e.Time, Terminate
			}
		}
	case Started:
		delete(t.gone, e.Member)
	case Gone:
		t.gone[e.Member] = true
		for r := range t.handlings {
			for _, h := range t.open(r) {
				if h.Member == e.Member {
					h.To, h.End = e.Time, Gone
				}
			}
		}
	}
}

// Holders says who handles what at the end of the events: resource → members. More than one member means that
// something is wrong.
func Holders(events []Event) map[string][]string {
	t := newTracker()
	for _, e := range events {
		t.add(e)
	}
	return t.holders()
}

func (t *tracker) holders() map[string][]string {
	holders := make(map[string][]string)
	for r := range t.handlings {
		for _, h := range t.open(r) {
			holders[r] = append(holders[r], h.Member)
		}
	}
	return holders
}

// Follower says who handles what while a journal grows. Each call costs only as much as the new events and what is
// handled. Only one goroutine at a time may use it.
type Follower struct {
	journal *Journal
	seen    int
	tracker *tracker
}

// Follow makes a Follower of the journal, from its beginning.
func (j *Journal) Follow() *Follower { return &Follower{journal: j, tracker: newTracker()} }

// Holders returns what the function Holders returns for all events so far.
func (f *Follower) Holders() map[string][]string {
	for _, e := range f.journal.since(f.seen) {
		f.tracker.add(e)
		f.seen++
	}
	return f.tracker.holders()
}

// LongestGap returns the longest time in which nobody handled a resource between two handlings, and that resource. It
// returns zero values if there was no gap.
func LongestGap(events []Event) (resource string, gap time.Duration) {
	for r, list := range Timeline(events) {
		var end time.Time // the end of the handlings so far
		for _, h := range list {
			if !end.IsZero() && h.From.Sub(end) > gap {
				resource, gap = r, h.From.Sub(end)
			}
			if h.Open() {
				break
			}
			if h.To.After(end) {
				end = h.To
			}
		}
	}
	return resource, gap
}

// LongestOverlap returns the longest time in which several handled a resource at once, and that resource. It returns
// zero values if there was no overlap. A handling that goes on counts until the last event.
func LongestOverlap(events []Event) (resource string, overlap time.Duration) {
	if len(events) == 0 {
		return "", 0
	}
	now := events[len(events)-1].Time
	for r, list := range Timeline(events) {
		// Handlings are in the order of their beginnings, so each one overlaps with the earlier one that ends last.
		var latest time.Time       // the last end so far
		var first, until time.Time // the stretch in which two handle it
		for _, h := range list {
			to := h.To
			if h.Open() {
				to = now
			}
			if both := earlier(to, latest); h.From.Before(both) {
				if !h.From.Before(until) { // a new stretch begins
					first = h.From
				}
				until = later(until, both)
				if d := until.Sub(first); d > overlap {
					resource, overlap = r, d
				}
			}
			latest = later(latest, to)
		}
	}
	return resource, overlap
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
