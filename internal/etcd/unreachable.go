package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/reach"
)

// ErrUnreachable says that etcd did not answer in time. It may or may not have done what the request asked for.
var ErrUnreachable = errors.New("etcd unreachable")

// unreachable is the error of a first request that etcd did not answer in time.
func unreachable(c Config, client *clientv3.Client, err error) error {
	if why := reach.ReasonOf(err); why != nil {
		return &unreachableError{fmt.Sprintf("no answer within %v: %v", c.DialTimeout, why), why}
	}
	return fmt.Errorf("%w: no answer from %s within %v (%s)",
		ErrUnreachable, strings.Join(client.Endpoints(), ","), c.DialTimeout, reason(err))
}

// unreachableError matches ErrUnreachable, and has the reason for it in its chain.
type unreachableError struct {
	text string
	why  *reach.Reason
}

func (e *unreachableError) Error() string {
	if e.why.Slow {
		return "etcd is connected, and too slow: " + e.text
	}
	return ErrUnreachable.Error() + ": " + e.text
}

// Unwrap returns ErrUnreachable and the reason.
func (e *unreachableError) Unwrap() []error { return []error{ErrUnreachable, e.why} }

// Unreachable makes an error match ErrUnreachable if it means that etcd did not answer. It returns other errors as they
// are, and all errors if ctx has ended. ctx is the context of the caller, whose end is no fault of etcd.
func Unreachable(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !IsUnreachable(err) || errors.Is(err, ErrUnreachable) {
		return err
	}
	if why := reach.ReasonOf(err); why != nil {
		return &unreachableError{err.Error(), why}
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, reason(err))
}

// reason returns the text of an error; of an error of gRPC only the message.
func reason(err error) string {
	if s, ok := status.FromError(err); ok && s.Message() != "" {
		return s.Message()
	}
	return err.Error()
}

// raftStopped is the text of an error that a server which is being stopped answers with. It has no code of its own.
const raftStopped = "raft: stopped"

// IsUnreachable says whether an error means that etcd did not answer, rather than that it refused: nor does a server
// that is being stopped, or that has lost its leader while it had the request.
func IsUnreachable(err error) bool {
	var answer rpctypes.EtcdError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return true
	case errors.As(err, &answer):
		return isUnreachable(answer.Code(), answer.Error())
	}
	s, ok := status.FromError(err)
	return ok && isUnreachable(s.Code(), s.Message())
}

func isUnreachable(code codes.Code, text string) bool {
	return code == codes.Unavailable || code == codes.DeadlineExceeded ||
		code == codes.Unknown && strings.HasSuffix(text, raftStopped)
}

// IsBusy says whether a request failed because etcd is overloaded. It asks etcd for its status, which is easier to
// answer, and waits for up to patience. An etcd without a leader does not count as busy, since it can answer nothing
// else. With connected, IsBusy returns false while a connection to etcd is being made, or cannot be made.
func IsBusy(ctx context.Context, client *clientv3.Client, err error, patience time.Duration, connected bool) bool {
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return true
	case !IsUnreachable(err):
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
		return !IsUnreachable(err) && ctx.Err() == nil // a refusal shows that etcd is there
	}
	return resp.Leader != 0
}
