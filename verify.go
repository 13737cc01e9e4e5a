package drm

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/shard"
)

// ViolationKind says which rule a Violation breaks.
type ViolationKind string

// The kinds of violations. Those marked passing are also seen for a moment while a resource changes hands.
const (
	Unclaimed     ViolationKind = "unassigned"     // passing: a wanted resource that nobody has a claim on, though somebody could
	MisplacedAt   ViolationKind = "misplaced"      // passing: a claim of another member than the resource belongs to
	Orphan        ViolationKind = "orphan"         // passing: a claim of a resource that nobody wants
	UnknownMember ViolationKind = "unknown-member" // passing: a claim of a member that is not there
	NoLease       ViolationKind = "no-lease"       // a claim or member key without a lease, which never expires
	SlotShared    ViolationKind = "slot-shared"    // a slot that two live members list as theirs
	SlotStray     ViolationKind = "slot-stray"     // a slot that a live member lists, and that is reserved for another
	WrongShard    ViolationKind = "wrong-shard"    // a key below another shard than its id belongs to
	NoConfig      ViolationKind = "no-config"      // the app has keys, but not the one that makes it exist: nothing new is claimed
	Corrupt       ViolationKind = "corrupt"        // a key below the app's prefix that is not understood; it is ignored
)

// Violation is one thing in etcd that is not as it should be.
type Violation struct {
	Kind     ViolationKind
	Resource string // empty where it is not about one
	Member   string // empty where it is not about one
	Token    int64  // of the claim it is about; 0: none
	Detail   string // for people
}

// Verify reads the app and reports everything that is not as it should be, in the order of kinds and ids. Some kinds pass
// by themselves while resources change hands; what stays from one call to a later one is a fault.
func (c *Client) Verify(ctx context.Context) ([]Violation, error) {
	r := &reader{client: c.client, layout: c.layout, timeout: c.cfg.Etcd.CommandTimeout}
	gone, err := r.configGone(ctx)
	if err != nil {
		return []Violation{}, err
	}
	all := []Violation{}
	if gone {
		all = append(all, Violation{Kind: NoConfig, Detail: fmt.Sprintf(
			"key %q is gone: members claim nothing until it is put back as it was and they are restarted", c.layout.Config())})
	}
	p, err := c.picture(ctx)
	if p == nil || err != nil { // nobody knows the number of shards
		return all, err
	}
	return append(all, p.verify(c.config.Shards)...), nil
}

// configGone says whether there are keys of the app, but not its config.
func (r *reader) configGone(ctx context.Context) (bool, error) {
	config, err := r.page(ctx, r.layout.Config(), "", 0, 0)
	if err != nil || len(config.Kvs) > 0 {
		return false, err
	}
	rest, err := r.page(ctx, r.layout.Root(), clientv3.GetPrefixRangeEnd(r.layout.Root()), config.Header.Revision, 1)
	return err == nil && len(rest.Kvs) > 0, err
}

func (p *picture) verify(shards int) []Violation {
	all := []Violation{}
	for id, e := range p.entries {
		if a := p.assignment(id, shards); e.Wanted() && a.State == Unassigned && a.Expected != "" {
			all = append(all, Violation{Kind: Unclaimed, Resource: id, Member: a.Expected, Detail: a.Error})
		}
	}
	for id, c := range p.claims {
		all = append(all, p.verifyClaim(id, c, shards)...)
	}
	all = append(all, p.verifySlots()...)
	for id, m := range p.view.Members {
		if m.Lease == 0 {
			all = append(all, Violation{Kind: NoLease, Member: id, Detail: "its key has no lease, and never expires"})
		}
	}
	for _, key := range p.strays {
		all = append(all, Violation{Kind: WrongShard, Detail: fmt.Sprintf("key %q", key)})
	}
	for _, key := range p.corrupt {
		all = append(all, Violation{Kind: Corrupt, Detail: fmt.Sprintf("key %q", key)})
	}
	slices.SortFunc(all, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Detail, b.Detail))
	})
	return all
}

func (p *picture) verifyClaim(id string, c claimSeen, shards int) []Violation {
	var all []Violation
	add := func(kind ViolationKind, format string, args ...any) {
		all = append(all, Violation{Kind: kind, Resource: id, Member: c.Member, Token: c.token, Detail: fmt.Sprintf(format, args...)})
	}
	e, known := p.entries[id]
	owner := p.view.Owner(shard.Of(id, shards))
	switch {
	case !known:
		add(Orphan, "the catalogue does not have it")
	case !e.Wanted():
		add(Orphan, "it was deallocated")
	case c.Member != owner:
		add(MisplacedAt, "it belongs to %q", owner)
	}
	if _, live := p.view.Members[c.Member]; !live {
		add(UnknownMember, "there is no such member")
	}
	if c.lease == 0 {
		add(NoLease, "the claim has no lease, and never expires")
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
				all = append(all, Violation{Kind: SlotStray, Member: id, Detail: fmt.Sprintf("slot %d is not reserved for it", slot)})
			}
		}
	}
	for slot, ids := range users {
		if len(ids) > 1 {
			slices.Sort(ids)
			all = append(all, Violation{Kind: SlotShared, Member: ids[0], Detail: fmt.Sprintf("slot %d is also %q's", slot, ids[1])})
		}
	}
	return all
}
