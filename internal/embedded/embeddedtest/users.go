package embeddedtest

import (
	"context"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded"
)

// User is the user that TurnUsersOn makes. It may read and write below /.
const User = "drm"

// Password is the password of User, until SetPassword changes it.
const Password = "a good password"

// RootPassword is the password of root.
const RootPassword = "a better password"

// UsersConfig is Config with passwords that are cheap to compare.
func UsersConfig() embedded.Config {
	cfg := Config()
	cfg.BcryptCost = 4
	return cfg
}

// TurnUsersOn turns authentication on in an etcd without users, and returns a client of root, who may do everything.
func TurnUsersOn(tb testing.TB, endpoint string) *clientv3.Client {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := Client(tb, endpoint)
	if err := AddUsers(ctx, c); err != nil {
		tb.Fatalf("turn users on: %v", err)
	}
	root, err := clientv3.New(clientv3.Config{
		Endpoints: []string{
			endpoint,
		},
		Username:    "root",
		Password:    RootPassword,
		Logger:      zap.NewNop(),
		DialTimeout: startTimeout,
	})
	if err != nil {
		tb.Fatalf("connect as root: %v", err)
	}
	tb.Cleanup(func() { _ = root.Close() })
	return root
}

// AddUsers adds root and User, and turns authentication on.
func AddUsers(ctx context.Context, c *clientv3.Client) error {
	_, err := c.UserAdd(ctx, "root", RootPassword)
	if err == nil {
		_, err = c.UserGrantRole(ctx, "root", "root")
	}
	if err == nil {
		_, err = c.RoleAdd(ctx, User)
	}
	if err == nil {
		_, err = c.RoleGrantPermission(ctx, User, "/", "0", clientv3.PermissionType(clientv3.PermReadWrite))
	}
	if err == nil {
		_, err = c.UserAdd(ctx, User, Password)
	}
	if err == nil {
		_, err = c.UserGrantRole(ctx, User, User)
	}
	if err == nil {
		_, err = c.AuthEnable(ctx)
	}
	return err
}

// SetPassword changes the password of User, which makes the user's tokens invalid even if the password stays the same.
func SetPassword(tb testing.TB, root *clientv3.Client, password string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if _, err := root.UserChangePassword(ctx, User, password); err != nil {
		tb.Fatalf("change the password: %v", err)
	}
}

// Calls counts the calls that an etcd gets. Its Count is for OnCall of embedded.Config.
type Calls struct {
	mu sync.Mutex
	by map[string]int
}

// Count counts a call.
func (c *Calls) Count(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int{}
	}
	c.by[method]++
}

// Of is how many calls of a method there were.
func (c *Calls) Of(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[method]
}

// Logins is how many tokens were asked for.
func (c *Calls) Logins() int { return c.Of(pb.Auth_Authenticate_FullMethodName) }

// Start starts an etcd with that configuration, and returns a function that restarts it at once with only what is on
// disk. The data folder is kept over restarts.
func Start(tb testing.TB, cfg embedded.Config) (s *embedded.Server, restart func()) {
	tb.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = tb.TempDir()
	}
	if cfg.ListenClient == "" {
		cfg.ListenClient = Address(tb)
	}
	start := func() {
		tb.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		var err error
		if s, err = embedded.Start(ctx, cfg); err != nil {
			tb.Fatal(err)
		}
	}
	start()
	tb.Cleanup(func() { _ = s.Close() })
	return s, func() {
		tb.Helper()
		if err := s.Close(); err != nil {
			tb.Errorf("close etcd: %v", err)
		}
		start()
	}
}
