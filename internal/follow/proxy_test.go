package follow_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between a client and etcd; its connections can be cut.
type proxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	target string
	cut    bool
	conns  map[net.Conn]struct{}
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	p.wg.Add(1)
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) endpoint() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	defer p.wg.Done()
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serve(conn)
	}
}

func (p *proxy) serve(near net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		_ = near.Close()
		return
	}
	far, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		_ = near.Close()
		return
	}
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	pump := func(to, from net.Conn) {
		defer p.wg.Done()
		_, _ = io.Copy(to, from)
		_, _ = to.Close(), from.Close()
	}
	p.wg.Add(2)
	go pump(near, far)
	go pump(far, near)
}

// Cut ends all connections, and refuses new ones.
func (p *proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// Mend lets connections through again, to the same etcd or to another one.
func (p *proxy) Mend(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.target = false, target
}
