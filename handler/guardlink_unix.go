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
	// untilAtMost bounds the time that a deadline may lie ahead, for claims that never end (in tests).
	untilAtMost = time.Hour
	// untilStep is what deadlines are rounded down to, so that the claims of one lease have one deadline and are
	// renewed together. untilSlack is the shortest extension that is worth a message, because computing one deadline
	// twice gives slightly different results.
	untilStep, untilSlack = 10 * time.Millisecond, 20 * time.Millisecond
	// keepAtLeast and keepAtMost bound the pause between two looks at the claims, which is otherwise a tenth of the
	// shortest validity.
	keepAtLeast, keepAtMost = 10 * time.Millisecond, time.Second
	// A guard that has not answered for suspectAfter gets no further processes. After replaceAfter it is killed with
	// all its processes, because it is stopped or hangs.
	suspectAfter, replaceAfter = time.Second, 5 * time.Second
)

// errUnresponsive is the reason for killing a guard that does not answer.
var errUnresponsive = fmt.Errorf("it was killed, since it did not answer for %s", replaceAfter)

// guardLink is the agent's end of the connection to one guard.
type guardLink struct {
	cmd    *exec.Cmd
	orders *os.File // when it is closed, the guard kills everything and ends
	pass   *os.File // the socket for the files that processes print to; nil if they print where the guard does
	onIdle func()   // called when the last process has ended

	mu     sync.Mutex
	procs  map[int]*process // by id; nil once the guard has ended
	nextID int
	seq    int64 // the number of the last order that was put into the queue
	queue  []order
	acked  int64         // the number of the last order that the guard has carried out
	silent time.Duration // how long the guard has not answered, less the time for which the agent itself was stopped
	killed error         // why kill was called
	old    bool          // the guard was told to end, because it had no process for a while
	quiet  time.Duration // how long no order was given
	pause  time.Duration // until the next look at the claims
	wake   chan struct{} // has an element when there is something to write
	keep   chan struct{} // has an element when the next look at the claims must come sooner
	quit   chan struct{} // closed when the guard has ended

	done chan struct{} // closed when the guard has ended and its processes have been told so
}

// deadline returns when the claim's validity ends, in milliseconds of clockNow; 1, which is long ago, if it has ended.
// The caller must have read now before: if the agent is stopped between the two, the deadline is too early, never too
// late.
func deadline(now int64, c drm.Claim) (until int64, left time.Duration) {
	left = min(c.Remaining(), untilAtMost)
	if left <= 0 {
		return 1, 0
	}
	until = now + left.Milliseconds()
	return max(1, until-until%untilStep.Milliseconds()), left
}

// startGuard starts a guard: it calls start for the guard's command, and gone when the guard has ended and its exit
// status has been taken. onIdle is called each time the last of its processes has ended.
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
	cmd := guardCommand(command, cfg)
	cmd.Stdin = orders
	cmd.ExtraFiles = []*os.File{toAgent}
	var pass, passed *os.File
	if cfg.passesOutput() {
		if pass, passed, err = passage(); err != nil {
			return nil, errors.Join(err, orders.Close(), toGuard.Close(), reports.Close(), toAgent.Close())
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, passed)
	}
	err = start(cmd)
	_, _, _ = orders.Close(), toAgent.Close(), passed.Close() // passed may be nil; closing nil does nothing
	if err != nil {
		_, _, _ = toGuard.Close(), reports.Close(), pass.Close()
		if _, dirErr := os.Stat(cfg.Dir); cfg.Dir != "" && dirErr != nil {
			err = dirErr // err names the program, though the folder is what is wrong
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

// guardCommand returns the command that runs a guard, without its standard input and its extra files.
func guardCommand(command []string, cfg ExecConfig) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // the end of its orders makes it end
	if self, err := os.Executable(); err == nil && command[0] == ownFile {
		cmd.Args[0] = self // people see this name in the list of processes
	}
	cmd.Dir = cfg.Dir
	own := os.Environ()
	if cfg.Notify {
		own = withoutNotify(own)
	}
	cmd.Env = execEnv(own, cfg.Env, cfg.Agent)
	if cfg.Output != OutputNone {
		cmd.Stdout, cmd.Stderr = cfg.Stdout, cfg.Stderr
	}
	cmd.WaitDelay = time.Second // a process that escaped may hold the guard's output open for longer
	// A session of its own: a terminal's Ctrl-C is for the agent, which ends the processes in order.
	cmd.SysProcAttr = guardAttributes()
	return cmd
}

// add orders the guard to start a process whose claim is valid for the time left. It returns false if the guard has
// ended or is about to.
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

// usable reports whether the guard should get another process.
func (l *guardLink) usable(most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.procs != nil && len(l.procs) < most && l.killed == nil && !l.old && l.silent < suspectAfter
}

// send puts an order into the queue and returns its number.
func (l *guardLink) send(o order) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.push(o)
}

// push is send for a caller that holds l.mu.
func (l *guardLink) push(o order) int64 {
	l.seq++
	l.quiet = 0
	o.Seq = l.seq
	l.queue = append(l.queue, o)
	ring(l.wake)
	return o.Seq
}

// answered reports whether the guard has carried out the order with this number, and whether it has been silent for
// suspectAfter.
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

// kill ends the guard. When it has ended, everything that can be found of its processes is killed.
func (l *guardLink) kill(why error) {
	l.mu.Lock()
	if l.killed == nil {
		l.killed = why
	}
	l.mu.Unlock()
	_ = l.cmd.Process.Kill()
}

// write writes the orders to the guard in their order, in a goroutine of its own, so that a guard that does not read
// holds up nothing else. It returns when the guard has ended.
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
				// If this fails, the process prints where its guard does, which is better than not to run.
				o.Start.Outputs, _ = o.outlet.pass(l.pass)
			}
			text, err := json.Marshal(o)
			if err == nil {
				_, err = l.orders.Write(append(text, '\n'))
			}
			if err != nil {
				return // the guard has ended, or is about to
			}
		}
	}
}

// watch sends the claims' deadlines to the guard, those of all processes in one message, and kills a guard that does
// not answer. It returns when the guard has ended.
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
		// An agent that was stopped itself must not blame the guard for that time.
		elapsed := min(time.Since(last), keepAtMost)
		last = time.Now()
		next, silent := l.renew(elapsed)
		if silent >= replaceAfter {
			l.kill(errUnresponsive)
		}
		timer.Reset(next)
	}
}

// renew sends an order if deadlines have changed, or if the guard should show that it answers. elapsed is the time
// since the last call. It returns the pause until the next one, and for how long the guard has not answered.
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
		l.push(o) // an empty order asks for an answer
	}
	return l.pause, l.silent
}

// keepPause returns the pause between two looks at a claim that is valid for the time left.
func keepPause(left time.Duration) time.Duration {
	return min(max(left/10, keepAtLeast), keepAtMost)
}

// follow reads the guard's reports until the guard ends, and returns the error of its exit status.
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
	l.killGroups()
	_ = l.cmd.Process.Kill() // a guard that closed its reports is of no use any more
	return l.cmd.Wait()
}

// killGroups kills what is left of the groups of a guard's processes. If the guard was killed, the kernel has killed
// the processes themselves where it has PR_SET_PDEATHSIG. The rest has to go before another process can get one of
// these numbers. Meanwhile add may bring further processes, which the guard has not started.
func (l *guardLink) killGroups() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.procs {
		if pid := p.pid.Load(); pid != 0 {
			_ = unix.Kill(-int(pid), unix.SIGKILL)
		}
	}
}

// end marks all processes that are left as ended, because their guard has ended with err.
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
	_, _ = l.orders.Close(), l.pass.Close() // pass may be nil; closing nil does nothing
	close(l.quit)
	for _, p := range procs {
		p.end(fmt.Errorf("guard process: %w", err))
	}
}

// guardAttributes makes a guard independent of the agent's terminal. Where the kernel can, it sends the guard a signal
// when the agent dies. That signal also comes when only the thread that started the guard ends; the guard tells the two
// apart.
func guardAttributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	signalAtParentDeath(attr, syscall.SIGUSR1)
	return attr
}
