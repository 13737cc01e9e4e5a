package follow

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Parts follows parts of one range for a hub. As long as the range has few keys, the parts share one watch of the whole
// range, and while nothing at all changes there, one question to etcd shows for all of them that nothing was missed. A
// part of such a range has a goroutine only while there is something to do for it: an app has a thousand shards, and a
// process may have hundreds of apps.
//
// The methods are safe for concurrent use. The owner calls Run in a goroutine of its own.
type Parts struct {
	hub    *Hub
	whole  *whole
	done   func() // the whole is not needed any more
	ctx    context.Context
	active sync.WaitGroup // the goroutines of the parts, and Run, so that parts may wake up while Run ends

	mu   sync.Mutex
	over bool
	by   map[string]*part
}

// part is one part that is followed. It is parked, or a goroutine uses its reader.
type part struct {
	of       *Parts
	reader   reader
	gathered bool // it shares the watch of the whole range

	mu     sync.Mutex
	parked bool
	gone   bool               // nobody follows it any more
	cancel context.CancelFunc // ends the goroutine; nil: there is none
}

// Parts makes what follows parts of a range, of which each has a prefix of its own: the range, a name, and a slash.
// Everything ends when ctx ends. The caller has to call Run.
func (h *Hub) Parts(ctx context.Context, within string) *Parts {
	ps := &Parts{hub: h, ctx: ctx, by: map[string]*part{}}
	ps.whole, ps.done = h.wholes.use(within)
	ps.active.Add(1)
	return ps
}

// Follow begins to feed a sink with a part, as Hub.Follow does, and returns at once. The part must not be followed
// already. It does nothing once the context has ended.
func (ps *Parts) Follow(prefix string, sink Sink) {
	p := &part{of: ps}
	p.reader = reader{prefix: prefix, sink: sink, part: p}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.over {
		return
	}
	ps.by[prefix] = p
	ps.active.Go(p.run)
}

// Unfollow ends Follow, and returns at once. What is under way may still reach the sink.
func (ps *Parts) Unfollow(prefix string) {
	ps.mu.Lock()
	p := ps.by[prefix]
	delete(ps.by, prefix)
	ps.mu.Unlock()
	if p != nil {
		p.end()
	}
}

// Run makes sure, again and again, that no part has missed anything. It returns when the context has ended, and
// everything about the parts with it.
func (ps *Parts) Run() {
	defer ps.done()
	due := time.NewTimer(ps.hub.resyncAfter())
	defer due.Stop()
	for ps.ctx.Err() == nil {
		select {
		case <-due.C:
			ps.prove()
			due.Reset(ps.hub.resyncAfter())
		case <-ps.ctx.Done():
		}
	}
	ps.mu.Lock()
	ps.over = true
	all := ps.by
	ps.by = nil
	ps.mu.Unlock()
	for _, p := range all {
		p.end()
	}
	ps.active.Done()
	ps.active.Wait()
}

// prove asks etcd whether anything has changed of which the parked parts have not heard, and wakes up those for which
// the answer does not show that. A part that is not parked looks after itself.
func (ps *Parts) prove() {
	ps.mu.Lock()
	all := slices.Collect(maps.Values(ps.by))
	ps.mu.Unlock()
	w := ps.whole
	known := w.refresh(ps.ctx, ps.hub)
	for _, p := range all {
		p.mu.Lock()
		switch at := &p.reader.at; {
		case !p.parked:
		case known && at.quiet && w.proves(p.reader.prefix, at):
			at.sure, at.resync = w.to, w.asked.Add(ps.hub.resyncAfter())
		default:
			at.resync = time.Now()
			p.startLocked()
		}
		p.mu.Unlock()
	}
	if known {
		<-w.turn
	}
}

// run uses the reader until the part is parked, or is not followed any more.
func (p *part) run() {
	ctx, cancel := context.WithCancel(p.of.ctx)
	defer cancel()
	p.mu.Lock()
	p.cancel = cancel
	gone := p.gone
	p.mu.Unlock()
	h, r := p.of.hub, &p.reader
	switch {
	case r.lane != nil:
	case gone:
		return
	default:
		l := h.shared(r.prefix)
		if p.gathered = p.of.whole.small(ctx, h); p.gathered {
			l = h.shared(p.of.whole.prefix)
		}
		r.use(l)
	}
	if !gone && h.follow(ctx, r) {
		return
	}
	r.leave()
}

// apart gives the part a watch of its own from now on. The reader's goroutine calls it.
func (p *part) apart() {
	p.gathered = false
	p.reader.leave()
	p.reader.use(p.of.hub.shared(p.reader.prefix))
}

// park ends the use of the reader until there is something to do. It returns false if there is already; otherwise the
// reader must not be touched any more.
func (p *part) park(ctx context.Context) bool {
	x := p.reader.open
	p.mu.Lock()
	if ctx.Err() != nil {
		p.mu.Unlock()
		return false
	}
	cancel := p.cancel
	p.parked, p.cancel = true, nil
	p.mu.Unlock()
	if !x.hasNews() {
		return true
	}
	// That came before the part was parked, so that it has woken nobody up.
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.parked { // somebody else has noticed
		return true
	}
	p.parked, p.cancel = false, cancel
	return false
}

// wake starts a goroutine for the part if it is parked.
func (p *part) wake() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.parked {
		return false
	}
	p.startLocked()
	return true
}

func (p *part) startLocked() {
	p.parked = false
	p.of.active.Go(p.run)
}

// end ends the use of the reader.
func (p *part) end() {
	p.mu.Lock()
	p.gone = true
	if p.cancel != nil {
		p.cancel()
	}
	mine := p.parked
	p.parked = false
	p.mu.Unlock()
	if mine {
		p.reader.leave()
	}
}
