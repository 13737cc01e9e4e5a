package etcd

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// First returns the first key from one on, up to end, without its value; nil: there is none. A read with a limit would
// have etcd count all keys that follow, which takes seconds of a million. So it reads a stream, which etcd has since
// 3.7, and breaks off after the first answer; an older etcd counts. Errors are those of etcd's client.
func First(ctx context.Context, client clientv3.KV, from, end string) (*mvccpb.KeyValue, error) {
	opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithKeysOnly()}
	found, err := firstOfStream(ctx, client, from, opts)
	var refused rpctypes.EtcdError
	switch {
	case status.Code(err) == codes.Unimplemented:
	case errors.As(err, &refused) && refused.Code() == codes.Unauthenticated: // Get asks for another token
	default:
		return found, err
	}
	resp, err := client.Get(ctx, from, append(opts, clientv3.WithLimit(1))...)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

func firstOfStream(
	ctx context.Context, client clientv3.KV, from string, opts []clientv3.OpOption,
) (*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := client.GetStream(ctx, from, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	defer func() {
		cancel()
		for range stream { // so that its goroutine ends
		}
	}()
	for part := range stream {
		switch {
		case part.Err() != nil:
			return nil, part.Err()
		case len(part.RangeResponse.GetKvs()) > 0:
			return part.RangeResponse.Kvs[0], nil
		}
	}
	return nil, nil
}
