//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// A coordinator of an older version, which knows nothing of who suspends what, wakes nothing that is suspended. An
// older member ignores an order to try again.
func TestAnOlderCoordinatorKeepsWhatIsSuspended(t *testing.T) {
	if os.Getenv(upgradeTests) == "" {
		t.Skip("it builds an older version: make upgrade")
	}
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	fill := func(data string) {
		if err := os.WriteFile(path, []byte(`{"data":[`+data+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill(`{"id":"a"},{"id":"b"},{"id":"both"}`)
	var log bytes.Buffer
	agent := exec.CommandContext(t.Context(), older(t), append(l.args(), "agent", "--id", "old", "--source-file", path,
		"--poll", "0", "--lease-ttl", "20s", "--handler-log")...)
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		if err := agent.Wait(); err != nil || strings.Contains(log.String(), "panic") {
			t.Errorf("the older agent: %v: %s", err, log.String())
		}
	}()
	l.active("a", "b", "both")
	l.ok("allocate", "--id", "both", "--data", `{"own":1}`, "--wait")
	for _, id := range []string{"a", "both"} {
		l.ok("suspend", id, "--wait", "--by", "ann")
	}
	layout := keys.New("/drm", "lab")
	put := layout.Retry(shard.Of("b", 1024), "b")
	if _, err := embeddedtest.Client(t, l.global[1]).Put(t.Context(), put, "{}"); err != nil {
		t.Fatal(err)
	}

	fill(`{"id":"a","n":2},{"id":"b"},{"id":"both"},{"id":"c"}`) // one of them changes
	l.active("b", "c")
	for _, id := range []string{"a", "both"} {
		if e := l.entry(id); e.State != "suspended" {
			t.Errorf("%+v, want it suspended", e)
		}
	}
	fill(`{"id":"a","n":2},{"id":"b"},{"id":"c"},{"id":"d"}`) // the other one goes
	l.active("b", "c", "d")
	eventually(t, func() error {
		if e := l.entry("both"); e.State == "wanted" {
			return fmt.Errorf("%+v is wanted", e)
		}
		return nil
	})
	l.ok("resume", "a", "--wait")
	l.active("a", "b", "c", "d")
}
