//go:build linux || darwin

package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How often a guard looks whether a group whose leader ended is empty: this at first, then less and less often.
const (
	groupPoll     = 20 * time.Millisecond
	groupPollMost = 200 * time.Millisecond
)

// RunGuard is what a guard process of an Exec does: it runs processes under the orders of the agent that started it,
// until the agent has no more or dies, and returns an exit code. A main function calls it before anything else (see
// GuardArg), because a guard should be small and start quickly. It is of no use to anyone but an Exec.
func RunGuard(args []string) int {
	reports := os.NewFile(reportFD, "reports")
	if info, err := reports.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 || len(args) == 0 {
		fmt.Fprintln(
			os.Stderr,
			"this is the guard of processes that `drmctl agent --handler-exec` runs; it is not for use by hand",
		)
		return 2
	}
	syscall.CloseOnExec(reportFD) // the processes must not hold it open
	syscall.CloseOnExec(passFD)   // nor this, if it is there
	nameSelf()
	runtime.GOMAXPROCS(1)
	// The thread that starts the processes must live as long as the guard does: with it the kernel kills them.
	runtime.LockOSThread()
	g := &guard{
		agent: os.Getppid(), args: args, env: os.Environ(),
		out: newOutbox(), orders: make(chan order), events: make(chan func()),
		children: make(map[int]*child), byPID: make(map[int]*child),
	}
	go g.out.run(json.NewEncoder(reports))
	go g.read()
	return g.run()
}

// guard keeps the processes of one agent. All of it belongs to the goroutine of run, which is also the only one that
// starts processes, sends them signals and takes their exit statuses: so no signal can hit a number that was given to
// another process meanwhile. What may block is done by other goroutines, which end with the guard.
type guard struct {
	agent int      // the agent's process id
	args  []string // the command
	env   []string // of each process, besides its own
	out   *outbox

	orders chan order  // closed when there will be none any more
	events chan func() // what other goroutines want done by that of run

	children map[int]*child // by the agent's name for them
	byPID    map[int]*child // those that have been forked, until their exit status is taken
	alarm    *alarm
	alarmAt  int64
	system   guardSystem // what differs between systems
}

// child is one process of a guard, with its group.
type child struct {
	id    int
	env   []string
	until int64 // when it must be dead, on clockNow

	pid       int  // 0 until it is forked
	confirmed bool // it is known whether exec succeeded
	running   bool // it did, and the agent was told
	startErr  error

	terminating bool      // SIGTERM was sent
	graceEnd    time.Time // when SIGKILL follows
	ending      bool      // SIGKILL was sent, or is not needed
	reason      string    // why it was killed; "" if it was not
	dead        bool      // the leader ended
	reaped      bool      // its exit status is taken; on Linux, its number is not used as its own afterwards
	groupGone   bool      // the group was seen empty: its number is not used afterwards
	status      syscall.WaitStatus
	poll        time.Duration // the pause before the next look at what is left; 0: none is needed
	pollAt      time.Time
	feed        *os.File // its standard input
	output      []int    // where it prints, until it is started; see startOrder.Outputs
}

// takeOutput gives the files where the process is to print to whoever starts it, and closes them.
func (c *child) takeOutput() (stdout, stderr int, done func()) {
	output := c.output
	c.output = nil
	done = func() {
		for _, fd := range output {
			_ = unix.Close(fd)
		}
	}
	if len(output) == 0 {
		return 1, 2, done
	}
	return output[0], output[len(output)-1], done
}

func (g *guard) run() int {
	signals, chld := make(chan os.Signal, 8), make(chan os.Signal, 1) // one SIGCHLD says as much as many
	// Signals are for the agent to act on. They are caught and not ignored, since the processes would inherit that.
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	signal.Notify(chld, syscall.SIGCHLD)
	adoptOrphans()
	var err error
	if g.alarm, err = newAlarm(); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		return 1
	}
	g.system.init()
	timer := time.NewTimer(time.Hour)
	for {
		select {
		case o, ok := <-g.orders:
			if !ok {
				g.endAll()
				return 0
			}
			g.obey(o)
		case f := <-g.events:
			f()
		case <-g.alarm.C:
			g.alarmAt = 0
			g.checkDeadlines()
		case <-timer.C:
			g.tick()
		case <-chld:
			g.reap()
		case <-signals:
			if os.Getppid() != g.agent { // it died
				g.endAll()
				return 0
			}
		}
		g.arm(timer)
	}
}

// read passes the agent's orders on. It ends with the guard.
func (g *guard) read() {
	defer close(g.orders)
	dec := json.NewDecoder(os.Stdin)
	for {
		var o order
		if dec.Decode(&o) != nil {
			return
		}
		if o.Start != nil && o.Start.Outputs > 0 {
			o.output, o.err = receive(o.Start.Outputs)
		}
		g.orders <- o
	}
}

func (g *guard) post(f func()) { g.events <- f }

func (g *guard) obey(o order) {
	if o.Start != nil {
		c := &child{id: o.Start.ID, env: o.Start.Env, until: o.Start.Until, output: o.output}
		g.children[c.id] = c
		if o.err != nil {
			g.fail(c, "its output: "+o.err.Error())
		} else {
			g.begin(c, o.Start.Input)
		}
	}
	for _, r := range o.Renew {
		for _, id := range r.IDs {
			if c := g.children[id]; c != nil {
				c.until = r.Until
			}
		}
	}
	if c := g.children[o.Terminate]; c != nil && !c.terminating && !c.ending {
		if c.running {
			c.terminating = true
			g.system.mark(c) // before any of them ends
			c.graceEnd = time.Now().Add(time.Duration(o.GraceMS) * time.Millisecond)
			_ = unix.Kill(-c.pid, unix.SIGTERM)
		} else {
			g.kill(c, "killed: terminated before it was started")
		}
	}
	if c := g.children[o.Kill]; c != nil {
		g.kill(c, "killed: the agent gave it up")
	}
	g.checkDeadlines()
	g.out.ack(o.Seq)
}

// begin finds the program and starts it.
func (g *guard) begin(c *child, input []byte) {
	path := g.args[0]
	if filepath.Base(path) != path {
		g.start(c, path, input)
		return
	}
	go func() { // to look at the folders of PATH may block for as long as a file system hangs
		path, err := exec.LookPath(path)
		g.post(func() {
			switch {
			case g.children[c.id] != c: // it was given up
			case err != nil:
				g.fail(c, err.Error())
			default:
				g.start(c, path, input)
			}
		})
	}()
}

func (g *guard) start(c *child, path string, input []byte) {
	if clockNow() >= c.until {
		g.fail(c, claimEnded)
		return
	}
	if err := g.launch(c, path, input); err != nil {
		g.fail(c, err.Error())
	}
}

// fail says that the process could not be started. Nothing of it is there.
func (g *guard) fail(c *child, why string) {
	_, _, done := c.takeOutput()
	done()
	g.out.put(report{ID: c.id, Error: why})
	delete(g.children, c.id)
}

// feedTo writes what the process reads, which may take as long as the process lives.
func feedTo(feed *os.File, input []byte) {
	_, _ = feed.Write(input)
	_ = feed.Close()
}

// confirm is told whether exec succeeded.
func (g *guard) confirm(c *child, err error) {
	c.confirmed, c.startErr = true, err
	if err == nil && !c.ending {
		c.running = true
		g.out.put(report{ID: c.id, PID: c.pid})
		g.checkDeadlines()
	}
	if c.reaped && !c.ending { // it ended before it was known to run
		g.kill(c, "")
	}
	g.settle(c)
}

// checkDeadlines kills what its agent has not renewed.
func (g *guard) checkDeadlines() {
	now := clockNow()
	for _, c := range g.children {
		if c.until <= now && !c.ending {
			reason := "killed: not renewed by the claim's deadline"
			if !c.running {
				reason = claimEnded
			}
			g.kill(c, reason)
		}
	}
}

// kill ends the process, its group, and every other descendant that the guard can find. What is left of them is
// reported as ended once it has.
func (g *guard) kill(c *child, reason string) {
	if c.ending {
		return
	}
	c.ending, c.reason = true, reason
	if c.pid == 0 {
		g.fail(c, reason)
		return
	}
	if !c.dead { // with its end its children are others'
		g.system.mark(c)
	}
	g.strike(c)
	g.settle(c)
}

// strike sends SIGKILL to the group for as long as it has its number.
func (g *guard) strike(c *child) {
	if c.groupGone {
		return
	}
	// A group that is another user's (EPERM) is out of reach.
	if unix.Kill(-c.pid, unix.SIGKILL) != nil && c.reaped {
		c.groupGone = true
	}
}

// exited is told that the leader ended. reap takes its exit status: until then its number, which is that of its group,
// cannot be given to another process.
func (g *guard) exited(c *child, reap func() syscall.WaitStatus) {
	c.dead = true
	if !c.terminating && !c.ending && c.confirmed {
		g.kill(c, "") // it ended by itself, and takes its helpers along
	}
	if !c.terminating || c.ending {
		g.strike(c) // again for what its last moment may have added
	}
	c.status, c.reaped = reap(), true
	delete(g.byPID, c.pid)
	if !c.ending {
		// The others in its group got SIGTERM too, and have the rest of the grace. The number stays taken for as long
		// as the group has a member.
		g.look(c)
		return
	}
	g.settle(c)
}

// look sees whether anything is left of a group whose leader ended at SIGTERM.
func (g *guard) look(c *child) {
	if c.confirmed && errors.Is(unix.Kill(-c.pid, 0), unix.ESRCH) {
		c.groupGone = true
		g.kill(c, "")
		return
	}
	c.again()
}

// again has the loop look once more, after a pause that grows.
func (c *child) again() {
	c.poll = min(max(groupPoll, c.poll*2), groupPollMost)
	c.pollAt = time.Now().Add(c.poll)
}

// settle reports the end of a process that was killed once nothing of it is left.
func (g *guard) settle(c *child) {
	if !c.ending || !c.reaped || !c.confirmed || g.children[c.id] != c {
		return
	}
	g.strike(c)
	if left := g.system.hunt(g, c); left > 0 || !c.groupGone {
		c.again()
		return
	}
	g.system.forget(c)
	if c.feed != nil {
		_ = c.feed.Close()
	}
	delete(g.children, c.id)
	switch {
	case c.running:
		ended := statusText(c.status)
		if c.reason != "" {
			ended += " (" + c.reason + ")"
		}
		g.out.put(report{ID: c.id, Ended: ended})
	case c.startErr != nil:
		g.out.put(report{ID: c.id, Error: c.startErr.Error()})
	default:
		g.out.put(report{ID: c.id, Error: c.reason})
	}
}

// tick does what it is time for.
func (g *guard) tick() {
	now := time.Now()
	for _, c := range g.children {
		switch {
		case c.terminating && !c.ending && !now.Before(c.graceEnd):
			g.kill(c, "killed: still there after the grace that follows SIGTERM")
		case c.poll > 0 && !now.Before(c.pollAt):
			if c.ending {
				g.settle(c)
			} else {
				g.look(c)
			}
		}
	}
}

// arm sets the alarm and the timer to the earliest that either is for.
func (g *guard) arm(timer *time.Timer) {
	until := int64(math.MaxInt64)
	var at time.Time
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, c := range g.children {
		if !c.ending {
			until = min(until, c.until)
			if c.terminating {
				earlier(c.graceEnd)
			}
		}
		if c.poll > 0 {
			earlier(c.pollAt)
		}
	}
	if until != math.MaxInt64 && until != g.alarmAt {
		g.alarmAt = until
		g.alarm.set(until)
	}
	if at.IsZero() {
		timer.Stop()
	} else {
		timer.Reset(time.Until(at))
	}
}

// endAll kills everything that the guard can find.
func (g *guard) endAll() {
	for _, c := range g.children {
		if c.pid != 0 && !c.groupGone {
			_ = unix.Kill(-c.pid, unix.SIGKILL)
		}
	}
	killOrphans()
}

// stopped reports that a process was stopped by a signal, or goes on.
func (g *guard) stopped(pid int, by syscall.Signal, resumed bool) {
	c := g.byPID[pid]
	if c == nil {
		return
	}
	if resumed {
		g.out.put(report{ID: c.id, Resumed: true})
		return
	}
	g.out.put(report{ID: c.id, Stopped: fmt.Sprintf("process %d is stopped (%s) since %s",
		pid, unix.SignalName(by), time.Now().UTC().Format(time.RFC3339))})
}

func statusText(s syscall.WaitStatus) string {
	if s.Signaled() {
		text := "signal: " + s.Signal().String()
		if s.CoreDump() {
			text += " (core dumped)"
		}
		return text
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}

// environ is the environment of a process.
func (g *guard) environ(c *child) []string { return slices.Concat(g.env, c.env) }
