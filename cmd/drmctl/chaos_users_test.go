//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// These scenarios are faults of an etcd that has users: members log in with a password.

var usersScenarios = []scenario{
	{
		"etcd has users: one is added, etcd restarts, the password is wrong for 8 s, a member is killed", true, 1,
		(*chaos).users,
	},
	{"the same on etcd 3.4, tokens that live 5 s", false, 0, (*chaos).users34},
}

// asProgram is any other program. Its path and arguments follow.
const asProgram = "__program"

func init() {
	helpers[asProgram] = func(args []string) int {
		fmt.Fprintln(os.Stderr, syscall.Exec(args[0], args, os.Environ()))
		return exitFailed
	}
}

// etcd34, in the environment, is the path of an etcd of version 3.4: Debian's package etcd-server has one.
const etcd34 = "DRM_ETCD34"

// users34 runs users with a real etcd of another version, where the machine has one.
func (c *chaos) users34() {
	path := os.Getenv(etcd34)
	if path == "" {
		path = "etcd"
	}
	said, err := exec.CommandContext(c.t.Context(), path, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "etcd Version: 3.4.") {
		c.t.Skipf("there is no etcd 3.4 in PATH or %s: %v", etcd34, err)
	}
	if path, err = exec.LookPath(path); err != nil {
		c.t.Fatal(err)
	}
	a := freeAddresses(c.t, 2)
	client, peer := "http://"+a[0], "http://"+a[1]
	n := &node{t: c.t, endpoint: a[0], args: []string{
		asProgram, path, "--data-dir", c.t.TempDir(), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
		"--auth-token-ttl", "5", "--logger", "zap", "--log-level", "error",
	}}
	n.begin()
	answers(c.t, n)
	c.on(c.t, []*node{n})
	c.users()
}

// asRoot does something as etcd's root, over a connection of its own.
func (c *chaos) asRoot(what string, do func(ctx context.Context, root *clientv3.Client) error) {
	c.t.Helper()
	eventually(c.t, func() error {
		root, err := clientv3.New(clientv3.Config{
			Endpoints: c.endpoints, Username: "root", Password: embeddedtest.RootPassword, Logger: zap.NewNop(),
			DialTimeout: 5 * time.Second,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		defer root.Close() //nolint:errcheck // it says only that it was closed
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		if err := do(ctx, root); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// setPassword changes the password of the members' user, and with it ends its tokens.
func (c *chaos) setPassword(password string) {
	c.t.Helper()
	c.asRoot("change the password", func(ctx context.Context, root *clientv3.Client) error {
		_, err := root.UserChangePassword(ctx, embeddedtest.User, password)
		return err
	})
}

func (c *chaos) users() {
	n, members := 200, []string{"a", "b"}
	if c.long {
		n, members = 1000, []string{"a", "b", "c", "d", "e", "f"}
	}
	if err := embeddedtest.AddUsers(c.t.Context(), embeddedtest.Client(c.t, c.endpoints...)); err != nil {
		c.t.Fatal(err)
	}
	user := []string{"--user", embeddedtest.User + ":" + embeddedtest.Password}
	c.global, c.flags = append(c.global, user...), append(c.flags, user...)
	began := c.now()
	before := c.begin(n, members...)
	c.note("%d members handled all %d after %s", len(members), n, seconds(c.took(began)))

	added := c.now()
	c.asRoot("add a user", func(ctx context.Context, root *clientv3.Client) error {
		_, err := root.UserAdd(ctx, "somebody", "else")
		return err
	})
	c.lasts(2 * time.Second)
	c.allocate("after-user-add")
	c.all(members...)
	c.etcd[0].end()
	c.etcd[0].begin()
	c.allocate("after-restart")
	c.all(members...)
	c.note("%d resources were touched until etcd had restarted", len(c.touched(added, before)))

	c.setPassword("another one")
	c.lasts(8 * time.Second)
	c.setPassword(embeddedtest.Password)
	back := c.now()
	c.allocate("after-password")
	c.all(members...)
	c.note("with the right password again all was handled after %s", seconds(c.took(back)))

	fault := c.now()
	fault.at = c.kill(members[0])
	c.allocate("after-kill")
	c.all(members[1:]...)
	c.takeover = c.took(fault)
}
