package reshard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	// firstPage and mostPage are how many keys a request reads: few at first, and more while they are small.
	firstPage = 64
	mostPage  = 2000
	// pageBytes is how large the answer to a request may be before the next one reads fewer keys.
	pageBytes = 2 << 20
)

// pages calls f with all keys below the shards, page by page, without their values if keysOnly is set. It does not read
// all of them at one revision, and so sees a key again that f moves ahead.
func (j *Job) pages(ctx context.Context, keysOnly bool, f func([]*mvccpb.KeyValue) error) error {
	from, end := j.Layout.Shards(), clientv3.GetPrefixRangeEnd(j.Layout.Shards())
	opts := []clientv3.OpOption{clientv3.WithRange(end)}
	if keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	for limit := firstPage; ; {
		asking, cancel := context.WithTimeout(ctx, j.Timeout)
		resp, err := j.Client.Get(asking, from, append(slices.Clone(opts), clientv3.WithLimit(int64(limit)))...)
		cancel()
		if err != nil {
			return fmt.Errorf("read the shards: %w", err)
		}
		if len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		bytes := 0
		for _, kv := range resp.Kvs {
			bytes += len(kv.Key) + len(kv.Value)
		}
		if err := f(resp.Kvs); err != nil {
			return err
		}
		if !resp.More {
			return nil
		}
		if bytes > pageBytes {
			limit = max(1, limit/2)
		} else if bytes < pageBytes/2 {
			limit = min(mostPage, 2*limit)
		}
	}
}

// idle returns an error unless nobody uses the app, which has that number of shards; 0: nobody knows.
func (j *Job) idle(ctx context.Context, shards int) error {
	for {
		err := j.idleOnce(ctx, shards)
		var left *ClaimsError
		if !j.Wait || !errors.As(err, &left) || left.Endless != "" {
			return err
		}
		if !pace.Wait(ctx, min(left.For, time.Minute)+100*time.Millisecond) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (j *Job) idleOnce(ctx context.Context, shards int) error {
	group, err := j.group(ctx)
	if err != nil {
		return err
	}
	var live []string
	left := &ClaimsError{}
	leases := map[int64]string{} // lease → a key on it
	for _, kv := range group {
		switch key := j.Layout.Parse(string(kv.Key)); key.Kind {
		case keys.Member:
			live = append(live, key.ID)
		case keys.Reservation:
			left.Reservations = append(left.Reservations, key.ID)
			leases[kv.Lease] = string(kv.Key)
		}
	}
	if len(live) > 0 {
		return &InUseError{live}
	}
	strays := &StrayError{}
	err = j.pages(ctx, true, func(page []*mvccpb.KeyValue) error {
		var claimed []*mvccpb.KeyValue
		for _, kv := range page {
			key := j.Layout.Parse(string(kv.Key))
			switch {
			case key.Kind == keys.Claim:
				claimed = append(claimed, kv)
			case shards > 0 && isStray(key, shards):
				strays.add(kv)
			}
		}
		left.Claims += len(claimed)
		return j.leasesOf(ctx, claimed, leases)
	})
	switch {
	case err != nil:
		return err
	case len(leases) > 0:
		return j.lasts(ctx, left, leases)
	case strays.Keys > 0:
		return strays
	}
	return nil
}

// leasesOf adds the leases of claims, of which only the keys were read: etcd may leave out the lease of such a key.
func (j *Job) leasesOf(ctx context.Context, claimed []*mvccpb.KeyValue, leases map[int64]string) error {
	if len(claimed) == 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	// The page may have keys of other kinds in between, but not many more keys than claims.
	from, last := string(claimed[0].Key), string(claimed[len(claimed)-1].Key)
	resp, err := j.Client.Get(asking, from, clientv3.WithRange(last+"\x00"), clientv3.WithLimit(mostPage))
	if err != nil {
		return fmt.Errorf("read the claims: %w", err)
	}
	for _, kv := range resp.Kvs {
		if j.Layout.Parse(string(kv.Key)).Kind == keys.Claim {
			leases[kv.Lease] = string(kv.Key)
		}
	}
	return nil
}

// lasts completes the error that something is left on these leases.
func (j *Job) lasts(ctx context.Context, left *ClaimsError, leases map[int64]string) error {
	left.Endless = leases[0]
	for id := range leases {
		if id == 0 {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, j.Timeout)
		resp, err := j.Client.TimeToLive(asking, clientv3.LeaseID(id))
		cancel()
		if err != nil {
			return fmt.Errorf("read the leases: %w", err)
		}
		left.For = max(left.For, time.Duration(resp.TTL+1)*time.Second)
	}
	return left
}

// isStray says whether a key lies in another shard than that of its id, in an app with that number of shards.
func isStray(key keys.Key, shards int) bool {
	switch key.Kind {
	case keys.Resource, keys.Quarantine, keys.Claim:
		return key.Home(shards) != key.Number
	default:
		return false
	}
}

func (j *Job) group(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	resp, err := j.Client.Get(asking, j.Layout.Group(), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the group: %w", err)
	}
	return resp.Kvs, nil
}

// census says what there is below the shards, wherever it lies.
type census struct {
	Resources   int    `json:"resources"`
	Quarantined int    `json:"quarantined"`
	Trailed     int    `json:"trailed"`
	Digest      uint64 `json:"digest,string"` // the sum of the hashes of all ids with their values
}

func (c census) String() string {
	return fmt.Sprintf("%d resources, %d in quarantine and %d named by trails (digest %016x)",
		c.Resources, c.Quarantined, c.Trailed, c.Digest)
}

// add counts a key. It returns false if the key is none that is moved.
func (c *census) add(key keys.Key, kv *mvccpb.KeyValue) bool {
	switch key.Kind {
	case keys.Resource:
		c.Resources++
		c.Digest += hash("r", key.ID, string(kv.Value))
	case keys.Quarantine:
		c.Quarantined++
		c.Digest += hash("q", key.ID, string(kv.Value))
	case keys.Trail:
		t, err := claims.DecodeTrail(kv.Value)
		if err != nil {
			return false
		}
		for i, id := range t.IDs {
			c.Trailed++
			returned := ""
			if i < t.Returned {
				returned = "returned"
			}
			c.Digest += hash("t", id, fmt.Sprintf("%x %s %s %s", key.Lease, t.Member, t.Life, returned))
		}
	default:
		return false
	}
	return true
}

// hash returns a hash of texts, which depends on where each of them ends.
func hash(texts ...string) uint64 {
	d := xxhash.New()
	for _, text := range texts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		_, _ = d.Write(length[:])
		_, _ = d.WriteString(text)
	}
	return d.Sum64()
}

func (r *Report) count(c census) {
	r.Resources, r.Quarantined, r.Trailed = c.Resources, c.Quarantined, c.Trailed
}

// count counts what there is before anything is moved, and then begins to move it. why says that the change has to be
// given up: somebody has written to the app in the moment before nobody could any more.
func (j *Job) count(ctx context.Context) (why, err error) {
	p := j.state.progress
	left, leases, strays := &ClaimsError{}, map[int64]string{}, &StrayError{}
	err = j.pages(ctx, false, func(page []*mvccpb.KeyValue) error {
		for _, kv := range page {
			key := j.Layout.Parse(string(kv.Key))
			switch {
			case key.Kind == keys.Claim:
				left.Claims++
				leases[kv.Lease] = string(kv.Key)
			case isStray(key, p.From):
				strays.add(kv)
			default:
				p.Census.add(key, kv)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case left.Claims > 0:
		if err := j.lasts(ctx, left, leases); !errors.As(err, &left) {
			return nil, err
		}
		return left, nil
	case strays.Keys > 0:
		return strays, nil
	}
	group, err := j.group(ctx)
	if err != nil {
		return nil, err
	}
	p.Dropped = dropped(membership.NewView(j.Layout.Root(), p.From, group, 0), j.hasTable(group))
	p.Stage = moving
	return nil, j.save(ctx, p)
}

// verify compares what there is with what there was before, and checks that every key is where it belongs. It returns
// what there is.
func (j *Job) verify(ctx context.Context) (after census, err error) {
	strays := &StrayError{}
	ignored := 0
	err = j.pages(ctx, false, func(page []*mvccpb.KeyValue) error {
		for _, kv := range page {
			key := j.Layout.Parse(string(kv.Key))
			if !after.add(key, kv) {
				ignored++
			}
			if isStray(key, j.To) {
				strays.add(kv)
			}
		}
		return nil
	})
	before := j.state.progress.Census
	switch {
	case err != nil:
		return after, err
	case strays.Keys > 0:
		return after, strays
	case after != before && !j.Unverified:
		return after, &DiffersError{before.String(), after.String()}
	}
	j.report.Ignored = ignored
	return after, nil
}
