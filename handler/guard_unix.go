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

// The pause between a guard's looks at a group whose leader has ended, to see whether it is empty: the first pause, and
// the longest. Each pause is twice as long as the one before.
const (
	groupPoll     = 20 * time.Millisecond
	groupPollMost = 200 * time.Millisecond
)

const notByHand = "this is the guard of processes that `drmctl agent --handler-exec` runs; it is not for use by hand"

// RunGuard is the work of a guard process of an Exec: it runs processes as the agent that started it orders. args are
// the command of the processes. It returns an exit code when the agent needs the guard no longer or dies: 0, 1 if the
// guard cannot do its work, or 2 if no Exec has started this process. A main function calls it before anything else
// (see GuardArg), because a guard should be small and start quickly. It is of no use to anyone but an Exec.
func RunGuard(args []string) int {
	reports := os.NewFile(reportFD, "reports")
	if info, err := reports.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 || len(args) == 0 {
		fmt.Fprintln(os.Stderr, notByHand)
		return 2
	}
	syscall.CloseOnExec(reportFD) // the processes must not hold it open
	syscall.CloseOnExec(passFD)   // nor this one, which may not be there
	nameSelf()
	runtime.GOMAXPROCS(1)
	// The thread that starts the processes must live as long as the guard: when it ends, the kernel kills them.
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

// guard keeps the processes of one agent. All its fields belong to the goroutine of run. That goroutine is also the
// only one that starts processes, sends them signals and takes their exit statuses, so no signal can hit a process that
// got the number of another one meanwhile. Other goroutines, which end with the guard, do whatever may block.
type guard struct {
	agent int      // the agent's process id
	args  []string // the command of the processes
	env   []string // what all processes have in their environment
	out   *outbox

	orders chan order  // closed when no more orders can come
	events chan func() // work that other goroutines pass to the goroutine of run

	children map[int]*child // by the id that the agent gave them
	byPID    map[int]*child // the forked ones whose exit status has not been taken
	alarm    *alarm
	alarmAt  int64
	system   guardSystem // what differs between systems
}

// child is one process of a guard, with its group.
type child struct {
	id    int
	args  []string
	env   []string
	until int64 // when it must be dead, in milliseconds of clockNow

	pid       int  // 0 until it is forked
	confirmed bool // it is known whether exec succeeded
	running   bool // exec succeeded, and the agent was told
	startErr  error

	terminating bool      // SIGTERM was sent
	graceEnd    time.Time // when SIGKILL follows
	ending      bool      // SIGKILL was sent, or is not needed
	reason      string    // why it was killed; "" if it was not
	dead        bool      // the leader of the group has ended
	reaped      bool      // its exit status was taken; from then on another process may get its number
	groupGone   bool      // the group was seen empty; from then on another group may get its number
	status      syscall.WaitStatus
	poll        time.Duration // the pause before the next look at what is left; 0 if no look is needed
	pollAt      time.Time
	feed        *os.File // its standard input
	output      []int    // the files that it prints to, until it is started; see startOrder.Outputs
}

// takeOutput returns the file descriptors that the process prints to, for the start. done closes the guard's copies of
// them.
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
	// The agent acts on signals, and the guard does not. The guard catches them, because its processes would inherit
	// that it ignores them.
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
			if os.Getppid() != g.agent { // the agent died
				g.endAll()
				return 0
			}
		}
		g.arm(timer)
	}
}

// read passes the agent's orders to the loop, in a goroutine of its own that ends with the guard.
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

// post makes the loop call f.
func (g *guard) post(f func()) { g.events <- f }

// obey carries out an order, and acknowledges it.
func (g *guard) obey(o order) {
	if o.Start != nil {
		c := &child{id: o.Start.ID, args: o.Start.Args, env: o.Start.Env, until: o.Start.Until, output: o.output}
		if len(c.args) == 0 {
			c.args = g.args
		}
		g.children[c.id] = c
		if o.err != nil {
			g.fail(c, "receive the files for its output: "+o.err.Error())
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
			g.system.mark(c) // while all its descendants still live
			c.graceEnd = time.Now().Add(time.Duration(o.GraceMS) * time.Millisecond)
			_ = unix.Kill(-c.pid, unix.SIGTERM)
			_ = unix.Kill(-c.pid, unix.SIGCONT) // what is stopped would take SIGTERM only once it goes on
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
	path := c.args[0]
	if filepath.Base(path) != path {
		g.start(c, path, input)
		return
	}
	go func() { // reading the folders of PATH blocks for as long as a file system hangs
		path, err := exec.LookPath(path)
		g.post(func() {
			switch {
			case g.children[c.id] != c: // it was killed meanwhile
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

// fail reports that a process could not be started, and forgets it.
func (g *guard) fail(c *child, why string) {
	_, _, done := c.takeOutput()
	done()
	g.out.put(report{ID: c.id, Error: why})
	delete(g.children, c.id)
}

// feedTo writes the standard input of a process. It blocks until the process has read it or ends.
func feedTo(feed *os.File, input []byte) {
	_, _ = feed.Write(input)
	_ = feed.Close()
}

// confirm takes the outcome of exec; nil is success.
func (g *guard) confirm(c *child, err error) {
	c.confirmed, c.startErr = true, err
	if err == nil && !c.ending {
		c.running = true
		g.out.put(report{ID: c.id, PID: c.pid})
		g.checkDeadlines()
	}
	if c.reaped && !c.ending { // it ended before the outcome of exec was known
		g.kill(c, "")
	}
	g.settle(c)
}

// checkDeadlines kills the processes whose deadline has passed without a renewal.
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

// kill ends the process, its group, and every other descendant that the guard can find. Once nothing is left of them,
// settle reports the end.
func (g *guard) kill(c *child, reason string) {
	if c.ending {
		return
	}
	c.ending, c.reason = true, reason
	if c.pid == 0 {
		g.fail(c, reason)
		return
	}
	if !c.dead { // once it has ended, its children have another parent
		g.system.mark(c)
	}
	g.strike(c)
	g.settle(c)
}

// strike sends SIGKILL to the group, unless the group is gone.
func (g *guard) strike(c *child) {
	if c.groupGone {
		return
	}
	// The guard cannot do more about a group of another user (EPERM), so that group counts as gone too.
	if unix.Kill(-c.pid, unix.SIGKILL) != nil && c.reaped {
		c.groupGone = true
	}
}

// exited handles the end of the leader. reap takes its exit status. Until that is called, no other process can get the
// leader's number, which is also that of the group.
func (g *guard) exited(c *child, reap func() syscall.WaitStatus) {
	c.dead = true
	if !c.terminating && !c.ending && c.confirmed {
		g.kill(c, "") // it ended by itself, and the rest of its group is killed with it
	}
	if !c.terminating || c.ending {
		g.strike(c) // once more, for processes that it started in its last moment
	}
	c.status, c.reaped = reap(), true
	delete(g.byPID, c.pid)
	if !c.ending {
		// The others in its group got SIGTERM too, and may take the rest of the grace. No other group can get the
		// number while the group has a member.
		g.look(c)
		return
	}
	g.settle(c)
}

// look checks whether anything is left of a group whose leader ended at SIGTERM.
func (g *guard) look(c *child) {
	if c.confirmed && errors.Is(unix.Kill(-c.pid, 0), unix.ESRCH) {
		c.groupGone = true
		g.kill(c, "")
		return
	}
	c.again()
}

// again makes the loop look once more, after a pause that grows.
func (c *child) again() {
	c.poll = min(max(groupPoll, c.poll*2), groupPollMost)
	c.pollAt = time.Now().Add(c.poll)
}

// settle reports the end of a killed process once nothing of it is left; until then it makes the loop look again.
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
		ended, killed := statusText(c.status), c.reason != ""
		if killed {
			ended += " (" + c.reason + ")"
		}
		ok := !killed && c.status.Exited() && c.status.ExitStatus() == 0
		g.out.put(report{ID: c.id, Ended: ended, OK: ok, Killed: killed})
	case c.startErr != nil:
		g.out.put(report{ID: c.id, Error: c.startErr.Error()})
	default:
		g.out.put(report{ID: c.id, Error: c.reason})
	}
}

// tick kills the groups whose grace is over, and looks again at those whose pause is over.
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

// arm sets the alarm to the earliest deadline, and the timer to the earliest moment at which tick has something to do.
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

// environ returns the environment of a process.
func (g *guard) environ(c *child) []string { return slices.Concat(g.env, c.env) }
