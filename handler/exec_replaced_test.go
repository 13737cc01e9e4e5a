//go:build linux || darwin

package handler_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func init() { programs["__many"] = manyMain }

// manyMain is an agent that handles one more resource for each line of its standard input.
func manyMain(args []string) int {
	e, err := handler.NewExec(handler.ExecConfig{
		Command: append([]string{args[0], "__child"}, args[1:]...),
		Output:  handler.OutputPrefix,
		Backoff: time.Hour,
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		c := drm.NewClaim("app", "m1", drm.Resource{ID: in.Text()}, 1, remaining(time.Hour))
		fmt.Println(e.Handle(context.Background(), c))
	}
	return 0
}

// A guard must be the program that runs, whatever has become of its file: an update puts another one in its place, or
// removes it.
func TestExecStartsGuardsOfItsOwnProgramThoughItsFileIsReplacedOrGone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"gone": os.Remove,
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", []byte("#!/bin/sh\nexit 66\n"), 0o755); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"its folder gone": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "bin", "agent")
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			copyFile(t, path, os.Args[0])
			ch := newChildren(t)
			cmd := exec.Command(path, "__many", os.Args[0])
			cmd.Env, cmd.Stderr = append(os.Environ(), ch.env...), os.Stderr
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = stdin.Close()
				_, _ = io.Copy(io.Discard, stdout)
				_ = cmd.Wait()
			}()
			said := bufio.NewScanner(stdout)
			begin := func(id string) *peer {
				t.Helper()
				killed := fmt.Sprintf("start resource %q (token 1): guard process: signal: killed", id)
				for {
					fmt.Fprintln(stdin, id)
					if !said.Scan() {
						t.Fatal("the agent has ended")
					}
					switch said.Text() {
					case "<nil>":
						return ch.next()
					case killed: // the test has just killed that guard
					default:
						t.Fatal(said.Text())
					}
				}
			}
			first := begin("a")
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if same := begin("b"); same.PPID != first.PPID {
				t.Errorf("the second process has the parent %d, want the guard %d", same.PPID, first.PPID)
			}
			first.tell(t, "kill-parent") // so that a new guard is needed
			await(t, first.gone, "the first process to be killed")
			if runtime.GOOS == "darwin" { // macOS cannot start a guard then, and the error says so
				fmt.Fprintln(stdin, "c")
				for said.Scan() && strings.HasSuffix(said.Text(), "signal: killed") {
					fmt.Fprintln(stdin, "c")
				}
				if !strings.Contains(said.Text(), "started anew") {
					t.Error(said.Text())
				}
				return
			}
			if other := begin("c"); other.PPID == first.PPID {
				t.Error("the guard lives")
			}
		})
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
