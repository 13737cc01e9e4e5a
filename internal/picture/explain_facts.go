package picture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// facts is what an explanation is made of.
type facts struct {
	Explanation

	view    *membership.View
	gone    bool // the app's config key is gone
	figures map[string]claims.Figures
	alone   claims.Alone // zero: nobody handles a suspect alone
	source  record.Source
	awaited Lease            // that of the reservation of the member that is expected
	leases  map[string]Lease // of the members' own keys
}

func newFacts(id string, n int) *facts {
	f := &facts{figures: map[string]claims.Figures{}, leases: map[string]Lease{}}
	f.Resource, f.Shard, f.State = id, n, StateUnassigned
	return f
}

// gather reads all that an explanation needs, at one revision.
func (r *Reader) gather(ctx context.Context, id string, created, revision int64) (*facts, error) {
	n := shard.Of(id, r.Shards)
	f := newFacts(id, n)
	f.Past = revision > 0
	found, at, err := r.readAt(ctx, revision,
		clientv3.OpGet(r.Layout.Config()),
		clientv3.OpGet(r.Layout.Resource(n, id)),
		clientv3.OpGet(r.Layout.Quarantine(n, id)),
		clientv3.OpGet(r.Layout.Summaries(n), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Claim(n, id)),
		clientv3.OpGet(r.Layout.Group(), clientv3.WithPrefix()),
	)
	if err != nil {
		return nil, fmt.Errorf("read resource %q and the members: %w", id, err)
	}
	f.Revision, f.gone = at, len(found[0]) == 0 || found[0][0].CreateRevision != created
	if f.Past && f.gone {
		return nil, fmt.Errorf("revision %d: %w", revision, ErrOtherApp)
	}
	f.view = membership.NewView(r.Layout.Root(), r.Shards, found[5], at)
	p := newPicture(r.Layout, f.view)
	for _, kvs := range found[1:5] {
		for _, kv := range kvs {
			p.take(kv)
		}
	}
	f.takeKeys(p, found[1], found[2], found[4])
	f.takePlace(found[5], r.Layout)
	if err := r.readMore(ctx, f); err != nil {
		return nil, fmt.Errorf("read more of resource %q: %w", id, err)
	}
	if !f.Past {
		if err := r.readLeases(ctx, f, found[5]); err != nil {
			return nil, fmt.Errorf("read the leases about resource %q: %w", id, err)
		}
	}
	return f, nil
}

// readAt makes several reads at a revision; 0 is the latest.
func (r *Reader) readAt(
	ctx context.Context, revision int64, gets ...clientv3.Op,
) (found [][]*mvccpb.KeyValue, at int64, err error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if revision > 0 {
		for i := range gets {
			clientv3.WithRev(revision)(&gets[i])
		}
	}
	found, at, err = r.getAll(asking, gets...)
	if revision > 0 {
		at = revision
	}
	return found, at, etcd.Unreachable(ctx, err)
}

// takeKeys takes the keys of the resource.
func (f *facts) takeKeys(p *Picture, entry, quarantine, claimed []*mvccpb.KeyValue) {
	for _, kv := range entry {
		e, understood := p.entries[f.Resource]
		f.Entry = &Entry{Versions: versionsOf(kv), Understood: understood}
		if understood {
			f.Entry.FromSource, f.Entry.Allocated, f.Entry.OwnData = e.FromSource, e.Allocated, e.OwnData
			f.Entry.Suspended, f.Entry.Suspension, f.Entry.Data = e.Suspended, e.Suspension, e.Data
		}
	}
	for _, kv := range quarantine {
		if q, err := claims.DecodeQuarantine(kv.Value); err == nil {
			f.Quarantine = &Quarantine{versionsOf(kv), q}
		}
	}
	for _, kv := range claimed {
		c, understood := p.claims[f.Resource]
		f.Claim = &Claim{
			Versions: versionsOf(kv), Token: kv.CreateRevision, Lease: Lease{ID: kv.Lease}, Understood: understood,
		}
		if understood {
			f.Claim.Member, f.Claim.State, f.Claim.Since, f.Claim.Error = c.Member, c.State, c.Since, c.Error
			f.State = c.State
		}
	}
}

// takePlace takes where the resource should be.
func (f *facts) takePlace(group []*mvccpb.KeyValue, layout keys.Layout) {
	v, n := f.view, f.Shard
	f.Trace = v.Trace(n)
	_, f.Expected = v.OwnerOf(f.Resource)
	f.Rulings = rulings(v, f.Trace, f.Resource, versionsByKey(group), layout)
	f.Members = standsOf(v, n)
}

func versionsByKey(kvs []*mvccpb.KeyValue) map[string]Versions {
	all := make(map[string]Versions, len(kvs))
	for _, kv := range kvs {
		all[string(kv.Key)] = versionsOf(kv)
	}
	return all
}

// rulings lists what is asked before the ring, and whether it is in force. resource may be empty.
func rulings(
	v *membership.View, t membership.Trace, resource string, versions map[string]Versions, layout keys.Layout,
) []Ruling {
	all := []Ruling{}
	if m, moved, inForce := v.MoveOf(resource); moved {
		rule := Ruling{
			Versions: versions[layout.Move(resource)], Kind: RulingMove, Member: m.Member, By: m.From, Reason: m.Why,
			Since: m.Since, InForce: inForce,
		}
		if !inForce {
			rule.Obstacle = v.Verdict(m.Member, t.Shard)
		}
		all = append(all, rule)
	}
	add := func(rule Ruling) {
		if rule.InForce = t.Owner != "" && (rule.Member == t.Owner || rule.Then == t.Owner); !rule.InForce {
			rule.Obstacle = v.Verdict(rule.Member, t.Shard)
			for _, s := range t.Steps {
				if s.Member == rule.Member && !s.Taken && string(s.Kind) == rule.Kind {
					rule.Obstacle = s.Verdict
				}
			}
			if t.Older && (rule.Obstacle == membership.VerdictTakes || rule.Obstacle == membership.VerdictOwner) {
				rule.Obstacle = membership.VerdictOlder
			}
		}
		all = append(all, rule)
	}
	if p, ok := v.Pins[t.Shard]; ok {
		add(Ruling{
			Versions: versions[layout.Pin(t.Shard)], Kind: RulingPin, Member: p.Member, By: p.By, Reason: p.Why,
			Since: p.Since,
		})
	}
	if e, ok := v.Exceptions[t.Shard]; ok {
		add(Ruling{
			Versions: versions[layout.Exception(t.Shard)], Kind: RulingException, Member: e.Member, Then: e.Then,
			Why: string(e.Why), By: e.By, Reason: e.Reason, Since: e.Since,
		})
	}
	for _, s := range t.Steps {
		if s.Kind == membership.StepTable {
			add(Ruling{Versions: versions[layout.Placement()], Kind: RulingTable, Member: s.Member})
		}
	}
	return all
}

// standsOf lists what all members are to a shard, by id.
func standsOf(v *membership.View, n int) []Stand {
	shards := map[string]int{}
	for _, owner := range v.Owners() {
		shards[owner]++
	}
	all := []Stand{}
	for _, id := range v.Candidates() {
		verdict := v.Verdict(id, n)
		_, live := v.Members[id]
		_, awaited := v.Awaited(id)
		s := Stand{
			Member: id, State: string(v.StateOf(id)), Verdict: verdict, Detail: detailOf(v, id),
			Schema: v.SchemaOf(id), Shards: shards[id],
		}
		if !live && awaited {
			s.State = StateAbsent
		}
		_, reserved := v.Reservations[id]
		if live || reserved || isAbout(v, id) {
			all = append(all, s)
		}
	}
	return all
}

// isAbout says whether an operator's order is about a member.
func isAbout(v *membership.View, id string) bool {
	_, drained := v.Drains[id]
	_, cordoned := v.Cordons[id]
	_, weighed := v.Weights[id]
	pinned := false
	for _, p := range v.Pins {
		pinned = pinned || p.Member == id
	}
	return drained || cordoned || weighed || pinned
}

// readMore reads what only matters for some resources: the trail of the claim, the figures of the two members that are
// concerned, the suspect that is handled alone, and the source's record if the catalogue does not have the resource.
func (r *Reader) readMore(ctx context.Context, f *facts) error {
	members := []string{}
	if f.Expected != "" {
		members = append(members, f.Expected)
	}
	gets := []clientv3.Op{clientv3.OpGet(r.Layout.Alone()), clientv3.OpGet(r.Layout.Source())}
	if c := f.Claim; c != nil {
		if c.Member != "" && c.Member != f.Expected {
			members = append(members, c.Member)
		}
		gets = append(gets, clientv3.OpGet(r.Layout.Trail(f.Shard, c.Lease.ID)))
	}
	trailed := len(gets) > 2
	for _, m := range members {
		gets = append(gets, clientv3.OpGet(r.Layout.Stats(m)))
	}
	found, _, err := r.readAt(ctx, f.Revision, gets...)
	if err != nil {
		return err
	}
	for _, kv := range found[0] {
		f.alone, _ = claims.DecodeAlone(kv.Value) // one that cannot be read explains nothing
	}
	for _, kv := range found[1] {
		f.source, _ = record.DecodeSource(kv.Value)
	}
	rest := found[2:]
	if trailed {
		for _, kv := range rest[0] {
			f.takeTrail(kv)
		}
		rest = rest[1:]
	}
	for i, m := range members {
		for _, kv := range rest[i] {
			if figures, err := claims.DecodeFigures(kv.Value); err == nil {
				f.figures[m] = figures
			}
		}
	}
	return nil
}

func (f *facts) takeTrail(kv *mvccpb.KeyValue) {
	t, err := claims.DecodeTrail(kv.Value)
	if i := slices.Index(t.IDs, f.Resource); err == nil && i >= 0 {
		f.Begun = &Begun{At: t.At, Returned: i < t.Returned, Alone: t.Alone}
	}
}

// readLeases asks how long the leases live that the resource depends on.
func (r *Reader) readLeases(ctx context.Context, f *facts, group []*mvccpb.KeyValue) error {
	ask := func(id int64) (Lease, error) { return r.leaseOf(ctx, id) }
	members := []string{f.Expected}
	if f.Claim != nil {
		lease, err := ask(f.Claim.Lease.ID)
		if err != nil {
			return err
		}
		f.Claim.Lease = lease
		members = append(members, f.Claim.Member)
	}
	for _, id := range members {
		m, live := f.view.Members[id]
		if _, known := f.leases[id]; !live || known {
			continue
		}
		lease, err := ask(m.Lease)
		if err != nil {
			return err
		}
		f.leases[id] = lease
	}
	if f.Claim != nil {
		f.Claim.MemberLease = f.leases[f.Claim.Member]
	}
	if _, awaited := f.view.Awaited(f.Expected); awaited {
		for _, kv := range group {
			if string(kv.Key) != r.Layout.Reservation(f.Expected) {
				continue
			}
			lease, err := ask(kv.Lease)
			if err != nil {
				return err
			}
			f.awaited = lease
		}
	}
	return nil
}

// leaseOf asks how long a lease lives. Its times are not known where etcd does not let the user ask.
func (r *Reader) leaseOf(ctx context.Context, id int64) (Lease, error) {
	if id == 0 {
		return Lease{}, nil
	}
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	resp, err := r.Client.TimeToLive(asking, clientv3.LeaseID(id))
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return Lease{ID: id}, nil
	case err != nil:
		return Lease{}, etcd.Unreachable(ctx, err)
	case resp.TTL < 0:
		return Lease{ID: id, Known: true}, nil
	}
	return Lease{
		ID: id, Known: true, TTL: time.Duration(resp.GrantedTTL) * time.Second,
		Left: time.Duration(resp.TTL) * time.Second,
	}, nil
}

// wanted says whether the resource should be handled.
func (f *facts) wanted() bool {
	return f.Entry != nil && f.Entry.Understood && catalogue.Entry{Suspended: f.Entry.Suspended}.Wanted()
}
