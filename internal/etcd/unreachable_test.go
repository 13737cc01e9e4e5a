package etcd

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAServerThatIsStoppedOrHasLostItsLeaderDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		context.DeadlineExceeded, rpctypes.ErrTimeout, rpctypes.ErrNoLeader, rpctypes.ErrTimeoutDueToLeaderFail,
		rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex, rpctypes.ErrLeaderChanged,
		rpctypes.ErrStopped, rpctypes.ErrGRPCStopped, status.Error(codes.Unknown, "raft: stopped"),
		status.Error(codes.DeadlineExceeded, "late"), status.Error(codes.Unavailable, "connection refused"),
	} {
		if !IsUnreachable(err) || !IsUnreachable(fmt.Errorf("write: %w", err)) {
			t.Errorf("%v: it counts as a refusal", err)
		}
	}
	for _, err := range []error{
		nil, errors.New("raft: stopped"), context.Canceled, rpctypes.ErrNoSpace, rpctypes.ErrPermissionDenied,
		rpctypes.ErrCompacted, rpctypes.ErrTooManyRequests, status.Error(codes.Unknown, "panic"),
	} {
		if IsUnreachable(err) {
			t.Errorf("%v: it counts as no answer", err)
		}
	}
}
