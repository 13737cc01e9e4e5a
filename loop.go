package drm

import (
	"errors"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/lease"
)

// The loop is the one goroutine that touches the core and the maps beside it. Everyone else posts to it.

// post hands f to the loop. It never blocks.
func (m *Manager) post(f func()) bool { return m.mailbox.post(f) }

// ask runs f on the loop and waits for it; false means that the loop has ended and f did not run.
func (m *Manager) ask(f func()) bool {
	ran := make(chan struct{})
	if !m.post(func() { f(); close(ran) }) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-m.loopDone:
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// now is the time that leases are measured by.
func (m *Manager) now() time.Duration { return m.clock.Now() }

func (m *Manager) runLoop() {
	defer close(m.loopDone)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var armed time.Duration // when the timer is due; 0: not
	recent := clock.Recent(m.clock)
	for {
		select {
		case <-m.mailbox.wake:
		case <-timer.C:
			armed = 0
		case <-m.endLoop:
			m.mailbox.close()
			return
		}
		m.stamp = recent.Now()
		for _, f := range m.mailbox.take() {
			f()
		}
		m.core.Tick(m.stamp)
		m.execute(m.core.Actions())
		if at, ok := m.core.NextTimer(); ok && (armed == 0 || at < armed || m.stamp >= armed) { // a machine that slept has kept the timer waiting
			armed = at
			timer.Reset(max(at-m.stamp, time.Millisecond))
		}
		m.tellIdle()
	}
}

// tellIdle lets Stop go on once nothing is held any more.
func (m *Manager) tellIdle() {
	if m.stopping && m.core.Idle() {
		m.idleOnce.Do(func() { close(m.idle) })
	}
	if m.halted && m.core.Quiet() {
		m.noise.Do(func() { close(m.quiet) })
	}
}

// execute does what the core decided.
func (m *Manager) execute(actions []core.Action) {
	if len(actions) == 0 {
		return
	}
	m.group.figures.stir()
	writes, states := m.writes[:0], m.stateWrites[:0] // Submit copies
	epoch := m.epoch()
	for _, a := range actions {
		switch a.Kind {
		case core.Watch:
			m.watchShard(a.Shard)
		case core.Unwatch:
			m.unwatchShard(a.Shard)
		case core.NeedLease:
			m.grantLease()
		case core.Revoke:
			m.revokeLease(a.Lease)
		case core.Claim:
			writes = append(writes, m.claimOp(a, epoch))
		case core.Release:
			writes = append(writes, lease.Op{
				Key: m.layout.Claim(a.Shard, a.ID), Group: a.Shard, Expect: a.Token, Delete: true, Tag: m.tagOf(&a),
			})
		case core.WriteState:
			states = append(states, m.stateOp(a, epoch))
		case core.WriteSummary:
			states = append(states, m.summaryOp(a))
		case core.DeleteSummary:
			states = append(states, lease.Op{
				Key: m.layout.Summary(a.Shard, a.Lease), Group: a.Shard, Lease: clientv3.LeaseID(a.Lease), Any: true, Delete: true, Tag: m.tagOf(&a),
			})
		case core.Handle:
			m.calls.Handle(m.stamp, a, m.leaseOf(a))
		case core.Update:
			m.calls.Update(a)
		case core.Terminate:
			m.calls.Terminate(a, m.leaseOf(a))
		case core.Cancel:
			m.calls.Cancel(a)
		}
	}
	if len(writes) > 0 {
		m.claims.Submit(writes...)
		m.writes = keep(writes)
	}
	if len(states) > 0 {
		m.states.Submit(states...)
		m.stateWrites = keep(states)
	}
}

// leaseOf is the lease that an action's claim is on; nil where it is gone.
func (m *Manager) leaseOf(a core.Action) *calls.Lease {
	if l := m.leases[a.Lease]; l != nil {
		return l.Lease
	}
	return nil
}

// keep empties a slice of ops whose room is used again, unless it is more than usual.
func keep(ops []lease.Op) []lease.Op {
	if cap(ops) > 4096 {
		return nil
	}
	clear(ops)
	return ops[:0]
}

// opTag is what a write's result is told to the core by.
type opTag struct {
	id    string
	token int64
	shard int32
	kind  core.ActionKind
}

// tagOf takes the room for a tag out of a larger piece, which lasts as long as any tag in it.
func (m *Manager) tagOf(a *core.Action) *opTag {
	const piece = 64
	if len(m.tags) == 0 {
		m.tags = make([]opTag, piece)
	}
	tag := &m.tags[0]
	m.tags = m.tags[1:]
	*tag = opTag{a.ID, a.Token, int32(a.Shard), a.Kind}
	return tag
}

func (m *Manager) claimOp(a core.Action, epoch time.Time) lease.Op {
	return lease.Op{
		Key: m.layout.Claim(a.Shard, a.ID), Group: a.Shard, Lease: clientv3.LeaseID(a.Lease), Tag: m.tagOf(&a),
		Value: m.encoder.Encode(claims.Claimed, epoch.Add(a.Since), ""), Vacant: a.Vacant,
	}
}

var stateNames = [...]string{core.StateClaimed: claims.Claimed, core.StateActive: claims.Active, core.StateFailed: claims.Failed}

func (m *Manager) stateOp(a core.Action, epoch time.Time) lease.Op {
	return lease.Op{
		Key: m.layout.Claim(a.Shard, a.ID), Group: a.Shard, Expect: a.Token, Lease: clientv3.LeaseID(a.Lease), Tag: m.tagOf(&a),
		Value: m.encoder.Encode(stateNames[a.State], epoch.Add(a.Since), a.Err),
	}
}

func (m *Manager) summaryOp(a core.Action) lease.Op {
	return lease.Op{
		Key: m.layout.Summary(a.Shard, a.Lease), Group: a.Shard, Lease: clientv3.LeaseID(a.Lease), Any: true, Tag: m.tagOf(&a),
		Value: claims.Summary{Member: m.id, Through: a.Token, Within: a.Within}.Encode(),
	}
}

// epoch is when the clock that leases are measured by stood at zero, by the wall clock as it is now.
func (m *Manager) epoch() time.Time { return m.wall().Add(-m.stamp) }

// written takes the results of a batch of claims, releases and states to the core.
func (m *Manager) written(results []lease.Result) {
	m.post(func() {
		now := m.stamp
		m.group.figures.stir()
		for _, r := range results {
			of := r.Op.Tag.(*opTag)
			shard, res := int(of.shard), m.writeResult(r)
			switch of.kind {
			case core.Claim:
				m.core.ClaimDone(now, shard, of.id, res)
			case core.Release:
				m.core.ReleaseDone(now, shard, of.id, res)
			case core.WriteSummary, core.DeleteSummary:
				m.core.SummaryDone(now, shard, int64(r.Op.Lease), of.token, res)
			default:
				m.core.StateDone(now, shard, of.id, of.token, res)
			}
		}
	})
}

func (m *Manager) writeResult(r lease.Result) core.WriteResult {
	res := core.WriteResult{
		Applied: r.Applied, Revision: r.Revision,
		FoundToken: r.Found.CreateRevision, FoundLease: int64(r.Found.Lease),
	}
	switch err := r.Err; {
	case err == nil:
	case errors.Is(err, lease.ErrLeaseGone):
		res.LeaseGone = true
		if l := m.leases[int64(r.Op.Lease)]; l != nil {
			l.Keeper.Fence(err)
			m.noteGone(l)
		}
	case errors.Is(err, lease.ErrUnknown):
		res.Unknown = true
	default:
		res.Failed = true
		if errors.Is(err, lease.ErrGuard) {
			m.appGone.Do(func() { m.log.Error("nothing is claimed any more", zap.Error(ErrAppGone)) })
		}
	}
	return res
}
