package member

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/health"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// asker makes the requests of a start, and makes each again for as long as etcd answers anything at all. An overloaded
// etcd, or an overloaded machine, answers late: when a hundred members start at once, some requests are not answered
// within their timeout. A start that gave up would only begin anew, and cost etcd more.
type asker struct {
	client  *clientv3.Client
	timeout time.Duration // of each request
	log     *zap.Logger
	board   *health.Board // shows what the start waits for
	heard   func() int64  // returns how many answers etcd has given so far; nil until something counts them
}

// patiently calls try until it succeeds, ctx ends, etcd refuses, or etcd does not answer at all. what is logged, and
// put into an error, as the thing that the member waits for.
func (e *asker) patiently(ctx context.Context, what string, try func(context.Context) error) error {
	return During(ctx, e.log, e.board, Wait{For: what}, func() error {
		for pauses := pace.Retry(); ; {
			before := e.answers()
			err := try(ctx)
			if err == nil || !e.isThere(ctx, err, before) {
				return err
			}
			e.log.Warn("etcd is slow to answer; trying again", zap.String("what", what), zap.Error(err))
			if !pauses.Wait(ctx) {
				return err
			}
		}
	})
}

// isThere reports whether etcd is there although a request failed. Any other answer since, such as to a keepalive,
// proves it: on a very busy machine even the easy request of etcd.IsBusy may not be answered in time.
func (e *asker) isThere(ctx context.Context, err error, before int64) bool {
	if etcd.IsBusy(ctx, e.client, err, e.timeout, false) {
		return true
	}
	return ctx.Err() == nil && etcd.IsUnreachable(err) && e.answers() != before
}

func (e *asker) answers() int64 {
	if e.heard == nil {
		return 0
	}
	return e.heard()
}
