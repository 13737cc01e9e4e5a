package groupsim

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/schedule"
	"github.com/distributed-resource-manager/drm/membership"
)

// How long things take in the simulation. The proportions are those of the defaults of package drm.
const (
	ttl       = 5 * time.Second
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

// JoinDelay is how long a member waits when it has registered, before it becomes active.
const JoinDelay = 200 * time.Millisecond

// start is the time at which each run begins, by clocks that are right.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Result is the result of a run.
type Result struct {
	schedule.Result
	Counts Counts
	Stays  [][]Stay // by shard: whom it belonged to, one after the other
	Died   []string // the members that have died
}

// Stay says since when a shard has belonged to a member.
type Stay struct {
	Owner string // "": nobody
	Since time.Duration
}

// Options of Run.
type Options = schedule.Options

// world is one run.
type world struct {
	schedule.Run[*member]

	plan    Plan
	layout  keys.Layout
	group   membership.Group
	store   *store
	desk    *order.Desk
	members []*member
	views   []*membership.View // at each revision at which the group has changed
	load    []int64            // by shard
	holders []holder           // by shard: who handles it
	counts  Counts
	stays   [][]Stay // as in Result
	died    []string // as in Result

	judge judge

	procs      Processes     // nil: the processes of the members are part of this simulation
	leaderless bool          // etcd has no leader
	elected    time.Duration // when etcd has got its present leader
}

// holder is the life of a member that handles a shard.
type holder struct {
	m    *member // nil: nobody handles it
	life int
}

// after calls f after some time.
func (w *world) after(d time.Duration, f func()) { w.in(d, nil, f) }

// in calls f after some time, unless the member's life has ended by then.
func (w *world) in(d time.Duration, m *member, f func()) {
	e := schedule.Event[*member]{At: w.Now + max(d, 0), Of: m, Do: f}
	if m != nil {
		e.Life = m.life
	}
	w.Agenda.Put(e)
}

// lag returns how late a member sees something.
func (w *world) lag() time.Duration {
	most := time.Duration(w.plan.Lag) * time.Millisecond
	if w.Chance(5) {
		most *= 5
	}
	return 100*time.Microsecond + w.UpTo(most)
}

// view is the last view.
func (w *world) view() *membership.View { return w.views[len(w.views)-1] }

// quiet is how long the group must have been quiet before it is balanced.
func (w *world) quiet() time.Duration {
	if w.plan.Quick {
		return 2 * time.Second
	}
	return quiet
}

// again is how long after a shard was moved for balance it may be moved again for that.
func (w *world) again() time.Duration {
	if w.plan.Quick {
		return 20 * time.Second
	}
	return again
}

func (w *world) rules() placement.Rules {
	return placement.Rules{
		Quiet: w.quiet(), PerMinute: int64(w.plan.PerMinute) * meanLoad, Moving: int64(w.plan.Moving) * meanLoad,
		MovingPerMember: int64(w.plan.PerMember) * meanLoad, Again: w.again(),
	}
}

// Run plays a Plan to its end. A panic is a finding like any other.
func Run(p Plan, opts Options) Result {
	w := newWorld(p, opts)
	w.Play(w.play)
	return Result{w.Result, w.counts, w.stays, w.died}
}

// makeWorld makes an app without members.
func makeWorld(p Plan, opts Options) *world {
	w := &world{plan: p, Run: schedule.NewRun[*member](opts, p.Seed, 2), layout: keys.New("/drm", "app")}
	w.store = newStore(w)
	w.group = membership.Group{Root: w.layout.Root(), Shards: p.Shards, Config: 1}
	w.views = []*membership.View{w.group.View(nil, 0)}
	w.holders = make([]holder, p.Shards)
	w.stays = make([][]Stay, p.Shards)
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
		Wall:    func() time.Time { return start.Add(w.Now) },
	}
	for range p.Shards {
		w.load = append(w.load, w.drawLoad(p.Uneven))
	}
	if p.Uneven == 3 {
		w.load[w.Rand.IntN(p.Shards)] = meanLoad * int64(1+w.Rand.IntN(2*p.Shards))
	}
	return w
}

// newWorld makes an app, the members that start together, and the agenda.
func newWorld(p Plan, opts Options) *world {
	w := makeWorld(p, opts)
	for i := range p.Members {
		w.in(w.UpTo(100*time.Millisecond), nil, func() { w.member(i).begin() })
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
		return meanLoad * int64(w.Rand.IntN(3))
	case 2:
		return meanLoad/5 + w.Rand.Int64N(2*meanLoad)
	}
	return meanLoad
}

// play makes the events on the agenda happen, one after the other.
func (w *world) play() {
	for w.Result.Err == nil && !w.judge.over {
		e := w.Agenda.Take()
		w.Now = e.At
		w.happen(e)
	}
}

// happen makes an event happen, unless the life that it belongs to has ended.
func (w *world) happen(e schedule.Event[*member]) {
	switch {
	case e.Of != nil && e.Life != e.Of.life:
		return
	case e.Of != nil && e.Of.paused:
		e.Of.late = append(e.Of.late, e.Do)
	default:
		e.Do()
	}
	w.Step(mostSteps)
}

// endFaults lets nothing else go wrong, and looks how the group is once it has come to rest.
func (w *world) endFaults() {
	w.Tracef("the faults end")
	w.Calm = true
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
