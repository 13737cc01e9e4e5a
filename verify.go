package drm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pause"
	"github.com/distributed-resource-manager/drm/shard"
)

// ViolationKind says which rule a Violation breaks.
type ViolationKind string

// The kinds of violations. Those marked passing are also seen for a moment while a resource changes hands.
const (
	ViolationUnassigned    ViolationKind = "unassigned"     // passing: a wanted resource that nobody has a claim on
	ViolationMisplaced     ViolationKind = "misplaced"      // passing: a claim of another member than the resource belongs to
	ViolationOrphan        ViolationKind = "orphan"         // passing: a claim of a resource that nobody wants
	ViolationUnknownMember ViolationKind = "unknown-member" // passing: a claim, or the coordinator's office, of a member that is not there
	ViolationStale         ViolationKind = "stale"          // passing: a claim or member whose lease nobody renews, or a claim that is not handled for long
	ViolationNoLease       ViolationKind = "no-lease"       // a claim or another key of a member without a lease, which never expires
	ViolationSlotShared    ViolationKind = "slot-shared"    // a slot that two live members list as theirs
	ViolationSlotStray     ViolationKind = "slot-stray"     // passing: a slot that a live member lists, and that is not reserved for it
	ViolationWrongShard    ViolationKind = "wrong-shard"    // a key below another shard than its id belongs to; it is ignored
	ViolationNoMembers     ViolationKind = "no-members"     // there are resources to be handled, and no member at all
	ViolationNoConfig      ViolationKind = "no-config"      // the app has keys, but not the one that makes it exist: nothing new is claimed
	ViolationCorrupt       ViolationKind = "corrupt"        // a key below the app's prefix that is not understood; it is ignored
	ViolationTooLarge      ViolationKind = "too-large"      // a resource of the source that etcd does not take
	ViolationBadItem       ViolationKind = "bad-item"       // an item of the source's last answer that is no resource
)

// Passing says whether a violation of the kind may be seen in a healthy app, for a moment.
func (k ViolationKind) Passing() bool {
	switch k {
	case ViolationUnassigned, ViolationMisplaced, ViolationOrphan, ViolationUnknownMember, ViolationStale, ViolationSlotStray:
		return true
	default:
		return false
	}
}

// staleClaim is for how long a claim may wait to be handled before it is stale: far longer than clocks of machines differ.
const staleClaim = 5 * time.Minute

// Violation is one thing in etcd that is not as it should be.
type Violation struct {
	Kind     ViolationKind
	Resource string // empty where it is not about one
	Member   string // empty where it is not about one
	Token    int64  // of the claim it is about; 0: none
	Detail   string // for people
}

// Verify reads the app once and reports everything that is not as it should be, in the order of kinds and ids. Some kinds
// pass by themselves while resources change hands: VerifySettled waits for that.
func (c *Client) Verify(ctx context.Context) ([]Violation, error) {
	none, err := c.withoutConfig(ctx)
	if err != nil {
		return []Violation{}, err
	}
	r, err := c.reader(ctx)
	if r == nil || err != nil { // nobody knows the number of shards
		return none, err
	}
	p, err := r.readAll(ctx)
	if err != nil {
		return []Violation{}, err
	}
	ages, err := r.leaseAges(ctx, p)
	if err != nil {
		return []Violation{}, fmt.Errorf("read the leases: %w", err)
	}
	return append(none, p.verify(c.config.Shards, ages, time.Now())...), nil
}

// withoutConfig is the violation of an app that has keys, but not its config; none otherwise.
func (c *Client) withoutConfig(ctx context.Context) ([]Violation, error) {
	r := &reader{client: c.client, layout: c.layout, timeout: c.cfg.Etcd.CommandTimeout}
	config, err := r.page(ctx, r.layout.Config(), "", 0, 0)
	if err != nil || len(config.Kvs) > 0 {
		return []Violation{}, err
	}
	rest, err := r.page(ctx, r.layout.Root(), clientv3.GetPrefixRangeEnd(r.layout.Root()), config.Header.Revision, 1)
	if err != nil || len(rest.Kvs) == 0 {
		return []Violation{}, err
	}
	return []Violation{{Kind: ViolationNoConfig, Detail: fmt.Sprintf(
		"key %q is gone: members claim nothing until it is put back as it was and they are restarted", c.layout.Config())}}, nil
}

// VerifySettled is Verify, again and again for as long as it finds what may pass by itself, for the given time at most. Of
// the kinds that pass it returns what was there at every look, of the others what the last one found. So a resource on its
// way from one member to another is none of it, if it arrives within that time. Where there is no member (NoMembers) it looks once:
// nobody is there who could mend anything.
func (c *Client) VerifySettled(ctx context.Context, within time.Duration) ([]Violation, error) {
	const between = 500 * time.Millisecond
	deadline := time.Now().Add(within)
	found, err := c.Verify(ctx)
	for err == nil && mayPass(found) {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		if !pause.For(ctx, min(between, left)) {
			return []Violation{}, context.Cause(ctx)
		}
		var now []Violation
		if now, err = c.Verify(ctx); err == nil {
			found = stayed(found, now)
		}
	}
	return found, err
}

// mayPass says whether something of what was found passes by itself, perhaps.
func mayPass(found []Violation) bool {
	return slices.ContainsFunc(found, func(v Violation) bool { return v.Kind.Passing() }) &&
		!slices.ContainsFunc(found, func(v Violation) bool { return v.Kind == ViolationNoMembers })
}

// stayed is what of a later look was there at an earlier one too, or does not pass. A claim with another token is another.
func stayed(before, now []Violation) []Violation {
	type about struct {
		kind             ViolationKind
		resource, member string
		token            int64
	}
	of := func(v Violation) about {
		if v.Kind == ViolationUnassigned { // whoever it belongs to by now
			return about{kind: v.Kind, resource: v.Resource}
		}
		return about{v.Kind, v.Resource, v.Member, v.Token}
	}
	had := map[about]bool{}
	for _, v := range before {
		had[of(v)] = true
	}
	return slices.DeleteFunc(now, func(v Violation) bool { return v.Kind.Passing() && !had[of(v)] })
}

// leaseAge is how long a lease was granted for, and how long it still lives if nobody renews it. Zero stands for one that
// has ended.
type leaseAge struct{ granted, left time.Duration }

// stale says whether nobody can have renewed the lease for half of its life, though members do after a fifth.
func (a leaseAge) stale() bool { return a.left < a.granted/2 || a.granted == 0 }

// leaseAges asks for all leases that members and claims are on.
func (r *reader) leaseAges(ctx context.Context, p *picture) (map[int64]leaseAge, error) {
	ages := map[int64]leaseAge{}
	for _, m := range p.view.Members {
		ages[m.Lease] = leaseAge{}
	}
	for _, c := range p.claims {
		ages[c.lease] = leaseAge{}
	}
	delete(ages, 0)
	for id := range ages {
		asking, cancel := context.WithTimeout(ctx, r.timeout)
		resp, err := r.client.TimeToLive(asking, clientv3.LeaseID(id))
		cancel()
		if err != nil {
			return nil, etcd.Unreachable(ctx, err)
		}
		if resp.TTL >= 0 {
			// etcd tells whole seconds, rounded down: what is left may be up to one more.
			ages[id] = leaseAge{time.Duration(resp.GrantedTTL) * time.Second, time.Duration(resp.TTL+1) * time.Second}
		}
	}
	return ages, nil
}

func (p *picture) verify(shards int, ages map[int64]leaseAge, now time.Time) []Violation {
	all := []Violation{}
	wanted := 0
	for id, e := range p.entries {
		if !e.Wanted() {
			continue
		}
		wanted++
		if a := p.assignment(id, shards); a.State == StateUnassigned {
			all = append(all, Violation{Kind: ViolationUnassigned, Resource: id, Member: a.Expected, Detail: a.Error})
		}
	}
	if wanted > 0 && len(p.view.Members) == 0 {
		all = append(all, Violation{Kind: ViolationNoMembers, Detail: fmt.Sprintf("%d resources are to be handled, and there is no live member", wanted)})
	}
	for id, c := range p.claims {
		all = append(all, p.verifyClaim(id, c, shards, ages, now)...)
	}
	all = append(all, p.verifyMembers(ages)...)
	all = append(all, p.verifySlots()...)
	for _, id := range p.source.Rejected {
		all = append(all, Violation{Kind: ViolationTooLarge, Resource: id, Detail: "the source has it, and it does not fit into one request to etcd"})
	}
	for _, b := range p.source.BadItems {
		if !b.TooLarge {
			all = append(all, Violation{Kind: ViolationBadItem, Resource: b.ID, Detail: fmt.Sprintf("item %d of the source: %s", b.Index, b.Error)})
		}
	}
	for _, key := range p.strays {
		all = append(all, Violation{Kind: ViolationWrongShard, Detail: fmt.Sprintf("key %q", key)})
	}
	for _, b := range p.corrupt {
		all = append(all, b.violation())
	}
	slices.SortFunc(all, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Detail, b.Detail))
	})
	return all
}

func (b badKey) violation() Violation {
	v := Violation{Kind: ViolationCorrupt, Detail: fmt.Sprintf("key %q", b.name)}
	switch b.key.Kind {
	case keys.Resource:
		v.Resource = b.key.ID
	case keys.Claim:
		v.Resource, v.Token = b.key.ID, b.token
	case keys.Member, keys.Stats:
		v.Member = b.key.ID
	default:
	}
	return v
}

func (p *picture) verifyClaim(id string, c claimSeen, shards int, ages map[int64]leaseAge, now time.Time) []Violation {
	var all []Violation
	add := func(kind ViolationKind, format string, args ...any) {
		all = append(all, Violation{Kind: kind, Resource: id, Member: c.Member, Token: c.token, Detail: fmt.Sprintf(format, args...)})
	}
	e, known := p.entries[id]
	owner := p.view.Owner(shard.Of(id, shards))
	switch {
	case p.badEntries[id]: // whoever handles it goes on
	case !known:
		add(ViolationOrphan, "the catalogue does not have it")
	case !e.Wanted():
		add(ViolationOrphan, "it was deallocated")
	case c.Member != owner:
		add(ViolationMisplaced, "it belongs to %q", owner)
	}
	if _, live := p.view.Members[c.Member]; !live {
		add(ViolationUnknownMember, "there is no such member")
	}
	switch waited := now.Sub(c.Since); {
	case c.lease == 0:
		add(ViolationNoLease, "the claim has no lease, and never expires")
	case ages[c.lease].stale():
		add(ViolationStale, "nobody renews the claim's lease: its member is gone, cut off, or has begun another life")
	case State(c.State) == StateClaimed && waited > staleClaim:
		add(ViolationStale, "it was claimed %v ago, and is not handled yet", waited.Round(time.Second))
	}
	return all
}

func (p *picture) verifyMembers(ages map[int64]leaseAge) []Violation {
	var all []Violation
	add := func(kind ViolationKind, member, detail string) {
		all = append(all, Violation{Kind: kind, Member: member, Detail: detail})
	}
	for id, m := range p.view.Members {
		switch {
		case m.Lease == 0:
			add(ViolationNoLease, id, "its key has no lease, and never expires")
		case ages[m.Lease].stale():
			add(ViolationStale, id, "nobody renews the lease of its key")
		}
	}
	for _, id := range p.figures {
		add(ViolationNoLease, id, "its figures have no lease, and never expire")
	}
	c := p.view.Coordinator
	if c.CreateRevision != 0 && c.Lease == 0 {
		add(ViolationNoLease, c.ID, "the coordinator's key has no lease: nobody else can take the office")
	}
	if _, live := p.view.Members[c.ID]; c.ID != "" && !live {
		add(ViolationUnknownMember, c.ID, "the coordinator is no member")
	}
	return all
}

func (p *picture) verifySlots() []Violation {
	var all []Violation
	users := map[int][]string{}
	for id, m := range p.view.Members {
		for _, slot := range m.Slots {
			users[slot] = append(users[slot], id)
			if slot >= len(p.view.Slots) || p.view.Slots[slot] != id {
				all = append(all, Violation{Kind: ViolationSlotStray, Member: id, Detail: fmt.Sprintf("slot %d is not reserved for it", slot)})
			}
		}
	}
	for slot, ids := range users {
		if len(ids) > 1 {
			slices.Sort(ids)
			all = append(all, Violation{Kind: ViolationSlotShared, Member: ids[0], Detail: fmt.Sprintf("slot %d is also %q's", slot, ids[1])})
		}
	}
	return all
}
