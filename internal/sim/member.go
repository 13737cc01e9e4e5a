package sim

import (
	"math/rand/v2"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// member is one process around a Core, or the place where such a process comes back.
type member struct {
	w      *world
	index  int
	name   string
	skew   time.Duration // how many permille its clock is fast
	offset time.Duration
	gen    int // the number of its present process

	up, paused, cut bool
	deaf, stalls    int // reasons why it hears nothing of etcd, or no news
	drains, keyless int // reasons why it gets no shards
	unready         int // reasons why it cannot work
	pausedAt, cutAt time.Duration
	apart           bool          // whether it was out of touch with etcd after the last step
	apartAt         time.Duration // when it was out of touch last
	back            time.Duration // after which time it starts again after an orderly end; never: it does not
	late            []func()      // events that came due while it was paused
	resumedAt       time.Duration

	busy    int      // reasons why its loop gets to nothing
	mail    []func() // events that wait for the loop
	blocked int      // reasons why its log's sink accepts nothing; the member must not wait for it

	core      *core.Core
	stopping  bool
	stopped   bool            // the core knows that the member stops
	ending    bool            // the member has stopped, and its process is about to end
	view      int             // the newest view that it was told of
	activeAt  time.Duration   // when it first became active in its group, by its clock; 0: it has not
	owned     []bool          // for each shard: whether it owns the shard in that view
	moved     core.Exceptions // from that, in that view
	heard     int64           // the newest revision that a watch told of
	timerAt   time.Duration
	granting  bool
	keepers   []*keeper
	followers []*follower // for each shard
	handlings []*handling // for each resource
	calls     []*call     // for each resource: the call in progress, even if it was given up
	unbegun   []bool      // for each resource: Handle was given up before it began, and then refused
	tokens    []int64     // for each resource: the newest token that Handle was called with
	conflicts []int64     // for each resource: the claim that was found last when claiming
	news      []claimNews // what the loop is being told
	numbers   []number    // for each resource: the number of the last request to the receiver
	children  []*child    // what its former processes have left
	orphaned  []int64     // the leases of its last process, which its supervisor is to revoke
	receiver  *receiver
	lives     lives
	begun     map[string][]time.Duration // when Handle was called, by what bounds that
}

// post makes the member's loop call f, at once unless the loop is busy.
func (m *member) post(f func()) {
	if m.busy == 0 && len(m.mail) == 0 {
		f()
		return
	}
	m.w.count(Delayed)
	m.mail = append(m.mail, f)
}

// flush makes the loop handle everything that has waited for it.
func (m *member) flush() {
	for m.busy == 0 && len(m.mail) > 0 {
		f := m.mail[0]
		m.mail = m.mail[1:]
		f()
	}
}

// clock is the time of the member's own clock, which runs a little fast or slow, and goes on during pauses.
func (m *member) clock() time.Duration { return m.clockAt(m.w.Now) }

func (m *member) clockAt(t time.Duration) time.Duration { return m.offset + t + t*m.skew/1000 }

// atClock calls f in the process once the member's clock shows t.
func (m *member) atClock(t time.Duration, f func()) {
	m.w.at(m.worldAt(t)+1, m, f)
}

// worldAt returns the time of the world at which the member's clock shows t. It is the inverse of clockAt.
func (m *member) worldAt(t time.Duration) time.Duration {
	return (t - m.offset) * 1000 / (1000 + m.skew)
}

// after calls f in the process after some time.
func (m *member) after(d time.Duration, f func()) { m.w.at(m.w.Now+d, m, f) }

func (m *member) start() {
	if m.up || m.w.closing {
		return
	}
	w := m.w
	m.gen++
	w.Tracef("%s: starts", m.name)
	if m.gen > 1 {
		w.count(Restarted)
		if w.store.hasClaimsOf(m) {
			w.count(RestartedEarly)
		}
	}
	m.up, m.paused, m.stopping, m.stopped, m.ending = true, false, false, false, false
	m.late, m.view, m.timerAt = nil, 0, 0
	m.begun = map[string][]time.Duration{}
	cfg := core.Config{
		HandleConcurrency: w.plan.HandleConcurrency, TerminateConcurrency: w.plan.TerminateConcurrency,
		ReleaseBacklog: w.plan.ReleaseBacklog, ReleaseLeast: 1, ReleaseSlow: 50 * time.Millisecond,
		Handover:       300 * time.Millisecond,
		HandleAttempts: w.plan.HandleAttempts,
		MoveAfter:      w.plan.MoveAfter,
		Backoff:        100 * time.Millisecond, BackoffMax: backoffMax,
		RetryMin: 20 * time.Millisecond, RetryMax: retryMax, UncertainFor: uncertainFor,
		HoldUntilTerminated: w.plan.HoldUntilTerminated, CanUpdate: w.plan.CanUpdate, FinishCalls: w.plan.FinishCalls,
		KeysPerLease: w.plan.KeysPerLease, LeaseIdle: 2 * time.Second,
		WriteBacklog: w.plan.WriteBacklog, StateDelay: time.Second, SummaryLeast: w.plan.SummaryLeast,
		QuarantineAfter: w.plan.QuarantineAfter, QuarantineWindow: time.Hour, Young: youth, Crowd: w.plan.Crowd,
		Rand: rand.New(rand.NewPCG(w.plan.Seed, uint64(m.index)<<32|uint64(m.gen))),
	}
	w.plan.Limits.bound(&cfg)
	m.core = core.New(cfg)
	m.core.PauseClaims(m.clock(), true) // a member claims nothing until it has joined
	if w.group == nil {
		m.after(w.UpTo(500*time.Millisecond), func() {
			m.post(func() {
				m.core.PauseClaims(m.clock(), false)
				m.step()
			})
		})
	}
	m.keepers, m.granting, m.heard = nil, false, 0
	m.owned, m.moved = make([]bool, w.plan.Shards), nil
	m.followers = make([]*follower, w.plan.Shards)
	m.handlings = make([]*handling, w.plan.Resources)
	m.calls = make([]*call, w.plan.Resources)
	m.unbegun = make([]bool, w.plan.Resources)
	m.tokens = make([]int64, w.plan.Resources)
	m.conflicts = make([]int64, w.plan.Resources)
	m.numbers = make([]number, w.plan.Resources)
	m.receiver, m.lives = &receiver{m: m, life: 1, of: make([]job, w.plan.Resources)}, lives{}
	m.activeAt, m.back = 0, never
	w.inGroup(func(g *groupsim.Group) { g.Begin(m.index) })
	if w.view > 0 {
		w.reassign()
	}
}

// never is the time after which a process comes back that does not.
const never = -1

// crash ends the process, with all that it handles.
func (m *member) crash(why string) {
	m.w.Tracef("%s: ends: %s", m.name, why)
	m.gen++
	m.up, m.paused = false, false
	m.busy, m.blocked, m.mail = 0, 0, nil
	m.keepers, m.receiver = nil, nil
	clear(m.followers)
	clear(m.handlings)
	clear(m.calls)
}

// resume lets a paused process go on. What should have happened meanwhile happens now, in any order.
func (m *member) resume() {
	if !m.paused {
		return
	}
	m.w.Tracef("%s: goes on", m.name)
	if m.w.Now-m.pausedAt > ttl {
		m.w.count(Resumed)
	}
	m.paused, m.resumedAt = false, m.w.Now
	m.w.inGroup(func(g *groupsim.Group) { g.Pause(m.index, false) })
	late := m.late
	m.late = nil
	for _, f := range late {
		m.after(m.w.UpTo(2*time.Millisecond), f)
	}
	m.w.reassign()
}

// stop begins an orderly end. It may take any time within bounds. The process comes back some time later.
func (m *member) stop(back time.Duration) {
	m.w.Tracef("%s: stops", m.name)
	m.stopping, m.back = true, back
	m.post(func() {
		m.stopped = true
		m.core.Stop(m.clock())
		for _, k := range m.keepers {
			k.noLonger()
		}
		m.step()
	})
	m.after(stopTimeout, func() {
		m.w.count(Overdue)
		m.exit("it took too long")
	})
}

// exit ends a process that stops. Leases with claims are left to expire.
func (m *member) exit(why string) {
	m.w.count(Stopped)
	m.w.inOrder[process{m.name, m.gen}] = true
	if m.core.Stats().Claims == 0 {
		for _, k := range m.keepers {
			k.revoke()
		}
	}
	m.crash(why)
	m.w.inGroup(func(g *groupsim.Group) { g.End(m.index) })
	if !m.w.closing && m.back != never {
		m.w.after(m.back, m.start)
	}
}

// sendView tells the member who owns what.
func (m *member) sendView() {
	if m.up && m.w.group == nil {
		m.after(m.w.delay(), m.seeView)
	}
}

func (m *member) seeView() {
	switch {
	case m.view == m.w.view || m.stopping:
	case m.cut || m.deaf > 0 || m.w.leaderless > 0:
		m.after(50*time.Millisecond, m.seeView)
	default:
		m.post(m.takeView)
	}
}

func (m *member) takeView() {
	if m.view != m.w.view && !m.stopping {
		m.view = m.w.view
		owned, alone := make([]bool, len(m.w.owners)), true
		for s, o := range m.w.owners {
			owned[s] = o == m.index
			alone = alone && (owned[s] || o < 0)
		}
		for r := range m.w.given {
			alone = alone && (m.w.ownerOf(r) == m.index || m.w.ownerOf(r) < 0)
		}
		m.w.Tracef("%s: sees view %d", m.name, m.view)
		m.owned, m.moved = owned, m.exceptions()
		if m.isMember() && !m.declines().says(m.w.declines[m.index]) {
			m.tellDeclined() // it has registered again
		}
		m.core.SetAlone(m.clock(), alone)
		m.core.SetShare(m.clock(), m.share())
		m.core.SetDeclined(m.clock(), m.w.declines[m.index].shards, m.w.lacks())
		m.core.SetOwned(m.clock(), owned, m.moved)
		m.step()
	}
}

// step carries out what the core has decided. It runs after each event that the core was told of.
func (m *member) step() {
	m.core.Tick(m.clock())
	for _, a := range m.core.Actions() {
		m.execute(a)
	}
	if err := m.core.Audit(); err != nil {
		m.w.Failf("%s: %w", m.name, err)
	}
	if at, ok := m.core.NextTimer(); ok && (m.timerAt == 0 || at < m.timerAt) {
		m.timerAt = at
		m.atClock(at+m.w.UpTo(2*time.Millisecond), func() {
			m.post(func() {
				m.timerAt = 0
				m.step()
			})
		})
	}
	if m.stopped && !m.ending && m.core.Idle() {
		m.ending = true
		m.after(0, func() { m.exit("it has stopped") }) // only after this step
	}
}

func (m *member) execute(a core.Action) {
	w := m.w
	if w.Trace {
		w.Tracef("%s: %v %s shard %d token %d lease %d %v", m.name, a.Kind, a.ID, a.Shard, a.Token, a.Lease, a.Cause)
	}
	switch a.Kind {
	case core.Claim, core.WriteState, core.WriteSummary, core.Handle, core.Update:
		if k := m.keeper(a.Lease); k == nil || k.told {
			w.Failf("%s: %v of %s under lease %d, which the core knows to be fenced", m.name, a.Kind, a.ID, a.Lease)
			return
		}
	default:
	}
	switch a.Kind {
	case core.Watch:
		m.follow(a.Shard)
	case core.Unwatch:
		m.followers[a.Shard].dead = true
		m.followers[a.Shard] = nil
	case core.NeedLease:
		if m.granting {
			w.Failf("%s: asks for two leases at once", m.name)
		}
		m.granting = true
		m.grant()
	case core.Revoke:
		m.keeper(a.Lease).revoke()
	case core.Claim, core.Release, core.WriteState, core.WriteSummary, core.DeleteSummary:
		m.executeWrite(a)
	case core.FindKey:
		m.findKey(a)
	case core.DeleteRetry: // the simulation has no such keys
	case core.Decline:
		m.tellDeclined()
	case core.WriteTrail, core.DeleteTrail, core.Exonerate, core.TakeAlone, core.FreeAlone, core.WriteQuarantine,
		core.DeleteQuarantine:
		m.executeTrace(a)
	case core.Handle, core.Update, core.Terminate:
		if a.Kind == core.Handle {
			m.noteHandle(a)
			m.checkAlone(a)
		}
		m.call(resourceOf(a), a)
	case core.Cancel:
		m.cancel(resourceOf(a), a)
	case core.GiveAway:
		r := resourceOf(a)
		m.after(w.delay(), func() { m.giveOn(r) })
	}
}

// resourceOf returns the number of the resource that an action is about.
func resourceOf(a core.Action) int { return int(a.ID[1] - '0') }

// executeWrite sends a write of the core to etcd.
func (m *member) executeWrite(a core.Action) {
	s := &m.w.store
	switch a.Kind {
	case core.Claim:
		r := resourceOf(a)
		if m.calls[r] != nil {
			m.w.Failf("%s: claims %s, of which a call still runs", m.name, a.ID)
		}
		m.write(claiming, func() core.WriteResult { return s.claim(r, a.Lease) }, func(res core.WriteResult) {
			m.checkConflict(r, a, res)
			m.noteGone(a, res)
			m.core.ClaimDone(m.clock(), a.Shard, a.ID, res)
		})
	case core.Release:
		r, kind := resourceOf(a), releasing
		m.checkRelease(r, a)
		if a.Token == 0 {
			kind = probing
		}
		m.write(kind, func() core.WriteResult { return s.release(r, a.Token) }, func(res core.WriteResult) {
			m.core.ReleaseDone(m.clock(), a.Shard, a.ID, res)
		})
	case core.WriteState:
		r := resourceOf(a)
		apply := func() core.WriteResult { return s.writeState(r, a.Token, a.Lease, a.State) }
		m.write(saving, apply, func(res core.WriteResult) {
			m.noteGone(a, res)
			m.core.StateDone(m.clock(), a.Shard, a.ID, a.Token, res)
		})
	default:
		kind := summing
		if a.Token == 0 {
			kind = unsumming
		}
		m.checkSummary(a)
		apply := func() core.WriteResult { return s.writeSummary(a.Shard, a.Lease, a.Token) }
		m.write(kind, apply, func(res core.WriteResult) {
			m.noteGone(a, res)
			m.core.SummaryDone(m.clock(), a.Shard, a.Lease, a.Token, res)
		})
	}
}

// checkConflict counts a claim that met another's claim, and fails where it meets the same one again.
func (m *member) checkConflict(r int, a core.Action, res core.WriteResult) {
	if res.Applied || res.FoundToken == 0 {
		return
	}
	m.w.count(Conflicts)
	if m.conflicts[r] == res.FoundToken {
		m.w.Failf("%s: claims %s twice though the claim %d is there", m.name, a.ID, res.FoundToken)
	}
	m.conflicts[r] = res.FoundToken
}
