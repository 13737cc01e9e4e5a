package login

import (
	"context"

	"google.golang.org/grpc"
)

// Use gets a token as a request does, and says that etcd refuses the token if bad.
func (l *Login) Use(ctx context.Context, conn grpc.ClientConnInterface, bad bool) error {
	t, err := l.current(ctx, conn)
	if err == nil && bad {
		l.refused(t)
	}
	return err
}
