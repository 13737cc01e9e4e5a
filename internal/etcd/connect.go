package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// Config says how to reach etcd.
type Config struct {
	Client      *clientv3.Client // the caller's own, in place of everything else but DialTimeout; or nil
	Endpoints   []string
	TLS         *tls.Config
	GetTLS      func() (*tls.Config, error)
	Username    string
	Password    string
	DialTimeout time.Duration // how long the first answer is waited for

	DialOptions []grpc.DialOption // besides those that the other fields amount to, and after them
}

// Connect returns a client that has been answered once, about the key probe, and whether it is the callee's to close.
// With patience, etcd may take longer than DialTimeout for that, as long as it is there: a login, which it does one
// after the other, may have to wait for many others. Errors match ErrUnreachable where etcd does not answer; others are
// etcd's refusals.
func Connect(
	ctx context.Context,
	c Config,
	probe string,
	patience bool,
) (client *clientv3.Client, own bool, err error) {
	client = c.Client
	if client == nil {
		own = true
		if client, err = NewClient(c); err != nil {
			return nil, false, fmt.Errorf("connect to etcd: %w", err)
		}
	}
	trace := reach.Of(client)
	var hopeless bool
	for pauses := pace.Retry(); ; {
		asking, cancel := context.WithTimeout(ctx, c.DialTimeout)
		trace.WhenHopeless(cancel) // what does not pass is not waited for
		_, err = client.Get(asking, probe, clientv3.WithKeysOnly())
		trace.WhenHopeless(nil)
		hopeless = errors.Is(asking.Err(), context.Canceled)
		cancel()
		if err == nil {
			return client, own, nil
		}
		if hopeless || !patience || !IsBusy(ctx, client, err, c.DialTimeout, true) || !pauses.Wait(ctx) {
			break
		}
	}
	why := trace.Reason()
	if own {
		_ = client.Close() // the first error is the one to tell
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, false, fmt.Errorf("connect to etcd: %w", cause)
	}
	switch {
	case hopeless:
		err = &unreachableError{why.Error(), why}
	case IsUnreachable(err):
		err = unreachable(c, client, err)
	case speaksNoGRPC(err):
		err = fmt.Errorf(
			"%w: what answers at %s speaks HTTP, but not gRPC: it is not etcd, or not its port for clients",
			ErrUnreachable,
			strings.Join(client.Endpoints(), ","),
		)
	}
	return nil, false, fmt.Errorf("connect to etcd: %w", err)
}

// speaksNoGRPC says whether gRPC found that the other end answers as a web server does. It has no error of its own for
// that.
func speaksNoGRPC(err error) bool {
	return strings.Contains(err.Error(), "unexpected HTTP status code") ||
		strings.Contains(err.Error(), "HTTP content-type")
}

// reconnect bounds the pause before another try to connect. gRPC's own grows to two minutes: a member would come back
// that long after an etcd that was away for a while.
func reconnect() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay:  200 * time.Millisecond,
			Multiplier: 1.6,
			Jitter:     0.2,
			MaxDelay:   5 * time.Second,
		},
		MinConnectTimeout: 20 * time.Second, // gRPC's default
	})
}

// NewClient makes a client, which nothing is asked of yet. c.Client means nothing here. Where there is a user, it is
// not the client that authenticates: it would do so for each stream, and could not any more, with an etcd of before
// 3.5, once its token has expired.
func NewClient(c Config) (*clientv3.Client, error) {
	options := []grpc.DialOption{
		// A connection whose other end is gone without a word is left within seconds, not after the kernel's minutes.
		grpc.WithKeepaliveParams(
			keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true},
		),
		reconnect(),
	}
	var auth *login.Login
	if c.Username != "" && c.Password != "" { // a name alone authenticates nobody; a certificate may
		auth = login.New(c.Username, c.Password)
		options = append(options, auth.DialOptions()...)
	}
	trace := reach.New(c.Endpoints, c.TLS, c.Username)
	options = append(options, trace.DialOptions(c.Endpoints, c.TLS, c.GetTLS)...)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: c.TLS, DialTimeout: c.DialTimeout, DialOptions: append(options, c.DialOptions...),
		Logger: zap.NewNop(), Context: trace.Context(),
	})
	if err != nil {
		return nil, err
	}
	client.Watcher = follow.NewWatcher(client) // in place of one that has not been used, and has nothing to be closed
	client.KV, client.Lease = reach.KV(client), reach.Lease(client, client.Lease)
	if auth != nil {
		client.Lease = closingLogin{client.Lease, auth}
	}
	return client, nil
}

// closingLogin closes a login with the client, which closes its Lease.
type closingLogin struct {
	clientv3.Lease
	login *login.Login
}

// Close implements clientv3.Lease.
func (c closingLogin) Close() error {
	c.login.Close()
	return c.Lease.Close()
}
