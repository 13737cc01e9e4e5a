package catalogue

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Vouch is the part of the source's record that says whether the app has a source. A coordinator that has a source
// renews it while it is in office. Older versions did not write it: a record without it belongs to a source that
// exists.
type Vouch struct {
	// By is the create revision of the coordinator's key of the member that vouched last. While that member is in
	// office the source exists, whatever any clock says.
	By int64 `json:"vouched_by,omitzero"`
	// At is when that member vouched last, by its clock.
	At time.Time `json:"vouched_at,omitzero"`
	// AfterMS is after how many milliseconds without a vouch the source is gone; -1: never.
	AfterMS int64 `json:"gone_after_ms,omitzero"`
	// AloneMS is for how many milliseconds coordinators without a source have been in office since. Each of them counts
	// its own time, so that neither a wrong clock nor an outage of all members can make the source be gone.
	AloneMS int64 `json:"alone_ms,omitzero"`
	// Gone says that what the source left is being removed; the record is deleted last.
	Gone bool `json:"gone,omitzero"`
}

// VouchFor is what a coordinator with a source records: its term, its clock, and after how long the source is gone.
func VouchFor(term int64, now time.Time, after, forever time.Duration) Vouch {
	v := Vouch{By: term, At: now.UTC(), AfterMS: -1}
	if after != forever {
		v.AfterMS = after.Milliseconds()
	}
	return v
}

// Check returns an error if nobody could have recorded these values.
func (v Vouch) Check() error {
	if v.AfterMS < -1 || min(v.AloneMS, v.By) < 0 {
		return errors.New("a negative time")
	}
	return nil
}

// lapsed says whether nobody has vouched for so long that the source is gone. now may be from another clock than At.
func (v Vouch) lapsed(now time.Time) bool {
	return v.AfterMS > 0 && now.Sub(v.At) > time.Duration(v.AfterMS)*time.Millisecond
}

// standing says whether an app has a source.
type standing int

const (
	none  standing = iota // as far as is known, the app never had a source
	there                 // the source exists, or did not long ago
	gone
)

// standing judges by the source's record whether the app has a source. A record that cannot be read belongs to a source
// that exists.
func (s *Store) standing(ctx context.Context, record *mvccpb.KeyValue) (standing, error) {
	if record == nil {
		return none, nil
	}
	var v Vouch
	switch err := json.Unmarshal(record.Value, &v); {
	case err != nil:
		return there, nil //nolint:nilerr // the coordinator writes it anew
	case v.Gone:
		return gone, nil
	case !v.lapsed(s.now()):
		return there, nil
	}
	read, err := s.commit(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{txn.Look([]byte(s.Layout.Coordinator()))}})
	if err != nil {
		return there, err
	}
	if office := txn.First(read.Responses[0]); office != nil && office.CreateRevision == v.By {
		return there, nil
	}
	return gone, nil
}

func (s *Store) now() time.Time {
	if s.Wall == nil {
		return time.Now()
	}
	return s.Wall()
}
