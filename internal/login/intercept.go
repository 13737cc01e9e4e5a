package login

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// DialOptions returns the options of the connection to authenticate; etcd's client itself must have no user. They must
// come before other interceptors that are to see what is really sent.
func (l *Login) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(l.unary), grpc.WithChainStreamInterceptor(l.stream)}
}

// unary sends a request with the token, and once more with a new token if etcd refuses the first: etcd has then not
// done what was asked for.
func (l *Login) unary(
	ctx context.Context,
	method string,
	req, reply any,
	conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	// A caller that asks for etcd's status wants to know whether etcd is there, and must not wait for a token. (etcd
	// answers without one, or says that it does not.) A token that is there goes along.
	switch method {
	case pb.Auth_Authenticate_FullMethodName:
		return invoke(ctx, method, req, reply, conn, opts...)
	case pb.Maintenance_Status_FullMethodName:
		return invoke(with(ctx, l.atHand()), method, req, reply, conn, opts...)
	}
	for again := false; ; again = true {
		t, err := l.current(ctx, conn)
		if err != nil {
			return err
		}
		err = invoke(with(ctx, t), method, req, reply, conn, opts...)
		if !IsStale(err) {
			return err
		}
		l.refused(t)
		if again {
			return err
		}
	}
}

// stream opens a stream with the token. Only the answers on the stream tell whether the token is good.
func (l *Login) stream(
	ctx context.Context,
	desc *grpc.StreamDesc,
	conn *grpc.ClientConn,
	method string,
	open grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	t, err := l.current(ctx, conn)
	if err != nil {
		return nil, err
	}
	s, err := open(with(ctx, t), desc, conn, method, opts...)
	if err != nil {
		if IsStale(err) {
			l.refused(t)
		}
		return nil, err
	}
	return &stream{s, l, t}, nil
}

// with adds the token to the metadata of a request.
func with(ctx context.Context, t token) context.Context {
	if t.text == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, t.text)
}

// stream notices when an answer says that its token is no longer good.
type stream struct {
	grpc.ClientStream
	login *Login
	token token
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	said := err
	if resp, ok := m.(*pb.WatchResponse); ok && err == nil && resp.Canceled {
		said = errors.New(resp.CancelReason) // a watch is refused in this way, and the stream goes on
	}
	if IsStale(said) {
		s.login.refused(s.token)
	}
	return err
}
