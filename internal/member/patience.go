package member

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// An etcd, or a machine, that has more to do than it can answers late. When a hundred members start at once, some of
// what they ask is not answered within the timeout of a request. That is no reason to give a start up: it would only
// begin anew, and cost etcd more. So each request of a start is made again for as long as etcd answers anything at all.

// asker makes the requests of a start.
type asker struct {
	client  *clientv3.Client
	timeout time.Duration // of each request
	log     *zap.Logger
	heard   func() int64 // how much etcd has answered so far; nil: nothing counts that yet
}

// patiently tries until that works, ctx ends, etcd refuses, or it does not answer at all. The log, and an error, say
// what is waited for.
func (e *asker) patiently(ctx context.Context, what string, try func(context.Context) error) error {
	return During(ctx, e.log, what, nil, func() error {
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

// isThere says whether etcd is there, though a request failed. Whatever else it has answered meanwhile, such as a
// keepalive, says so: a machine that is so busy may not get an answer to an easy question in time either.
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
