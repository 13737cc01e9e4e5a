package groupsim

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
)

// How long things take in the simulation. The proportions are those of the defaults of package drm.
const (
	ttl       = 5 * time.Second
	joinDelay = 200 * time.Millisecond
	prepared  = time.Second // for how long a member waits for the coordinator
	retry     = 500 * time.Millisecond
	startUp   = 10 * time.Second // no event comes before
	quiet     = time.Minute
	again     = 10 * time.Minute
	unheard   = 15 * time.Second
	stalled   = 10 * time.Minute
	meanLoad  = 1000
	mostSteps = 200_000 // a hundred times what a usual run takes

	// rest is how long nothing happens at the end. A deployment that has stopped may have to count as one first, and
	// then a shard may have to wait until it may be moved again.
	rest = 90 * time.Minute
)

// start is the time at which each run begins, by clocks that are right.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Result is the result of a run.
type Result struct {
	Err    error         // what was found to be wrong
	Took   time.Duration // how long the run took in virtual time
	Steps  int
	Counts Counts
	Trace  []string // what happened, with Options.Trace
	Stays  [][]Stay // by shard: whom it belonged to, one after the other
	Died   []string // the members that have died
}

// Stay says since when a shard has belonged to a member.
type Stay struct {
	Owner string // "": nobody
	Since time.Duration
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
	events  agenda
	seq     uint64
	layout  keys.Layout
	group   membership.Group
	store   *store
	desk    *order.Desk
	members []*member
	views   []*membership.View // at each revision at which the group has changed
	load    []int64            // by shard
	holders []holder           // by shard: who handles it
	calm    bool               // no further fault begins
	res     Result

	judge judge
}

// holder is the life of a member that handles a shard.
type holder struct {
	m    *member // nil: nobody handles it
	life int
}

// event is something that happens at a moment, in a life of a member or outside of all members.
type event struct {
	at   time.Duration
	seq  uint64
	m    *member
	life int
	f    func()
}

type agenda []event

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}

func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = event{}
	*a = (*a)[:last]
	return e
}

// after calls f after some time.
func (w *world) after(d time.Duration, f func()) { w.in(d, nil, f) }

// in calls f after some time, unless the member's life has ended by then.
func (w *world) in(d time.Duration, m *member, f func()) {
	w.seq++
	e := event{at: w.now + max(d, 0), seq: w.seq, m: m, f: f}
	if m != nil {
		e.life = m.life
	}
	heap.Push(&w.events, e)
}

// chance returns true in some percent of cases, and never when it is calm.
func (w *world) chance(percent int) bool {
	return !w.calm && percent > 0 && w.rng.IntN(100) < percent
}

// upTo returns a random duration of at most d.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d) + 1)) }

// lag returns how late a member sees something.
func (w *world) lag() time.Duration {
	most := time.Duration(w.plan.Lag) * time.Millisecond
	if w.chance(5) {
		most *= 5
	}
	return 100*time.Microsecond + w.upTo(most)
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

// view is the last view.
func (w *world) view() *membership.View { return w.views[len(w.views)-1] }

func (w *world) rules() placement.Rules {
	return placement.Rules{
		Quiet: quiet, PerMinute: int64(w.plan.PerMinute) * meanLoad, Moving: int64(w.plan.Moving) * meanLoad,
		MovingPerMember: int64(w.plan.PerMember) * meanLoad, Again: again,
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

// newWorld makes an app, the members that start together, and the agenda.
func newWorld(p Plan, opts Options) *world {
	w := &world{plan: p, opts: opts, rng: rand.New(rand.NewPCG(p.Seed, 2)), layout: keys.New("/drm", "app")}
	w.store = newStore(w)
	w.group = membership.Group{Root: w.layout.Root(), Shards: p.Shards, Config: 1}
	w.views = []*membership.View{w.group.View(nil, 0)}
	w.holders = make([]holder, p.Shards)
	w.res.Stays = make([][]Stay, p.Shards)
	w.judge.init(w)
	operator := clientv3.NewKVFromKVClient(line{s: w.store}, nil)
	if _, err := operator.Put(context.Background(), w.layout.Config(), "{}"); err != nil {
		panic(err)
	}
	w.group.Config = w.store.kvs[w.layout.Config()].CreateRevision
	client := clientv3.NewCtxClient(context.Background())
	client.KV = operator
	client.Lease = clientv3.NewLeaseFromLeaseClient(lessor{s: w.store}, nil, time.Second)
	w.desk = &order.Desk{
		Reader: &picture.Reader{
			Client: client, Layout: w.layout, Shards: p.Shards, Timeout: time.Minute,
		},
		Created: w.group.Config,
		Wall:    func() time.Time { return start.Add(w.now) },
	}
	for range p.Shards {
		w.load = append(w.load, w.drawLoad(p.Uneven))
	}
	if p.Uneven == 3 {
		w.load[w.rng.IntN(p.Shards)] = meanLoad * int64(1+w.rng.IntN(2*p.Shards))
	}
	for i := range p.Members {
		w.in(w.upTo(100*time.Millisecond), nil, func() { w.member(i).begin() })
	}
	end := startUp
	for _, e := range p.Events {
		w.after(startUp+e.At, func() { w.befall(e) })
		end = max(end, startUp+e.At)
	}
	w.after(end+time.Millisecond, w.endFaults)
	return w
}

func (w *world) drawLoad(uneven int) int64 {
	switch uneven {
	case 1:
		return meanLoad * int64(w.rng.IntN(3))
	case 2:
		return meanLoad/5 + w.rng.Int64N(2*meanLoad)
	}
	return meanLoad
}

// play makes the events on the agenda happen, one after the other.
func (w *world) play() {
	for w.res.Err == nil && len(w.events) > 0 {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		if e.m != nil && e.life != e.m.life {
			continue
		}
		e.f()
		if w.res.Steps++; w.res.Steps == mostSteps {
			w.fail("%d steps, and no end: something is done over and over", mostSteps)
		}
		if w.judge.over {
			return
		}
	}
}

// endFaults lets nothing else go wrong, and looks how the group is once it has come to rest.
func (w *world) endFaults() {
	w.trace("the faults end")
	w.calm = true
	for _, m := range w.members {
		m.cut = false
	}
	w.after(2*time.Minute, func() { // those that are about to stop have stopped by then
		for _, m := range w.members {
			if m.stage != off {
				return
			}
		}
		w.member(0).begin()
	})
	w.after(rest, w.judge.atRest)
}
