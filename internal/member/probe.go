package member

import (
	"time"
)

// probe implements Probe.
type probe struct{ m *Member }

// Probe returns what lets a test look into the member. It may be called once Start has returned.
func (m *Member) Probe() Probe { return probe{m} }

// ID implements Probe.
func (p probe) ID() string { return p.m.ID() }

// Wedge implements Probe.
func (p probe) Wedge() (release func()) {
	wedged, free := make(chan struct{}), make(chan struct{})
	if !p.m.loop.post(func(time.Duration) { close(wedged); <-free }) {
		return func() {} // the loop has ended
	}
	<-wedged
	return func() { close(free) }
}

// Sees implements Probe.
func (p probe) Sees(id string) (owner string) {
	nothing := func(time.Duration) {}
	p.m.loop.ask(nothing) // the loop has done what the views so far have posted
	if v := p.m.place.last.Load(); v != nil {
		_, owner = v.OwnerOf(id)
	}
	p.m.loop.ask(nothing)
	return owner
}

// Stuck implements Probe.
func (p probe) Stuck() (n int) {
	p.m.loop.ask(func(time.Duration) { n = p.m.core.Stats().Stuck })
	return n
}
