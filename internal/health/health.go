// Package health keeps how far a member is, and what keeps it from working, for those who probe it from outside. The
// member's parts write on a Board what they wait for; a probe reads it at any moment, also while nothing else of the
// member answers.
package health

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// State is how far a member is.
type State string

// The states of a member.
const (
	Starting State = "starting" // it has not joined yet
	Ready    State = "ready"    // it has joined, and nothing keeps it from working
	Unready  State = "unready"  // it has joined, and something keeps it from working
	Stopping State = "stopping" // it ends what it handles
	Ended    State = "ended"    // it handles nothing, and never will again
)

// Status is what a Board says at one moment.
type Status struct {
	State  State
	Reason string    // why the state is not Ready
	Since  time.Time // since when the reason holds; if the member is ready, since when it has been
	Until  time.Time // when the reason has passed at the latest; zero if nobody knows
}

// told is how long a wait must have lasted to be shown while another one, which contains it, lasts as well: the many
// short waits within a long one would hide the long one.
const told = time.Second

// Board keeps the state of one member. The zero value is the board of a member that has not begun to start. Any
// goroutine may call its methods. No method blocks. A nil Board is one that nobody looks at: whatever is written on it
// is lost.
type Board struct {
	mu        sync.Mutex
	inUse     bool
	state     State     // Unready is kept as Ready with hindrances
	since     time.Time // when state began
	until     time.Time // of Stopping
	reason    string    // of Stopping and Ended
	waits     []*wait   // of the start, the outermost first
	hindrance []hindrance
}

// wait is something that a start waits for.
type wait struct {
	what         string
	more         func() string
	since, until time.Time
}

// hindrance is something that keeps a member from working which has joined.
type hindrance struct {
	what, reason string
	since, until time.Time
}

// Begin makes the board that of a member that starts now. It returns false if another member uses the board.
func (b *Board) Begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inUse {
		return false
	}
	b.inUse = true
	b.set(Starting, "", time.Time{})
	b.waits, b.hindrance = nil, nil
	return true
}

// Wait says that the start waits for something, until the caller calls done: "etcd to answer", say. more returns what
// else is to be told; nil if there is nothing. It must not block, and any goroutine may call it. until is when the wait
// ends at the latest; zero if nobody knows.
func (b *Board) Wait(what string, more func() string, until time.Time) (done func()) {
	if b == nil {
		return func() {}
	}
	w := &wait{what: what, more: more, since: time.Now(), until: until}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waits = append(b.waits, w)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waits = slices.DeleteFunc(b.waits, func(other *wait) bool { return other == w })
	}
}

// Serve says that the member has joined.
func (b *Board) Serve() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == Starting {
		b.set(Ready, "", time.Time{})
	}
}

// Hinder says that something keeps the member from working, and why. what tells apart the things that may do so, and
// replaces what was said about the same thing; an empty reason says that it no longer does. until is when it has passed
// at the latest; zero if nobody knows. It matters once the member has joined.
func (b *Board) Hinder(what, reason string, until time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	since := now
	at := slices.IndexFunc(b.hindrance, func(h hindrance) bool { return h.what == what })
	if at >= 0 {
		since = b.hindrance[at].since
		b.hindrance = slices.Delete(b.hindrance, at, at+1)
	}
	if reason != "" {
		b.hindrance = append(b.hindrance, hindrance{what, reason, since, until})
	} else if at >= 0 && b.state == Ready && len(b.hindrance) == 0 {
		b.since = now
	}
}

// Stop says that the member ends what it handles, until that time at the latest. err is why it ends by itself; nil if
// it was told to.
func (b *Board) Stop(err error, until time.Time) {
	if b == nil {
		return
	}
	reason := "the member is stopping"
	if err != nil {
		reason = "the member ends: " + err.Error()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != Ended {
		b.set(Stopping, reason, until)
	}
}

// End says that the member has ended. err is why it did so by itself, or could not start; nil if it was told to. The
// board is free then for another member.
func (b *Board) End(err error) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inUse = false
	switch {
	case err != nil:
		b.set(Ended, "the member has ended: "+err.Error(), time.Time{})
	case b.state != Ended:
		b.set(Ended, "the member was stopped", time.Time{})
	}
}

// set begins a state. The caller holds b.mu.
func (b *Board) set(s State, reason string, until time.Time) {
	b.state, b.since, b.reason, b.until = s, time.Now(), reason, until
}

// Status returns what the board says now.
func (b *Board) Status() Status {
	b.mu.Lock()
	var more func() string
	s := Status{State: b.state, Reason: b.reason, Since: b.since, Until: b.until}
	switch {
	case b.state == "":
		s.State, s.Reason = Starting, "the member has not begun to start"
	case b.state == Starting:
		s.Reason = "the member is starting"
		if w := b.waitsFor(time.Now()); w != nil {
			s.Reason, s.Since, s.Until, more = "waiting for "+w.what, w.since, w.until, w.more
		}
	case b.state == Ready && len(b.hindrance) > 0:
		s.State, s.Since, s.Until = Unready, b.hindrance[0].since, b.hindrance[0].until
		reasons := make([]string, len(b.hindrance))
		for i, h := range b.hindrance {
			reasons[i] = h.reason
		}
		s.Reason = strings.Join(reasons, "; ")
	}
	b.mu.Unlock()
	if more != nil {
		if text := more(); text != "" {
			s.Reason += ": " + text
		}
	}
	return s
}

// waitsFor returns the innermost of the waits that have lasted for a while; the outermost if none has; nil if there is
// none. The caller holds b.mu.
func (b *Board) waitsFor(now time.Time) *wait {
	for _, w := range slices.Backward(b.waits) {
		if now.Sub(w.since) >= told {
			return w
		}
	}
	if len(b.waits) > 0 {
		return b.waits[0]
	}
	return nil
}
