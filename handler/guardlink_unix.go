//go:build linux || darwin

package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm"
)

const (
	// untilAtMost bounds the validity that a guard is told of, for claims that never end (in tests).
	untilAtMost = time.Hour
	// untilStep is what deadlines are rounded down to, so that those of one lease are one and go in one message; and
	// untilSlack the least extension of one that a guard is told of, since computing one twice differs a little.
	untilStep, untilSlack = 10 * time.Millisecond, 20 * time.Millisecond
	// keepAtLeast and keepAtMost bound how often claims are looked at: a tenth of the shortest validity otherwise.
	keepAtLeast, keepAtMost = 10 * time.Millisecond, time.Second
	// suspectAfter is how long a guard may not answer before it gets no further processes, replaceAfter before it is
	// killed, with all it has, since it is stopped or hangs.
	suspectAfter, replaceAfter = time.Second, 5 * time.Second
)

// errUnresponsive is why a guard was killed.
var errUnresponsive = fmt.Errorf("it was killed, since it did not answer for %s", replaceAfter)

// guardLink is the agent's side of one guard.
type guardLink struct {
	cmd    *exec.Cmd
	orders *os.File // its end tells the guard to kill everything
	pass   *os.File // the socket for what processes print to; nil where they print as the guard does
	onIdle func()   // called when the last process has gone

	mu     sync.Mutex
	procs  map[int]*process
	nextID int
	seq    int64 // of the last order that was put into the queue
	queue  []order
	acked  int64         // and of the last that the guard carried out
	silent time.Duration // how long the guard has not answered, while this process ran
	killed error         // why kill was called
	old    bool          // retire was called
	quiet  time.Duration // how long no order was given
	pause  time.Duration // until the claims are looked at again
	wake   chan struct{} // has one when there is something to write
	keep   chan struct{} // has one when the claims must be looked at sooner
	quit   chan struct{} // closed when the guard has ended

	done chan struct{} // closed when the guard has ended, and its processes know
}

// deadline is the end of the claim's validity on clockNow, in milliseconds; 1, which is long ago, if there is none. now
// must have been read before: if the agent is stopped between the two, the sum is too early, never too late.
func deadline(now int64, c drm.Claim) (until int64, left time.Duration) {
	left = min(c.Remaining(), untilAtMost)
	if left <= 0 {
		return 1, 0
	}
	until = now + left.Milliseconds()
	return max(1, until-until%untilStep.Milliseconds()), left
}

// startGuard starts a guard. start and gone are called to start it and after its exit status was taken, onIdle as
// guardLink has it.
func startGuard(
	command []string,
	cfg ExecConfig,
	start func(*exec.Cmd) error,
	gone func(*exec.Cmd),
	onIdle func(),
) (*guardLink, error) {
	orders, toGuard, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	reports, toAgent, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close(), toGuard.Close())
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // it ends when it is told to
	if self, err := os.Executable(); err == nil && command[0] == ownFile {
		cmd.Args[0] = self // what people see in the list of processes
	}
	cmd.Dir = cfg.Dir
	cmd.Env = execEnv(os.Environ(), cfg.Env)
	cmd.Stdin = orders
	if cfg.Output != OutputNone {
		cmd.Stdout, cmd.Stderr = cfg.Stdout, cfg.Stderr
	}
	cmd.ExtraFiles = []*os.File{toAgent}
	var pass, passed *os.File
	if cfg.Output == OutputPrefix {
		if pass, passed, err = passage(); err != nil {
			return nil, errors.Join(err, orders.Close(), toGuard.Close(), reports.Close(), toAgent.Close())
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, passed)
	}
	cmd.WaitDelay = time.Second // output of a process that escaped is not waited for
	// A session of its own: a terminal's Ctrl-C is for the agent, which ends the processes in order.
	cmd.SysProcAttr = guardAttributes()
	err = start(cmd)
	_, _, _ = orders.Close(), toAgent.Close(), passed.Close() // which there may not be
	if err != nil {
		_, _, _ = toGuard.Close(), reports.Close(), pass.Close()
		if _, dirErr := os.Stat(cfg.Dir); cfg.Dir != "" && dirErr != nil { // err names the program all the same
			err = dirErr
		}
		return nil, fmt.Errorf("guard process: %w", err)
	}
	l := &guardLink{
		cmd: cmd, orders: toGuard, pass: pass, onIdle: onIdle, procs: make(map[int]*process),
		wake: make(chan struct{}, 1), keep: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}), pause: keepAtMost,
	}
	var wrote sync.WaitGroup
	wrote.Go(l.write)
	wrote.Go(l.watch)
	go func() {
		defer close(l.done)
		l.end(l.follow(reports))
		wrote.Wait()
		gone(cmd)
	}()
	return l, nil
}

// add has the guard start a process, whose claim is valid for so long. It says no if the guard has ended.
func (l *guardLink) add(p *process, o startOrder, left time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.procs == nil || l.old {
		return false
	}
	l.nextID++
	p.id, o.ID, p.until = l.nextID, l.nextID, o.Until
	l.procs[p.id] = p
	l.push(order{Start: &o, outlet: p.outlet})
	if keepPause(left) < l.pause {
		ring(l.keep)
	}
	return true
}

// usable says whether the guard should get another process.
func (l *guardLink) usable(most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.procs != nil && len(l.procs) < most && l.killed == nil && !l.old && l.silent < suspectAfter
}

// send has an order written, and gives its number.
func (l *guardLink) send(o order) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.push(o)
}

func (l *guardLink) push(o order) int64 {
	l.seq++
	l.quiet = 0
	o.Seq = l.seq
	l.queue = append(l.queue, o)
	ring(l.wake)
	return o.Seq
}

// answered says whether the guard has carried out this order, and whether it is known not to answer.
func (l *guardLink) answered(seq int64) (done, suspect bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked >= seq, l.silent >= suspectAfter
}

// retire ends the guard if it has no process.
func (l *guardLink) retire() {
	l.mu.Lock()
	l.old = len(l.procs) == 0
	old := l.old
	l.mu.Unlock()
	if old {
		_ = l.orders.Close()
	}
}

// kill ends the guard. Everything of its processes that can be found is killed when it has ended.
func (l *guardLink) kill(why error) {
	l.mu.Lock()
	if l.killed == nil {
		l.killed = why
	}
	l.mu.Unlock()
	_ = l.cmd.Process.Kill()
}

// write writes the orders, in their order. A guard that does not read holds up nothing else. It ends when the guard
// has.
func (l *guardLink) write() {
	for {
		select {
		case <-l.wake:
		case <-l.quit:
			return
		}
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, o := range batch {
			if o.outlet != nil {
				// Where that fails it prints as its guard does, which is better than not to run.
				o.Start.Outputs, _ = o.outlet.pass(l.pass)
			}
			text, err := json.Marshal(o)
			if err == nil {
				_, err = l.orders.Write(append(text, '\n'))
			}
			if err != nil {
				return // the guard ends, or has
			}
		}
	}
}

// watch tells the guard how long the claims are valid, in one message for all, and kills a guard that does not answer.
func (l *guardLink) watch() {
	timer := time.NewTimer(keepAtMost)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-l.keep:
		case <-l.quit:
			return
		case <-timer.C:
		}
		// An agent that was stopped itself must not blame the guard for the time.
		elapsed := min(time.Since(last), keepAtMost)
		last = time.Now()
		next, silent := l.renew(elapsed)
		if silent >= replaceAfter {
			l.kill(errUnresponsive)
		}
		timer.Reset(next)
	}
}

// renew gives one order if the guard has to know anything, and tells the pause until it should be called again. elapsed
// is the time since it was.
func (l *guardLink) renew(elapsed time.Duration) (next, silent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause, l.quiet = keepAtMost, l.quiet+elapsed
	if len(l.procs) == 0 {
		l.silent = 0
		return l.pause, 0
	}
	if l.acked < l.seq {
		l.silent += elapsed
	} else {
		l.silent = 0
	}
	byUntil := map[int64][]int{}
	now := clockNow()
	for id, p := range l.procs {
		until, left := deadline(now, p.claim)
		l.pause = min(l.pause, keepPause(left))
		if until < p.until || until >= p.until+untilSlack.Milliseconds() {
			byUntil[until] = append(byUntil[until], id)
			p.until = until
		}
	}
	var o order
	for until, ids := range byUntil {
		slices.Sort(ids)
		o.Renew = append(o.Renew, renewal{until, ids})
	}
	if len(o.Renew) > 0 || l.quiet >= keepAtMost && l.acked == l.seq {
		l.push(o) // an empty one asks for an answer
	}
	return l.pause, l.silent
}

// keepPause is the pause between two looks at a claim that is valid for so long.
func keepPause(left time.Duration) time.Duration {
	return min(max(left/10, keepAtLeast), keepAtMost)
}

// follow reads what the guard reports until it ends, and says how it did.
func (l *guardLink) follow(reports *os.File) error {
	dec := json.NewDecoder(reports)
	for {
		var r report
		if dec.Decode(&r) != nil {
			break
		}
		l.mu.Lock()
		if r.Ack > l.acked {
			l.acked, l.silent = r.Ack, 0
		}
		p := l.procs[r.ID]
		gone := r.Error != "" || r.Ended != ""
		if p != nil && gone {
			delete(l.procs, r.ID)
		}
		idle := p != nil && gone && len(l.procs) == 0
		l.mu.Unlock()
		if p != nil {
			p.hear(r)
		}
		if idle {
			l.onIdle()
		}
	}
	_ = reports.Close()
	l.mu.Lock()
	procs := l.procs
	l.mu.Unlock()
	// The guard was killed, and its processes by the kernel with it where there is PR_SET_PDEATHSIG. The rest of their
	// groups is killed here, before anything else can be started under their numbers.
	for _, p := range procs {
		if pid := p.pid.Load(); pid != 0 {
			_ = unix.Kill(-int(pid), unix.SIGKILL)
		}
	}
	_ = l.cmd.Process.Kill() // one that closed its reports is no guard any more
	return l.cmd.Wait()
}

// end tells the processes that their guard ended.
func (l *guardLink) end(err error) {
	l.mu.Lock()
	procs := l.procs
	l.procs = nil
	if err == nil {
		err = errors.New("ended without a report")
	}
	if l.killed != nil {
		err = fmt.Errorf("%w: %w", l.killed, err)
	}
	l.mu.Unlock()
	_, _ = l.orders.Close(), l.pass.Close() // which there may not be
	close(l.quit)
	for _, p := range procs {
		p.end(fmt.Errorf("guard process: %w", err))
	}
}

func ring(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// guardAttributes makes a guard independent of the agent's terminal, and tell it where the kernel can when the agent
// dies. That signal also comes when only the thread ends that started the guard; the guard tells the two apart.
func guardAttributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	signalAtParentDeath(attr, syscall.SIGUSR1)
	return attr
}
