package member

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/lease"
)

// traceTag identifies a write of a trail, of a record of quarantine, or of the key of the member that handles a suspect
// alone.
type traceTag struct {
	kind  core.ActionKind
	shard int
	lease int64
	id    string
	text  string // the evidence that a record of quarantine has
}

// endings are the leases of other members that etcd was asked about. Only the loop uses them.
type endings struct {
	ended   map[int64]struct{}   // the lease has ended
	waiting map[int64][]lease.Op // edits of trails that wait for etcd's answer
}

// mostEndings is how many leases are known to have ended, at most. Those that are forgotten are asked for again.
const mostEndings = 4096

// edit submits an edit of another member's trail, if the lease has ended that the trail is about.
func (e *executor) edit(id int64, op lease.Op) {
	if _, ended := e.endings.ended[id]; ended {
		e.trails.Submit(op)
		return
	}
	ops, asked := e.endings.waiting[id]
	e.endings.waiting[id] = append(ops, op)
	if asked {
		return
	}
	e.tasks.run(func() {
		ctx, cancel := context.WithTimeout(e.working, e.timeout)
		defer cancel()
		ended := e.hasEnded(ctx, id)
		e.post(func(now time.Duration) {
			ops := e.endings.waiting[id]
			delete(e.endings.waiting, id)
			if ended {
				if len(e.endings.ended) >= mostEndings {
					clear(e.endings.ended)
				}
				e.endings.ended[id] = struct{}{}
				e.trails.Submit(ops...)
				return
			}
			for _, op := range ops {
				of := op.Tag.(*traceTag)
				e.core.TrailDone(now, of.shard, of.lease, core.WriteResult{Failed: true})
			}
		})
	})
}

// trace makes the write of such an action.
func (e *executor) trace(a core.Action, epoch time.Time) lease.Op {
	op := lease.Op{
		Group: a.Shard, Expect: a.Token, Tag: &traceTag{kind: a.Kind, shard: a.Shard, lease: a.Lease, id: a.ID},
	}
	switch a.Kind {
	case core.WriteTrail:
		member, life := a.Trail.Member, a.Trail.Life
		if member == "" {
			member, life = e.id, e.life
		}
		op.Key, op.Modified = e.layout.Trail(a.Shard, a.Lease), true
		op.Value = claims.Trail{
			Member: member, Life: life, At: epoch.Add(a.Trail.At), IDs: a.Trail.IDs, Returned: a.Trail.Returned,
			Alone: a.Trail.Alone,
		}.Encode()
	case core.DeleteTrail:
		op.Key, op.Modified, op.Delete = e.layout.Trail(a.Shard, a.Lease), true, true
	case core.TakeAlone:
		op.Key, op.Lease = e.layout.Alone(), clientv3.LeaseID(a.Lease)
		op.Value = claims.Alone{Member: e.id, ID: a.ID}.Encode()
	case core.FreeAlone:
		op.Key, op.Delete = e.layout.Alone(), true
	default:
		op.Key, op.Delete = e.layout.Quarantine(a.Shard, a.ID), true
	}
	return op
}

// exonerate deletes the trails of a lease in all shards: the death that they tell of is explained.
func (e *executor) exonerate(a core.Action) {
	var ops []lease.Op
	for n := range e.shards.count {
		ops = append(ops, lease.Op{
			Key: e.layout.Trail(n, a.Lease), Group: n, Any: true, Delete: true,
			Tag: &traceTag{kind: core.Exonerate, shard: n},
		})
	}
	e.tasks.run(func() {
		ctx, cancel := context.WithTimeout(e.working, e.timeout)
		defer cancel()
		if e.hasEnded(ctx, a.Lease) { // else its member lives, and still needs them
			e.trails.Submit(ops...)
		}
	})
}

// hasEnded says whether etcd says that a lease has ended.
func (e *executor) hasEnded(ctx context.Context, id int64) bool {
	resp, err := e.leased.TimeToLive(ctx, clientv3.LeaseID(id))
	return err == nil && resp.TTL <= 0
}

// quarantine writes a record of quarantine, if all leases have ended that the record tells of: a member that lives may
// not have deleted a trail yet. Before, it asks how the processes have ended, where somebody has written that down.
func (e *executor) quarantine(a core.Action, epoch time.Time) {
	record := claims.Quarantine{Data: a.Quarantine.Digest, At: e.wall().UTC()}
	e.tasks.run(func() {
		ctx, cancel := context.WithTimeout(e.working, e.timeout)
		defer cancel()
		lives := map[[2]string]int{} // where in the record each life's death is
		for _, d := range a.Quarantine.Deaths {
			if !e.hasEnded(ctx, d.Lease) {
				e.post(func(now time.Duration) {
					e.core.QuarantineDone(now, a.Shard, a.ID, "not yet", core.WriteResult{Failed: true})
				})
				return
			}
			death := claims.Death{Member: d.Member, At: epoch.Add(d.At).UTC(), Exit: e.exitOf(ctx, d)}
			life := [2]string{d.Member, d.Life}
			if i, known := lives[life]; known { // another lease of that life
				death.Exit = cmp.Or(death.Exit, record.Deaths[i].Exit)
				record.Deaths[i] = death
				continue
			}
			lives[life] = len(record.Deaths)
			record.Deaths = append(record.Deaths, death)
		}
		e.trails.Submit(lease.Op{
			Key: e.layout.Quarantine(a.Shard, a.ID), Group: a.Shard, Value: record.Encode(),
			Tag: &traceTag{kind: a.Kind, shard: a.Shard, id: a.ID, text: record.Text()},
		})
	})
}

// exitOf returns how a process ended; "" if that is not known.
func (e *executor) exitOf(ctx context.Context, d core.Death) string {
	resp, err := e.kv.Get(ctx, e.layout.Deaths(d.Member))
	if err != nil || len(resp.Kvs) == 0 {
		return ""
	}
	known, err := claims.DecodeDeaths(resp.Kvs[0].Value)
	if err != nil {
		return ""
	}
	return known.Of(d.Lease)
}

// traced reports the results of such writes to the core. Any goroutine may call it.
func (e *executor) traced(results []lease.Result) {
	e.post(func(now time.Duration) {
		for _, r := range results {
			e.tellTrace(now, r)
		}
	})
}

// tellTrace reports the result of one such write to the core.
func (e *executor) tellTrace(now time.Duration, r lease.Result) {
	of, res := r.Op.Tag.(*traceTag), e.resultOf(r)
	switch of.kind {
	case core.WriteTrail, core.DeleteTrail:
		e.core.TrailDone(now, of.shard, of.lease, res)
	case core.TakeAlone, core.FreeAlone:
		e.core.AloneDone(now, of.kind == core.TakeAlone, res)
	case core.WriteQuarantine, core.DeleteQuarantine:
		if of.kind == core.WriteQuarantine && res.Applied {
			e.log.Error("a resource is not handled any more, since handling it was the end of members",
				zap.String("resource", of.id), zap.String("evidence", of.text),
				zap.String("free_it_with", fmt.Sprintf("drmctl retry %q", of.id)))
		}
		e.core.QuarantineDone(now, of.shard, of.id, of.text, res)
	default: // the end of a trail that accuses nobody any more, or of an order that was obeyed
	}
}

// trailKey returns what a trail's key says. Reading the value is left to the core, since it does not want to know what
// this member has written itself.
func (f *shardFollower) trailKey(key keys.Key, kv *mvccpb.KeyValue) core.TrailKey {
	return core.TrailKey{Lease: key.Lease, ModRevision: kv.ModRevision, Read: func() core.Trail {
		t, err := claims.DecodeTrail(kv.Value)
		if err != nil {
			f.shards.failures.Add(failures.Failure{
				Message: "a trail that cannot be read accuses nobody", Level: zap.WarnLevel, Error: err.Error(),
				Fields: []zap.Field{zap.String("key", string(kv.Key))},
			})
			return core.Trail{}
		}
		return core.Trail{
			Member: t.Member, Life: t.Life, At: t.At.Sub(f.shards.epoch()), IDs: t.IDs, Returned: t.Returned,
			Alone: t.Alone,
		}
	}}
}

// quarantineKey returns what a record of quarantine says; ok is false if it cannot be read, so that it says nothing.
func (f *shardFollower) quarantineKey(id string, kv *mvccpb.KeyValue) (k core.QuarantineKey, ok bool) {
	q, err := claims.DecodeQuarantine(kv.Value)
	if err != nil {
		f.shards.failures.Add(failures.Failure{
			Message: "a record of quarantine that cannot be read is ignored", Level: zap.WarnLevel, Resource: id,
			Error: err.Error(),
		})
		return k, false
	}
	return core.QuarantineKey{ID: id, Token: kv.CreateRevision, Digest: q.Data, Text: q.Text()}, true
}
