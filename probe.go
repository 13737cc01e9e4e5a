package drm

import (
	"github.com/distributed-resource-manager/drm/internal/member"
	"github.com/distributed-resource-manager/drm/shard"
)

// probe lets a test look into a manager.
type probe struct{ m *Manager }

var _ member.Probe = probe{}

func (p probe) ID() string { return p.m.ID() }

func (p probe) Wedge() (release func()) {
	wedged, free := make(chan struct{}), make(chan struct{})
	if !p.m.post(func() { close(wedged); <-free }) {
		return func() {} // the loop has ended, and does nothing already
	}
	<-wedged
	return func() { close(free) }
}

func (p probe) Sees(id string) (owner string) {
	p.m.ask(func() {}) // what the newest view has posted to the loop is done after this
	if v := p.m.group.last.Load(); v != nil {
		owner = v.Owner(shard.Of(id, p.m.app.Shards))
	}
	p.m.ask(func() {})
	return owner
}

func (p probe) Stuck() (n int) {
	p.m.ask(func() { n = p.m.core.Stats().Stuck })
	return n
}
