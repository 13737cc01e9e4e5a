package member

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/lease"
)

// executor carries out what the core decides, and reports the results of writes to the core. Only the loop uses it;
// written alone may be called by any goroutine.
type executor struct {
	core    *core.Core
	post    func(func(now time.Duration)) bool
	id      string
	life    string // differs each time that a member starts
	layout  keys.Layout
	encoder claims.Encoder
	wall    func() time.Time
	log     *zap.Logger
	stir    func(now time.Duration) // notes that the member's figures may have changed

	shards *shards
	leases *leases
	calls  *calls.Calls
	moves  *moves
	keys   *keyFinder

	// decline tells the other members which shards this one declines.
	decline func(shards []bool, lacks []int)
	claims  *lease.Writer // of claims and releases
	states  *lease.Writer // of states and summaries; a writer of its own, so that they do not delay claims
	trails  *lease.Writer // of trails and what follows from them; Handle waits for them, so that nothing may delay them

	tasks   *tasks
	kv      clientv3.KV
	leased  clientv3.Lease  // tells whether leases have ended
	working context.Context // ends the requests of tasks
	timeout time.Duration   // of each request

	writes      []lease.Op    // a buffer of execute for claims and releases, used again each time
	stateWrites []lease.Op    // the same for states and summaries
	trailWrites []lease.Op    // the same for trails
	claimed     map[int]int64 // a buffer of execute
	endings     endings
	tags        []opTag   // what is left of the piece that tagOf takes tags from
	appGone     sync.Once // logs the end of the app once
}

// execute carries out what the core has decided.
func (e *executor) execute(now time.Duration, actions []core.Action) {
	if len(actions) == 0 {
		return
	}
	e.stir(now)
	writes, states, trails := e.writes[:0], e.stateWrites[:0], e.trailWrites[:0] // Submit copies them
	epoch := e.epoch(now)
	claimed := e.claimed // by shard: the lease of the last claim
	clear(claimed)
	for _, a := range actions {
		switch a.Kind {
		case core.Watch:
			e.shards.watch(a.Shard)
		case core.Unwatch:
			e.shards.unwatch(a.Shard)
		case core.NeedLease:
			e.leases.grant()
		case core.Revoke:
			e.leases.revoke(a.Lease)
		case core.Claim:
			writes = append(writes, e.claim(a, epoch))
			claimed[a.Shard] = a.Lease
		case core.Release:
			writes = append(writes, e.release(a))
		case core.WriteState:
			states = append(states, e.state(a, epoch))
		case core.WriteSummary:
			states = append(states, e.summary(a))
		case core.DeleteSummary:
			states = append(states, e.noSummary(a))
		case core.Decline:
			e.decline(e.core.Declined())
		case core.FindKey:
			e.keys.find(a)
		case core.WriteTrail, core.DeleteTrail, core.TakeAlone, core.FreeAlone, core.DeleteQuarantine:
			switch op := e.trace(a, epoch); {
			case a.Trail != nil && a.Trail.Member != "":
				e.edit(a.Lease, op)
			case a.Kind == core.WriteTrail && claimed[a.Shard] == a.Lease: // it costs no transaction of its own
				op.Lease, op.Unleased = clientv3.LeaseID(a.Lease), true
				writes = append(writes, op)
			default:
				trails = append(trails, op)
			}
		case core.DeleteRetry: // nothing waits for it
			states = append(states, lease.Op{
				Key: e.layout.Retry(a.Shard, a.ID), Group: a.Shard, Expect: a.Token, Modified: true, Delete: true,
				Tag: &traceTag{kind: a.Kind, shard: a.Shard, id: a.ID},
			})
		case core.Exonerate:
			e.exonerate(a)
		case core.WriteQuarantine:
			e.quarantine(a, epoch)
		case core.Handle:
			e.calls.Handle(now, a, e.leases.of(a.Lease))
		case core.Update:
			e.calls.Update(a)
		case core.Terminate:
			e.calls.Terminate(a, e.leases.of(a.Lease))
		case core.Cancel:
			e.calls.Cancel(a)
		case core.GiveAway:
			e.moves.give(a.ID, a.Err)
		}
	}
	if len(writes) > 0 {
		e.claims.Submit(writes...)
		e.writes = emptied(writes)
	}
	if len(states) > 0 {
		e.states.Submit(states...)
		e.stateWrites = emptied(states)
	}
	if len(trails) > 0 {
		e.trails.Submit(trails...)
		e.trailWrites = emptied(trails)
	}
}

// emptied empties a buffer, so that it can be used again. It drops a buffer that has grown unusually large.
func emptied(ops []lease.Op) []lease.Op {
	if cap(ops) > 4096 {
		return nil
	}
	clear(ops)
	return ops[:0]
}

// opTag identifies the resource or summary of a write, so that the core can be told the result.
type opTag struct {
	id    string
	token int64
	shard int32
	kind  core.ActionKind
}

// tagOf makes the tag of an action's write. It allocates tags in pieces; a piece lives as long as any tag in it.
func (e *executor) tagOf(a *core.Action) *opTag {
	const piece = 64
	if len(e.tags) == 0 {
		e.tags = make([]opTag, piece)
	}
	tag := &e.tags[0]
	e.tags = e.tags[1:]
	*tag = opTag{a.ID, a.Token, int32(a.Shard), a.Kind}
	return tag
}

func (e *executor) claim(a core.Action, epoch time.Time) lease.Op {
	return lease.Op{
		Key: e.layout.Claim(a.Shard, a.ID), Group: a.Shard, Lease: clientv3.LeaseID(a.Lease), Tag: e.tagOf(&a),
		Value: e.encoder.Encode(claims.Claimed, epoch.Add(a.Since), ""), Vacant: a.Vacant,
	}
}

func (e *executor) release(a core.Action) lease.Op {
	return lease.Op{
		Key: e.layout.Claim(a.Shard, a.ID), Group: a.Shard, Expect: a.Token, Delete: true, Tag: e.tagOf(&a),
	}
}

var stateNames = [...]string{
	core.StateClaimed: claims.Claimed,
	core.StateActive:  claims.Active,
	core.StateFailed:  claims.Failed,

	core.StateQuarantined: claims.Quarantined,
}

func (e *executor) state(a core.Action, epoch time.Time) lease.Op {
	return lease.Op{
		Key: e.layout.Claim(a.Shard, a.ID), Group: a.Shard, Expect: a.Token, Lease: clientv3.LeaseID(a.Lease),
		Value: e.encoder.Encode(stateNames[a.State], epoch.Add(a.Since), a.Err), Tag: e.tagOf(&a),
	}
}

func (e *executor) summary(a core.Action) lease.Op {
	return lease.Op{
		Key: e.layout.Summary(a.Shard, a.Lease), Group: a.Shard, Any: true, Lease: clientv3.LeaseID(a.Lease),
		Value: claims.Summary{Member: e.id, Through: a.Token, Within: a.Within}.Encode(), Tag: e.tagOf(&a),
	}
}

func (e *executor) noSummary(a core.Action) lease.Op {
	return lease.Op{
		Key: e.layout.Summary(a.Shard, a.Lease), Group: a.Shard, Any: true, Lease: clientv3.LeaseID(a.Lease),
		Delete: true, Tag: e.tagOf(&a),
	}
}

// epoch returns the wall time at which the clock that measures leases stood at zero, by the wall clock of now.
func (e *executor) epoch(now time.Duration) time.Time { return e.wall().Add(-now) }

// written reports the results of a batch of writes to the core. Any goroutine may call it.
func (e *executor) written(results []lease.Result) {
	e.post(func(now time.Duration) {
		e.stir(now)
		for _, r := range results {
			of, isOp := r.Op.Tag.(*opTag)
			if !isOp {
				e.tellTrace(now, r)
				continue
			}
			shard, res := int(of.shard), e.resultOf(r)
			switch of.kind {
			case core.Claim:
				e.core.ClaimDone(now, shard, of.id, res)
			case core.Release:
				e.core.ReleaseDone(now, shard, of.id, res)
			case core.WriteSummary, core.DeleteSummary:
				e.core.SummaryDone(now, shard, int64(r.Op.Lease), of.token, res)
			default:
				e.core.StateDone(now, shard, of.id, of.token, res)
			}
		}
	})
}

func (e *executor) resultOf(r lease.Result) core.WriteResult {
	res := core.WriteResult{
		Applied: r.Applied, Revision: r.Revision,
		FoundToken: r.Found.CreateRevision, FoundLease: int64(r.Found.Lease), FoundMod: r.Found.ModRevision,
	}
	switch err := r.Err; {
	case err == nil:
	case errors.Is(err, lease.ErrLeaseGone):
		res.LeaseGone = true
		e.leases.lost(int64(r.Op.Lease), err)
	case errors.Is(err, lease.ErrUnknown):
		res.Unknown = true
	default:
		res.Failed = true
		if errors.Is(err, lease.ErrGuard) {
			e.appGone.Do(func() { e.log.Error("cannot claim resources any more", zap.Error(appconfig.ErrGone)) })
		}
	}
	return res
}
