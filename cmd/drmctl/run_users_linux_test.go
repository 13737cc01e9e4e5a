package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// The supervisor's user may do all for one app, which the supervisor does not know. So etcd refuses the key that it
// asks for. The lease lives for ten minutes, so if the agent is ready again under its id, its leases were revoked.
func TestRunNeedsNoRightToReadAllApps(t *testing.T) {
	t.Parallel()
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	const name, password, prefix = "feeds", "s3cret", "/drm/feeds/"
	_, err := root.UserAdd(t.Context(), name, password)
	if err == nil {
		_, err = root.RoleAdd(t.Context(), name)
	}
	if err == nil {
		_, err = root.RoleGrantPermission(t.Context(), name, prefix, clientv3.GetPrefixRangeEnd(prefix),
			clientv3.PermissionType(clientv3.PermReadWrite))
	}
	if err == nil {
		_, err = root.UserGrantRole(t.Context(), name, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	global := []string{"--endpoints", server.Endpoint(), "--user", name + ":" + password}
	agent := append(append([]string{self}, global...), "--app", name, "agent", "--id", "a", "--lease-ttl", "10m",
		"--allocate-only", "--handler-log")
	p := runUnder(t, append(global, "--backoff", "1ms", "--log-level", "debug"), agent...)
	ready := func(n int) {
		t.Helper()
		eventually(t, func() error {
			if got := strings.Count(p.said.all(), "ready: member a"); got != n {
				return fmt.Errorf("the agent was ready %d times, want %d: %s", got, n, p.said.all())
			}
			return nil
		})
	}
	ready(1)
	if err := syscall.Kill(p.started(t, 1), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ready(2)
	if said := p.said.all(); strings.Contains(said, "cannot reach etcd") {
		t.Errorf("the refusal counts as no answer: %s", said)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, p); code != exitFine {
		t.Errorf("exit code %d after SIGTERM; it said last: %s", code, p.log.last())
	}
}
