package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

const (
	// reads is how many reads are timed, at most, and readsFor for how long.
	reads    = 200
	readsFor = 3 * time.Second
	// slowReads is the 99th percentile at which reads are slow: etcd's heartbeat is 0.1 s by default. At tooSlow, the
	// leases of members are at risk: of the default 5 s, they are renewed every 1.7 s.
	slowReads, tooSlow = 100 * time.Millisecond, time.Second
)

// checkLatency times linearizable reads, one after the other.
func checkLatency(ctx context.Context, r *run) {
	r.check(ctx, readTime, "", func(ctx context.Context) finding {
		var took []time.Duration
		for began := time.Now(); len(took) < reads && time.Since(began) < readsFor; {
			asked := time.Now()
			if _, err := r.client.Get(ctx, r.cfg.root(), clientv3.WithKeysOnly()); err != nil {
				if len(took) > 0 && ctx.Err() != nil {
					took = append(took, time.Since(asked))
					break
				}
				return failure(seeLog, "read %d failed: %v", len(took)+1, err)
			}
			took = append(took, time.Since(asked))
		}
		return judgeLatency(took)
	})
}

func judgeLatency(took []time.Duration) finding {
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	text := fmt.Sprintf("%d linearizable reads: p50 %s, p99 %s, the slowest %s", len(took), brief(p50), brief(p99),
		brief(took[len(took)-1]))
	const mend = "see etcd's disk (etcd_disk_wal_fsync_duration_seconds), its load, and the network in between"
	switch {
	case p99 >= tooSlow:
		return failure(mend, "%s: members may not renew their leases in time", text)
	case p99 >= slowReads:
		return warning(mend, "%s", text)
	}
	return fine("%s", text)
}

const (
	// leastOps is the lowest --max-txn-ops with which DRM works (docs/config.md).
	leastOps = 3
	// grpcOverhead is what etcd's limit on messages adds to --max-request-bytes.
	grpcOverhead = 512 << 10
	// usualBytes is etcd's default of --max-request-bytes.
	usualBytes = 1536 << 10
)

// checkLimits finds out how large requests may be, with requests that change nothing.
func checkLimits(ctx context.Context, r *run) {
	r.check(ctx, txnOps, "", func(ctx context.Context) finding {
		return judgeOps(func(n int) (bool, error) { return r.takesCompares(ctx, n) })
	})
	r.check(ctx, requestBytes, "", r.checkRequestBytes)
}

// judgeOps finds the limit on the operations of a transaction, with a question for each number that is tried.
func judgeOps(takes func(n int) (bool, error)) finding {
	failed := func(err error) finding {
		return failure(seeLog, "a transaction that changes nothing failed: %v", err)
	}
	all, err := takes(txn.UsualOps)
	switch {
	case err != nil:
		return failed(err)
	case all:
		return fine("a transaction may have %d operations at least, which is all that DRM uses", txn.UsualOps)
	}
	taken, refused := 0, txn.UsualOps
	for refused-taken > 1 {
		n := (taken + refused) / 2
		ok, err := takes(n)
		switch {
		case err != nil:
			return failed(err)
		case ok:
			taken = n
		default:
			refused = n
		}
	}
	const mend = "raise etcd's --max-txn-ops to 128, its default"
	if taken < leastOps {
		return failure(mend, "a transaction may have %d operations, and DRM needs %d", taken, leastOps)
	}
	return warning(mend, "a transaction may have %d operations: DRM works, and is slower", taken)
}

// takesCompares says whether etcd takes a transaction with that many comparisons, and nothing else in it.
func (r *run) takesCompares(ctx context.Context, n int) (bool, error) {
	all := make([]clientv3.Cmp, n)
	for i := range all {
		all[i] = clientv3.Compare(clientv3.CreateRevision(r.cfg.root()), "<", 0)
	}
	_, err := r.client.Txn(ctx).If(all...).Commit()
	if errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyOps) {
		return false, nil
	}
	return err == nil, err
}

// tooLarge is what gRPC says of a message that is larger than a server takes.
var tooLarge = regexp.MustCompile(`larger than max \(\d+ vs\. (\d+)\)`)

// checkRequestBytes sends a comparison that is larger than etcd takes by default. etcd's answer tells the limit: it
// reads messages of up to --max-request-bytes and 512 KiB. Where it is higher, the comparison is made, and holds of
// nothing.
func (r *run) checkRequestBytes(ctx context.Context) finding {
	key := []byte(r.cfg.root())
	req := &pb.TxnRequest{Compare: []*pb.Compare{{
		Key: key, Target: pb.Compare_VALUE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_Value{Value: make([]byte, usualBytes+grpcOverhead+1)},
	}}}
	enough := grpc.MaxCallSendMsgSize(2 * (usualBytes + grpcOverhead))
	_, err := pb.NewKVClient(r.client.ActiveConnection()).Txn(ctx, req, enough)
	if err == nil {
		return fine("a request may have more than etcd's default of %s", humanize.IBytes(usualBytes))
	}
	found := tooLarge.FindStringSubmatch(err.Error())
	if status.Code(err) != codes.ResourceExhausted || found == nil {
		return skipped("etcd does not tell: %s", rpctypes.ErrorDesc(err))
	}
	limit, err := strconv.Atoi(found[1])
	if err != nil || limit < grpcOverhead {
		return skipped("etcd's answer is not understood: %q", found[0])
	}
	limit -= grpcOverhead
	if limit < usualBytes {
		return warning("raise etcd's --max-request-bytes to 1572864, its default",
			"a request may have %s: DRM works, and is slower; larger resources are refused",
			humanize.IBytes(uint64(limit)))
	}
	return fine("a request may have %s", humanize.IBytes(uint64(limit)))
}
