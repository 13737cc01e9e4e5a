package membership

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// A member that is full declines to own further shards. Its decline is a key on the lease of the member's own key. The
// view passes a shard that its owner declines on to the member that would own it without those that decline it. Where
// all decline it, the shard stays with its owner, which takes as much of it as fits.

// Decline is what a full member says of the shards that it declines to own.
type Decline struct {
	Shards []bool // by shard: whether the member declines it; nil: it declines none
	// Lacks is, by shard that the member owns all the same, how many resources are wanted in it, if the member has no
	// room for all of these; otherwise 0. It tells others what they would have to have room for. nil: there are none.
	Lacks []int
}

// Equal says whether two declines say the same.
func (d Decline) Equal(other Decline) bool {
	return slices.Equal(d.Shards, other.Shards) && slices.Equal(d.Lacks, other.Lacks)
}

// decline is what the key of a decline says.
type decline struct {
	shards []int // ascending
	lacks  map[int]int
	lease  int64
}

// declineValue is the value of the key: the shards in ascending order, as numbers and ranges such as "0-5,9", and how
// many resources are wanted in those that lack room.
type declineValue struct {
	Shards string         `json:"shards"`
	Lacks  map[string]int `json:"lacks,omitempty"`
}

// encode returns the value of the key.
func (d Decline) encode() string {
	v := declineValue{Shards: rangesOf(d.Shards), Lacks: map[string]int{}}
	for n, wanted := range d.Lacks {
		if wanted > 0 {
			v.Lacks[strconv.Itoa(n)] = wanted
		}
	}
	b, err := json.Marshal(v)
	if err != nil { // texts and numbers can always be marshalled
		panic(err)
	}
	return string(b)
}

// rangesOf returns the numbers of the elements that are true, such as "0-5,9".
func rangesOf(set []bool) string {
	var parts []string
	for n := 0; n < len(set); n++ {
		if !set[n] {
			continue
		}
		last := n
		for last+1 < len(set) && set[last+1] {
			last++
		}
		if part := strconv.Itoa(n); last > n {
			parts = append(parts, part+"-"+strconv.Itoa(last))
		} else {
			parts = append(parts, part)
		}
		n = last
	}
	return strings.Join(parts, ",")
}

// decodeDecline reads the key of a decline. It accepts only what encode returns for a decline of some shards.
func decodeDecline(kv *mvccpb.KeyValue) (decline, bool) {
	var v declineValue
	if json.Unmarshal(kv.Value, &v) != nil {
		return decline{}, false
	}
	shards, ok := shardsOf(v.Shards)
	d := decline{shards: shards, lacks: make(map[int]int, len(v.Lacks)), lease: kv.Lease}
	for name, wanted := range v.Lacks {
		n, isShard := shardNumber(name)
		ok = ok && isShard && wanted > 0
		d.lacks[n] = wanted
	}
	if !ok {
		return decline{}, false
	}
	return d, true
}

// shardsOf is the inverse of rangesOf.
func shardsOf(ranges string) (shards []int, ok bool) {
	next := 0
	for part := range strings.SplitSeq(ranges, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, ok := shardNumber(from)
		last := first
		if ok && isRange {
			last, ok = shardNumber(to)
			ok = ok && last > first
		}
		if !ok || first < next {
			return nil, false
		}
		for n := first; n <= last; n++ {
			shards = append(shards, n)
		}
		next = last + 2 // the next range would have this one joined otherwise
	}
	return shards, true
}

// shardNumber reads the number of a shard. It accepts only one spelling of each number: if a shard occurred in two
// spellings, chance would decide which one counts, and members would disagree.
func shardNumber(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n < keys.MaxShards && strconv.Itoa(n) == text
}

// takeDeclines takes the declines of members that are there. A decline on another lease is not that member's.
func (v *View) takeDeclines(all map[string]decline) {
	v.declines = map[string]Decline{}
	for id, d := range all {
		if m, live := v.Members[id]; !live || m.Lease != d.lease || d.lease == 0 {
			continue
		}
		declined := Decline{Shards: make([]bool, v.Shards)}
		for _, n := range d.shards {
			if n < v.Shards {
				declined.Shards[n] = true
			}
		}
		for n, wanted := range d.lacks {
			if n < v.Shards {
				if declined.Lacks == nil {
					declined.Lacks = make([]int, v.Shards)
				}
				declined.Lacks[n] = wanted
			}
		}
		v.declines[id] = declined
	}
}

// Declines says whether a member declines to own a shard, since it is full.
func (v *View) Declines(id string, shard int) bool {
	declined := v.declines[id].Shards
	return shard >= 0 && shard < len(declined) && declined[shard]
}

// DeclineOf returns what that member declines. Its slices are the caller's.
func (v *View) DeclineOf(id string) Decline {
	d := v.declines[id]
	return Decline{Shards: slices.Clone(d.Shards), Lacks: slices.Clone(d.Lacks)}
}

// IsFull says whether every member that may own a shard declines it. Its owner takes as much of it as fits.
func (v *View) IsFull(shard int) bool { return v.Declines(v.Owner(shard), shard) }

// Lacks returns, by shard that all decline and for which its owner has too little room, how many resources are wanted
// in it; 0 for all other shards. It is nil if there are no such shards.
func (v *View) Lacks() []int {
	var all []int
	for n, owner := range v.owners {
		if lacks := v.declines[owner].Lacks; v.IsFull(n) && lacks != nil && lacks[n] > 0 {
			if all == nil {
				all = make([]int, len(v.owners))
			}
			all[n] = lacks[n]
		}
	}
	return all
}

// DeclinesAny says whether a member declines any shard, since it is full.
func (v *View) DeclinesAny(id string) bool { return v.declines[id].Shards != nil }

// Decline says which shards this member declines to own. It returns the revision at which that is so. ErrGone says that
// the registration is no longer in force. After an error of etcd it may have been said all the same.
func (g *Registrar) Decline(ctx context.Context, reg Registration, d Decline) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.layout().Decline(g.ID)
	op := clientv3.OpDelete(key)
	if slices.Contains(d.Shards, true) {
		op = clientv3.OpPut(key, d.encode(), clientv3.WithLease(reg.Lease))
	}
	resp, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(g.layout().Member(g.ID)), "=", reg.CreateRevision)).
		Then(op).
		Commit()
	if err != nil {
		return 0, fmt.Errorf("decline shards as member %q: %w", g.ID, err)
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("decline shards as member %q: %w", g.ID, ErrGone)
	}
	return resp.Header.Revision, nil
}
