package drm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// Connection is one etcd client for many managers and clients of one process, of one app or of many. Those that have it
// (EtcdConfig.Connection) share its network connections and, where there is a user, its login; managers share its
// streams for watches and for keepalives too. What each of them may do for itself stays its own: leases, fencing,
// timeouts, errors and its end.
//
// NewConnection makes one. Its methods are safe for use from any goroutine.
type Connection struct {
	cfg    EtcdConfig
	client *clientv3.Client
	own    bool
	shared *follow.Shared

	mu     sync.Mutex
	users  int // managers and clients that have not ended
	closed bool
}

// NewConnection makes a connection to etcd, and asks etcd for nothing: the first Start or NewClient that uses it does,
// and says what is wrong. cfg is as for a single manager; its DialTimeout and CommandTimeout are the defaults of those
// who use the connection. A Client in cfg stays the caller's own. The error is an *InputError for a bad cfg.
//
// The caller closes the Connection after the last of its managers and clients has ended.
func NewConnection(cfg EtcdConfig) (*Connection, error) {
	if cfg.Connection != nil {
		return nil, fmt.Errorf("connect to etcd: %w",
			&InputError{"Etcd.Connection", "a connection", "none, where a connection is made"})
	}
	if err := cfg.withDefaults(); err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	c := &Connection{cfg: cfg, client: cfg.Client}
	if c.client == nil {
		client, err := etcd.NewClient(cfg.inner())
		if err != nil {
			return nil, fmt.Errorf("connect to etcd: %w", err)
		}
		c.client, c.own = client, true
	}
	c.shared = follow.NewShared(c.client)
	return c, nil
}

// Close closes the connection, unless the client is the caller's own. While a manager has not stopped, or a client was
// not closed, that uses the connection, it closes nothing and returns an error that matches ErrConnectionInUse: nothing
// that is handled loses its lease because of a Close. After a Close that succeeded, nothing can be started on the
// connection any more, and further calls return nil.
func (c *Connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil
	case c.users > 0:
		return fmt.Errorf("close the connection to etcd: %w: %d managers or clients have not ended",
			ErrConnectionInUse, c.users)
	}
	c.closed = true
	c.shared.Leaps().Close()
	if !c.own {
		return nil
	}
	if err := c.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to etcd: %w", err)
	}
	return nil
}

// use counts a manager or a client. done, which does nothing after its first call, is to be called when that has ended.
func (c *Connection) use() (done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("connect to etcd: %w", ErrConnectionClosed)
	}
	c.users++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.users--
	}), nil
}

// streams returns what the manager shares with others of its connection; nil: nothing.
func (c EtcdConfig) streams() *follow.Shared {
	if c.Connection == nil {
		return nil
	}
	return c.Connection.shared
}

// connect returns the etcd client that a config names, once etcd has answered a request for the key probe. Whoever gets
// it calls done when it is not needed any more. With patience, an etcd that is there but overloaded is waited for.
func (c EtcdConfig) connect(
	ctx context.Context, probe string, patience bool,
) (client *clientv3.Client, done func() error, err error) {
	unused := func() {}
	if c.Connection != nil {
		if unused, err = c.Connection.use(); err != nil {
			return nil, nil, err
		}
	}
	client, own, err := etcd.Connect(ctx, c.inner(), probe, patience)
	if err != nil {
		unused()
		return nil, nil, err
	}
	return client, func() error {
		unused()
		if !own {
			return nil
		}
		return client.Close()
	}, nil
}
