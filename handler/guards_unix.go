//go:build linux || darwin

package handler

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"
)

const (
	// guardSize is how many processes a guard keeps at most. If a guard is killed, all its processes end with it.
	guardSize = 256
	// guardLinger is how long a guard without processes stays, in case another process is started.
	guardLinger = 10 * time.Second
)

// guards are the guards of an Exec. A guard is started when a process needs one.
type guards struct {
	command []string
	cfg     ExecConfig
	outlets *outlets
	notify  notifySockets
	check   func() error // says why no guard can be started

	mu     sync.Mutex
	links  []*guardLink
	closed bool
	idle   map[*guardLink]*time.Timer
	own    ownProcesses
}

// newGuards starts no guard yet. same says that Stdout and Stderr of cfg are one writer; check is called before each
// start of a guard.
func newGuards(command []string, cfg ExecConfig, same bool, check func() error) *guards {
	return &guards{
		command: command,
		cfg:     cfg,
		outlets: newOutlets(cfg, same),
		check:   check,
		own:     ownProcesses{reap: cfg.ReapOrphans},
	}
}

// take returns a guard that answers and has room for another process. It starts one if there is none.
func (g *guards) take() (*guardLink, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	for _, l := range g.links {
		if l.usable(guardSize) {
			return l, nil
		}
	}
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("guard process: %w", err)
	}
	var l *guardLink
	made := make(chan struct{}) // the callbacks wait until the guard is in the list
	defer close(made)
	gone := func(cmd *exec.Cmd) {
		g.own.forget(cmd)
		<-made
		g.drop(l)
	}
	l, err := startGuard(g.command, g.cfg, g.own.start, gone, func() {
		<-made
		g.rest(l)
	})
	if err != nil {
		return nil, err
	}
	g.links = append(g.links, l)
	return l, nil
}

// rest ends a guard in guardLinger, unless it has a process by then.
func (g *guards) rest(l *guardLink) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if t := g.idle[l]; t != nil {
		t.Stop()
	}
	if g.idle == nil {
		g.idle = make(map[*guardLink]*time.Timer)
	}
	g.idle[l] = time.AfterFunc(guardLinger, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		l.retire()
	})
}

func (g *guards) drop(l *guardLink) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.links = slices.DeleteFunc(g.links, func(other *guardLink) bool { return other == l })
	if t := g.idle[l]; t != nil {
		t.Stop()
		delete(g.idle, l)
	}
}

// close ends all guards and the processes that they still have. A guard that has not ended after killWait, or when ctx
// ends, gets SIGKILL. No guard is started afterwards.
func (g *guards) close(ctx context.Context) {
	g.mu.Lock()
	g.closed = true
	links := slices.Clone(g.links)
	for _, t := range g.idle {
		t.Stop()
	}
	g.mu.Unlock()
	late := time.NewTimer(killWait)
	defer late.Stop()
	for _, l := range links {
		_ = l.orders.Close()
	}
	for _, l := range links {
		select {
		case <-l.done:
			continue
		case <-ctx.Done():
		case <-late.C:
			late.Reset(0)
		}
		l.kill(ErrClosed)
		<-l.done
	}
	g.outlets.close()
	g.notify.close()
	g.own.close()
}
