//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// left is a drmctl whose stdout and stderr are one pipe. The pipe's reader leaves after a line with a certain text, or
// at once if the text is empty.
type left struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when drmctl has ended
}

func startAndLeave(t *testing.T, env []string, text string, args ...string) *left {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &left{cmd: exec.CommandContext(t.Context(), self, args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if text == "" {
		_ = read.Close()
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // status reports how it ended
	}()
	for lines := bufio.NewScanner(read); text != ""; {
		if !lines.Scan() {
			<-p.ended
			t.Fatalf("drmctl %s said nothing of %q, and ended: %v", args[0], text, p.cmd.ProcessState)
		}
		if strings.Contains(lines.Text(), text) {
			break
		}
	}
	_ = read.Close()
	return p
}

// status waits for the end, and returns how drmctl ended.
func (p *left) status(t *testing.T) syscall.WaitStatus {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	case <-time.After(2 * time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Fatal("it does not end")
		return 0
	}
}

// An agent whose log nobody reads any more goes on, and hands over in order.
func TestAgentOutlivesWhoeverReadsItsOutput(t *testing.T) {
	t.Parallel()
	etcd := embeddedtest.Server(t)
	for name, tc := range map[string]struct {
		handler []string
		state   string // of a resource that is allocated once nobody reads any more
	}{
		"exec": {
			[]string{"--handler-exec", `sh -c '
				cp /proc/self/status "$DRM_MEMBER.new"; mv "$DRM_MEMBER.new" "$DRM_MEMBER.status"
				echo begun; exec sleep 600'`},
			"active",
		},
		// This handler does nothing but print.
		"log": {[]string{"--handler-log"}, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if name == "exec" {
				tc.handler[1] = strings.ReplaceAll(tc.handler[1], "$DRM_MEMBER", filepath.Join(dir, "$DRM_MEMBER"))
			}
			args := []string{
				"agent", "--endpoints", etcd.Endpoint(), "--app", name, "--id", "m", "--allocate-only",
				"--lease-ttl", "10m", "--handle-attempts", "1",
			}
			p := startAndLeave(t, nil, "ready:", append(args, tc.handler...)...)
			client, err := drm.NewClient(t.Context(), drm.ClientConfig{
				App: name, Etcd: drm.EtcdConfig{Endpoints: []string{etcd.Endpoint()}},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			if err := client.Allocate(t.Context(), drm.Resource{ID: "a"}); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				a, err := client.Lookup(t.Context(), "a")
				if err == nil && string(a.State) != tc.state {
					err = fmt.Errorf("the resource is %s %s, want %s", a.State, a.Error, tc.state)
				}
				return err
			})
			status := filepath.Join(dir, "m.status")
			if name == "exec" && runtime.GOOS == "linux" { // it is active as soon as its process runs
				eventually(t, func() error { _, err := os.Stat(status); return err })
			}
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if s := p.status(t); s.ExitStatus() != 0 {
				t.Errorf("it ended with status %d, signal %v", s.ExitStatus(), s.Signal())
			}
			members, err := client.Members(t.Context())
			if err != nil || len(members) > 0 {
				t.Errorf("members: %v, %v", members, err)
			}
			if a, err := client.Lookup(t.Context(), "a"); err != nil || a.Member != "" {
				t.Errorf("it left behind %+v, %v", a, err)
			}
			if name == "exec" && runtime.GOOS == "linux" {
				wantDefaultSIGPIPE(t, status)
			}
		})
	}
}

// wantDefaultSIGPIPE fails the test where a process ignores SIGPIPE, according to a copy of its /proc/self/status.
func wantDefaultSIGPIPE(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, mask, _ := strings.Cut(string(text), "SigIgn:")
	mask, _, _ = strings.Cut(strings.TrimSpace(mask), "\n")
	ignored, err := strconv.ParseUint(mask, 16, 64)
	if err != nil || ignored&(1<<(syscall.SIGPIPE-1)) != 0 {
		t.Errorf("a process of the agent ignores the signals %s (%v), SIGPIPE among them", mask, err)
	}
}

func TestEtcdOutlivesWhoeverReadsItsOutput(t *testing.T) {
	t.Parallel()
	p := startAndLeave(t, nil, "endpoint", "etcd", "--data-dir", filepath.Join(t.TempDir(), "etcd"),
		"--listen-client", "127.0.0.1:0", "--listen-peer", "127.0.0.1:0", "--log-level", "debug")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil { // the process logs the signal
		t.Fatal(err)
	}
	if status := p.status(t); status.ExitStatus() != 0 {
		t.Errorf("it ended with status %d, signal %v", status.ExitStatus(), status.Signal())
	}
}

// A command that has processes and folders to clear away does so, and prints nothing.
func TestDemoEndsWithWhoeverReadsItsOutput(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p := startAndLeave(t, []string{"TMPDIR=" + temp}, "etcd", "demo", "--resources", "5", "--members", "2")
	if status := p.status(t); status.ExitStatus() != exitFailed {
		t.Errorf("it ended with status %d, signal %v", status.ExitStatus(), status.Signal())
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("it left %v behind, %v", left, err)
	}
}

// A command that only prints ends like other tools.
func TestCommandsThatPrintEndWithWhoeverReadsTheirOutput(t *testing.T) {
	t.Parallel()
	p := startAndLeave(t, nil, "", "version")
	if status := p.status(t); !status.Signaled() || status.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with status %d, signal %v", status.ExitStatus(), status.Signal())
	}
}

// A demo kills members that it has connections to. Once a process catches SIGPIPE, each such connection raises it.
func TestAPeerThatIsGoneIsNoReader(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ours, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	theirs, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.(*net.TCPConn).SetLinger(0) // without it, the first write after the close would succeed
	_ = theirs.Close()

	raised := make(chan os.Signal, 1)
	signal.Notify(raised, syscall.SIGPIPE)
	defer signal.Stop(raised)
	fine := errors.New("the action's own")
	app := newApp(strings.NewReader(""), os.Stdout, os.Stderr)
	err = endWithReaders(func(c *cli.Context) error {
		for {
			_, _ = ours.Write([]byte("x"))
			select {
			case <-raised:
			case <-time.After(10 * time.Millisecond):
				continue
			}
			break
		}
		select {
		case <-c.Context.Done():
		case <-time.After(100 * time.Millisecond):
		}
		return errors.Join(c.Context.Err(), fine)
	})(cli.NewContext(app, nil, &cli.Context{Context: t.Context()}))
	if !errors.Is(err, fine) || errors.Is(err, context.Canceled) {
		t.Errorf("the command has ended with %v, want %v", err, fine)
	}
}
