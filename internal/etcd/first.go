package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// ErrNoStreams says that etcd cannot send what a range has as a stream, as versions before 3.7 cannot.
var ErrNoStreams = errors.New("etcd sends no keys as a stream")

// Stream yields the keys from one on, up to end, in parts, as fast as they are taken. A read with a limit would have
// etcd count all keys that follow, for each part. Where a connection is lost, Stream goes on after the last key; so
// opts must name a revision if more than the first part is taken. An error ends it: ErrNoStreams before the first part,
// context.DeadlineExceeded where a part takes longer than timeout, and those of etcd's client, of lost connections only
// if that takes longer than timeout.
func Stream(
	ctx context.Context, client clientv3.KV, timeout time.Duration, from, end string, opts ...clientv3.OpOption,
) iter.Seq2[[]*mvccpb.KeyValue, error] {
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		opts := append(slices.Clone(opts), clientv3.WithRange(end))
		taken := time.Now()
		take := func(part []*mvccpb.KeyValue) bool {
			if len(part) > 0 {
				from = string(part[len(part)-1].Key) + "\x00"
			}
			enough := !yield(part, nil)
			taken = time.Now()
			return !enough
		}
		for pauses := pace.Retry(); ; {
			before := taken
			err := streamOnce(ctx, client, timeout, from, opts, take)
			if taken != before {
				pauses.Reset()
			}
			pause := pauses.Next()
			switch {
			case err == nil || errors.Is(err, errEnough):
				return
			case !isBroken(ctx, err) || time.Since(taken)+pause >= timeout || !pace.Wait(ctx, pause):
				yield(nil, err)
				return
			}
		}
	}
}

// isBroken says that a stream has ended because a connection was lost, or a server, and neither in time nor by order.
func isBroken(ctx context.Context, err error) bool {
	return ctx.Err() == nil && IsUnreachable(err) && !errors.Is(err, context.DeadlineExceeded)
}

// errEnough says that whoever takes the parts of a stream wants no more of them.
var errEnough = errors.New("enough was taken")

// streamOnce gives the parts of one stream to take, which returns false if it wants no more: then it returns errEnough.
func streamOnce(
	ctx context.Context, client clientv3.KV, timeout time.Duration, from string, opts []clientv3.OpOption,
	take func([]*mvccpb.KeyValue) bool,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opening := time.AfterFunc(timeout, cancel) // there may be no connection yet
	stream, err := client.GetStream(ctx, from, opts...)
	switch inTime := opening.Stop(); {
	case err != nil && !inTime:
		return context.DeadlineExceeded
	case err != nil:
		return streamError(err)
	}
	defer func() {
		cancel()
		for range stream { // so that its goroutine ends
		}
	}()
	patience := time.NewTimer(timeout)
	defer patience.Stop()
	for {
		patience.Reset(timeout)
		select {
		case <-patience.C:
			return context.DeadlineExceeded
		case part, more := <-stream:
			switch {
			case !more:
				return nil
			case part.Err() != nil:
				return streamError(part.Err())
			case !take(part.RangeResponse.GetKvs()):
				return errEnough
			}
		}
	}
}

func streamError(err error) error {
	var refused rpctypes.EtcdError
	isRefused := errors.As(err, &refused)
	if status.Code(err) == codes.Unimplemented ||
		isRefused && refused.Code() == codes.Unauthenticated || // a single read asks for another token
		isRefused && refused.Code() == codes.PermissionDenied { // and says which key etcd denies to whom
		return fmt.Errorf("%w: %w", ErrNoStreams, err)
	}
	return err
}

// First returns the first key from one on, up to end, without its value; nil: there is none. It has etcd count the
// others only where there are no streams, or where the connection is lost: etcd's client repeats a read at other
// servers, and its errors say why none was reached. Errors are those of etcd's client, and context.DeadlineExceeded.
func First(
	ctx context.Context, client clientv3.KV, timeout time.Duration, from, end string,
) (*mvccpb.KeyValue, error) {
	var first *mvccpb.KeyValue
	opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithKeysOnly()}
	err := streamOnce(ctx, client, timeout, from, opts, func(part []*mvccpb.KeyValue) bool {
		for _, kv := range part {
			first = kv
			return false
		}
		return true
	})
	switch {
	case err == nil, errors.Is(err, errEnough):
		return first, nil
	case errors.Is(err, ErrNoStreams), isBroken(ctx, err):
		return firstOfRead(ctx, client, timeout, from, end)
	default:
		return nil, err
	}
}

func firstOfRead(
	ctx context.Context, client clientv3.KV, timeout time.Duration, from, end string,
) (*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(1))
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}
