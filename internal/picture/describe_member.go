package picture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// MemberDetail is all that is known of one member.
type MemberDetail struct {
	Member          // State is StateAbsent if it is not there
	Versions        // of its key; zero if it is not there
	Revision  int64 // at which all of this was so
	Live      bool  // its key is there
	Lease     Lease // that of its key
	Labels    map[string]string
	Schema    int  // the newest version of the group's keys that it knows; 0: it is not there
	HasSource bool // it has a source of resources
	Leads     bool // it is the coordinator
	Leaves    bool // it is about to stop

	Owned     []ShardRange // the shards that it owns
	Kept      int          // of these: how many it keeps although it is drained, until they are placed elsewhere
	Declined  []ShardRange // the shards that it declines, since it is full
	PinnedTo  []int        // the shards that are pinned to it
	PlacedAt  int          // how many shards an exception places at it
	MovedTo   []string     // the resources that were moved to it, as far as that is in force
	MovedFrom []string     // the resources that were moved away from it

	Figures     *claims.Figures // nil: it has written none
	Load        *Load           // nil: it has written none
	Orders      []Standing      // those about it
	Reservation *Reserved       // nil: it is not expected back
	Lives       *claims.Lives   // nil: it has not died again and again
	Exits       []claims.Exit   // how its processes have ended, as far as a supervisor has told
	Alone       string          // the resource that it handles alone, since that is suspected; empty: none
	Trails      []Trail         // what may be to blame if it dies now, or is accused of its deaths
	Accused     []Accused       // the resources that are quarantined because of its deaths among others
	Past        []Past          // what its key has said, the latest first
}

// Load is what a member says that its shards weigh, in thousandths of a resource of the weight 1.
type Load struct {
	Total   int64
	Pending int64 // of this, the weight of what it has not handled yet
	Seen    int64 // the revision of the newest view that it has acted upon; 0: not known
}

// Reserved is the reservation of a member that has stopped and is expected back.
type Reserved struct {
	Versions

	Since, Until time.Time // by the member's clock
	Keeps        []ShardRange
	Lease        Lease
	InForce      bool
}

// Accused is a resource that is quarantined because of deaths.
type Accused struct {
	Resource string
	At       time.Time // when the member was alive last, by its clock
	Exit     string    // how its process ended; empty if that is not known
}

// DescribeMember tells all that is known of a member. The error matches ErrNotFound if nothing is.
func (r *Reader) DescribeMember(ctx context.Context, id string) (MemberDetail, error) {
	d, err := retry(func() (MemberDetail, error) { return r.describeMember(ctx, id) })
	if err != nil {
		return d, fmt.Errorf("member %q: %w", id, err)
	}
	return d, nil
}

func (r *Reader) describeMember(ctx context.Context, id string) (MemberDetail, error) {
	found, at, err := r.readAt(ctx, 0,
		clientv3.OpGet(r.Layout.Group(), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Stats(id)),
		clientv3.OpGet(r.Layout.Load(id)),
		clientv3.OpGet(r.Layout.Lives(id)),
		clientv3.OpGet(r.Layout.Deaths(id)),
		clientv3.OpGet(r.Layout.Alone()),
	)
	if err != nil {
		return MemberDetail{}, err
	}
	d := MemberDetail{Revision: at}
	known := false
	for _, kvs := range found[1:5] {
		known = known || len(kvs) > 0
	}
	v := membership.NewView(r.Layout.Root(), r.Shards, found[0], at)
	if !known && !v.Known(id) {
		return d, ErrNotFound
	}
	for _, kvs := range found[1:] {
		for _, kv := range kvs {
			d.takeOwn(id, r.Layout.Parse(string(kv.Key)), kv, r.Shards)
		}
	}
	d.takeView(v, id)
	versions := versionsByKey(found[0])
	d.Versions = versions[r.Layout.Member(id)]
	if err := r.describeLeases(ctx, &d, v, found[0]); err != nil {
		return d, err
	}
	if d.Past, err = r.history(ctx, r.Layout.Member(id), at, memberText); err != nil {
		return d, err
	}
	err = r.accusations(ctx, &d)
	return d, err
}

// takeOwn takes a key that is about this member alone.
func (d *MemberDetail) takeOwn(id string, key keys.Key, kv *mvccpb.KeyValue, shards int) {
	switch key.Kind {
	case keys.Stats:
		if f, err := claims.DecodeFigures(kv.Value); err == nil {
			d.Figures = &f
		}
	case keys.Load:
		if l, err := claims.DecodeLoads(kv.Value, shards); err == nil {
			d.Load = &Load{Pending: l.Pending, Seen: l.Seen}
			for _, weight := range l.Shards {
				d.Load.Total += weight
			}
		}
	case keys.Lives:
		if l, err := claims.DecodeLives(kv.Value); err == nil {
			d.Lives = &l
		}
	case keys.Deaths:
		if all, err := claims.DecodeDeaths(kv.Value); err == nil {
			d.Exits = all.Deaths
		}
	case keys.Alone:
		if a, err := claims.DecodeAlone(kv.Value); err == nil && a.Member == id {
			d.Alone = a.ID
		}
	default:
	}
}

// takeView takes what the members' keys say of this one.
func (d *MemberDetail) takeView(v *membership.View, id string) {
	roll := &Roll{View: v, figures: map[string]claims.Figures{}}
	if d.Figures != nil {
		roll.figures[id] = *d.Figures
	}
	d.Member = Member{
		ID: id, State: StateAbsent, Drain: DrainOf(v, id), Cordon: CordonOf(v, id), Ordered: roll.orderedWeight(id),
		Blocks: roll.blocksOf(id),
	}
	for n, holder := range v.Slots {
		if holder == id {
			d.Slots = append(d.Slots, n)
		}
	}
	for _, m := range roll.Members() {
		if m.ID == id {
			d.Member = m
		}
	}
	m, live := v.Members[id]
	d.Live, d.Labels, d.Schema, d.HasSource, d.Leaves = live, m.Labels, v.SchemaOf(id), m.Source, m.Leaves
	d.Leads = v.Coordinator.ID == id
	d.Owned, d.Kept = rangesOf(v.Owned(id)), v.Kept(id)
	d.Declined = rangesOf(v.DeclineOf(id).Shards)
	d.Orders = []Standing{}
	for _, o := range standing(v) {
		if o.Member == id {
			d.Orders = append(d.Orders, o)
		}
	}
	for n, p := range v.Pins {
		if p.Member == id {
			d.PinnedTo = append(d.PinnedTo, n)
		}
	}
	slices.Sort(d.PinnedTo)
	for _, e := range v.Exceptions {
		if e.Member == id {
			d.PlacedAt++
		}
	}
	for resource, m := range v.Moves {
		if _, _, inForce := v.MoveOf(resource); m.Member == id && inForce {
			d.MovedTo = append(d.MovedTo, resource)
		} else if m.From == id && inForce {
			d.MovedFrom = append(d.MovedFrom, resource)
		}
	}
	slices.Sort(d.MovedTo)
	slices.Sort(d.MovedFrom)
}

// describeLeases asks how long the lease of the member's key lives, and that of its reservation.
func (r *Reader) describeLeases(
	ctx context.Context, d *MemberDetail, v *membership.View, group []*mvccpb.KeyValue,
) (err error) {
	if d.Lease, err = r.leaseOf(ctx, v.Members[d.ID].Lease); err != nil {
		return err
	}
	reservation, awaited := v.Awaited(d.ID)
	for _, kv := range group {
		if string(kv.Key) != r.Layout.Reservation(d.ID) {
			continue
		}
		d.Reservation = &Reserved{
			Versions: versionsOf(kv), Since: reservation.Since, Until: reservation.Until,
			Keeps: rangesOf(reservation.Keeps), InForce: awaited,
		}
		if d.Reservation.Lease, err = r.leaseOf(ctx, kv.Lease); err != nil {
			return err
		}
	}
	return nil
}

// accusations looks for the member's trails, and for the resources that are quarantined because of its deaths, in all
// shards: nothing says where they are.
func (r *Reader) accusations(ctx context.Context, d *MemberDetail) error {
	d.Trails, d.Accused = []Trail{}, []Accused{}
	for from := 0; from < r.Shards; from += shardsAtOnce / 2 {
		var prefixes []string
		for n := from; n < min(from+shardsAtOnce/2, r.Shards); n++ {
			prefixes = append(prefixes, r.Layout.Trails(n), r.Layout.Quarantines(n))
		}
		found, err := r.below(ctx, prefixes)
		if err != nil {
			return err
		}
		for _, kvs := range found {
			for _, kv := range kvs {
				d.accuse(r.Layout.Parse(string(kv.Key)), kv, r.Shards)
			}
		}
	}
	slices.SortFunc(d.Accused, func(a, b Accused) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), a.At.Compare(b.At))
	})
	return nil
}

func (d *MemberDetail) accuse(key keys.Key, kv *mvccpb.KeyValue, shards int) {
	switch {
	case key.Kind == keys.Trail:
		if t, ok := trailOf(key, kv); ok && t.Member == d.ID {
			d.Trails = append(d.Trails, t)
		}
	case key.Kind == keys.Quarantine && key.Home(shards) == key.Number:
		q, err := claims.DecodeQuarantine(kv.Value)
		if err != nil {
			return
		}
		for _, death := range q.Deaths {
			if death.Member == d.ID {
				d.Accused = append(d.Accused, Accused{key.ID, death.At, death.Exit})
			}
		}
	}
}

func trailOf(key keys.Key, kv *mvccpb.KeyValue) (Trail, bool) {
	t, err := claims.DecodeTrail(kv.Value)
	return Trail{
		Versions: versionsOf(kv), Shard: key.Number, Lease: key.Lease, Member: t.Member, At: t.At, IDs: t.IDs,
		Returned: t.Returned, Alone: t.Alone,
	}, err == nil
}
