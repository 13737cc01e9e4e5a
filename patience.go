package drm

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// An etcd, or a machine, that has more to do than it can answers late. When a hundred members start at once, some of what they ask is
// not answered within CommandTimeout. That is no reason to give a start up: it would only begin anew, and cost etcd more. So each
// request of a start is made again for as long as etcd answers anything at all.

// patiently tries until that works, ctx ends, etcd refuses, or it does not answer at all. The log, and an error, say what is waited
// for.
func (m *Manager) patiently(ctx context.Context, what string, try func(context.Context) error) error {
	return during(ctx, m.log, what, nil, func() error {
		for failures := 0; ; failures++ {
			heard := m.heard()
			err := try(ctx)
			// Whatever else was answered meanwhile, such as a keepalive, says that etcd is there: a machine that is so busy may not get an
			// answer to that question in time either.
			if err == nil || !isSlow(ctx, m.client, err, m.cfg.Etcd.CommandTimeout, false) && (ctx.Err() != nil || !isUnreachable(err) || m.heard() == heard) {
				return err
			}
			m.log.Warn("etcd is slow to answer; trying again", zap.String("what", what), zap.Error(err))
			if !pauseFor(ctx, retryPause(failures)) {
				return err
			}
		}
	})
}

// heard is how much etcd has answered so far.
func (m *Manager) heard() int64 {
	if m.hub == nil {
		return 0
	}
	return m.hub.Heard()
}

// isSlow says whether a request failed since etcd has too much to do, by whether it answers something easier: which state it is in. One
// without a leader does not count, since it could answer nothing else. With connected, it is not asked
// over a connection that is being made, or cannot be.
func isSlow(ctx context.Context, client *clientv3.Client, err error, patience time.Duration, connected bool) bool {
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return true
	case !isUnreachable(err):
		return false
	}
	conn := client.ActiveConnection()
	if conn == nil {
		return false
	}
	if state := conn.GetState(); connected && state != connectivity.Ready && state != connectivity.Idle {
		return false
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := pb.NewMaintenanceClient(conn).Status(asking, &pb.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return !isUnreachable(err) && ctx.Err() == nil // it says why not, and so is there
	}
	return resp.Leader != 0
}
