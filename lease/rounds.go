package lease

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// minPause is a pause that is worth setting a timer for.
const minPause = 100 * time.Microsecond

var (
	// errUnanswered says that the keepalive of a round was not answered within the RetryInterval.
	errUnanswered = errors.New("etcd has not answered yet")
	// errNoRound says that the goroutine that sends does not run, as it may be while the machine is very busy.
	errNoRound = errors.New("no keepalive was sent")
)

// Rounds renews the leases of many Keepers, as long as all goes well: when a tick comes, one goroutine sends a
// keepalive for each lease that is due, and each answer moves a deadline, which wakes nobody up. Where a keepalive is
// not answered within RetryInterval, is answered with an error, or is not sent, since it is not certain that the
// lease's owner works, the Keeper itself renews the lease, until etcd has answered once.
//
// So a process with hundreds of leases that are all well has no timer, no context and no goroutine for each keepalive.
// That a lease is fenced in time does not depend on it that Rounds work: another goroutine makes all Keepers renew
// their leases themselves if no tick has come for long.
//
// Its methods are safe for concurrent use. The owner calls Close when each Keeper that uses it has ended.
type Rounds struct {
	renewer *Renewer
	RoundsOptions
	beaten atomic.Int64 // when beat did last what was due

	mu     sync.Mutex // is held for a moment only
	rounds map[rhythm]*round
	runs   bool // there are goroutines
	closed bool
	end    chan struct{} // closed to end the goroutines
	lives  []life        // what is left of a slab
	pulses []Pulse       // what is left of a slab
	// wake and alert hold tokens, for the goroutine that sends and for the other one, when there is a new Keeper.
	wake, alert chan struct{}
	ending      sync.WaitGroup
}

// rhythm is what Keepers have in common whose leases are renewed together.
type rhythm struct{ interval, early, retry, attempt, margin time.Duration }

// round is the leases of one rhythm.
type round struct {
	rhythm
	leases []*life // guarded by the Rounds

	// What follows is for the goroutine that sends.
	next    time.Duration // when the leases are due
	overdue time.Duration // when those that are not answered are overdue; 0: that was looked at
	asked   []turn        // the keepalives of the last time
	all     []*life       // a buffer
}

// turn is one keepalive of a round.
type turn struct {
	renewal
	of     *life
	round  *round
	rounds *Rounds
	at     time.Duration // when it was sent
	open   atomic.Bool   // it has no outcome yet
}

// RoundsOptions are what Rounds need besides a Renewer.
type RoundsOptions struct {
	// Clock measures the lives of the leases. Required.
	Clock Clock
	// Ready, if given, says whether keepalives may be sent at all. With an error, none is sent, and each Keeper tries
	// for itself. It must not block.
	Ready func() error
	// Check, if given, is called with the header of each answer. Its error says that no lease of this etcd exists any
	// more. It must not block.
	Check func(*pb.ResponseHeader) error
}

// NewRounds makes Rounds that send keepalives by a Renewer, which they never close.
func NewRounds(r *Renewer, o RoundsOptions) *Rounds {
	return &Rounds{
		renewer: r, RoundsOptions: o, rounds: map[rhythm]*round{},
		end: make(chan struct{}), wake: make(chan struct{}, 1), alert: make(chan struct{}, 1),
	}
}

// Close ends the rounds, and waits for their goroutines. Keepers that are left renew their leases themselves. Further
// calls do nothing.
func (rs *Rounds) Close() {
	rs.mu.Lock()
	if !rs.closed {
		rs.closed = true
		close(rs.end)
	}
	for _, rd := range rs.rounds {
		for _, l := range rd.leases {
			l.keeper.apart.Store(true)
			l.keeper.fallBehind(nil)
		}
	}
	clear(rs.rounds)
	rs.mu.Unlock()
	rs.ending.Wait()
}

// join makes a Keeper take part, from the next tick on.
func (rs *Rounds) join(k *Keeper) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		k.apart.Store(true)
		k.behind.Store(true)
		return
	}
	if len(rs.rounds) == 0 {
		rs.beaten.Store(int64(rs.Clock.Now()))
	}
	in := k.opts.rhythm()
	rd := rs.rounds[in]
	if rd == nil {
		rd = &round{rhythm: in, next: in.tickAfter(rs.Clock.Now())}
		rs.rounds[in] = rd
	}
	k.place = len(rd.leases)
	rd.leases = append(rd.leases, k.life)
	if !rs.runs {
		rs.runs = true
		rs.ending.Go(rs.run)
		rs.ending.Go(rs.guard)
	}
	for _, c := range [...]chan struct{}{rs.wake, rs.alert} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// leave takes a Keeper out.
func (rs *Rounds) leave(k *Keeper) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return
	}
	rd := rs.rounds[k.opts.rhythm()]
	last := len(rd.leases) - 1
	rd.leases[k.place], rd.leases[last].keeper.place = rd.leases[last], k.place
	rd.leases[last] = nil
	if rd.leases = rd.leases[:last]; last == 0 {
		delete(rs.rounds, rd.rhythm)
	}
}

// run does what is due, when it is due.
func (rs *Rounds) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-rs.wake:
		case <-rs.end:
			return
		}
		if pause, ok := rs.beat(); ok {
			timer.Reset(pause)
		}
	}
}

// beat does what is due, and returns when something is due next; ok is false if there is nothing.
func (rs *Rounds) beat() (pause time.Duration, ok bool) {
	rs.mu.Lock()
	all := slices.Collect(maps.Values(rs.rounds))
	rs.mu.Unlock()
	now, first := rs.Clock.Now(), time.Duration(math.MaxInt64)
	for _, rd := range all {
		if rd.overdue != 0 && now >= rd.overdue {
			rd.look()
		}
		if now >= rd.next {
			rd.look()
			rs.ask(rd)
			rd.next = rd.tickAfter(now)
		}
		if first = min(first, rd.next); rd.overdue != 0 {
			first = min(first, rd.overdue)
		}
	}
	rs.beaten.Store(int64(now))
	return max(first-now, minPause), len(all) > 0
}

// ask sends a keepalive for each lease of a round.
func (rs *Rounds) ask(rd *round) {
	rs.mu.Lock()
	rd.all = append(rd.all[:0], rd.leases...)
	rs.mu.Unlock()
	var unready error
	if rs.Ready != nil {
		unready = rs.Ready()
	}
	asked := rd.buffer(len(rd.all))
	sent := rs.Clock.Now()
	for _, l := range rd.all {
		switch {
		case l.fenced.Load() || l.alone.Load():
		case unready != nil || !l.pulse.rests():
			l.keeper.fallBehind(unready)
		default:
			asked = append(asked, turn{of: l, round: rd, rounds: rs, at: sent})
			t := &asked[len(asked)-1]
			t.lease, t.to = int64(l.id), t
			t.open.Store(true)
		}
	}
	rs.renewer.renewAll(asked, time.Now().Add(rd.attempt))
	rd.asked, rd.overdue = asked, sent+rd.retry
	clear(rd.all) // a buffer keeps nothing alive
}

// buffer returns room for as many turns: that of the last time, if each keepalive has had its outcome.
func (rd *round) buffer(n int) []turn {
	if cap(rd.asked) < n || cap(rd.asked) > 2*n+16 {
		return make([]turn, 0, n)
	}
	for i := range rd.asked {
		if rd.asked[i].open.Load() {
			return make([]turn, 0, n)
		}
	}
	return rd.asked[:0]
}

// look makes the Keepers renew their leases whose keepalives are not answered.
func (rd *round) look() {
	if rd.overdue == 0 {
		return
	}
	for i := range rd.asked {
		if t := &rd.asked[i]; time.Duration(t.of.renewed.Load()) < t.at {
			t.of.keeper.fallBehind(errUnanswered)
		}
	}
	rd.overdue = 0
}

// guard makes all Keepers renew their leases themselves when no tick has come for long.
func (rs *Rounds) guard() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-rs.alert:
		case <-rs.end:
			return
		}
		if pause := rs.lookAfter(); pause > 0 {
			timer.Reset(pause)
		}
	}
}

// lookAfter does what guard does, and returns when it is to be called again; 0: when there is a Keeper.
func (rs *Rounds) lookAfter() (pause time.Duration) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for in := range rs.rounds {
		if pause == 0 || in.interval < pause {
			pause = in.interval
		}
	}
	if rs.Clock.Now()-time.Duration(rs.beaten.Load()) <= 2*pause {
		return pause
	}
	for _, rd := range rs.rounds {
		for _, l := range rd.leases {
			l.keeper.fallBehind(errNoRound)
		}
	}
	return pause
}

// renewed implements receiver.
func (t *turn) renewed(got renewed) {
	defer t.open.Store(false)
	if t.of.fenced.Load() {
		return
	}
	var gone error
	switch {
	case got.err != nil:
		t.of.keeper.fallBehind(fmt.Errorf("keep lease %x alive: %w", t.lease, rpctypes.Error(got.err)))
		return
	case got.resp.TTL <= 0:
		gone = rpctypes.ErrLeaseNotFound
	case t.rounds.Check != nil:
		if err := t.rounds.Check(got.resp.Header); err != nil {
			gone = fmt.Errorf("%w: %w", rpctypes.ErrLeaseNotFound, err)
		}
	}
	if gone != nil {
		t.of.keeper.Fence(fmt.Errorf("keep lease %x alive: %w", t.lease, gone))
		return
	}
	t.of.extend(t.at, time.Duration(got.resp.TTL)*time.Second, t.round.margin, t.rounds.Clock)
	if t.of.alone.Load() {
		t.of.keeper.poke() // it is late, and yet the Keeper need not go on
	}
}

// fallBehind makes the Keeper renew its lease itself, since a round could not; why is nil if the owner may not work.
func (k *Keeper) fallBehind(why error) {
	k.mu.Lock()
	k.lapse = why
	k.mu.Unlock()
	k.behind.Store(true)
	k.poke()
}

// heed decides whether the lease is renewed in rounds, or by this loop: by the loop from when a round could not, or
// none came, until etcd has answered one more keepalive.
func (l *loop) heed(now time.Duration) {
	if l.opts.Rounds == nil {
		return
	}
	last := time.Duration(l.renewed.Load())
	if l.alone.Load() {
		if last <= l.since || l.apart.Load() {
			return
		}
		l.behind.Store(false) // what an earlier round says is old
		l.alone.Store(false)
	}
	if !l.behind.Swap(false) && !l.apart.Load() && now < l.late() {
		return
	}
	l.mu.Lock()
	l.failure = l.lapse
	l.mu.Unlock()
	l.since, l.next = last, now
	l.alone.Store(true)
}

// late is when the loop renews the lease if it is woken up and no round has.
func (k *Keeper) late() time.Duration {
	return k.opts.tickAfter(time.Duration(k.renewed.Load())) + k.opts.Interval
}

// leads says whether the loop renews the lease.
func (l *loop) leads() bool { return l.opts.Rounds == nil || l.alone.Load() }
