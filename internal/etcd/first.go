package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNoStreams says that etcd cannot send what a range has as a stream, as versions before 3.7 cannot.
var ErrNoStreams = errors.New("etcd sends no keys as a stream")

// Stream yields the keys from one on, up to end, all at one revision, in parts, as fast as they are taken. A read with
// a limit would have etcd count all keys that follow, for each part. An error ends it: ErrNoStreams before the first
// part, context.DeadlineExceeded where a part takes longer than timeout, and those of etcd's client.
func Stream(
	ctx context.Context, client clientv3.KV, timeout time.Duration, from, end string, opts ...clientv3.OpOption,
) iter.Seq2[[]*mvccpb.KeyValue, error] {
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		opening := time.AfterFunc(timeout, cancel) // there may be no connection yet
		stream, err := client.GetStream(ctx, from, append(opts, clientv3.WithRange(end))...)
		switch inTime := opening.Stop(); {
		case err != nil && !inTime:
			yield(nil, context.DeadlineExceeded)
			return
		case err != nil:
			yield(nil, streamError(err))
			return
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
				yield(nil, context.DeadlineExceeded)
				return
			case part, more := <-stream:
				switch {
				case !more:
					return
				case part.Err() != nil:
					yield(nil, streamError(part.Err()))
					return
				case !yield(part.RangeResponse.GetKvs(), nil):
					return
				}
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
// others only where there are no streams. Errors are those of Stream.
func First(
	ctx context.Context, client clientv3.KV, timeout time.Duration, from, end string,
) (*mvccpb.KeyValue, error) {
	for part, err := range Stream(ctx, client, timeout, from, end, clientv3.WithKeysOnly()) {
		switch {
		case errors.Is(err, ErrNoStreams):
			return firstOfRead(ctx, client, timeout, from, end)
		case err != nil:
			return nil, err
		case len(part) > 0:
			return part[0], nil
		}
	}
	return nil, nil
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
