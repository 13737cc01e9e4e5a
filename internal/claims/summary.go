package claims

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Summary is the value of a summary's key, which stands for the states of many claims: those of one shard on one lease.
// A claim whose key says claimed and was modified last at Through or before is active.
type Summary struct {
	Member  string
	Through int64         // a revision of etcd's
	Within  time.Duration // what it took of them at most to become active, from when they were claimed; whole milliseconds
}

// value is a Summary as JSON.
type value struct {
	Member  string `json:"member"`
	Through int64  `json:"through"`
	Within  int64  `json:"within_ms"`
}

// Encode gives the value of the key.
func (s Summary) Encode() []byte {
	b, err := json.Marshal(value{s.Member, s.Through, int64(s.Within / time.Millisecond)})
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	return b
}

// DecodeSummary reads a summary's value. The error says what of it is not understood.
func DecodeSummary(text []byte) (Summary, error) {
	var v value
	if err := json.Unmarshal(text, &v); err != nil {
		return Summary{}, err
	}
	if v.Through <= 0 {
		return Summary{}, fmt.Errorf("through %d, want a revision", v.Through)
	}
	if v.Within < 0 || v.Within > maxWithin {
		return Summary{}, fmt.Errorf("within_ms %d, want 0 to %d", v.Within, maxWithin)
	}
	if err := keys.CheckID(v.Member); err != nil {
		return Summary{}, fmt.Errorf("member %q, want %w", v.Member, err)
	}
	return Summary{v.Member, v.Through, time.Duration(v.Within) * time.Millisecond}, nil
}

// DecodeSummaryOf reads a key's summary. One that is not on the lease that it is about would outlive its claims, so it
// is an error.
func DecodeSummaryOf(key keys.Key, kv *mvccpb.KeyValue) (Summary, error) {
	if kv.Lease != key.Lease {
		return Summary{}, fmt.Errorf("it is on lease %x, and about %x", kv.Lease, key.Lease)
	}
	return DecodeSummary(kv.Value)
}

// maxWithin is more than a century, and fits into a duration.
const maxWithin = 1 << 42

// Of gives what a claim on the summary's lease says with it: of itself, or that it is active, since when at the latest.
// Modified is the revision at which the claim's key was written last.
func (s Summary) Of(r Record, modified int64) Record {
	if r.State == Claimed && r.Member == s.Member && modified <= s.Through {
		r.State, r.Since = Active, r.Since.Add(s.Within)
	}
	return r
}
