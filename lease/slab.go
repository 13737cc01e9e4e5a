package lease

import "sync/atomic"

// slab is how many lives, and pulses, lie next to each other. What is left of a slab is kept as long as any of them is
// in use.
const slab = 64

// next returns one that nobody has used, and leaves the rest of its slab.
func next[T any](rest *[]T) *T {
	if len(*rest) == 0 {
		*rest = make([]T, slab)
	}
	one := &(*rest)[0]
	*rest = (*rest)[1:]
	return one
}

// newLife returns a life that nobody has used.
func (rs *Rounds) newLife() *life {
	if rs == nil {
		return new(life)
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return next(&rs.lives)
}

// Pulse tells whether the owner of leases certainly works. The zero value rests. It is safe for concurrent use.
type Pulse struct{ busy atomic.Bool }

// NewPulse returns a Pulse that lies next to those of other owners in memory, which saves a process with hundreds of
// them time at each tick.
func (rs *Rounds) NewPulse() *Pulse {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return next(&rs.pulses)
}

// Work says that the owner does something from now on, which it may never finish.
func (p *Pulse) Work() { p.busy.Store(true) }

// Rest says that the owner waits for something to do from now on, and so would answer a probe.
func (p *Pulse) Rest() { p.busy.Store(false) }

// rests reports whether the owner certainly works.
func (p *Pulse) rests() bool { return p != nil && !p.busy.Load() }
