//go:build linux || darwin

package handler_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestExecHasOneGuardForManyProcesses(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{})
	guards := map[int]bool{}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		ch.handle(t.Context(), e, claim(id, 1))
		guards[ch.next().PPID] = true
	}
	if len(guards) != 1 {
		t.Errorf("5 processes have %d guards", len(guards))
	}
	for pid := range guards { // people look for a guard by its name
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if want := filepath.Base(os.Args[0]); err == nil && !strings.HasPrefix(want, strings.TrimSpace(string(name))) {
			t.Errorf("the guard is called %q, want %q", name, want)
		}
	}
}

// lasting is the validity of a claim that ends at this time.
type lasting time.Time

func (l lasting) Remaining() time.Duration { return time.Until(time.Time(l)) }

// The order to start a process can reach the guard after the claim has ended, if the agent or the guard was stopped in
// between.
func TestExecStartsNothingWhoseClaimEndsOnTheWayToTheGuard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold, ran := filepath.Join(dir, "hold"), filepath.Join(dir, "ran")
	if err := syscall.Mkfifo(hold, 0o600); err != nil {
		t.Fatal(err)
	}
	// The orders to this guard wait until the test lets them pass.
	slow := `hold=$1; shift; { read -r go <"$hold"; exec cat; } 3>&- | "$@"`
	e := must[*handler.Exec](t)(handler.NewExec(handler.ExecConfig{
		Command:      []string{"touch", ran},
		GuardCommand: []string{"sh", "-c", slow, "sh", hold, os.Args[0], handler.GuardArg},
	}))
	ends := time.Now().Add(100 * time.Millisecond)
	ending := drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, lasting(ends))
	handled := make(chan error, 1)
	go func() { handled <- e.Handle(context.WithoutCancel(t.Context()), ending) }()
	<-time.After(time.Until(ends))
	if err := os.WriteFile(hold, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := await(t, handled, "Handle"); err == nil ||
		!strings.Contains(err.Error(), "the claim ended before the process was started") {
		t.Errorf("Handle: %v", err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the process ran, though its claim had ended")
	}
}

// hangExec makes every exec of the file hang until release is called: exec waits for the holder of a file lease, as it
// would wait for a file server that does not answer. hangs reports whether an exec waits.
func hangExec(t *testing.T, path string) (release func(), hangs func() bool) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("there are no leases of files")
	}
	const setLease, getLease, writeLease, noLease = 1024, 1025, 1, 2
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, writeLease); errno != 0 {
		_ = f.Close()
		t.Skipf("this file system has no leases: %v", errno)
	}
	release = func() { _, _, _ = syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, noLease) }
	t.Cleanup(func() {
		release()
		_ = f.Close()
	})
	return release, func() bool {
		lease, _, _ := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), getLease, 0)
		return lease != writeLease
	}
}

// switching is a handler that can switch between a program whose exec hangs and another one.
type switching struct {
	*handler.Exec
	t             *testing.T
	program, ran  string // the program that is run, and the file that the hanging program makes
	slow, release func()
	fast          func()
	hangs         func() bool
}

func newSwitching(ch *children, cfg handler.ExecConfig) *switching {
	t := ch.t
	t.Helper()
	dir := t.TempDir()
	s := &switching{t: t, program: filepath.Join(dir, "program"), ran: filepath.Join(dir, "__child")}
	hung := filepath.Join(dir, "hung")
	touch, err := exec.LookPath("touch")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(touch); err != nil || os.WriteFile(hung, text, 0o700) != nil {
		t.Fatalf("copy %s: %v", touch, err)
	}
	s.release, s.hangs = hangExec(t, hung)
	point := func(to string) func() {
		return func() {
			t.Helper()
			next := s.program + ".next"
			if err := errors.Join(os.Symlink(to, next), os.Rename(next, s.program)); err != nil {
				t.Fatal(err)
			}
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.slow, s.fast = point(hung), point(self)
	s.fast()
	cfg.Command = []string{s.program, "__child", "polite"}
	cfg.Env, cfg.Dir = ch.env, dir
	s.Exec = must[*handler.Exec](t)(handler.NewExec(cfg))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// begin calls Handle, which may hang.
func (s *switching) begin(ctx context.Context, c drm.Claim) <-chan error {
	handled := make(chan error, 1)
	go func() { handled <- s.Handle(ctx, c) }()
	return handled
}

// awaitHang waits until the program's exec hangs.
func (s *switching) awaitHang() {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !s.hangs() {
		if time.Now().After(deadline) {
			s.t.Fatal("no exec hangs")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestExecIsNotHeldUpByAProgramWhoseExecHangs(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	s := newSwitching(ch, handler.ExecConfig{Grace: time.Hour, StartConcurrency: 1})
	validity := make(fading)
	begin := func(id string, v drm.Validity) *peer {
		ch.handle(t.Context(), s.Exec, drm.NewClaim("app", "m1", drm.Resource{ID: id}, 1, v))
		return ch.next()
	}
	before := begin("before", remaining(time.Hour))
	ends := begin("ends", validity)
	renewed := begin("renewed", remaining(time.Second))

	s.slow()
	ctx, cancel := context.WithCancelCause(t.Context())
	hung := s.begin(ctx, claim("hung", 1))
	s.awaitHang()
	s.fast()

	// Only one start is allowed at a time, and yet this one does not wait long for its turn.
	after := begin("after", remaining(time.Hour))
	close(validity)
	await(t, ends.gone, "the process whose claim ended to be killed")
	ended := make(chan error, 1)
	go func() { ended <- s.Terminate(t.Context(), claim("before", 1)) }()
	if said := await(t, before.said, "SIGTERM"); said != "term" {
		t.Errorf("the process said %q", said)
	}
	before.tell(t, "go on")
	if err := await(t, ended, "Terminate"); err != nil {
		t.Error(err)
	}
	select {
	case <-time.After(1500 * time.Millisecond): // longer than the validity that each renewal gives
		renewed.alive(t)
	case <-renewed.gone:
		t.Error("the process of a claim that is renewed is gone")
	}
	// The hanging process ends with its claim, and the program does not begin when the file system answers again.
	select {
	case err := <-hung:
		t.Fatalf("Handle of what hangs returned: %v", err)
	default:
	}
	cancel(drm.CauseFenced)
	if err := await(t, hung, "Handle of what hangs"); !errors.Is(err, drm.CauseFenced) {
		t.Errorf("Handle: %v", err)
	}
	if err := s.Terminate(t.Context(), claim("hung", 1)); err != nil {
		t.Errorf("Terminate of what never began: %v", err)
	}
	after.alive(t)
	s.release()
	soon, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer done()
	if err := s.Close(soon); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.ran); err == nil {
		t.Error("the program ran though its claim had ended")
	}
}

// A process that waits for its turn starts only if its claim and its Handle still live when the turn comes.
func TestExecStartsNothingWhoseTurnComesTooLate(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	s := newSwitching(ch, handler.ExecConfig{StartConcurrency: 1})
	s.slow()
	ctx, cancel := context.WithCancelCause(t.Context())
	hung := s.begin(ctx, claim("hung", 1))
	s.awaitHang()
	s.fast()
	moved, move := context.WithCancelCause(t.Context())
	waits := s.begin(moved, claim("moved", 1))
	late := s.begin(t.Context(),
		drm.NewClaim("app", "m1", drm.Resource{ID: "late"}, 1, lasting(time.Now().Add(50*time.Millisecond))))
	move(drm.CauseMoved)
	if err := await(t, waits, "Handle of what moved"); !errors.Is(err, drm.CauseMoved) {
		t.Errorf("Handle: %v", err)
	}
	if err := await(t, late, "Handle of a claim that ended"); err == nil ||
		!strings.Contains(err.Error(), "the claim ended") {
		t.Errorf("Handle: %v", err)
	}
	cancel(drm.CauseFenced)
	if err := await(t, hung, "Handle of what hangs"); !errors.Is(err, drm.CauseFenced) {
		t.Errorf("Handle: %v", err)
	}
	select {
	case p := <-ch.arrivals:
		t.Errorf("a process of %s was started", p.Name)
	default:
	}
}

// A Terminate that is called during the start of the program ends the process, whichever of the two is faster.
func TestExecTerminateIsNotOvertakenByTheStart(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	s := newSwitching(ch, handler.ExecConfig{})
	ch.handle(t.Context(), s.Exec, claim("first", 1))
	first := ch.next()
	s.slow()
	handled := s.begin(t.Context(), claim("a", 1))
	s.awaitHang()
	if err := s.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	if err := await(t, handled, "Handle"); !errors.Is(err, handler.CauseTerminate) {
		t.Errorf("Handle: %v", err)
	}
	if left := childrenOf(strconv.Itoa(first.PPID)); len(left) != 1 {
		t.Errorf("the guard still has the processes %s, want only %d", left, first.PID)
	}
	s.release()
	soon, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer done()
	if err := s.Close(soon); err != nil { // nothing is left of the guard afterwards
		t.Error(err)
	}
	if _, err := os.Stat(s.ran); err == nil {
		t.Error("the program ran after Terminate had returned")
	}
}

func TestExecKillsWhatLeftTheGroupAndNothingOfOthers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("what leaves the group escapes")
	}
	for _, how := range []string{"its environment tells", "wiped"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ch := newChildren(t)
			e := ch.newExec(handler.ExecConfig{Grace: time.Millisecond}, "family", how)
			ch.handle(t.Context(), e, claim("a", 1))
			a := ch.named(3)
			ch.handle(t.Context(), e, claim("b", 1))
			b := ch.named(3)
			if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"child", "grandchild", "runaway"} {
				await(t, a[name].gone, "a's "+name+" to be killed")
				b[name].alive(t)
			}
		})
	}
	t.Run("long adopted", func(t *testing.T) {
		t.Parallel()
		ch := newChildren(t)
		e := ch.newExec(handler.ExecConfig{Grace: time.Millisecond, Backoff: time.Millisecond}, "stubborn", "daemon")
		ch.handle(t.Context(), e, claim("a", 1))
		a := ch.named(2)
		ch.handle(t.Context(), e, claim("b", 1))
		b := ch.named(2)
		if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
			t.Error(err)
		}
		await(t, a["daemon"].gone, "a's daemon to be killed")
		b["daemon"].alive(t)
	})
}

// reporting is a validity that receives the claim's reports.
type reporting chan error

func (reporting) Remaining() time.Duration { return time.Minute }
func (r reporting) Report(err error)       { r <- err }

func TestExecShowsAProcessThatIsStopped(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Grace: time.Millisecond})
	reports := make(reporting, 8)
	c := drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, reports)
	ch.handle(t.Context(), e, c)
	p := ch.next()
	p.alive(t)
	if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := await(t, reports, "a report"); err == nil ||
		!strings.Contains(err.Error(), "is stopped (SIGSTOP) since ") {
		t.Errorf("the state is failed because of %v", err)
	}
	if err := syscall.Kill(p.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := await(t, reports, "a report"); err != nil {
		t.Errorf("it goes on, and the state is failed because of %v", err)
	}
	if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := await(t, reports, "a report"); err == nil {
		t.Error("it is stopped again, and its state is active")
	}
	if err := e.Terminate(t.Context(), c); err != nil { // SIGKILL reaches a stopped process too
		t.Error(err)
	}
	await(t, p.gone, "the process to be killed")
}

func TestExecReplacesAGuardThatIsStopped(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 8)
	e := ch.newExec(handler.ExecConfig{Backoff: time.Millisecond, OnExit: func(_ drm.Claim, err error) { told <- err }},
		"stubborn")
	ch.handle(t.Context(), e, claim("a", 1))
	p := ch.next()
	p.tell(t, "stop-parent")
	await(t, p.said, "an answer")
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("OnExit was told %v", err)
	}
	await(t, p.gone, "the process to be killed")
	if again := ch.next(); again.PPID == p.PPID {
		t.Error("it is started again by the same guard")
	}
}

// Go raises the limit of open files for its own process. The processes of a guard must get the original limit.
func TestExecGivesProcessesTheLimitOfOpenFilesOfTheAgent(t *testing.T) {
	t.Parallel()
	const want = "321\n"
	out := filepath.Join(t.TempDir(), "out")
	e := must[*handler.Exec](t)(handler.NewExec(handler.ExecConfig{
		Command: []string{
			"sh",
			"-c",
			"ulimit -Sn >" + out + ".tmp; mv " + out + ".tmp " + out + "; exec sleep 1000",
		},
		GuardCommand: []string{
			"sh",
			"-c",
			`ulimit -Sn 321; exec "$@"`,
			"sh",
			os.Args[0],
			handler.GuardArg,
		}, // as an agent would pass the limit on
	}))
	if err := e.Handle(t.Context(), claim("a", 1)); err != nil {
		t.Fatal(err)
	}
	var (
		got []byte
		err error
	)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		if got, err = os.ReadFile(out); err == nil {
			break
		}
	}
	if string(got) != want {
		t.Errorf("the limit is %q, want %q", got, want)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
