package main

import (
	"bytes"
	"context"
	"net/http"
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
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", filepath.Join("..", ".."), "-o", path, "./cmd/drmctl").CombinedOutput(); err != nil {
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
		cmd.Env = append(os.Environ(), "ENDPOINTS="+w.etcd.Endpoints[0], "RESOURCES_URL="+source, "DRMCTL="+drmctl, "DRM_LEASE_TTL=2s")
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

// TestTheReceiverObeysTheProtocol sends what an agent would send, and what only a disturbed network would.
func TestTheReceiverObeysTheProtocol(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs Node")
	}
	script := `
		import { createServer } from 'node:http'
		import { receiver } from './node/sidecar.mjs'
		const note = what => r => { if (r.fail) throw new Error('no'); console.log(what + ' ' + r.id + ' ' + r.n) }
		const { listener } = receiver({
			handleResource: async r => note('handle')(r), terminateResource: note('terminate'),
			handleFailedResource: note('handle_failed'), handleFailedTermination: note('terminate_failed')
		})
		const server = createServer(listener).listen(0, '127.0.0.1', () => console.log('port ' + server.address().port))
		process.stdin.on('data', () => {}).once('end', () => process.exit())
	`
	cmd := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script)
	said := &output{}
	cmd.Stdout, cmd.Stderr = said, said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var want []string
	defer func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, said)
		}
		_, got, _ := strings.Cut(said.String(), "\n") // after the port
		if w := strings.Join(want, " "); strings.Join(strings.Fields(got), " ") != w {
			t.Errorf("it did %q, want %q", got, w)
		}
	}()
	var port string
	for deadline := time.Now().Add(time.Minute); port == ""; {
		if time.Now().After(deadline) {
			t.Fatalf("it does not begin: %s", said)
		}
		if line, rest, ok := strings.Cut(said.String(), "\n"); ok && rest == "" {
			port = strings.TrimPrefix(line, "port ")
		}
		<-time.After(20 * time.Millisecond)
	}
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		message string
		status  int
		does    string
	}{
		{`{"action":"handle","token":5,"valid_ms":9999,"resource":{"id":"a","n":1}}`, 204, "handle a 1"},
		{`{"action":"handle","token":5,"valid_ms":9999,"resource":{"id":"a","n":2}}`, 204, "terminate a 1 handle a 2"},
		{`{"action":"update","token":5,"valid_ms":9999,"resource":{"id":"a","n":3}}`, 204, "terminate a 2 handle a 3"},
		{`{"action":"handle","token":4,"valid_ms":9999,"resource":{"id":"a","n":0}}`, 409, ""},
		{`{"action":"terminate","token":4,"valid_ms":9999,"resource":{"id":"a","n":0}}`, 204, ""},
		{`{"action":"handle","token":6,"valid_ms":9999,"resource":{"id":"a","n":4}}`, 204, "terminate a 3 handle a 4"},
		{`{"action":"terminate","token":6,"valid_ms":9999,"resource":{"id":"a","n":4}}`, 204, "terminate a 4"},
		{`{"action":"terminate","token":6,"valid_ms":9999,"resource":{"id":"a","n":4}}`, 204, ""},
		{`{"action":"handle","token":7,"valid_ms":0,"resource":{"id":"a","n":5}}`, 503, ""},
		{`{"action":"handle","token":7,"valid_ms":9999,"resource":{"id":"a","fail":true}}`, 500, ""},
		{`{"action":"terminate","token":7,"valid_ms":9999,"resource":{"id":"a"}}`, 204, ""},
		{`{"action":"handle_failed","token":7,"valid_ms":9999,"error":"no","resource":{"id":"a","n":6}}`, 204, "handle_failed a 6"},
		{`no JSON`, 500, ""},
	} {
		resp, err := client.Post("http://127.0.0.1:"+port, "application/json", strings.NewReader(c.message))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.message, resp.StatusCode, c.status)
		}
		if c.does != "" {
			want = append(want, c.does)
		}
	}
}
