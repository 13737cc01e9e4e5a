package drm

import (
	"context"
	"time"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// ViolationKind says which rule a Violation breaks.
type ViolationKind string

// The kinds of violations. Those marked passing are also seen for a moment while a resource changes hands.
const (
	// ViolationUnassigned (passing): nobody has a claim on a wanted resource.
	ViolationUnassigned ViolationKind = "unassigned"
	// ViolationMisplaced (passing): another member has the claim than the one that the resource belongs to.
	ViolationMisplaced ViolationKind = "misplaced"
	// ViolationOrphan (passing): there is a claim on a resource that nobody wants.
	ViolationOrphan ViolationKind = "orphan"
	// ViolationUnknownMember (passing): a claim, or the coordinator's office, belongs to a member that is not there.
	ViolationUnknownMember ViolationKind = "unknown-member"
	// ViolationStale (passing): nobody renews the lease of a claim or a member, or a claim has not been handled for
	// long.
	ViolationStale ViolationKind = "stale"
	// ViolationNoLease: a claim, or another key of a member, has no lease, and so never expires.
	ViolationNoLease ViolationKind = "no-lease"
	// ViolationSlotShared: two live members list one slot as theirs.
	ViolationSlotShared ViolationKind = "slot-shared"
	// ViolationSlotStray (passing): a live member lists a slot that is not reserved for it.
	ViolationSlotStray ViolationKind = "slot-stray"
	// ViolationWrongShard: a key is below another shard than its id belongs to. It is ignored.
	ViolationWrongShard ViolationKind = "wrong-shard"
	// ViolationNoMembers: there are resources to be handled, and there is no member at all.
	ViolationNoMembers ViolationKind = "no-members"
	// ViolationNoConfig: the app has keys, but not the one that makes it exist. Nothing new is claimed.
	ViolationNoConfig ViolationKind = "no-config"
	// ViolationCorrupt: a key below the app's prefix is not understood. It is ignored.
	ViolationCorrupt ViolationKind = "corrupt"
	// ViolationTooLarge: etcd does not take a resource of the source.
	ViolationTooLarge ViolationKind = "too-large"
	// ViolationBadItem: an item of the source's last answer is no resource.
	ViolationBadItem ViolationKind = "bad-item"
)

// Passing says whether a violation of the kind may be seen in a healthy app, for a moment.
func (k ViolationKind) Passing() bool { return picture.Kind(k).Passing() }

// Violation is one thing in etcd that is not as it should be.
type Violation struct {
	Kind     ViolationKind
	Resource string // empty where the violation is not about a resource
	Member   string // empty where the violation is not about a member
	Token    int64  // of the claim that the violation is about; 0: it is not about a claim
	Detail   string // for people
}

func violationOf(v picture.Violation) Violation {
	return Violation{ViolationKind(v.Kind), v.Resource, v.Member, v.Token, v.Detail}
}

// Verify reads the app once and reports everything that is not as it should be, in the order of kinds and ids. Some
// kinds pass by themselves while resources change hands: VerifySettled waits for that.
func (c *Client) Verify(ctx context.Context) ([]Violation, error) {
	found, err := c.verify(ctx)
	return mapped(found, violationOf), err
}

// VerifySettled is Verify, again and again for as long as it finds what may pass by itself, for the given time at most.
// Of the kinds that pass it returns what was there at every look, of the others what the last look found. So it does
// not report a resource on its way from one member to another that arrives within that time. Where there is no member
// (ViolationNoMembers) it looks once: nobody is there who could mend anything.
func (c *Client) VerifySettled(ctx context.Context, within time.Duration) ([]Violation, error) {
	found, err := picture.Settled(ctx, within, c.verify)
	return mapped(found, violationOf), err
}

// verify looks once. An app that does not exist, and so has no number of shards, may still have keys.
func (c *Client) verify(ctx context.Context) ([]picture.Violation, error) {
	all, err := c.anyReader().VerifyConfig(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return all, err
	}
	found, err := r.Verify(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	return append(all, found...), nil
}
