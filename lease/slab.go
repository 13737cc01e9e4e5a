package lease

import "sync/atomic"

// slab is how many lives, and pulses, lie next to each other. What is left of a slab is kept as long as any of them is
// in use.
const slab = 64

// newLife returns a life that nobody has used.
func (rs *Rounds) newLife() *life {
	if rs == nil {
		return new(life)
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.lives) == 0 {
		rs.lives = make([]life, slab)
	}
	l := &rs.lives[0]
	rs.lives = rs.lives[1:]
	return l
}

// Pulse tells whether the owner of leases certainly works. The zero value rests. It is safe for concurrent use.
type Pulse struct{ busy atomic.Bool }

// NewPulse returns a Pulse that lies next to those of other owners in memory, which saves a process with hundreds of
// them time at each tick.
func (rs *Rounds) NewPulse() *Pulse {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.pulses) == 0 {
		rs.pulses = make([]Pulse, slab)
	}
	p := &rs.pulses[0]
	rs.pulses = rs.pulses[1:]
	return p
}

// Work says that the owner does something from now on, which it may never finish.
func (p *Pulse) Work() { p.busy.Store(true) }

// Rest says that the owner waits for something to do from now on, and so would answer a probe.
func (p *Pulse) Rest() { p.busy.Store(false) }

// rests reports whether the owner certainly works.
func (p *Pulse) rests() bool { return p != nil && !p.busy.Load() }
