package drm

import (
	"context"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/picture"
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
	case ViolationUnassigned,
		ViolationMisplaced,
		ViolationOrphan,
		ViolationUnknownMember,
		ViolationStale,
		ViolationSlotStray:
		return true
	default:
		return false
	}
}

// Violation is one thing in etcd that is not as it should be.
type Violation struct {
	Kind     ViolationKind
	Resource string // empty where it is not about one
	Member   string // empty where it is not about one
	Token    int64  // of the claim it is about; 0: none
	Detail   string // for people
}

// Verify reads the app once and reports everything that is not as it should be, in the order of kinds and ids. Some
// kinds pass by themselves while resources change hands: VerifySettled waits for that.
func (c *Client) Verify(ctx context.Context) ([]Violation, error) {
	none, err := c.anyReader().VerifyConfig(ctx)
	if err != nil {
		return []Violation{}, err
	}
	all := mapped(none, violationOf)
	r, err := c.reader(ctx)
	if r == nil || err != nil { // nobody knows the number of shards
		return all, err
	}
	found, err := r.Verify(ctx, time.Now())
	if err != nil {
		return []Violation{}, err
	}
	return append(all, mapped(found, violationOf)...), nil
}

func violationOf(v picture.Violation) Violation {
	return Violation{
		Kind:     ViolationKind(v.Kind),
		Resource: v.Resource,
		Member:   v.Member,
		Token:    v.Token,
		Detail:   v.Detail,
	}
}

// VerifySettled is Verify, again and again for as long as it finds what may pass by itself, for the given time at most.
// Of the kinds that pass it returns what was there at every look, of the others what the last one found. So a resource
// on its way from one member to another is none of it, if it arrives within that time. Where there is no member
// (NoMembers) it looks once: nobody is there who could mend anything.
func (c *Client) VerifySettled(ctx context.Context, within time.Duration) ([]Violation, error) {
	const between = 500 * time.Millisecond
	deadline := time.Now().Add(within)
	found, err := c.Verify(ctx)
	for err == nil && mayPass(found) {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		if !pace.Wait(ctx, min(between, left)) {
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

// stayed is what of a later look was there at an earlier one too, or does not pass. A claim with another token is
// another.
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
