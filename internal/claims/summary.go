package claims

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Summary is the value of a summary's key, which stands for the states of many claims: those of one shard on one lease.
// A claim is active if its key says claimed and was last modified at Through or before.
type Summary struct {
	Member  string
	Through int64         // a revision of etcd
	Within  time.Duration // how long the claims took at most from claimed to active; whole milliseconds
}

// value is a Summary as JSON.
type value struct {
	Member  string `json:"member"`
	Through int64  `json:"through"`
	Within  int64  `json:"within_ms"`
}

// Encode returns the value of the key.
func (s Summary) Encode() []byte {
	b, err := json.Marshal(value{s.Member, s.Through, int64(s.Within / time.Millisecond)})
	if err != nil { // strings and numbers can always be marshalled
		panic(err)
	}
	return b
}

// DecodeSummary reads a summary's value. The error says what is wrong with the value.
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

// DecodeSummaryOf reads the summary at a key. It is an error if the key is not on the lease that its name says, since
// the summary would outlive its claims.
func DecodeSummaryOf(key keys.Key, kv *mvccpb.KeyValue) (Summary, error) {
	if kv.Lease != key.Lease {
		return Summary{}, fmt.Errorf("it is on lease %x, but about lease %x", kv.Lease, key.Lease)
	}
	return DecodeSummary(kv.Value)
}

// maxWithin is more than a century in milliseconds, and fits into a duration.
const maxWithin int64 = 1 << 42

// Of returns a claim's record together with what the summary says: either the record as it is, or active, with the
// latest possible time for Since. The claim must be on the summary's lease. modified is the revision at which its key
// was last written.
func (s Summary) Of(r Record, modified int64) Record {
	if r.State == Claimed && r.Member == s.Member && modified <= s.Through {
		r.State, r.Since = Active, r.Since.Add(s.Within)
	}
	return r
}
