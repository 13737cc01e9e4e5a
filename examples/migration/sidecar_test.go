package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/examples/internal/lab"
)

// buildDrmctl builds the command, which is in the other module.
func buildDrmctl(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "drmctl")
	root := filepath.Join("..", "..")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", root, "-o", path, "./cmd/drmctl")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// output gathers what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// TestTheSidecarServesANodeProgram runs node/example.mjs with a real agent.
func TestTheSidecarServesANodeProgram(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("needs Node, and signals")
	}
	drmctl := buildDrmctl(t)
	w := newWorld(t)
	source := resources(t, 3, "ws://localhost:8080")
	begin := func() (*exec.Cmd, *output, <-chan error) {
		said, ended := &output{}, make(chan error, 1)
		cmd := exec.Command(node, filepath.Join("node", "example.mjs"))
		cmd.Env = append(os.Environ(), "ENDPOINTS="+w.etcd.Endpoints[0], "RESOURCES_URL="+source, "DRMCTL="+drmctl,
			"DRM_LEASE_TTL=2s")
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- cmd.Wait() }()
		return cmd, said, ended
	}

	cmd, said, ended := begin()
	w.until("three are handled", lab.Spread(3, 1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.client.Allocate(ctx, drm.Resource{ID: "more"}); err != nil {
		t.Fatal(err)
	}
	w.until("four are handled", lab.Spread(4, 1))
	if err := w.client.Deallocate(ctx, "more"); err != nil {
		t.Fatal(err)
	}
	if err := w.client.WaitGone(ctx, "more"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v: %s", err, said)
		}
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		t.Fatalf("it does not end: %s", said)
	}
	for _, id := range []string{"1", "2", "3", "more"} {
		for _, line := range []string{"handling " + id + "\n", "terminating " + id + "\n"} {
			if n := strings.Count(said.String(), line); n != 1 {
				t.Errorf("%q was said %d times in %s", line, n, said)
			}
		}
	}

	cmd, _, ended = begin()
	w.until("they are handled again", lab.Spread(3, 1))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("it was killed, and ended well")
	}
	w.until("the agent of a program that was killed has gone", func(s drm.Status) bool { return s.Members == 0 })
}
