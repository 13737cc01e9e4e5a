package member

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

const (
	// triedFor is how long a resource is not given back to a member at which it did not work.
	triedFor = 10 * time.Minute
	// giveFor bounds the tries to write a move. After the next failure of the resource there are others.
	giveFor = 30 * time.Second
	// tidyEvery is how often moves are looked for that nobody needs any more, in intervals of figures: once a minute.
	tidyEvery = 6
	// outOfUse is how old a move must be whose member is gone, so that it is deleted: a member that restarts gets back
	// what it had.
	outOfUse = 10 * time.Minute
)

// moves gives resources that do not work here to other members, and deletes moves that nobody needs any more. Any
// goroutine may call its methods.
type moves struct {
	id       string
	layout   keys.Layout
	kv       clientv3.KV
	timeout  time.Duration
	interval time.Duration // of tidying
	wall     func() time.Time
	view     func() *membership.View         // the last one; nil before the first
	reg      func() *membership.Registration // nil while the member is not registered
	ctx      context.Context                 // ends everything
	tasks    *tasks
	failures *failures.Log

	some   chan struct{} // holds a token when a view has moves
	mu     sync.Mutex
	giving map[string]bool // the resources whose moves are being written
}

// give starts to give a resource to another member.
func (m *moves) give(resource, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.giving[resource] {
		return
	}
	if m.giving == nil {
		m.giving = map[string]bool{}
	}
	m.giving[resource] = true
	m.tasks.run(func() {
		ctx, cancel := context.WithTimeout(m.ctx, giveFor)
		defer cancel()
		for pauses := pace.Retry(); !m.tryGive(ctx, resource, why) && pauses.Wait(ctx); {
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.giving, resource)
	})
}

// tryGive writes the move of a resource. It returns true if nothing is left to do.
func (m *moves) tryGive(ctx context.Context, resource, why string) (done bool) {
	v, reg := m.view(), m.reg()
	if v == nil || reg == nil {
		return false
	}
	if _, owner := v.OwnerOf(resource); owner != m.id {
		return true
	}
	now := m.wall()
	next, ok := v.NextMove(resource, m.id, why, now, now.Add(-triedFor))
	if !ok {
		m.failures.Add(failures.Failure{
			Message: "a resource does not work here, and no other member is left that has not tried it lately",
			Level:   zap.WarnLevel, Resource: resource, Error: why,
		})
		return true
	}
	key := m.layout.Move(resource)
	ok, err := m.commit(ctx, clientv3.OpPut(key, next.Encode()),
		clientv3.Compare(clientv3.CreateRevision(m.layout.Member(m.id)), "=", reg.CreateRevision),
		clientv3.Compare(clientv3.ModRevision(key), "=", next.ModRevision))
	switch {
	case err != nil:
		m.failures.Add(failures.Failure{
			Message: "cannot give a resource to another member", Level: zap.WarnLevel, Resource: resource,
			Error: err.Error(),
		})
		return false
	case !ok: // the view is not the newest
		return false
	}
	m.failures.Add(failures.Failure{
		Message: "a resource does not work here; giving it to another member", Level: zap.WarnLevel, Resource: resource,
		Error: why, Fields: []zap.Field{zap.String("to", next.Member)},
	})
	return true
}

func (m *moves) commit(ctx context.Context, op clientv3.Op, ifs ...clientv3.Cmp) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	resp, err := m.kv.Txn(ctx).If(ifs...).Then(op).Commit()
	if err != nil {
		return false, err
	}
	return resp.Succeeded, nil
}

// see takes note of a view.
func (m *moves) see(v *membership.View) {
	if len(v.Moves) == 0 {
		return
	}
	select {
	case m.some <- struct{}{}:
	default:
	}
}

// tidy deletes, until ctx ends, moves that nobody needs any more: those of resources that left the catalogue, and those
// to members that are gone. The member to which a resource belongs does it.
func (m *moves) tidy() {
	for pace.Wait(m.ctx, pace.Less(m.interval, 0.2)) {
		v := m.view()
		if v == nil || len(v.Moves) == 0 {
			select {
			case <-m.some:
			case <-m.ctx.Done():
			}
			continue
		}
		for resource, move := range v.Moves {
			if _, owner := v.OwnerOf(resource); owner != m.id {
				continue
			}
			if err := m.drop(v, resource, move); err != nil {
				if m.ctx.Err() == nil {
					m.failures.Add(failures.Failure{
						Message: "cannot delete the move of a resource", Level: zap.WarnLevel, Resource: resource,
						Error: err.Error(),
					})
				}
				break
			}
		}
	}
}

// drop deletes a move if nobody needs it.
func (m *moves) drop(v *membership.View, resource string, move membership.Move) error {
	key := m.layout.Move(resource)
	ifs := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", move.ModRevision)}
	if _, there := v.Members[move.Member]; there || m.wall().Sub(move.Since) < outOfUse {
		entry := m.layout.Resource(shard.Of(resource, v.Shards), resource)
		ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(entry), "=", 0))
	}
	_, err := m.commit(m.ctx, clientv3.OpDelete(key), ifs...)
	return err
}
