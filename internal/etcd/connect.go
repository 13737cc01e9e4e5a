package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
	// Client is the caller's own client; nil: Connect makes one. With a Client, only DialTimeout counts besides it.
	Client      *clientv3.Client
	Endpoints   []string
	TLS         *tls.Config                 // nil: no TLS, unless an endpoint is an https URL
	GetTLS      func() (*tls.Config, error) // called for each new connection in place of TLS; nil: TLS is used
	Username    string
	Password    string
	DialTimeout time.Duration // how long Connect waits for the first answer

	DialOptions []grpc.DialOption // these come after the options for the other fields
}

// Connect returns a client that etcd has answered once, to a request for the key probe. own says that Connect has made
// the client, so that the caller must close it. With patience, etcd may take longer than DialTimeout as long as it is
// there: it handles one login after the other, so this one may have to wait for many others. An error matches
// ErrUnreachable if etcd does not answer; other errors are refusals of etcd.
func Connect(
	ctx context.Context, c Config, probe string, patience bool,
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
		forget := trace.WhenHopeless(cancel) // waiting does not help against some failures
		_, err = client.Get(asking, probe, clientv3.WithKeysOnly())
		forget()
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
	if why != nil && why.Has(reach.Connected) && ctx.Err() == nil && IsUnreachable(err) && leaderless(ctx, client) {
		why = why.WithoutLeader()
		err = &reach.Error{Err: err, Reason: why}
	}
	if own {
		_ = client.Close() // err matters more than an error of Close
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
		err = fmt.Errorf("%w: what answers at %s speaks HTTP, but not gRPC: it is not etcd, "+
			"or not its port for clients", ErrUnreachable, strings.Join(client.Endpoints(), ","))
	}
	return nil, false, fmt.Errorf("connect to etcd: %w", err)
}

// leaderless says whether a connected member of etcd says that its cluster has no leader. It waits for that for a short
// time only, since the caller has waited long enough.
func leaderless(ctx context.Context, client *clientv3.Client) bool {
	asking, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(asking, &pb.StatusRequest{})
	return err == nil && resp.Leader == 0
}

// speaksNoGRPC says whether gRPC found that a web server answers. It looks at the text, since gRPC has no error value
// for that.
func speaksNoGRPC(err error) bool {
	return strings.Contains(err.Error(), "unexpected HTTP status code") ||
		strings.Contains(err.Error(), "HTTP content-type")
}

// reconnect bounds the pause before another try to connect. gRPC's own pause grows to two minutes, so that a member
// would come back up to two minutes later than an etcd that was away for a while.
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

// NewClient makes a client, and makes no request. It ignores c.Client. With a user, package login authenticates instead
// of the client: the client would do so for each stream, and with an etcd before 3.5 it could not do so any more after
// its token has expired.
func NewClient(c Config) (*clientv3.Client, error) {
	options := []grpc.DialOption{
		// If the other end disappears without closing the connection, gRPC notices within seconds; the kernel takes
		// minutes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 3 * time.Second,
			PermitWithoutStream: false, // etcd closes a connection on which there are pings and no streams
		}),
		reconnect(),
	}
	var auth *login.Login
	if c.Username != "" && c.Password != "" { // a name without a password may go with a certificate
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
	client.Watcher = follow.NewWatcher(client) // the watcher that it replaces is unused, and need not be closed
	client.KV, client.Lease = reach.KV(client), reach.Lease(client, client.Lease)
	if auth != nil {
		client.Lease = closingLogin{client.Lease, auth}
	}
	return client, nil
}

// closingLogin closes the login together with the client, because the client closes its Lease.
type closingLogin struct {
	clientv3.Lease
	login *login.Login
}

// Close implements clientv3.Lease.
func (c closingLogin) Close() error {
	c.login.Close()
	return c.Lease.Close()
}
