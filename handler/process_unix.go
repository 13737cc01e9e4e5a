//go:build linux || darwin

package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

const execSupported = true

// process is what the agent knows about one process of a guard.
type process struct {
	claim  drm.Claim
	link   *guardLink
	outlet *outlet
	notify *notifySocket
	halt   func(error) // gets an error when the process is stopped (SIGSTOP), and nil once it goes on or ended

	id    int          // its number among the link's processes
	until int64        // the deadline that the guard knows; under the link's lock
	pid   atomic.Int64 // the number of the process and of its group; 0 until it runs

	started  chan struct{} // closed when it runs
	ready    chan struct{} // closed when it runs and is ready
	done     chan struct{} // closed when nothing of it is left, or its guard ended
	err      error         // how it ended, or why it was not started; set before done is closed
	ok       bool          // it ended by itself, with exit status 0; set before done is closed
	byItself bool          // it was not killed by its guard, or with it; set before done is closed
}

// startProcess starts a process under one of the guards, and returns once the process runs or ctx ends. The error says
// why it was not started. The functions of what are called from goroutines of the guard's link.
func startProcess(ctx context.Context, guards *guards, c drm.Claim, what launch) (*process, error) {
	p := &process{claim: c, halt: what.halt, started: make(chan struct{}), done: make(chan struct{})}
	o := startOrder{Args: what.args, Input: append(c.Resource.Object(), '\n'), Env: append(claimEnv(c), what.env...)}
	err := p.open(guards, what)
	if err != nil {
		return nil, err
	}
	if p.notify != nil {
		o.Env = append(o.Env, p.notify.env)
	}
	for {
		var left time.Duration
		o.Until, left = deadline(clockNow(), c)
		if left <= 0 {
			p.shut()
			return nil, errors.New(claimEnded)
		}
		if p.link, err = guards.take(); err != nil {
			p.shut()
			return nil, err
		}
		if p.link.add(p, o, left) {
			break
		}
	}
	select {
	case <-p.started:
		return p, nil
	case <-p.done:
		select {
		case <-p.started:
			return p, nil // it did run before it ended
		default:
			return nil, p.err
		}
	case <-ctx.Done():
		if what.output != nil {
			p.giveUp()
		} else {
			p.kill()
		}
		return nil, context.Cause(ctx)
	}
}

// open makes what the agent hears of the process by, besides its guard.
func (p *process) open(guards *guards, what launch) (err error) {
	p.ready = make(chan struct{})
	ready := sync.OnceFunc(func() { close(p.ready) })
	var line *lineWatch
	switch what.ready.how {
	case readyAtOnce:
		p.ready = p.started
	case readyByLine:
		line = &lineWatch{re: what.ready.line, found: ready}
	case readyByNotify:
		if p.notify, err = guards.notify.open(ready); err != nil {
			return err
		}
	}
	if what.output != nil {
		p.outlet, err = guards.outlets.openTail(what.output)
	} else {
		p.outlet, err = guards.outlets.open(p.claim, line)
	}
	if err != nil {
		p.shut()
	}
	return err
}

// shut closes what open has made.
func (p *process) shut() {
	p.outlet.end()
	p.notify.close()
}

// hear handles a report of the guard about the process.
func (p *process) hear(r report) {
	switch {
	case r.PID != 0:
		p.pid.Store(int64(r.PID))
		close(p.started)
	case r.Stopped != "":
		p.halt(errors.New(r.Stopped))
	case r.Resumed:
		p.halt(nil)
	case r.Error != "":
		p.end(errors.New(r.Error))
	case r.Ended != "":
		p.ok, p.byItself = r.OK, !r.Killed
		p.end(fmt.Errorf("process %d ended: %s", p.pid.Load(), r.Ended))
	}
}

// end marks the process as ended.
func (p *process) end(err error) {
	p.shut()
	p.halt(nil)
	p.err = err
	close(p.done)
}

// giveUp orders the guard to kill the process, and waits for killWait at most until nothing is left of it. The guard
// does the rest.
func (p *process) giveUp() {
	p.link.send(order{Kill: p.id})
	late := time.NewTimer(killWait)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
	}
}

// terminate orders the guard to send SIGTERM, and SIGKILL after grace.
func (p *process) terminate(grace time.Duration) {
	p.link.send(order{Terminate: p.id, GraceMS: max(1, grace.Milliseconds())})
}

// kill orders the guard to kill the process, and kills the guard if it does not obey. It returns when nothing is left
// of the process; that may never happen if the kernel does not let go of it. For a process that does not run its
// program yet, it also returns when the guard has obeyed, because the program cannot begin any more.
func (p *process) kill() {
	seq := p.link.send(order{Kill: p.id})
	if _, suspect := p.link.answered(seq); suspect {
		p.link.kill(errUnresponsive)
	}
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	if obeyed, _ := p.link.answered(seq); !obeyed {
		p.link.kill(fmt.Errorf("it was killed, since it did not obey for %s", killWait))
	} else if p.pid.Load() == 0 {
		return
	}
	<-p.done
}
