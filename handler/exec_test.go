//go:build linux || darwin

package handler_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func init() {
	// A process with the race detector sleeps for a second at its exit. The processes that are started here do not.
	_ = os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	programs[handler.GuardArg] = handler.RunGuard
	programs["__child"] = childMain
	programs["__agent"] = agentMain
}

// hello is the first message of a child process to its test.
type hello struct {
	Name                  string
	PID, PPID, PGID, PSID int
	Env                   []string
	Stdin                 string
	Pipes                 []string
}

// pipes returns the pipes that this process holds besides the standard ones, if the system can tell.
func pipes() []string {
	var names []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if fd, _ := strconv.Atoi(entry.Name()); fd > 2 {
			if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil &&
				strings.HasPrefix(target, "pipe:") {
				names = append(names, target)
			}
		}
	}
	return names
}

// inherited are the pipes that were there before the first test.
var inherited = pipes()

// childMain is a process that a handler runs. It connects to its test and obeys the test's orders, one per line. The
// end of the connection tells the test that the process is gone. These arguments change what it does:
//
//   - "stubborn" ignores SIGTERM;
//   - "polite" reports SIGTERM before it ends;
//   - "deaf" does not read its standard input;
//   - "family" has a child in its group and one in a session of its own, both stubborn;
//   - "wiped" has no claim in the environment of the latter;
//   - "patient" has a polite child in its group;
//   - "daemon" has a stubborn descendant that is neither its child nor in its group.
func childMain(args []string) int {
	name := "child"
	for _, arg := range args {
		if n, ok := strings.CutPrefix(arg, "name="); ok {
			name = n
		}
	}
	has := func(arg string) bool { return slices.Contains(args, arg) }
	terms := make(chan os.Signal, 1)
	if has("stubborn") || has("polite") {
		signal.Notify(terms, syscall.SIGTERM)
	}
	conn, err := net.Dial("unix", os.Getenv("TEST_SOCKET"))
	if err != nil {
		return 9
	}
	session, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	h := hello{
		Name:  name,
		PID:   os.Getpid(),
		PPID:  os.Getppid(),
		PGID:  syscall.Getpgrp(),
		PSID:  int(session),
		Env:   os.Environ(),
		Pipes: pipes(),
	}
	if !has("deaf") {
		in, _ := io.ReadAll(os.Stdin)
		h.Stdin = string(in)
	}
	spawn := func(attr *syscall.SysProcAttr, args ...string) {
		cmd := exec.Command(os.Args[0], append([]string{"__child", "deaf"}, args...)...)
		cmd.SysProcAttr = attr
		if attr != nil && has("wiped") {
			cmd.Env = []string{"TEST_SOCKET=" + os.Getenv("TEST_SOCKET")}
		}
		_ = cmd.Start()
	}
	if has("family") {
		spawn(nil, "stubborn", "name=grandchild")
		spawn(&syscall.SysProcAttr{Setsid: true}, "stubborn", "name=runaway")
	}
	if has("daemon") { // the daemon's parent, which is not this process, ends at once
		cmd := exec.Command("sh", "-c", `unset NOTIFY_SOCKET; setsid "$@" & exit 0`, "sh",
			os.Args[0], "__child", "deaf", "stubborn", "name=daemon")
		_ = cmd.Run()
	}
	if has("patient") {
		spawn(nil, "polite", "name=grandchild")
	}
	out := json.NewEncoder(conn)
	_ = out.Encode(h)
	orders := make(chan string)
	go func() {
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			orders <- lines.Text()
		}
		os.Exit(8) // the test is gone
	}()
	for {
		select {
		case <-terms:
			_ = out.Encode("term")
			if has("polite") {
				if <-orders != "go on" {
					return 7
				}
				return 0
			}
		case order := <-orders:
			switch verb, rest, _ := strings.Cut(order, " "); verb {
			case "exit":
				code, _ := strconv.Atoi(rest)
				return code
			case "print":
				fmt.Println(rest)
				fmt.Fprintln(os.Stderr, "err:", rest)
			case "notify":
				text, _ := strconv.Unquote(rest)
				to := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
				if conn, err := net.DialUnix("unixgram", nil, to); err == nil {
					_, _ = conn.Write([]byte(text))
					_ = conn.Close()
				}
			case "kill-parent":
				_ = syscall.Kill(os.Getppid(), syscall.SIGKILL)
			case "stop-parent":
				_ = syscall.Kill(os.Getppid(), syscall.SIGSTOP)
			}
			_ = out.Encode("done")
		}
	}
}

// agentMain is an agent with one resource, whose claim is always valid for another args[0]. Only a signal ends it. With
// "checked" among the other arguments, it checks its process once.
func agentMain(args []string) int {
	valid, _ := time.ParseDuration(args[0])
	cfg := handler.ExecConfig{Command: append([]string{os.Args[0], "__child"}, args[1:]...)}
	if slices.Contains(args, "checked") {
		cfg.Check = []string{os.Args[0], "__child", "name=check", "stubborn"}
	}
	c := drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, remaining(valid))
	e, err := handler.NewExec(cfg)
	if err == nil {
		err = e.Handle(context.Background(), c)
	}
	if err == nil && cfg.Check != nil {
		go func() { _ = e.Check(context.Background(), c) }()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // a test that ends takes the agent with it
	return 0
}

// peer is the test's view of a child.
type peer struct {
	hello
	conn net.Conn
	said chan string   // the child's answers
	gone chan struct{} // closed when the child is dead
}

// children accepts the connections of the children of a test.
type children struct {
	t        *testing.T
	env      []string
	arrivals chan *peer
}

func newChildren(t *testing.T) *children {
	t.Helper()
	dir, err := os.MkdirTemp("", "drm") // t.TempDir can be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ch := &children{t: t, env: []string{"TEST_SOCKET=" + socket}, arrivals: make(chan *peer, 64)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { ch.meet(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		for {
			select {
			case p := <-ch.arrivals:
				_ = p.conn.Close()
				continue
			default:
			}
			break
		}
		running.Wait()
		_ = os.RemoveAll(dir)
	})
	return ch
}

func (ch *children) meet(conn net.Conn) {
	dec := json.NewDecoder(conn)
	p := &peer{conn: conn, said: make(chan string, 64), gone: make(chan struct{})}
	defer close(p.gone)
	if dec.Decode(&p.hello) != nil {
		return
	}
	ch.arrivals <- p
	for {
		var said string
		if dec.Decode(&said) != nil {
			return
		}
		p.said <- said
	}
}

// next returns the next child that starts. When the test ends, it makes sure that the child is gone.
func (ch *children) next() *peer {
	ch.t.Helper()
	select {
	case p := <-ch.arrivals:
		ch.t.Cleanup(func() {
			_ = p.conn.Close() // the child exits when it notices this
			await(ch.t, p.gone, p.Name+" to be gone")
		})
		return p
	case <-time.After(patience):
		ch.t.Fatal("no child started")
		return nil
	}
}

// named returns the next n children, by name.
func (ch *children) named(n int) map[string]*peer {
	ch.t.Helper()
	all := map[string]*peer{}
	for range n {
		p := ch.next()
		all[p.Name] = p
	}
	return all
}

func (p *peer) tell(t *testing.T, order string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.conn, order); err != nil {
		t.Errorf("tell %s %q: %v", p.Name, order, err)
	}
}

// alive checks that the child answers.
func (p *peer) alive(t *testing.T) {
	t.Helper()
	p.tell(t, "ping")
	select {
	case <-p.said:
	case <-p.gone:
		t.Errorf("%s is gone", p.Name)
	case <-time.After(patience):
		t.Errorf("%s does not answer", p.Name)
	}
}

// newExec makes a handler that runs this binary as a child. The other fields are those of cfg.
func (ch *children) newExec(cfg handler.ExecConfig, args ...string) *handler.Exec {
	ch.t.Helper()
	cfg.Command = append([]string{os.Args[0], "__child"}, args...)
	cfg.Env = append(cfg.Env, ch.env...)
	e, err := handler.NewExec(cfg)
	if err != nil {
		ch.t.Fatal(err)
	}
	ch.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			ch.t.Error(err)
		}
	})
	return e
}

func (ch *children) handle(ctx context.Context, e *handler.Exec, c drm.Claim) {
	ch.t.Helper()
	if err := e.Handle(ctx, c); err != nil {
		ch.t.Fatal(err)
	}
}

func TestExecGivesTheProcessItsClaim(t *testing.T) {
	t.Setenv("DRM_PASSWORD", "s3cret")
	t.Setenv("DRM_TOKEN", "999")
	t.Setenv("DRM_SUPERVISOR", "unix:/run/s") // which watches the agent
	t.Setenv("INHERITED", "yes")
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Env: []string{"EXTRA=1"}})
	r := drm.Resource{ID: "a/b", Data: json.RawMessage(`{"id":"a/b","x":[1,"<&>"]}`)}
	c := drm.NewClaim("my app", "m1", r, 42, nil)
	ch.handle(t.Context(), e, c)
	p := ch.next()
	if want := `{"id":"a/b","x":[1,"<&>"]}` + "\n"; p.Stdin != want {
		t.Errorf("stdin %q, want %q", p.Stdin, want)
	}
	var ours []string
	for _, pair := range p.Env {
		if strings.HasPrefix(pair, "DRM_") {
			ours = append(ours, pair)
		}
	}
	slices.Sort(ours)
	if want := []string{
		"DRM_APP=my app",
		"DRM_MEMBER=m1",
		"DRM_RESOURCE_ID=a/b",
		"DRM_TOKEN=42",
	}; !slices.Equal(ours, want) {
		t.Errorf("DRM's environment is %q, want %q", ours, want)
	}
	for _, want := range []string{"INHERITED=yes", "EXTRA=1"} {
		if !slices.Contains(p.Env, want) {
			t.Errorf("%s is not in the environment", want)
		}
	}
	if p.PGID != p.PID || p.PSID == p.PID || p.PSID != p.PPID || p.PPID == os.Getpid() {
		t.Errorf("process %d has group %d, session %d, parent %d", p.PID, p.PGID, p.PSID, p.PPID)
	}
	for _, pipe := range p.Pipes {
		if !slices.Contains(inherited, pipe) {
			t.Errorf("the process holds a pipe of its guard or agent: %q", p.Pipes)
		}
	}
	if err := e.Terminate(t.Context(), c); err != nil {
		t.Error(err)
	}
	await(t, p.gone, "the process to end")
}

func TestExecTellsTheProcessWhereItsAgentAnswers(t *testing.T) {
	t.Setenv("DRM_AGENT", "http://127.0.0.1:1") // this process may itself be one of another agent
	for _, address := range []string{"", "unix:/run/drm.sock"} {
		ch := newChildren(t)
		e := ch.newExec(handler.ExecConfig{Agent: address})
		ch.handle(t.Context(), e, claim("a", 1))
		var told []string
		for _, pair := range ch.next().Env {
			if strings.HasPrefix(pair, "DRM_AGENT") {
				told = append(told, pair)
			}
		}
		if want := "DRM_AGENT=" + address; address != "" && !slices.Equal(told, []string{want}) {
			t.Errorf("it is told %q, want %q", told, want)
		} else if address == "" && len(told) > 0 {
			t.Errorf("it is told %q, and its agent answers nowhere", told)
		}
		if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
			t.Error(err)
		}
	}
}

func TestExecTerminateIsSIGTERM(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: time.Hour}, "polite")
	ch.handle(t.Context(), e, claim("a", 1))
	p := ch.next()
	ended := make(chan error, 1)
	go func() { ended <- e.Terminate(t.Context(), claim("a", 1)) }()
	if said := await(t, p.said, "SIGTERM"); said != "term" {
		t.Errorf("the process said %q", said)
	}
	select {
	case err := <-ended:
		t.Errorf("Terminate returned before the process ended: %v", err)
	default:
	}
	p.tell(t, "go on")
	if err := await(t, ended, "Terminate"); err != nil {
		t.Error(err)
	}
	await(t, p.gone, "the process to end")
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Errorf("Terminate of what does not run: %v", err)
	}
}

func TestExecTerminateWaitsForTheWholeGroup(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: time.Hour}, "patient")
	ch.handle(t.Context(), e, claim("a", 1))
	all := ch.named(2)
	ended := make(chan error, 1)
	go func() { ended <- e.Terminate(t.Context(), claim("a", 1)) }()
	await(t, all["child"].gone, "the leader to end at SIGTERM")
	if said := await(t, all["grandchild"].said, "SIGTERM in the grandchild"); said != "term" {
		t.Errorf("the grandchild said %q", said)
	}
	all["grandchild"].tell(t, "go on") // an exit status of 0 shows that it was not killed meanwhile
	if err := await(t, ended, "Terminate"); err != nil {
		t.Error(err)
	}
	await(t, all["grandchild"].gone, "the grandchild to end")
}

func TestExecTerminateKillsTheGroupAfterGrace(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: 50 * time.Millisecond}, "stubborn", "family")
	ch.handle(t.Context(), e, claim("a", 1))
	n := 2
	if runtime.GOOS == "linux" {
		n = 3
	}
	all := ch.named(n)
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	for name, p := range all {
		await(t, p.gone, name+" to be killed")
	}
	if said := await(t, all["grandchild"].said, "SIGTERM in the grandchild"); said != "term" {
		t.Errorf("the grandchild said %q", said)
	}
}

func TestExecTerminateKillsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: time.Hour}, "stubborn")
	ch.handle(t.Context(), e, claim("a", 1))
	p := ch.next()
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		await(t, p.said, "SIGTERM")
		cancel(drm.CauseTimeout)
	}()
	if err := e.Terminate(ctx, claim("a", 1)); err != nil {
		t.Error(err)
	}
	await(t, p.gone, "the process to be killed")
}

func TestExecKillsAtOnceWhenTheClaimEnds(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: time.Hour}, "stubborn", "family")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ch.handle(ctx, e, claim("a", 1))
	all := ch.named(3)
	cancel(drm.CauseFenced)
	for _, name := range []string{"child", "grandchild"} {
		await(t, all[name].gone, name+" to be killed")
	}
	select {
	case said := <-all["child"].said:
		t.Errorf("it was sent a signal first: %q", said)
	default:
	}
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	if runtime.GOOS == "linux" {
		await(t, all["runaway"].gone, "the process that left the group to be killed")
	}
}

// A manager that stops during a Handle (say) ends the context of the call, but still has the claim. So the process may
// end in order.
func TestExecEndsInOrderWhatAnEndOfHandleCutShort(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{
		drm.CauseStopped, drm.CauseMoved, drm.CauseRemoved, drm.CauseChanged, drm.CauseTimeout,
		drm.CauseServiceRestarted,
	} {
		t.Run("while it starts: "+cause.Error(), func(t *testing.T) {
			t.Parallel()
			ch := newChildren(t)
			hold := filepath.Join(t.TempDir(), "hold")
			if err := syscall.Mkfifo(hold, 0o600); err != nil {
				t.Fatal(err)
			}
			// The reports of this guard wait until the test lets them pass.
			slow := `hold=$1; shift; { "$@" 3>&1 >&4 4>&- | { read -r go <"$hold"; cat >&3; }; } 4>&1`
			e := ch.newExec(handler.ExecConfig{
				Grace:        time.Hour,
				GuardCommand: []string{"sh", "-c", slow, "sh", hold, os.Args[0], handler.GuardArg},
			}, "polite")
			ctx, cancel := context.WithCancelCause(t.Context())
			handled := make(chan error, 1)
			go func() { handled <- e.Handle(ctx, claim("a", 1)) }()
			p := ch.next()
			cancel(cause)
			if err := os.WriteFile(hold, []byte("go\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if said := await(t, p.said, "SIGTERM"); said != "term" {
				t.Errorf("the process said %q", said)
			}
			p.tell(t, "go on")
			if err := await(t, handled, "Handle"); !errors.Is(err, cause) {
				t.Errorf("Handle: %v, want %v", err, cause)
			}
			await(t, p.gone, "the process to end")
		})
		t.Run("once it runs: "+cause.Error(), func(t *testing.T) {
			t.Parallel()
			ch := newChildren(t)
			e := ch.newExec(handler.ExecConfig{Grace: time.Hour}, "polite")
			ctx, cancel := context.WithCancelCause(t.Context())
			ch.handle(ctx, e, claim("a", 1))
			p := ch.next()
			cancel(cause)
			if said := await(t, p.said, "SIGTERM"); said != "term" {
				t.Errorf("the process said %q", said)
			}
			p.tell(t, "go on")
			if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
				t.Error(err)
			}
			await(t, p.gone, "the process to end")
		})
	}
}

// childrenOf returns the processes whose parent is pid (or "self"), if the system can tell.
func childrenOf(pid string) (pids []string) {
	lists, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

func TestExecLeavesNothingOfAClaimThatEndsAtOnce(t *testing.T) { // not parallel, because it looks at all children
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{}, "stubborn")
	for range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		ch.handle(ctx, e, claim("a", 1))
		cancel(drm.CauseFenced)
		if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		for _, guard := range childrenOf("self") {
			if pids := childrenOf(guard); len(pids) > 0 {
				t.Fatalf("processes that are still there: %s", pids)
			}
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if pids := childrenOf("self"); len(pids) > 0 {
		t.Errorf("guards that are still there: %s", pids)
	}
}

func TestExecRestartsAProcessThatEnds(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 8)
	e := ch.newExec(handler.ExecConfig{
		Backoff: time.Millisecond,
		Grace:   time.Millisecond,
		OnExit:  func(c drm.Claim, err error) { told <- fmt.Errorf("%s: %w", c.Resource.ID, err) },
	}, "family")
	ch.handle(t.Context(), e, claim("a", 1))
	all := ch.named(3)
	all["child"].tell(t, "exit 3")
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("OnExit was told %v", err)
	}
	await(t, all["grandchild"].gone, "what the process left behind to be killed")
	again := ch.named(3)["child"]
	if again.PID == all["child"].PID || again.Stdin != all["child"].Stdin {
		t.Errorf("started again: %+v", again.hello)
	}
	// No other process can get its number before its guard has noticed this.
	_ = syscall.Kill(again.PID, syscall.SIGKILL)
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("OnExit was told %v", err)
	}
	third := ch.named(3)["child"]
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	await(t, third.gone, "the third process to end")
	if len(told) > 0 {
		t.Errorf("OnExit was told of an ordered end: %v", <-told)
	}
}

func TestExecSaysWhyAProgramCannotStart(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		cfg  handler.ExecConfig
		want string
	}{
		{handler.ExecConfig{Command: []string{"no-such-program"}}, `"no-such-program": executable file not found`},
		{handler.ExecConfig{Command: []string{"/no/such/program"}}, "/no/such/program: no such file"},
		{handler.ExecConfig{Command: []string{plain}}, "permission denied"},
		{handler.ExecConfig{Command: []string{"true"}, Dir: "/no/such/dir"}, "/no/such/dir"},
		{handler.ExecConfig{Command: []string{"true"}, GuardCommand: []string{"/no/such/guard"}}, "guard process"},
		{handler.ExecConfig{Command: []string{"true"}, GuardCommand: []string{"true"}}, "guard process"},
	} {
		e := must[*handler.Exec](t)(handler.NewExec(tc.cfg))
		err := e.Handle(t.Context(), claim("res", 1))
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `"res"`) {
			t.Errorf("%v: got %v", tc.cfg.Command, err)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestExecStartsNothingUnderAnInvalidClaim(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{})
	if err := e.Handle(t.Context(), drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, remaining(0))); err == nil {
		t.Error("no error")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(drm.CauseMoved)
	if err := e.Handle(ctx, claim("a", 1)); !errors.Is(err, drm.CauseMoved) {
		t.Errorf("got %v", err)
	}
	select {
	case p := <-ch.arrivals:
		t.Errorf("process %d was started", p.PID)
	default:
	}
}

func TestExecRunsOneProcessPerResource(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{})
	ch.handle(t.Context(), e, claim("a", 1))
	if err := e.Handle(t.Context(), claim("a", 2)); !errors.Is(err, handler.ErrRunning) {
		t.Errorf("a second Handle: %v", err)
	}
	ch.handle(t.Context(), e, claim("b", 3))
	first, second := ch.next(), ch.next()
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	await(t, first.gone, "a to end")
	await(t, second.gone, "b to end")
	if err := e.Handle(t.Context(), claim("a", 4)); !errors.Is(err, handler.ErrClosed) {
		t.Errorf("Handle after Close: %v", err)
	}
}

func TestExecGivesOutputToItsWriters(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	// The race detector notices if the handler does not guard the buffers. A pipe that nobody reads must not matter.
	var out, errs bytes.Buffer
	e := ch.newExec(handler.ExecConfig{Stdout: &out, Stderr: &errs}, "deaf")
	big, _ := json.Marshal(map[string]string{"id": "a", "pad": strings.Repeat("x", 1<<20)})
	ch.handle(t.Context(), e, drm.NewClaim("app", "m1", drm.Resource{ID: "a", Data: big}, 1, nil))
	ch.handle(t.Context(), e, claim("b", 1))
	for range 2 {
		p := ch.next()
		p.tell(t, "print hi there")
		await(t, p.said, "an answer")
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if out.String() != "hi there\nhi there\n" || errs.String() != "err: hi there\nerr: hi there\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
}

func TestExecGetsABigResourceWhole(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{})
	big, _ := json.Marshal(map[string]string{"id": "a", "pad": strings.Repeat("x", 1<<20)})
	ch.handle(t.Context(), e, drm.NewClaim("app", "m1", drm.Resource{ID: "a", Data: big}, 1, nil))
	if p := ch.next(); p.Stdin != string(big)+"\n" {
		t.Errorf("it got %d bytes, want %d", len(p.Stdin), len(big)+1)
	}
}

// startAgent runs an agent as a process of its own, and returns it and its child.
func startAgent(t *testing.T, ch *children, args ...string) (*exec.Cmd, *peer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"__agent"}, args...)...)
	cmd.Env = append(os.Environ(), ch.env...)
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = hold.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, ch.next()
}

func TestExecChildDiesWithAnAgentThatIsKilled(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	agent, p := startAgent(t, ch, "1h", "stubborn") // so long that no deadline kills the child
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, p.gone, "the child to be killed")
}

func TestExecChildOfAStoppedAgentDiesByItsDeadline(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	const valid = 2 * time.Second
	agent, p := startAgent(t, ch, valid.String(), "stubborn")
	// As the agent renews the child, the child outlives its first deadline.
	select {
	case <-p.gone:
		t.Fatal("the child died though its agent renewed it")
	case <-time.After(valid + valid/4):
	}
	p.alive(t)
	if err := agent.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	await(t, p.gone, "the child to be killed")
	if took := time.Since(began); took > valid+valid/2 {
		t.Logf("slow machine: killed %v after the stop", took)
	}
	if state := processState(t, agent.Process.Pid); runtime.GOOS == "linux" && state != "T" {
		t.Errorf("the agent is in state %s, not stopped", state)
	}
}

func processState(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err.Error()
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// fading is a validity that a test can end.
type fading chan struct{}

func (f fading) Remaining() time.Duration {
	select {
	case <-f:
		return 0
	default:
		return time.Hour
	}
}

func TestExecChildDiesWhenItsClaimIsNoLongerValid(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 8)
	e := ch.newExec(handler.ExecConfig{Backoff: time.Hour, OnExit: func(_ drm.Claim, err error) { told <- err }},
		"stubborn")
	validity := make(fading)
	ch.handle(t.Context(), e, drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, validity))
	p := ch.next()
	p.alive(t)
	close(validity)
	await(t, p.gone, "the child to be killed")
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "not renewed") {
		t.Errorf("OnExit was told %v", err)
	}
}

func TestExecKillsTheGroupWhenItsGuardIsKilled(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 8)
	e := ch.newExec(handler.ExecConfig{Backoff: time.Hour, OnExit: func(_ drm.Claim, err error) { told <- err }},
		"stubborn", "family")
	ch.handle(t.Context(), e, claim("a", 1))
	all := ch.named(3)
	all["child"].tell(t, "kill-parent")
	for _, name := range []string{"child", "grandchild"} {
		await(t, all[name].gone, name+" to be killed")
	}
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "guard process") {
		t.Errorf("OnExit was told %v", err)
	}
}

func TestExecTerminateSucceedsWithAGuardThatIsStopped(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: time.Millisecond}, "stubborn")
	ch.handle(t.Context(), e, claim("a", 1))
	p := ch.next()
	p.tell(t, "stop-parent")
	await(t, p.said, "an answer")
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	await(t, p.gone, "the child to be killed")
}

func TestGuardRefusesToRunByHand(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(os.Args[0], handler.GuardArg, "true").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "not for use by hand") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestExecRefusesBadConfig(t *testing.T) {
	t.Parallel()
	command := []string{"true"}
	for _, tc := range []struct {
		field string
		cfg   handler.ExecConfig
	}{
		{"Command", handler.ExecConfig{}},
		{"Command", handler.ExecConfig{Command: []string{""}}},
		{"Command", handler.ExecConfig{Command: []string{"a\x00"}}},
		{"Env", handler.ExecConfig{Command: command, Env: []string{"s3cret"}}},
		{"Env", handler.ExecConfig{Command: command, Env: []string{"DRM_TOKEN=s3cret"}}},
		{"Grace", handler.ExecConfig{Command: command, Grace: -time.Second}},
		{"Backoff", handler.ExecConfig{Command: command, Backoff: time.Nanosecond}},
		{"BackoffMax", handler.ExecConfig{Command: command, BackoffMax: time.Nanosecond}},
		{"ReadyLine", handler.ExecConfig{Command: command, ReadyLine: "("}},
		{"Notify", handler.ExecConfig{Command: command, ReadyLine: "x", Notify: true}},
		{"ReadyTimeout", handler.ExecConfig{Command: command, ReadyTimeout: -1}},
		{"StoppedTimeout", handler.ExecConfig{Command: command, StoppedTimeout: 25 * time.Hour}},
		{"Check", handler.ExecConfig{Command: command, Check: []string{""}}},
	} {
		_, err := handler.NewExec(tc.cfg)
		wantInputError(t, err, tc.field)
	}
}
