package handler_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// A program expects that a write to its output blocks until there is room. And what it prints to one place keeps its
// order only in one pipe.
func TestExecGivesProcessesOnePipeThatBlocks(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ended := make(chan struct{}, 1)
	e := must[*handler.Exec](t)(handler.NewExec(handler.ExecConfig{
		Command: []string{"sh", "-c", `readlink /proc/$$/fd/1 /proc/$$/fd/2; grep flags /proc/$$/fdinfo/1`},
		Output:  handler.OutputPrefix, Stdout: &out, Stderr: &out, Backoff: time.Hour,
		OnExit: func(drm.Claim, error) { ended <- struct{}{} },
	}))
	if err := e.Handle(t.Context(), claim("a", 1)); err != nil {
		t.Fatal(err)
	}
	await(t, ended, "the process to end")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	got := strings.Split(out.String(), "\n")
	if len(got) != 4 || got[0] != got[1] || !strings.Contains(got[0], "pipe:") {
		t.Fatalf("its output and its errors are %q", got)
	}
	flags, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(got[2], "[a] flags:")), 8, 64)
	const nonblock = 0o4000
	if err != nil || flags&nonblock != 0 {
		t.Errorf("%q: %v", got[2], err)
	}
}
