package txn_test

import (
	"errors"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// of makes a transaction with that many comparisons and operations. If nested is given, it is the first operation.
func of(compares, success, failure int, nested *pb.TxnRequest) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range compares {
		t.Compare = append(t.Compare, txn.Created("k", 0))
	}
	for range success {
		t.Success = append(t.Success, txn.Get([]byte("k")))
	}
	for range failure {
		t.Failure = append(t.Failure, txn.Get([]byte("k")))
	}
	if nested != nil {
		t.Success[0] = txn.Nest(nested)
	}
	return t
}

// Weight is compared with etcd itself.
func TestWeightIsTheLeastLimitThatLetsATransactionPass(t *testing.T) {
	servers := map[int]txn.Committer{}
	for limit := 1; limit <= 6; limit++ {
		c := embeddedtest.Client(t,
			embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = uint(limit) }).Endpoint())
		servers[limit] = txn.New(c)
	}
	for _, req := range []*pb.TxnRequest{
		of(1, 1, 0, nil), of(2, 1, 1, nil), of(1, 3, 2, nil), of(0, 1, 4, nil),
		of(1, 1, 0, of(1, 1, 1, nil)), of(2, 1, 0, of(1, 1, 1, nil)), of(1, 3, 0, of(1, 1, 2, nil)),
		of(1, 1, 1, of(1, 1, 1, of(2, 1, 0, nil))),
	} {
		want := txn.Weight(req)
		for limit, etcd := range servers {
			_, err := etcd.Commit(t.Context(), req)
			if refused := errors.Is(err, rpctypes.ErrTooManyOps); refused != (want > limit) {
				t.Errorf("weight %d, limit %d: %v", want, limit, err)
			}
		}
	}
}

func TestLimitsLearnHalfOfWhatWasRefused(t *testing.T) {
	var l txn.Limits
	if other := errors.New("other"); l.TooMany(other, of(200, 1, 0, nil)) != other || l.Ops() != txn.UsualOps {
		t.Errorf("another error: %d", l.Ops())
	}
	for _, step := range []struct{ refused, want int }{
		{128, 64}, {128, 64}, {100, 64}, {64, 32}, {33, 32}, {5, 3}, {3, 2}, {2, 1}, {1, 1},
	} {
		err := l.TooMany(rpctypes.ErrTooManyOps, of(step.refused, 1, 0, nil))
		var limit *txn.LimitError
		if !errors.As(err, &limit) || limit.Needs != step.refused || !errors.Is(err, rpctypes.ErrTooManyOps) ||
			!strings.Contains(err.Error(), "--max-txn-ops") {
			t.Errorf("%d refused: %v", step.refused, err)
		}
		if l.Ops() != step.want {
			t.Errorf("%d refused: %d, want %d", step.refused, l.Ops(), step.want)
		}
	}
	for _, step := range []struct{ refused, want int }{{1 << 20, 1 << 19}, {1 << 20, 1 << 19}, {1001, 501}} {
		if l.TooLarge(step.refused); l.Bytes() != step.want {
			t.Errorf("%d bytes refused: %d, want %d", step.refused, l.Bytes(), step.want)
		}
	}
}
