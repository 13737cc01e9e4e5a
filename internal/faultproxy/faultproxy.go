// Package faultproxy is a TCP proxy on loopback that misbehaves when it is told to, for tests of what a member does when
// the network between it and etcd does.
package faultproxy

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Proxy forwards connections to a target. New makes one. Its methods are safe for use from any goroutine.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	hole    bool          // nothing passes, and nobody is told
	passing chan struct{} // closed when hole ends
	conns   map[net.Conn]struct{}
	closed  bool
}

// New listens on a free loopback port, and forwards to target, a host:port.
func New(target string) (*Proxy, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}, passing: make(chan struct{})}
	close(p.passing)
	p.wg.Go(p.accept)
	return p, nil
}

// Endpoint is where it listens, a host:port.
func (p *Proxy) Endpoint() string { return p.listener.Addr().String() }

// BlackHole swallows everything, in both directions, without closing a connection, until Heal: as a firewall that drops
// packets does. New connections are accepted, and hear nothing.
func (p *Proxy) BlackHole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hole {
		p.hole, p.passing = true, make(chan struct{})
	}
}

// Heal ends a BlackHole. What was swallowed is lost with its connection: those that were open are reset.
func (p *Proxy) Heal() {
	p.mu.Lock()
	if p.hole {
		p.hole = false
		close(p.passing)
	}
	p.mu.Unlock()
	p.Reset()
}

// Reset ends all connections; new ones are served.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // its pump notices
	}
}

// Close ends everything and waits for it. It is idempotent.
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
	pumps.Go(func() { p.pump(far, near) })
	pumps.Go(func() { p.pump(near, far) })
	pumps.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, near)
	delete(p.conns, far)
}

// pump forwards one direction until either end closes.
func (p *Proxy) pump(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			passing := p.passing
			p.mu.Unlock()
			<-passing // Heal closes the connections too, so what was read meanwhile goes nowhere
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
