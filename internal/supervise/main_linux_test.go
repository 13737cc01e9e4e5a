package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
)

// patience bounds waits for what must happen. Only a test that fails waits so long.
const patience = 60 * time.Second

// programs are what the test binary can be, by its first argument.
var programs = map[string]func(args []string) int{
	"supervisor": runSupervisor, "member": runMember, "chain": runChain, "daemon": runDaemon, "exit": runExit,
}

// pidsFile, in the environment, names the file where every program notes its process id.
const pidsFile = "TEST_PIDS"

func init() {
	if len(os.Args) > 1 && os.Args[1] == "supervisor" {
		runtime.LockOSThread() // as drmctl run does
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && programs[os.Args[1]] != nil {
		if os.Args[1] != "supervisor" {
			notePID()
		}
		if os.Args[1] == "supervisor" && !slices.Contains(os.Args, "keyless") {
			go func() { os.Exit(runSupervisor(os.Args[2:])) }()
			WatchKeys()
		}
		os.Exit(programs[os.Args[1]](os.Args[2:]))
	}
	// A process with the race detector sleeps for a second at its exit. The processes that are started here do not.
	race := strings.TrimSpace(os.Getenv("GORACE") + " atexit_sleep_ms=0")
	if err := os.Setenv("GORACE", race); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func notePID() {
	f, err := os.OpenFile(os.Getenv(pidsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
		_ = f.Close()
	}
}

// living counts the processes that have noted themselves and still live.
func living() (n int) {
	text, _ := os.ReadFile(os.Getenv(pidsFile))
	for field := range strings.FieldsSeq(string(text)) {
		if _, err := os.Stat("/proc/" + field); err == nil {
			n++
		}
	}
	return n
}

// runSupervisor runs Run. It prints a line for each revocation, with how much of the command lives at that moment. The
// arguments before "--" are options.
func runSupervisor(args []string) int {
	split := slices.Index(args, "--")
	options, command := args[:split], args[split+1:]
	has := func(name string) bool { return slices.Contains(options, name) }
	signals, stop := Signals(syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1,
		syscall.SIGUSR2)
	defer stop()
	log := zap.NewExample(zap.AddStacktrace(zap.PanicLevel)) // to stdout, where the test reads it
	cfg := Config{
		Command: command, Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
		Restart: has("restart"), Backoff: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		Signals: signals, Cgroup: has("cgroup"), EndPatience: patience, Log: log,
		Revoke: func(_ context.Context, end End) {
			var ids []string
			for _, l := range end.Leases {
				ids = append(ids, fmt.Sprintf("%d:%s:%d", l.ID, l.Of, l.Cluster))
			}
			slices.Sort(ids)
			fmt.Printf("revoked %s; living %d\n", strings.Join(ids, " "), living())
			fmt.Printf("ended with %s, to be written in %v\n", end.Exit, deathsOf(end.Leases))
		},
	}
	if has("long-pause") {
		cfg.Backoff, cfg.BackoffMax = time.Hour, time.Hour
	}
	for _, option := range options {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "backoff":
			cfg.Backoff, _ = time.ParseDuration(value)
		case "most":
			cfg.BackoffMax, _ = time.ParseDuration(value)
		}
	}
	makeCgroup := newCgroup
	if has("no-entry") {
		makeCgroup = uselessCgroup
	}
	if has("told-late") {
		revoke := cfg.Revoke
		cfg.Revoke = func(ctx context.Context, end End) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
			revoke(ctx, end)
		}
	}
	if has("impatient") {
		cfg.EndPatience = time.Nanosecond
	}
	if has("parent") { // it has a child of before, as after an exec of a shell
		if err := start("member", nil).Start(); err != nil {
			fmt.Println(err)
			return 99
		}
	}
	code, err := run(context.Background(), cfg, makeCgroup)
	if err != nil {
		fmt.Printf("error %v\n", err)
		return 98
	}
	return code
}

// uselessCgroup makes a folder that is no cgroup, so no process can be put into it.
func uselessCgroup(int) (*cgroup, error) {
	path, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "useless-")
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	return &cgroup{path: path, dir: dir}, err
}

// deathsOf returns the keys that leases name, each once.
func deathsOf(of []leaselink.Lease) (keys []string) {
	for _, l := range of {
		if !slices.Contains(keys, l.Deaths) {
			keys = append(keys, l.Deaths)
		}
	}
	return keys
}

func start(program string, attr *syscall.SysProcAttr, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", append([]string{program}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, attr
	return cmd
}

// runMember hands over the leases that its arguments name, and those with a minus sign as dropped. Then it prints its
// process id, and the signals that it gets, until the second SIGTERM.
func runMember(args []string) int {
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGUSR1)
	if slices.Contains(args, "catch") {
		signal.Notify(got, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR2)
	}
	if slices.Contains(args, "session") {
		_, _ = syscall.Setsid()
	}
	address := os.Getenv(leaselink.Env)
	if address != "" {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", strings.TrimPrefix(address, "unix:"))
		if err != nil {
			fmt.Println(err)
			return 96
		}
		for _, arg := range args {
			line := fmt.Sprintf(`{"lease":"%s","cluster":"4d","of":"claims"}`, arg)
			switch n, err := strconv.Atoi(arg); {
			case err != nil:
				continue
			case n < 0:
				line = fmt.Sprintf(`{"dropped":"%d"}`, -n)
			case n == 1:
				line = `{"lease":"0000000000000001","cluster":"4d","of":"member","deaths":"/drm/a/deaths/m","new":{}}`
			}
			fmt.Fprintln(conn, line)
		}
		if slices.Contains(args, "close") {
			_ = conn.Close()
		}
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			fmt.Println("the supervisor is gone")
		}()
	}
	for _, program := range []string{"chain", "daemon"} {
		if slices.Contains(args, program) {
			cmd := start(program, &syscall.SysProcAttr{Setsid: true}, "6")
			if err := cmd.Start(); err != nil {
				fmt.Println(err)
			}
			go func() { _ = cmd.Wait() }()
		}
	}
	fmt.Printf("member %d at %s\n", os.Getpid(), os.Getenv(leaselink.Env))
	terms := 0
	for s := range got {
		fmt.Printf("got %v\n", s)
		if s == syscall.SIGTERM {
			if terms++; terms == 2 && !slices.Contains(args, "deaf") {
				return 5
			}
		}
	}
	return 0
}

// runChain starts a process that does the same, as many deep as it is told, each in a session of its own. The last one
// says so.
func runChain(args []string) int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	n, _ := strconv.Atoi(args[0])
	if n == 0 {
		fmt.Println("chained")
	} else if err := start("chain", &syscall.SysProcAttr{Setsid: true}, strconv.Itoa(n-1)).Start(); err != nil {
		fmt.Println(err)
	}
	<-time.After(10 * patience)
	return 0
}

// runDaemon leaves a chain behind, and ends.
func runDaemon(args []string) int {
	if err := start("chain", &syscall.SysProcAttr{Setsid: true}, args...).Start(); err != nil {
		fmt.Println(err)
	}
	return 0
}

// runExit ends with an exit code, or by a signal, at once or after a time.
func runExit(args []string) int {
	n, _ := strconv.Atoi(args[0])
	if len(args) > 1 {
		wait, _ := time.ParseDuration(args[1])
		<-time.After(wait)
	}
	if n < 128 {
		return n
	}
	_ = syscall.Kill(os.Getpid(), syscall.Signal(n-128))
	<-time.After(patience)
	return 97
}

// stage is a supervisor in a process of its own.
type stage struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	keys  *os.File // types on its terminal; nil: it has none
	seen  []string
	code  chan int
}

// play starts a supervisor with options, and a program as its command.
func play(t *testing.T, options string, command ...string) *stage {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, lines: make(chan string, 1000), code: make(chan int, 1)}
	args := append(append([]string{"supervisor"}, strings.Fields(options)...), "--")
	s.cmd = exec.CommandContext(t.Context(), self, append(args, command...)...)
	home, err := os.MkdirTemp("/tmp", "s-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	s.cmd.Env = append(os.Environ(), pidsFile+"="+home+"/pids", "XDG_RUNTIME_DIR="+home)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = os.Stderr
	if slices.Contains(args, "terminal") {
		s.onTerminal()
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		in := bufio.NewScanner(out)
		for in.Scan() {
			s.lines <- in.Text()
		}
		close(s.lines)
	})
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		for _, pid := range s.pids() { // they do not die with the supervisor
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		for range s.lines {
			continue
		}
		wg.Wait()
		_ = s.cmd.Wait()
	})
	return s
}

// onTerminal gives the supervisor a terminal, and puts it into the foreground there.
func (s *stage) onTerminal() {
	s.t.Helper()
	var err error
	if s.keys, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.keys.Close() })
	n, err := unix.IoctlGetInt(int(s.keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(s.keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = tty.Close() })
	s.cmd.Stdin, s.cmd.SysProcAttr = tty, &syscall.SysProcAttr{Setsid: true, Setctty: true}
}

// press presses keys on the supervisor's terminal, once its first thread waits for their signals.
func (s *stage) press(keys string) {
	s.t.Helper()
	pid := strconv.Itoa(s.cmd.Process.Pid)
	await(s.t, "the first thread waits for the signals of keys", func() bool {
		call, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/syscall")
		return err != nil || bytes.HasPrefix(call, fmt.Appendf(nil, "%d ", unix.SYS_RT_SIGTIMEDWAIT))
	})
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// pids returns the processes that have noted themselves, and live.
func (s *stage) pids() (pids []int) {
	for _, pair := range s.cmd.Env {
		if file, ok := strings.CutPrefix(pair, pidsFile+"="); ok {
			text, _ := os.ReadFile(file)
			for field := range strings.FieldsSeq(string(text)) {
				pid, _ := strconv.Atoi(field)
				if name, _ := os.ReadFile("/proc/" + field + "/comm"); len(name) > 0 && pid > 1 {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

// self makes a command of the test binary.
func self(t *testing.T, args ...string) []string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{path}, args...)
}

// line waits for a line that has a text in it.
func (s *stage) line(text string) string {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case l, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the supervisor ended without saying %q; it said:\n%s", text, strings.Join(s.seen, "\n"))
			}
			s.seen = append(s.seen, l)
			if strings.Contains(l, text) {
				return l
			}
		case <-late:
			s.t.Fatalf("nobody says %q; this was said:\n%s", text, strings.Join(s.seen, "\n"))
		}
	}
}

// member waits until the member is up, and returns its process id and where its supervisor is.
func (s *stage) member() (pid int, address string) {
	s.t.Helper()
	line := s.line("member ")
	if _, err := fmt.Sscanf(line, "member %d at %s", &pid, &address); err != nil && !strings.HasSuffix(line, "at ") {
		s.t.Fatal(err)
	}
	return pid, address
}

func (s *stage) signal(pid int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

// tell sends a signal to the supervisor.
func (s *stage) tell(sig syscall.Signal) { s.t.Helper(); s.signal(s.cmd.Process.Pid, sig) }

// ends waits for the supervisor's end, and returns its exit code.
func (s *stage) ends() int {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case l, ok := <-s.lines:
			if ok {
				s.seen = append(s.seen, l)
				continue
			}
		case <-late:
			s.t.Fatalf("the supervisor does not end; it said:\n%s", strings.Join(s.seen, "\n"))
		}
		err := s.cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			s.t.Fatal(err)
		}
		return s.cmd.ProcessState.ExitCode()
	}
}

// said counts the lines so far that have a text in them.
func (s *stage) said(text string) (n int) {
	for _, l := range s.seen {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}
