// Package faultproxy is a TCP proxy on loopback that misbehaves when it is told to, for tests of what a member does
// when its network to etcd misbehaves.
package faultproxy

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Direction is one of the two ways through a Proxy.
type Direction int

// The directions.
const (
	ToTarget   Direction = iota // what the client sends
	FromTarget                  // what the target answers
)

// Proxy forwards connections to a target. New makes one. Its methods are safe for use from any goroutine.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	ways   [2]way // by Direction
	delay  time.Duration
	conns  map[net.Conn]struct{}
	closed bool
}

// way is the state of one direction.
type way struct {
	hole    bool          // nothing passes, and nobody is told
	passing chan struct{} // closed when hole becomes false
}

func (w *way) block() {
	if !w.hole {
		w.hole, w.passing = true, make(chan struct{})
	}
}

func (w *way) open() {
	if w.hole {
		w.hole = false
		close(w.passing)
	}
}

// New listens on a free loopback port, and forwards to target, a host:port.
func New(target string) (*Proxy, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	for d := range p.ways {
		p.ways[d].passing = make(chan struct{})
		close(p.ways[d].passing)
	}
	p.wg.Go(p.accept)
	return p, nil
}

// Endpoint is the host:port where the proxy listens.
func (p *Proxy) Endpoint() string { return p.listener.Addr().String() }

// BlackHole swallows everything in both directions until Heal, without closing a connection, as a firewall does that
// drops packets. New connections are accepted, and hear nothing.
func (p *Proxy) BlackHole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways[ToTarget].block()
	p.ways[FromTarget].block()
}

// Drop swallows everything in one direction until Heal; the other direction works.
func (p *Proxy) Drop(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways[d].block()
}

// Delay makes everything that is sent from now on arrive that much later, in each direction; 0 ends it. It does not
// limit the throughput.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Heal ends BlackHole, Drop and Delay. What was swallowed is lost: the connections that were open are reset.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset() // before anything passes
	p.ways[ToTarget].open()
	p.ways[FromTarget].open()
	p.delay = 0
}

// Reset ends all connections. New connections work.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

func (p *Proxy) reset() {
	for c := range p.conns {
		_ = c.Close() // its pump notices
	}
}

// Close ends everything and waits for it. Further calls do nothing.
func (p *Proxy) Close() {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		_ = p.listener.Close() // accept notices
	}
	p.Heal()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(near) })
	}
}

func (p *Proxy) serve(near net.Conn) {
	far, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		_ = near.Close()
		return
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_, _ = near.Close(), far.Close()
		return
	}
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(far, near, ToTarget) })
	pumps.Go(func() { p.pump(near, far, FromTarget) })
	pumps.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, near)
	delete(p.conns, far)
}

// chunk is what was read at once, and when it is due at the other end.
type chunk struct {
	data []byte
	due  time.Time
}

// pump forwards one direction until either end closes.
func (p *Proxy) pump(to, from net.Conn, d Direction) {
	const most = 256 // how many chunks may be on their way
	onTheWay, over := make(chan chunk, most), make(chan struct{})
	var delivering sync.WaitGroup
	delivering.Go(func() {
		defer close(over)
		defer func() { _, _ = to.Close(), from.Close() }()
		for c := range onTheWay {
			if !p.deliver(to, c, d) {
				return
			}
		}
	})
	defer delivering.Wait()
	defer close(onTheWay)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			due := time.Now().Add(p.delay)
			p.mu.Unlock()
			select {
			case onTheWay <- chunk{buf[:n], due}:
			case <-over:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// deliver writes a chunk when it is due, and reports whether that succeeded.
func (p *Proxy) deliver(to net.Conn, c chunk, d Direction) bool {
	if wait := time.Until(c.due); wait > 0 {
		<-time.After(wait)
	}
	p.mu.Lock()
	passing := p.ways[d].passing
	p.mu.Unlock()
	<-passing // Heal closes the connections first, so what was held back goes nowhere
	_, err := to.Write(c.data)
	return err == nil
}
