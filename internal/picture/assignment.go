package picture

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// StateUnassigned is the state of a resource that nobody has a claim on. The other states are those of a claim's key
// (claims.Claimed, claims.Active, claims.Failed, claims.Quarantined).
const StateUnassigned = "unassigned"

// Assignment tells who handles a resource.
type Assignment struct {
	Resource string
	Shard    int
	Expected string    // the member that owns it; empty if no member is eligible
	Member   string    // the member that has the claim; empty if nobody has it
	State    string    // StateUnassigned, or the state of the claim
	Token    int64     // of the claim; 0 if there is none
	Since    time.Time // when State was reached, by that member's clock; zero if there is no claim
	Error    string    // why it failed or is unassigned, or a note about a call that takes long
	// Suspension says who has suspended the resource; nil: no operator has.
	Suspension *catalogue.Suspension
}

// why returns the state, with its reason if that is known.
func (a Assignment) why() string {
	if a.Error == "" {
		return a.State
	}
	return a.State + ": " + a.Error
}

const badClaimError = "its claim is not understood: whoever put it has to delete it"

// assignment returns the assignment of a resource of the picture.
func (p *Picture) assignment(id string) Assignment {
	a := assignmentOf(id, p.view, p.claims[id])
	if a.Token == 0 && p.badClaims[id] {
		a.Error = badClaimError
	}
	if s := p.entries[id].Suspension; s != nil {
		if a.Suspension = s; a.Token == 0 {
			a.Error = suspendedBy(s)
		}
	}
	return a
}

// assignmentOf returns the assignment of a resource with this claim, which is zero if nobody has one.
func assignmentOf(id string, view *membership.View, c claim) Assignment {
	n, owner := view.OwnerOf(id)
	a := Assignment{Resource: id, Shard: n, Expected: owner, State: StateUnassigned}
	if c.token == 0 {
		a.Error = why(view, n, owner)
		return a
	}
	a.Member, a.State, a.Token, a.Since, a.Error = c.Member, c.State, c.token, c.Since, c.Error
	return a
}

// why says why nobody has a claim on a resource of a shard which belongs to that member.
func why(view *membership.View, n int, owner string) string {
	back, awaited := view.Awaited(owner)
	switch {
	case awaited:
		return fmt.Sprintf("its member %s has stopped and is expected back %s", owner, until(back))
	case len(view.Members) == 0:
		return "there is no live member"
	case owner == "" && someHaveJoined(view):
		return "no live member may own shards: all are drained, or have the weight 0"
	case owner == "":
		return "no live member is active"
	case view.IsFull(n):
		return fmt.Sprintf("there is no room: %s and all others are full (MaxResources)", owner)
	case view.DeclinesAny(owner):
		return fmt.Sprintf("%s has not claimed it: it is full (MaxResources)", owner)
	default:
		return fmt.Sprintf("%s has not claimed it yet", owner)
	}
}

func someHaveJoined(v *membership.View) bool {
	for _, m := range v.Members {
		if m.HasJoined() {
			return true
		}
	}
	return false
}

// until says until when a member is expected back that has stopped.
func until(r membership.Reservation) string {
	if r.Until.IsZero() {
		return "soon"
	}
	return "until " + r.Until.UTC().Format("15:04:05 UTC")
}

// Lookup returns the assignment of one resource, without reading the others. The error matches ErrNotFound if the
// catalogue does not want the resource and nobody has a claim on it, unless an operator has suspended it.
func (r *Reader) Lookup(ctx context.Context, id string) (Assignment, error) {
	a, entry, err := r.look(ctx, id)
	if err != nil {
		return a, err
	}
	if a.Token == 0 && a.Suspension == nil {
		if err := notWanted(entry); err != nil {
			return a, fmt.Errorf("resource %q: %w", id, err)
		}
	}
	return a, nil
}

// notWanted returns an error if the catalogue does not want a resource handled. entry is nil if there is no entry.
func notWanted(entry *catalogue.Entry) error {
	switch {
	case entry == nil:
		return ErrNotFound
	case entry.Suspension != nil:
		return fmt.Errorf("%w: %s", ErrNotFound, suspendedBy(entry.Suspension))
	case !entry.Wanted():
		return fmt.Errorf("%w: it was deallocated, and is suspended for as long as its source has it", ErrNotFound)
	default:
		return nil
	}
}

// look reads one resource's keys and the members. entry is nil if the catalogue has none that can be decoded.
func (r *Reader) look(ctx context.Context, id string) (a Assignment, entry *catalogue.Entry, err error) {
	a, entry, _, err = r.lookAt(ctx, id)
	return a, entry, err
}

// lookAt is look, and returns the revision too.
func (r *Reader) lookAt(ctx context.Context, id string) (a Assignment, entry *catalogue.Entry, rev int64, err error) {
	n := shard.Of(id, r.Shards)
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	found, revision, err := r.getAll(asking,
		clientv3.OpGet(r.Layout.Resource(n, id)),
		clientv3.OpGet(r.Layout.Summaries(n), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Claim(n, id)),
		clientv3.OpGet(r.Layout.Group(), clientv3.WithPrefix()),
	)
	if err != nil {
		return a, nil, 0, fmt.Errorf("look up %q: %w", id, etcd.Unreachable(ctx, err))
	}
	p := newPicture(r.Layout, membership.NewView(r.Layout.Root(), r.Shards, found[3], revision))
	for _, kvs := range found[:3] {
		for _, kv := range kvs {
			p.take(kv)
		}
	}
	if e, has := p.entries[id]; has {
		entry = &e
	}
	return p.assignment(id), entry, revision, nil
}
