package handler_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func init() { programs["__init"], programs["reaping"] = initMain, reaping }

// initMain is an agent that becomes the parent of all orphans among its descendants, as process 1 does. It has one
// resource, and prints how the process of that ended.
func initMain([]string) int {
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	var e *handler.Exec
	if err == nil {
		e, err = handler.NewExec(handler.ExecConfig{
			Command:     []string{os.Args[0], "__child", "stubborn", "family"},
			Backoff:     time.Hour,
			ReapOrphans: true,
			OnExit:      func(_ drm.Claim, err error) { fmt.Println(err) },
		})
	}
	if err == nil {
		err = e.Handle(context.Background(), drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, remaining(time.Hour)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestExecReapsWhatAKilledGuardLeavesToProcessOne(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	cmd := exec.Command(os.Args[0], "__init")
	cmd.Env, cmd.Stderr = append(os.Environ(), ch.env...), os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = hold.Close()
		_ = cmd.Wait()
	})
	all := ch.named(3)
	all["child"].tell(t, "kill-parent")
	// The guard is a child of the agent, and the reaping must leave its exit status to the agent.
	if line, err := bufio.NewReader(out).
		ReadString('\n'); err != nil ||
		!strings.Contains(line, "guard process: signal: killed") {
		t.Errorf("the agent says %q (%v)", line, err)
	}
	for _, name := range []string{"child", "grandchild"} {
		await(t, all[name].gone, name+" to be killed")
	}
	_ = all["runaway"].conn.Close() // it ends, as a child of the agent by now
	left := childrenOf(strconv.Itoa(cmd.Process.Pid))
	deadline := time.Now().Add(patience)
	for len(left) > 0 && time.Now().Before(deadline) {
		<-time.After(5 * time.Millisecond)
		left = childrenOf(strconv.Itoa(cmd.Process.Pid))
	}
	if len(left) > 0 {
		t.Errorf("the agent has the children %s, in state %s", left, processState(t, must1(strconv.Atoi(left[0]))))
	}
}

func must1(n int, _ error) int { return n }

// reaping is an agent that takes the exit statuses of orphans, and asks a program again and again.
func reaping([]string) int {
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	var e *handler.Exec
	if err == nil {
		e, err = handler.NewExec(handler.ExecConfig{Command: []string{"sleep", "60"}, ReapOrphans: true})
	}
	if err == nil {
		defer func() { _ = e.Close(context.Background()) }()
		c := drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, remaining(time.Hour))
		err = e.Handle(context.Background(), c) // from now on it reaps
	}
	if err == nil {
		var r *handler.ReadyExec
		if r, err = handler.NewReadyExec([]string{"true"}, e); err == nil {
			var asking errgroup.Group
			for range 8 {
				asking.Go(func() error {
					for range 100 {
						if err := r.Ready(context.Background()); err != nil {
							return err
						}
					}
					return nil
				})
			}
			err = asking.Wait()
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestAnExecDoesNotReapTheProgramsBesideIt(t *testing.T) {
	if out, err := exec.Command(os.Args[0], "reaping").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A process that adopts nothing may start programs by any means: what ends is none of the Exec's business.
func TestAnExecReapsNothingInAProcessThatAdoptsNothing(t *testing.T) {
	cfg := handler.ExecConfig{Command: []string{"sleep", "60"}, ReapOrphans: true}
	e := must[*handler.Exec](t)(handler.NewExec(cfg))
	defer func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c := drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, remaining(time.Hour))
	if err := e.Handle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
}
