package member

import (
	"time"

	"github.com/distributed-resource-manager/drm/shard"
)

// probe lets a test look into a member.
type probe struct{ m *Member }

// Probe lets a test look into the member.
func (m *Member) Probe() Probe { return probe{m} }

// ID implements Probe.
func (p probe) ID() string { return p.m.ID() }

// Wedge implements Probe.
func (p probe) Wedge() (release func()) {
	wedged, free := make(chan struct{}), make(chan struct{})
	if !p.m.loop.post(func(time.Duration) { close(wedged); <-free }) {
		return func() {} // the loop has ended, and does nothing already
	}
	<-wedged
	return func() { close(free) }
}

// Sees implements Probe.
func (p probe) Sees(id string) (owner string) {
	nothing := func(time.Duration) {}
	p.m.loop.ask(nothing) // what the newest view has posted to the loop is done after this
	if v := p.m.place.last.Load(); v != nil {
		owner = v.Owner(shard.Of(id, p.m.app.Shards))
	}
	p.m.loop.ask(nothing)
	return owner
}

// Stuck implements Probe.
func (p probe) Stuck() (n int) {
	p.m.loop.ask(func(time.Duration) { n = p.m.core.Stats().Stuck })
	return n
}
