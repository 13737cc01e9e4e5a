package embedded

import (
	"context"

	"google.golang.org/grpc"
)

// endCallsWith makes the contexts of all calls that the server handles end when ctx ends. etcd's own Close first lets
// calls finish, which an open watch never does, so it takes 7 s while any client is connected. heard, if not nil, is
// called for each call.
func endCallsWith(ctx context.Context, heard func(method string)) []grpc.ServerOption {
	if heard == nil {
		heard = func(string) {}
	}
	bound := func(call context.Context) (context.Context, context.CancelFunc) {
		call, cancel := context.WithCancel(call)
		stop := context.AfterFunc(ctx, cancel)
		return call, func() { stop(); cancel() }
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			func(call context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				heard(info.FullMethod)
				call, cancel := bound(call)
				defer cancel()
				return handle(call, req)
			},
		),
		grpc.ChainStreamInterceptor(
			func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
				heard(info.FullMethod)
				call, cancel := bound(stream.Context())
				defer cancel()
				return handle(srv, boundStream{stream, call})
			},
		),
	}
}

// boundStream is a stream whose context also ends with the server.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s boundStream) Context() context.Context { return s.ctx }
