package drm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// connect returns a client that etcd has answered once, and whether it is ours to close.
func connect(ctx context.Context, c EtcdConfig, probe string) (client *clientv3.Client, own bool, err error) {
	client = c.Client
	if client == nil {
		own = true
		client, err = clientv3.New(clientv3.Config{
			Endpoints:   c.Endpoints,
			TLS:         c.TLS,
			Username:    c.Username,
			Password:    c.Password,
			DialTimeout: c.DialTimeout,
			// A connection whose other end is gone without a word is left within seconds, not after the kernel's minutes.
			DialOptions: []grpc.DialOption{grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true,
			})},
			Logger: zap.NewNop(),
		})
		if err != nil {
			if ctx.Err() == nil && isUnreachable(err) {
				err = unreachable(c, err)
			}
			return nil, false, fmt.Errorf("connect to etcd: %w", err)
		}
	}
	asking, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	if _, err = client.Get(asking, probe, clientv3.WithKeysOnly()); err == nil {
		return client, own, nil
	}
	if own {
		_ = client.Close() // the first error is the one to tell
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, false, fmt.Errorf("connect to etcd: %w", cause)
	}
	if isUnreachable(err) {
		err = unreachable(c, err)
	}
	return nil, false, fmt.Errorf("connect to etcd: %w", err)
}

func unreachable(c EtcdConfig, err error) error {
	where := strings.Join(c.Endpoints, ",")
	if where == "" {
		where = "the given client's endpoints"
	}
	return fmt.Errorf("%w: no answer from %s within %v (%s)", ErrUnreachable, where, c.DialTimeout, reason(err))
}

// reason is the short form of an error of gRPC.
func reason(err error) string {
	if s, ok := status.FromError(err); ok && s.Message() != "" {
		return s.Message()
	}
	return err.Error()
}

// isUnreachable says whether an error means that etcd did not answer, rather than that it refused.
func isUnreachable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, rpctypes.ErrNoLeader) ||
		errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) || errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost) {
		return true
	}
	s, ok := status.FromError(err)
	return ok && (s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded)
}
