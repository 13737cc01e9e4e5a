package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"
)

// How long things take in the simulation. The proportions are those of the defaults of package drm.
const (
	ttl              = 5 * time.Second
	margin           = ttl / 10
	fenceLead        = ttl / 10
	requestTimeout   = time.Second
	handleTimeout    = 2 * time.Second
	terminateTimeout = 1500 * time.Millisecond
	lastGrace        = 200 * time.Millisecond
	uncertainFor     = 3 * time.Second
	resync           = time.Minute
	startUp          = time.Second // no fault comes before
	youth            = 2 * time.Second

	// patience bounds how long it may take after the last fault until all is well: a call that began before it may
	// hang, then a lease has to expire, and a lost claim may still appear.
	patience    = longestCall + ttl + uncertainFor + backoffMax + retryMax
	backoffMax  = 2 * time.Second
	retryMax    = time.Second
	longestCall = 8 * time.Second // a call that ignores its context, or a request to a receiver
	longestHang = 30 * time.Second
	stopTimeout = 6 * time.Second
	mostSteps   = 100_000 // a hundred times what a usual run takes
)

// Result is the result of a run.
type Result struct {
	Err    error         // what was found to be wrong
	Took   time.Duration // how long the run took in virtual time
	Healed time.Duration // how long it took from the end of the last fault until all was well
	Steps  int
	Counts Counts
	Trace  []string // what happened, with Options.Trace
}

// Options of Run.
type Options struct {
	Trace bool // whether to keep a line for each thing that happens
}

// world is one run.
type world struct {
	plan    Plan
	opts    Options
	rng     *rand.Rand
	now     time.Duration
	events  []event // a heap
	seq     uint64
	members []*member
	store   store
	calm    bool          // whether no further fault begins
	calmAt  time.Duration // when the last fault has ended
	closing bool          // whether all members stop, to see that nothing is left behind
	done    bool
	res     Result

	leaderless int // reasons why etcd has no leader

	deaths  int // processes that have died of poison
	pardons int // how often something has ended what a poison resource is accused of

	ids      []string  // the ids of the resources
	moved    []int     // for each shard: how often it was moved by hand
	owners   []int     // for each shard: its owner; -1: nobody
	given    []int     // for each resource: the member that it was moved to without its shard; -1: none
	live     []bool    // for each member: whether it may own shards
	declines []decline // for each member: what it declines, as far as the others know
	view     int       // the number of changes of owners so far
	entries  []entry   // what should be in the catalogue at the end
	tokens   []lastToken
}

// event is something that happens at a moment, in a member's process or outside of all members.
type event struct {
	at  time.Duration
	seq uint64
	m   *member
	gen int // the member's process
	f   func()
}

func (w *world) at(t time.Duration, m *member, f func()) {
	gen := 0
	if m != nil {
		gen = m.gen
	}
	w.in(t, m, gen, f)
}

// in calls f in one of a member's processes at time t, if that process still runs.
func (w *world) in(t time.Duration, m *member, gen int, f func()) {
	w.seq++
	w.push(event{at: max(t, w.now), seq: w.seq, m: m, gen: gen, f: f})
}

// after calls f outside of the members after some time.
func (w *world) after(d time.Duration, f func()) { w.at(w.now+d, nil, f) }

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (w *world) push(e event) {
	w.events = append(w.events, e)
	h := w.events
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (w *world) pop() event {
	h := w.events
	top := h[0]
	n := len(h) - 1
	h[0] = h[n]
	h[n] = event{}
	h = h[:n]
	for i := 0; ; {
		least, l, r := i, 2*i+1, 2*i+2
		if l < n && h[l].before(&h[least]) {
			least = l
		}
		if r < n && h[r].before(&h[least]) {
			least = r
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	w.events = h
	return top
}

// chance returns true in some percent of cases, and never when it is calm.
func (w *world) chance(percent int) bool {
	return !w.calm && percent > 0 && w.rng.IntN(100) < percent
}

// upTo returns a random duration of at most d.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d) + 1)) }

// delay returns how long a message takes.
func (w *world) delay() time.Duration {
	switch {
	case w.chance(w.plan.Slow) && w.rng.IntN(4) == 0:
		return w.upTo(2 * requestTimeout)
	case w.chance(w.plan.Slow):
		return w.upTo(200 * time.Millisecond)
	}
	return 100*time.Microsecond + w.upTo(3*time.Millisecond)
}

func (w *world) trace(format string, args ...any) {
	if w.opts.Trace {
		w.res.Trace = append(w.res.Trace, fmt.Sprintf("%12v  ", w.now)+fmt.Sprintf(format, args...))
	}
}

func (w *world) fail(format string, args ...any) {
	if w.res.Err == nil {
		w.res.Err = fmt.Errorf(format, args...)
		w.trace("WRONG: %v", w.res.Err)
	}
}

// Run plays a Plan to its end. A panic is a finding like any other.
func Run(p Plan, opts Options) (res Result) {
	w := newWorld(p, opts)
	defer func() {
		if v := recover(); v != nil {
			w.fail("panic: %v\n%s", v, debug.Stack())
		}
		w.res.Took = w.now
		res = w.res
	}()
	w.play()
	return
}

// newWorld makes the members and the catalogue, and puts the faults on the agenda.
func newWorld(p Plan, opts Options) *world {
	w := &world{plan: p, opts: opts, rng: rand.New(rand.NewPCG(p.Seed, 1))}
	w.store.init(w)
	w.declines = make([]decline, p.Members)
	w.moved, w.owners = make([]int, p.Shards), make([]int, p.Shards)
	w.given = slices.Repeat([]int{-1}, p.Resources)
	w.entries, w.tokens = make([]entry, p.Resources), make([]lastToken, p.Resources)
	for i := range p.Resources {
		w.ids = append(w.ids, fmt.Sprintf("r%d", i))
		w.entries[i] = entry{exists: true, version: 1}
		w.store.putEntry(i, w.entries[i])
	}
	for i := range p.Members {
		m := &member{w: w, index: i, name: string(rune('A' + i))}
		m.skew = time.Duration(w.rng.IntN(2*p.Skew+1) - p.Skew)
		if m.skew != 0 {
			w.count(Clocks)
		}
		m.offset = time.Hour + w.upTo(time.Hour)
		w.members = append(w.members, m)
		m.start()
	}
	w.reassign()
	end := startUp
	for _, f := range p.Faults {
		w.at(startUp+f.At, nil, func() { w.befall(f) })
		end = max(end, startUp+f.At)
		w.calmAt = max(w.calmAt, startUp+f.At+f.For)
	}
	w.at(end+time.Millisecond, nil, w.endFaults)
	return w
}

// play makes the events on the agenda happen, one after the other, and checks after each whether the promise is kept.
func (w *world) play() {
	for !w.done && w.res.Err == nil {
		e := w.pop()
		w.now = e.at
		if e.m != nil {
			if e.gen != e.m.gen {
				continue // the event's process has ended
			}
			if e.m.paused {
				e.m.late = append(e.m.late, e.f)
				continue
			}
		}
		e.f()
		w.res.Steps++
		w.checkSafety()
		if w.res.Steps == mostSteps {
			w.fail("%d steps, and no end: something is done over and over", mostSteps)
		}
	}
}
