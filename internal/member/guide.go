package member

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// The coordinator places shards before a member comes or goes, so that what moves is what should move, and moves once.
// Neither waits for that for longer than preparedMost: the ring's answer is good enough.

const preparedMost = time.Second

// guide is this member's part in the placement while it coordinates. run's goroutine owns it, unless a method says
// otherwise.
type guide struct {
	options placement.Options
	weigh   func(data []byte) (int64, error) // nil: all resources weigh the same
	term    atomic.Pointer[placement.Term]   // nil while this member does not coordinate
}

// enter begins the term. v is the last view.
func (g *guide) enter(ctx context.Context, number int64, v *membership.View) {
	t := placement.NewTerm(g.options, number)
	t.See(v)
	t.Enter(ctx)
	g.term.Store(t)
}

func (g *guide) leave() {
	if t := g.term.Swap(nil); t != nil {
		t.Leave()
	}
}

func (g *guide) see(v *membership.View) {
	if t := g.term.Load(); t != nil {
		t.See(v)
	}
}

// first places the shards for the first answer of a fresh app. Any goroutine may call it.
func (g *guide) first(ctx context.Context, items []catalogue.Item) {
	t := g.term.Load()
	if t == nil {
		return
	}
	load := make([]int64, g.options.Shards)
	for _, item := range items {
		weight := int64(object.OneWeight)
		if g.weigh != nil {
			weight, _ = g.weigh(item.Data) // the member that owns the resource tells of an error
		}
		load[shard.Of(item.ID, g.options.Shards)] += weight
	}
	t.Fresh(ctx, load)
}

// awaitPrepared returns when the coordinator has placed what this joining member is to have, or when nobody does that.
func (p *place) awaitPrepared(ctx context.Context) error {
	return p.awaitView(ctx, nil, func(v *membership.View) bool {
		return placement.MayJoin(v, p.id)
	})
}

// announce tells the coordinator that this member is about to stop, and returns when the coordinator has placed its
// shards elsewhere, or when nobody does that. hurry ends the wait. run must not have ended.
func (p *place) announce(ctx context.Context, hurry <-chan struct{}) {
	v := p.last.Load()
	if v == nil || !v.Members[p.id].HasJoined() || !v.HasGuide() || v.Alone(p.id) {
		return
	}
	p.goes.Store(true)
	p.wake()
	_ = p.awaitView(ctx, hurry, func(v *membership.View) bool {
		return placement.MayStop(v, p.id)
	})
}

// tellGoing tells the coordinator, once, that this member is about to stop, if it is.
func (p *place) tellGoing(ctx context.Context, reg membership.Registration) error {
	if !p.goes.Load() || reg.Record.Leaves || !reg.Record.HasJoined() {
		return nil
	}
	reg.Record.Leaves = true
	reg, err := p.registrar.SetState(ctx, reg, reg.Record.State)
	if err != nil {
		return err
	}
	p.setRegistration(&reg)
	return nil
}

// awaitView returns when a view is accepted, when preparedMost is over, or when hurry is closed. Nobody else may wait
// for views meanwhile: neither awaitMembers nor awaitOthers.
func (p *place) awaitView(
	ctx context.Context, hurry <-chan struct{}, accepted func(v *membership.View) bool,
) error {
	over := time.NewTimer(preparedMost)
	defer over.Stop()
	for {
		if v := p.last.Load(); v != nil && accepted(v) {
			return nil
		}
		select {
		case <-p.joiners:
		case <-over.C:
			return nil
		case <-hurry:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for the coordinator: %w", context.Cause(ctx))
		}
	}
}
