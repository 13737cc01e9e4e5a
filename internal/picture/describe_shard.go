package picture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// ShardDetail is all that is known of one shard.
type ShardDetail struct {
	Revision int64 // at which all of this was so
	Trace    membership.Trace
	Rulings  []Ruling
	Members  []Stand // by id

	Wanted     int // resources that should be handled
	Suspended  int
	Bytes      int64          // of all entries' data
	States     map[string]int // of what should be handled, by state
	Misplaced  int            // of what should be handled: another member than it belongs to has the claim
	Orphans    int            // claims of what should not be handled
	BadKeys    int            // keys that are not understood, or do not belong here
	Claims     []Bundle       // by member and lease
	Trails     []Trail
	Quarantine []string    // the resources of which there is a record of quarantine, by id
	Moved      []Moved     // the resources that were moved away from the owner, by id
	Changes    []KeyChange // the keys that were written last, the latest first
}

// Bundle is a member's claims of a shard on one lease.
type Bundle struct {
	Member string
	Lease  int64
	States map[string]int
	// Through is up to which revision its claims that say claimed are active, by their summary; 0: there is none.
	Through int64
	Within  time.Duration // how long these took at most from claimed to active
}

// Moved is a resource that belongs to another member than its shard.
type Moved struct {
	Resource, Member, From string
	InForce                bool
}

// KeyChange is a key that was written.
type KeyChange struct {
	Versions

	Kind string // resource, claim, summary, trail or quarantine
	ID   string // of the resource; empty of a summary or trail

	// By is who has written it by a command, and Why the reason that they gave; empty where that is not known.
	By, Why string
}

// mostChanges is how many of the keys that were written last are listed.
const mostChanges = 10

// DescribeShard tells all that is known of a shard. It reads the members and this shard.
func (r *Reader) DescribeShard(ctx context.Context, n int) (ShardDetail, error) {
	d, err := retry(func() (ShardDetail, error) { return r.describeShard(ctx, n) })
	if err != nil {
		return d, fmt.Errorf("read shard %d: %w", n, err)
	}
	return d, nil
}

func (r *Reader) describeShard(ctx context.Context, n int) (ShardDetail, error) {
	group, err := r.groupKeys(ctx)
	if err != nil {
		return ShardDetail{}, err
	}
	v := membership.NewView(r.Layout.Root(), r.Shards, group.Kvs, group.Header.Revision)
	d := ShardDetail{
		Revision: v.Revision, Trace: v.Trace(n), Members: standsOf(v, n), States: map[string]int{},
		Claims: []Bundle{}, Trails: []Trail{}, Quarantine: []string{}, Moved: []Moved{}, Changes: []KeyChange{},
	}
	d.Rulings = rulings(v, d.Trace, "", versionsByKey(group.Kvs), r.Layout)
	for resource, m := range v.Moves {
		if shard.Of(resource, r.Shards) == n {
			_, _, inForce := v.MoveOf(resource)
			d.Moved = append(d.Moved, Moved{resource, m.Member, m.From, inForce})
		}
	}
	slices.SortFunc(d.Moved, func(a, b Moved) int { return cmp.Compare(a.Resource, b.Resource) })
	c := newCensus(&d, newPicture(r.Layout, v))
	prefix := r.Layout.Shard(n)
	if err := r.between(ctx, prefix, clientv3.GetPrefixRangeEnd(prefix), v.Revision, c.take); err != nil {
		return d, err
	}
	c.count()
	by := map[int64]deed.Origin{}
	for i := range d.Changes {
		k := &d.Changes[i]
		if _, known := by[k.Modified]; !known {
			if by[k.Modified], err = r.deedAt(ctx, k.Modified); err != nil {
				return d, err
			}
		}
		k.By, k.Why = by[k.Modified].By, by[k.Modified].Why
	}
	return d, nil
}

// census counts the keys of a shard.
type census struct {
	d       *ShardDetail
	p       *Picture
	bundles map[bundleName]*Bundle
}

func newCensus(d *ShardDetail, p *Picture) *census {
	return &census{d: d, p: p, bundles: map[bundleName]*Bundle{}}
}

// kindNames are the names of the kinds of keys below a shard.
var kindNames = map[keys.Kind]string{
	keys.Resource: "resource", keys.Claim: "claim", keys.Summary: "summary", keys.Trail: "trail",
	keys.Quarantine: "quarantine", keys.Retry: "retry",
}

// take adds a key, without keeping an entry's data.
func (c *census) take(kv *mvccpb.KeyValue) {
	c.p.take(kv)
	key := c.p.layout.Parse(string(kv.Key))
	switch key.Kind {
	case keys.Resource:
		if e, ok := c.p.entries[key.ID]; ok {
			c.d.Bytes += int64(len(e.Data))
			c.p.entries[key.ID] = catalogue.Entry{Suspended: e.Suspended}
		}
	case keys.Trail:
		if t, ok := trailOf(key, kv); ok {
			c.d.Trails = append(c.d.Trails, t)
		}
	default:
	}
	if name := kindNames[key.Kind]; name != "" {
		c.noteChange(KeyChange{Versions: versionsOf(kv), Kind: name, ID: key.ID})
	}
}

func (c *census) noteChange(k KeyChange) {
	at, _ := slices.BinarySearchFunc(c.d.Changes, k, func(a, b KeyChange) int {
		return cmp.Or(cmp.Compare(b.Modified, a.Modified), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	if at < mostChanges {
		c.d.Changes = slices.Insert(c.d.Changes, at, k)
		c.d.Changes = c.d.Changes[:min(len(c.d.Changes), mostChanges)]
	}
}

// count fills in what follows from all keys.
func (c *census) count() {
	d, p := c.d, c.p
	for id, e := range p.entries {
		if !e.Wanted() {
			d.Suspended++
			continue
		}
		d.Wanted++
		a := p.assignment(id)
		d.States[a.State]++
		if a.Member != "" && a.Member != a.Expected {
			d.Misplaced++
		}
	}
	for id, held := range p.claims {
		if e, known := p.entries[id]; !known && !p.badEntries[id] || known && !e.Wanted() {
			d.Orphans++
		}
		b := c.bundle(held)
		b.States[held.State]++
	}
	for _, b := range c.bundles {
		if s, ok := p.sums[claimGroup{d.Trace.Shard, b.Lease}]; ok && s.Member == b.Member {
			b.Through, b.Within = s.Through, s.Within
		}
		d.Claims = append(d.Claims, *b)
	}
	slices.SortFunc(d.Claims, func(a, b Bundle) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.Lease, b.Lease))
	})
	for id := range p.quarantined {
		d.Quarantine = append(d.Quarantine, id)
	}
	slices.Sort(d.Quarantine)
	d.BadKeys = len(p.corrupt) + len(p.strays)
}

// bundleName tells bundles of a shard apart.
type bundleName struct {
	member string
	lease  int64
}

// bundle returns the bundle of a claim.
func (c *census) bundle(held claim) *Bundle {
	name := bundleName{held.Member, held.lease}
	b := c.bundles[name]
	if b == nil {
		b = &Bundle{Member: held.Member, Lease: held.lease, States: map[string]int{}}
		c.bundles[name] = b
	}
	return b
}
