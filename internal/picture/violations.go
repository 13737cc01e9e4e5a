package picture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// Kind says which rule a Violation breaks.
type Kind string

// The kinds of violations. Those marked "passing" may also be seen for a moment while a resource moves.
const (
	KindUnassigned    Kind = "unassigned"     // passing: a wanted resource that nobody has a claim on
	KindMisplaced     Kind = "misplaced"      // passing: a claim of a member that does not own the resource
	KindOrphan        Kind = "orphan"         // passing: a claim of a resource that nobody wants
	KindUnknownMember Kind = "unknown-member" // passing: a claim, or the office, of a member that is not live
	KindStale         Kind = "stale"          // passing: a lease that nobody renews, or a claim not handled for long
	KindNoLease       Kind = "no-lease"       // a key of a member without a lease, which never expires
	KindSlotShared    Kind = "slot-shared"    // a slot that two live members list as theirs
	KindSlotStray     Kind = "slot-stray"     // passing: a slot of a live member that is not reserved for it
	KindWrongShard    Kind = "wrong-shard"    // a key in another shard than that of its id
	KindNoMembers     Kind = "no-members"     // there are wanted resources, and no member at all
	KindNoConfig      Kind = "no-config"      // the app has keys, but not the config key that makes it exist
	KindCorrupt       Kind = "corrupt"        // a key of the app that cannot be decoded, or that belongs to nothing
	KindTooLarge      Kind = "too-large"      // a resource of the source that is too large for etcd
	KindBadItem       Kind = "bad-item"       // an item of the source's last answer that is no resource
)

// Violation is one rule that the keys of an app break.
type Violation struct {
	Kind     Kind
	Resource string // empty if it is not about a resource
	Member   string // empty if it is not about a member
	Token    int64  // of the claim that it is about; 0 if it is not about a claim
	Detail   string // for people
}

// staleClaim is how long a claim may wait to be handled before it is stale. It is far longer than the clocks of
// machines differ.
const staleClaim = 5 * time.Minute

// VerifyConfig returns a violation if the app has keys, but not its config key, and otherwise none. The slice is never
// nil.
func (r *Reader) VerifyConfig(ctx context.Context) ([]Violation, error) {
	config, err := r.page(ctx, r.Layout.Config(), "", 0, 0)
	if err != nil || len(config.Kvs) > 0 {
		return []Violation{}, err
	}
	end := clientv3.GetPrefixRangeEnd(r.Layout.Root())
	rest, err := r.page(ctx, r.Layout.Root(), end, config.Header.Revision, 1)
	if err != nil || len(rest.Kvs) == 0 {
		return []Violation{}, err
	}
	return []Violation{{
		Kind: KindNoConfig, Detail: fmt.Sprintf("key %q is gone: members claim nothing "+
			"until it is put back as it was and they are restarted", r.Layout.Config()),
	}}, nil
}

// Verify reads the app and the leases, and lists all violations but that of VerifyConfig, sorted by kind, resource,
// member and detail. It measures the age of claims by now. The slice is nil only if there is an error.
func (r *Reader) Verify(ctx context.Context, now time.Time) ([]Violation, error) {
	ages := map[int64]leaseAge{}
	p, err := r.readAll(ctx, func(p *Picture, id string) error {
		if e, known := p.entries[id]; known {
			if e.Wanted() {
				p.counted.Resources++
			}
			p.found = append(p.found, p.verifyEntry(id, e)...)
		}
		if c, claimed := p.claims[id]; claimed {
			if err := r.readAge(ctx, c.lease, ages); err != nil {
				return err
			}
			p.found = append(p.found, p.verifyClaim(id, c, ages, now)...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, m := range p.view.Members {
		if err := r.readAge(ctx, m.Lease, ages); err != nil {
			return nil, err
		}
	}
	return p.verify(ages, now), nil
}

// verify lists the violations, sorted. It never returns nil.
func (p *Picture) verify(ages map[int64]leaseAge, now time.Time) []Violation {
	all := append([]Violation{}, p.found...)
	wanted := p.counted.Resources
	for id, e := range p.entries {
		if e.Wanted() {
			wanted++
		}
		all = append(all, p.verifyEntry(id, e)...)
	}
	for id, c := range p.claims {
		all = append(all, p.verifyClaim(id, c, ages, now)...)
	}
	if wanted > 0 && len(p.view.Members) == 0 {
		all = append(all, Violation{
			Kind:   KindNoMembers,
			Detail: fmt.Sprintf("%d resources are to be handled, and there is no live member", wanted),
		})
	}
	all = append(all, p.verifyMembers(ages)...)
	all = append(all, p.verifySlots()...)
	for _, id := range p.source.Rejected {
		all = append(all, Violation{
			Kind: KindTooLarge, Resource: id, Detail: "the source has it, and it does not fit into one request to etcd",
		})
	}
	for _, b := range p.source.BadItems {
		if !b.TooLarge {
			all = append(all, Violation{
				Kind: KindBadItem, Resource: b.ID, Detail: fmt.Sprintf("item %d of the source: %s", b.Index, b.Error),
			})
		}
	}
	for _, key := range p.strays {
		all = append(all, Violation{Kind: KindWrongShard, Detail: fmt.Sprintf("key %q", key)})
	}
	for _, b := range p.corrupt {
		all = append(all, b.violation())
	}
	slices.SortFunc(all, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Member, b.Member), cmp.Compare(a.Detail, b.Detail))
	})
	return all
}

func (b badKey) violation() Violation {
	v := Violation{Kind: KindCorrupt, Detail: fmt.Sprintf("key %q", b.name)}
	switch b.key.Kind {
	case keys.Resource, keys.Quarantine:
		v.Resource = b.key.ID
	case keys.Claim:
		v.Resource, v.Token = b.key.ID, b.token
	case keys.Member, keys.Stats, keys.Deaths, keys.Lives:
		v.Member = b.key.ID
	default:
	}
	return v
}

// verifyEntry lists the violations of a resource of the catalogue.
func (p *Picture) verifyEntry(id string, e catalogue.Entry) []Violation {
	if !e.Wanted() {
		return nil
	}
	if a := p.assignment(id); a.State == StateUnassigned && !p.awaits(a) {
		return []Violation{{Kind: KindUnassigned, Resource: id, Member: a.Expected, Detail: a.Error}}
	}
	return nil
}

func (p *Picture) verifyClaim(id string, c claim, ages map[int64]leaseAge, now time.Time) []Violation {
	var all []Violation
	add := func(kind Kind, format string, args ...any) {
		all = append(all, Violation{
			Kind: kind, Resource: id, Member: c.Member, Token: c.token, Detail: fmt.Sprintf(format, args...),
		})
	}
	e, known := p.entries[id]
	_, owner := p.view.OwnerOf(id)
	switch {
	case p.badEntries[id]: // verify lists the corrupt entry, and the member with the claim goes on handling it
	case !known:
		add(KindOrphan, "the catalogue does not have it")
	case e.Suspension != nil:
		add(KindOrphan, "%s", suspendedBy(e.Suspension))
	case !e.Wanted():
		add(KindOrphan, "it was deallocated")
	case c.Member != owner:
		add(KindMisplaced, "it belongs to %q", owner)
	}
	if _, live := p.view.Members[c.Member]; !live {
		add(KindUnknownMember, "there is no such member")
	}
	switch waited := now.Sub(c.Since); {
	case c.lease == 0:
		add(KindNoLease, "the claim has no lease, and never expires")
	case ages[c.lease].stale():
		add(KindStale, "nobody renews the claim's lease: its member is gone, cut off, or has begun another life")
	case c.State == claims.Claimed && waited > staleClaim:
		add(KindStale, "it was claimed %v ago, and is not handled yet", waited.Round(time.Second))
	}
	return all
}

func (p *Picture) verifyMembers(ages map[int64]leaseAge) []Violation {
	var all []Violation
	add := func(kind Kind, member, detail string) {
		all = append(all, Violation{Kind: kind, Member: member, Detail: detail})
	}
	for id, m := range p.view.Members {
		switch {
		case m.Lease == 0:
			add(KindNoLease, id, "its key has no lease, and never expires")
		case ages[m.Lease].stale():
			add(KindStale, id, "nobody renews the lease of its key")
		}
	}
	for _, id := range p.figures {
		add(KindNoLease, id, "its figures have no lease, and never expire")
	}
	c := p.view.Coordinator
	if c.CreateRevision != 0 && c.Lease == 0 {
		add(KindNoLease, c.ID, "the coordinator's key has no lease: nobody else can take the office")
	}
	if _, live := p.view.Members[c.ID]; c.ID != "" && !live {
		add(KindUnknownMember, c.ID, "the coordinator is no member")
	}
	return all
}

func (p *Picture) verifySlots() []Violation {
	var all []Violation
	slots, blocks := map[int][]string{}, map[int][]string{}
	stray := func(id, what string) {
		all = append(all, Violation{Kind: KindSlotStray, Member: id, Detail: what + " is not reserved for it"})
	}
	for id, m := range p.view.Members {
		for _, slot := range m.Slots {
			slots[slot] = append(slots[slot], id)
			if slot >= len(p.view.Slots) || p.view.Slots[slot] != id {
				stray(id, fmt.Sprintf("slot %d", slot))
			}
		}
		for _, from := range m.Blocks {
			blocks[from] = append(blocks[from], id)
			mine := func(b shard.Block) bool { return b.From == from && b.Member == id }
			if !slices.ContainsFunc(p.view.Blocks, mine) {
				stray(id, fmt.Sprintf("the block of slots from %d on", from))
			}
		}
	}
	// A slot in a block that a member of an older version has reserved by itself belongs to that member.
	for what, users := range map[string]map[int][]string{"slot": slots, "the block of slots from": blocks} {
		for n, ids := range users {
			if len(ids) > 1 {
				slices.Sort(ids)
				all = append(all, Violation{
					Kind: KindSlotShared, Member: ids[0], Detail: fmt.Sprintf("%s %d is also %q's", what, n, ids[1]),
				})
			}
		}
	}
	return all
}
