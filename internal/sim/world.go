package sim

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
	"github.com/distributed-resource-manager/drm/internal/schedule"
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
	schedule.Result
	Counts Counts
}

// Options of Run.
type Options = schedule.Options

// world is one run.
type world struct {
	schedule.Run[*member]

	plan    Plan
	members []*member
	store   store
	calmAt  time.Duration // when the last fault has ended
	closing bool          // whether all members stop, to see that nothing is left behind
	done    bool
	counts  Counts

	leaderless int // reasons why etcd has no leader

	deaths  int              // processes that have died of poison
	pardons int              // how often something has ended what a poison resource is accused of
	inOrder map[process]bool // the lives that have ended in order

	group *groupsim.Group // nil: owners are drawn

	ids      []string  // the ids of the resources
	moved    []int     // for each shard: how often it was moved by hand
	owners   []int     // for each shard: its owner; -1: nobody
	given    []int     // for each resource: the member that it was moved to without its shard, or its owner in a group
	live     []bool    // for each member: whether it may own shards
	declines []decline // for each member: what it declines, as far as the others know
	view     int       // the number of changes of owners so far
	entries  []entry   // what should be in the catalogue at the end
	tokens   []lastToken
}

// at calls f at time t: in the present process of a member, or, for nil, outside of all members.
func (w *world) at(t time.Duration, m *member, f func()) {
	gen := 0
	if m != nil {
		gen = m.gen
	}
	w.in(t, m, gen, f)
}

// in calls f in one of a member's processes at time t, if that process still runs.
func (w *world) in(t time.Duration, m *member, gen int, f func()) {
	w.Agenda.Put(schedule.Event[*member]{At: max(t, w.Now), Of: m, Life: gen, Do: f})
}

// after calls f outside of the members after some time.
func (w *world) after(d time.Duration, f func()) { w.at(w.Now+d, nil, f) }

// delay returns how long a message takes.
func (w *world) delay() time.Duration {
	switch {
	case w.Chance(w.plan.Slow) && w.Rand.IntN(4) == 0:
		return w.UpTo(2 * requestTimeout)
	case w.Chance(w.plan.Slow):
		return w.UpTo(200 * time.Millisecond)
	}
	return 100*time.Microsecond + w.UpTo(3*time.Millisecond)
}

// Run plays a Plan to its end. A panic is a finding like any other.
func Run(p Plan, opts Options) Result {
	w := newWorld(p, opts)
	w.Play(w.play)
	return Result{w.Result, w.counts}
}

// newWorld makes the members and the catalogue, and puts the faults on the agenda.
func newWorld(p Plan, opts Options) *world {
	w := &world{plan: p, inOrder: map[process]bool{}, Run: schedule.NewRun[*member](opts, p.Seed, 1)}
	w.store.init(w)
	w.declines = make([]decline, p.Members)
	w.moved, w.owners = make([]int, p.Shards), make([]int, p.Shards)
	w.given = slices.Repeat([]int{-1}, p.Resources)
	w.entries, w.tokens = make([]entry, p.Resources), make([]lastToken, p.Resources)
	for i := range p.Resources {
		w.ids = append(w.ids, w.idOf(i))
		w.entries[i] = entry{exists: true, version: 1}
		w.store.putEntry(i, w.entries[i])
	}
	if p.Group != nil {
		w.join()
	}
	for i := range p.Members {
		m := &member{w: w, index: i, name: string(rune('A' + i))}
		m.skew = time.Duration(w.Rand.IntN(2*p.Skew+1) - p.Skew)
		if m.skew != 0 {
			w.count(Clocks)
		}
		m.offset = time.Hour + w.UpTo(time.Hour)
		w.members = append(w.members, m)
		if p.Group == nil || i < p.Group.Members {
			m.start()
		}
	}
	w.reassign()
	end := startUp
	for _, f := range p.Faults {
		w.at(startUp+f.At, nil, func() { w.befall(f) })
		end = max(end, startUp+f.At)
		w.calmAt = max(w.calmAt, startUp+f.At+f.For)
	}
	if p.Group != nil {
		for _, e := range p.Group.Events {
			end = max(end, startUp+e.At)
			w.calmAt = max(w.calmAt, startUp+e.At+lasts(e))
		}
	}
	w.at(end+time.Millisecond, nil, w.endFaults)
	return w
}

// play makes the events on the agenda happen, one after the other, and checks after each whether the promise is kept.
func (w *world) play() {
	for !w.done && w.Result.Err == nil {
		w.next()
	}
}

// next makes the next event happen, be it one of the group.
func (w *world) next() {
	if w.stepGroup() {
		w.checkSafety()
		return
	}
	e := w.Agenda.Take()
	w.Now = e.At
	if e.Of != nil {
		if e.Life != e.Of.gen {
			return // the event's process has ended
		}
		if e.Of.paused {
			e.Of.late = append(e.Of.late, e.Do)
			return
		}
	}
	e.Do()
	w.checkSafety()
	w.Step(mostSteps)
}
