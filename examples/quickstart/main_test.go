//go:build unix

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// blocks returns the fenced blocks of the README in one language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	return found
}

func TestTheREADMEHasThisProgram(t *testing.T) {
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if got := blocks(t, "go"); len(got) != 1 || got[0] != string(program) {
		t.Errorf("the README's blocks of Go are not main.go:\n%s", strings.Join(got, "\n---\n"))
	}
}

// TestTheREADMEsTerminals runs the README's commands for each terminal exactly as they stand there, with etcd on a free
// port.
func TestTheREADMEsTerminals(t *testing.T) {
	terminals := blocks(t, "sh")
	if len(terminals) != 3 {
		t.Fatalf("the README has %d blocks of sh, want those of etcd, the members, and the look at them",
			len(terminals))
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/drmctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	env := append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"DRM_ETCD_DATA_DIR="+filepath.Join(t.TempDir(), "etcd"), "DRM_ETCD_LISTEN_CLIENT=127.0.0.1:0",
		"DRM_ETCD_LISTEN_PEER=127.0.0.1:0")

	etcd := open(t, terminals[0], env)
	endpoint := strings.TrimPrefix(etcd.await("the endpoint", func(said []string) bool { return len(said) > 0 })[0],
		"endpoint ")
	env = append(env, "DRM_ENDPOINTS="+endpoint)

	one := open(t, terminals[1], env)
	one.await("six feeds", func(said []string) bool { return len(opened(said)) == 6 })
	two := open(t, terminals[1], env)
	two.await("its share", func(said []string) bool { return len(opened(said)) > 0 })
	one.interrupt() // as Ctrl-C does
	said := two.await("all six", func(said []string) bool { return len(opened(said)) == 6 })
	if left := opened(one.await("", func([]string) bool { return true })); len(left) != 0 {
		t.Errorf("the member that was ended has not closed %v", left)
	}

	look := exec.CommandContext(t.Context(), "sh", "-c", terminals[2])
	look.Dir, look.Env = "../..", env
	table, err := look.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", terminals[2], err, table)
	}
	owner := strings.Fields(said[len(said)-1])[0]
	if n := strings.Count(string(table), owner); n < 6 {
		t.Errorf("%s is named %d times in:\n%s", owner, n, table)
	}
	two.interrupt()
	etcd.interrupt()
}

// opened returns the feeds that a member has opened, and has not closed again.
func opened(said []string) map[string]bool {
	feeds := map[string]bool{}
	for _, line := range said {
		switch words := strings.Fields(line); {
		case len(words) != 3:
		case words[1] == "opens":
			feeds[words[2]] = true
		case words[1] == "closes":
			delete(feeds, words[2])
		}
	}
	return feeds
}

// terminal is a shell that runs something.
type terminal struct {
	t       *testing.T
	command *exec.Cmd
	ended   chan struct{}
	news    chan struct{} // holds a token when there is more

	mu   sync.Mutex
	said []string // lines of stdout
}

func open(t *testing.T, script string, env []string) *terminal {
	t.Helper()
	w := &terminal{
		t: t, command: exec.Command("sh", "-c", script), ended: make(chan struct{}), news: make(chan struct{}, 1),
	}
	w.command.Dir, w.command.Env = "../..", env
	// A signal then reaches everything that the shell has started.
	w.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.command.Stderr = os.Stderr
	stdout, err := w.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			w.mu.Lock()
			w.said = append(w.said, lines.Text())
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
		_ = w.command.Wait() // an error only says that the shell was interrupted
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-w.command.Process.Pid, syscall.SIGKILL) // ends what is left, if anything
		<-w.ended
	})
	return w
}

// await waits until ready returns true for the lines so far, and returns them.
func (w *terminal) await(what string, ready func(said []string) bool) []string {
	w.t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		said := append([]string(nil), w.said...)
		w.mu.Unlock()
		if ready(said) {
			return said
		}
		select {
		case <-w.news:
		case <-w.ended:
			w.t.Fatal(fmt.Errorf("it ended before %s: %q", what, said))
		case <-deadline.C:
			w.t.Fatal(fmt.Errorf("it did not say %s: %q", what, said))
		}
	}
}

// interrupt sends the signal of Ctrl-C to everything that runs in the terminal, and waits until it has ended.
func (w *terminal) interrupt() {
	w.t.Helper()
	if err := syscall.Kill(-w.command.Process.Pid, syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-w.ended:
	case <-time.After(time.Minute):
		w.t.Fatal("it has not ended a minute after Ctrl-C")
	}
}
