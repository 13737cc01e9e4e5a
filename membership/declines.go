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
	"github.com/distributed-resource-manager/drm/shard"
)

// A member that is full declines to own further shards. Its decline is a key on the lease of the member's own key. The
// view passes a shard that its owner declines on to the member that would own it without those that decline it. Where
// all decline it, the shard stays with its owner, which takes as much of it as fits.

// decline is what the key of a decline says.
type decline struct {
	shards []int // ascending
	lease  int64
}

// declineValue is the value of the key: the shards in ascending order, as numbers and ranges such as "0-5,9".
type declineValue struct {
	Shards string `json:"shards"`
}

// encodeDecline returns the value of the key for the shards that are true.
func encodeDecline(declined []bool) string {
	var parts []string
	for n := 0; n < len(declined); n++ {
		if !declined[n] {
			continue
		}
		last := n
		for last+1 < len(declined) && declined[last+1] {
			last++
		}
		if part := strconv.Itoa(n); last > n {
			parts = append(parts, part+"-"+strconv.Itoa(last))
		} else {
			parts = append(parts, part)
		}
		n = last
	}
	b, err := json.Marshal(declineValue{strings.Join(parts, ",")})
	if err != nil { // a string can always be marshalled
		panic(err)
	}
	return string(b)
}

// decodeDecline reads the key of a decline. It accepts only what encodeDecline writes for some shards.
func decodeDecline(kv *mvccpb.KeyValue) (decline, bool) {
	var v declineValue
	if json.Unmarshal(kv.Value, &v) != nil {
		return decline{}, false
	}
	d := decline{lease: kv.Lease}
	next := 0
	for part := range strings.SplitSeq(v.Shards, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, ok := shardNumber(from)
		last := first
		if ok && isRange {
			last, ok = shardNumber(to)
			ok = ok && last > first
		}
		if !ok || first < next {
			return decline{}, false
		}
		for n := first; n <= last; n++ {
			d.shards = append(d.shards, n)
		}
		next = last + 2 // the next range would have this one joined otherwise
	}
	return d, true
}

// shardNumber reads a number as encodeDecline writes it.
func shardNumber(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n < keys.MaxShards && strconv.Itoa(n) == text
}

// takeDeclines takes the declines of members that are there. A decline on another lease is not that member's.
func (v *View) takeDeclines(all map[string]decline) {
	v.declines = map[string][]bool{}
	for id, d := range all {
		if m, live := v.Members[id]; !live || m.Lease != d.lease || d.lease == 0 {
			continue
		}
		declined := make([]bool, v.Shards)
		for _, n := range d.shards {
			if n < v.Shards {
				declined[n] = true
			}
		}
		v.declines[id] = declined
	}
}

// passOn gives each shard that its owner declines to the member that would own it without those that decline it, unless
// all do.
func (v *View) passOn(owners []string, ring *shard.Ring, pins, placement map[int]string) {
	if len(v.declines) == 0 {
		return
	}
	for n, owner := range owners {
		if owner == "" || !v.Declines(owner, n) {
			continue
		}
		takes := func(id string) bool { return v.Eligible(id) && !v.Declines(id, n) }
		next := ring.OwnerWithout(n, func(id string) bool { return v.Declines(id, n) })
		for _, other := range []string{placement[n], pins[n]} {
			if takes(other) {
				next = other
			}
		}
		if next != "" {
			owners[n] = next
		}
	}
}

// Declines says whether a member declines to own a shard, since it is full.
func (v *View) Declines(id string, shard int) bool {
	declined := v.declines[id]
	return shard >= 0 && shard < len(declined) && declined[shard]
}

// Declined says for each shard whether that member declines to own it. It is nil if the member declines none. The slice
// is the caller's.
func (v *View) Declined(id string) []bool { return slices.Clone(v.declines[id]) }

// Full says for each shard what IsFull does. It is nil if nobody declines anything.
func (v *View) Full() []bool {
	if len(v.declines) == 0 {
		return nil
	}
	full := make([]bool, len(v.owners))
	for n := range full {
		full[n] = v.IsFull(n)
	}
	return full
}

// IsFull says whether every member that may own a shard declines it. Its owner takes as much of it as fits.
func (v *View) IsFull(shard int) bool { return v.Declines(v.Owner(shard), shard) }

// DeclinesAny says whether a member declines any shard, since it is full.
func (v *View) DeclinesAny(id string) bool { return v.declines[id] != nil }

// Decline says which shards this member declines to own: those that are true. It returns the revision at which that is
// so. ErrGone says that the registration is no longer in force. After an error of etcd it may have been said all the
// same.
func (g *Registrar) Decline(ctx context.Context, reg Registration, shards []bool) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.layout().Decline(g.ID)
	op := clientv3.OpDelete(key)
	if slices.Contains(shards, true) {
		op = clientv3.OpPut(key, encodeDecline(shards), clientv3.WithLease(reg.Lease))
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
