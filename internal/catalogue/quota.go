package catalogue

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrQuota says that an allocation would exceed the quota of the Store. Nothing was written.
var ErrQuota = errors.New("over the quota")

// Quota bounds what Allocate may put into the catalogue. 0 is no bound.
type Quota struct {
	Resources int // how many entries there may be, suspended ones included
	Bytes     int // how many bytes the data of one entry may have
}

// The quotas, by the names that users of drm.Config and drm.ClientConfig know.
const (
	MaxAppResources  = "MaxAppResources"  // Quota.Resources
	MaxResourceBytes = "MaxResourceBytes" // Quota.Bytes
)

// QuotaError says which quota an allocation, or an answer of a source, would exceed. It matches ErrQuota. The
// QuotaError of package drm has the same fields, and the text of this one.
type QuotaError struct {
	Field string // MaxAppResources or MaxResourceBytes
	Limit int
	Count int // how many entries there are, or would be; how many bytes the entry would have
}

func (e *QuotaError) Error() string {
	if e.Field == MaxResourceBytes {
		return fmt.Sprintf("%v: the resource has %d bytes, and may have %d: make it smaller, or raise %s "+
			"(--max-resource-bytes)", ErrQuota, e.Count, e.Limit, e.Field)
	}
	return fmt.Sprintf("%v: %d resources, and the app may have %d: deallocate some, or raise %s (--max-app-resources)",
		ErrQuota, e.Count, e.Limit, e.Field)
}

// Is makes errors.Is find ErrQuota.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// admits returns a *QuotaError if an entry must not be written. fresh says that there is no entry of the id yet.
func (s *Store) admits(ctx context.Context, data []byte, fresh bool) error {
	if err := s.fits(data); err != nil {
		return err
	}
	if most := s.Quota.Resources; most > 0 && fresh {
		n, err := s.entries(ctx, most)
		switch {
		case err != nil:
			return fmt.Errorf("count the resources of the app: %w", err)
		case n >= most:
			return &QuotaError{Field: MaxAppResources, Limit: most, Count: n}
		}
	}
	return nil
}

// fits returns a *QuotaError if a resource's object is too large.
func (s *Store) fits(data []byte) error {
	if most := s.Quota.Bytes; most > 0 && len(data) > most {
		return &QuotaError{Field: MaxResourceBytes, Limit: most, Count: len(data)}
	}
	return nil
}

// entries returns how many entries the catalogue has, or any smaller number than most if it has fewer than most. etcd
// counts keys without reading them, all of the app's shards at once. Only where those are as many as most, claims and
// the like included, it counts the entries of each shard.
func (s *Store) entries(ctx context.Context, most int) (int, error) {
	n, err := s.countBelow(ctx, s.Layout.Shards())
	if err != nil || n < most {
		return 0, err
	}
	prefixes := make([]string, s.Shards)
	for i := range prefixes {
		prefixes[i] = s.Layout.Resources(i)
	}
	total := 0
	err = inParts(s, prefixes, func(part []string) error {
		n, err := s.countBelow(ctx, part...)
		total += n
		return err
	})
	return total, err
}

// countBelow counts the keys below prefixes.
func (s *Store) countBelow(ctx context.Context, prefixes ...string) (n int, err error) {
	req := &pb.TxnRequest{}
	for _, p := range prefixes {
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{
				Key: []byte(p), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(p)), CountOnly: true,
			},
		}})
	}
	resp, err := s.commit(ctx, req)
	if err != nil {
		return 0, err
	}
	if len(resp.Responses) < len(prefixes) {
		return 0, fmt.Errorf("etcd has answered %d of %d questions", len(resp.Responses), len(prefixes))
	}
	for _, r := range resp.Responses {
		n += int(r.GetResponseRange().GetCount())
	}
	return n, nil
}
