package drm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-resource-manager/drm/internal/foresight"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
)

// Plan tells what the group settles at if some changes befall it, all at one moment; without any, what it settles at by
// itself. It changes nothing. The coordinator's own code decides, on a copy of the group as it is at one revision; so
// the plan is what then happens, as far as nothing else happens besides, the loads stay as they are, and the options
// are those of the coordinator. Where Plan.Paced is set, the load comes out as planned, and single shards may not.
//
// It reads what there is of members and shards, and counts resources without reading them.
//
// Errors: an *InputError for a bad change or option; ErrNotFound for a member that is not there; ErrIDInUse for one
// that joins and is there; ErrChanged; and those of the orders that are among the changes.
func (c *Client) Plan(ctx context.Context, changes []Change, o PlanOptions) (*Plan, error) {
	p, err := c.plan(ctx, changes, o)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return p, nil
}

func (c *Client) plan(ctx context.Context, changes []Change, o PlanOptions) (*Plan, error) {
	o, rules, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	desk, err := c.desk(ctx)
	if err != nil {
		return nil, err
	}
	inputs := make([]foresight.Change, 0, len(changes))
	for _, change := range changes {
		if err := change.validate(desk.Reader.Shards); err != nil {
			return nil, err
		}
		inputs = append(inputs, change.input())
	}
	if err := desk.Unchanged(ctx, o.IfRevision); err != nil {
		return nil, err
	}
	p, err := foresee(ctx, desk, rules, inputs)
	var taken *membership.TakenError
	if errors.As(err, &taken) {
		return nil, fmt.Errorf("%w: member %q is there already", ErrIDInUse, taken.Holder.ID)
	}
	if err != nil {
		return nil, err
	}
	p.Options = o
	return p, nil
}

// foresee reads the group, and makes the changes happen to a copy of it.
func foresee(
	ctx context.Context, desk *order.Desk, rules placement.Rules, changes []foresight.Change,
) (*Plan, error) {
	r := desk.Reader
	now, err := r.Prospect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := foresight.Run(ctx, foresight.Input{
		Layout: r.Layout, Shards: r.Shards, Created: desk.Created, Revision: now.Revision,
		Group: now.Group, Loads: now.Loads, Counts: now.Counts, Rules: rules, Wall: time.Now(),
	}, changes...)
	if err != nil {
		return nil, err
	}
	b := &planner{out: out, counts: now.Counts, plan: &Plan{
		Revision: now.Revision, Rounds: out.Rounds, Took: out.Took, Paced: out.Paced,
		Moves: []PlannedMove{}, Members: []PlannedMember{}, Unplaced: []UnplacedShard{}, Notes: []string{},
	}}
	b.tell()
	return b.plan, nil
}

// planner turns what a group settles at into a Plan.
type planner struct {
	out    *foresight.Outcome
	counts []int // by shard: how many resources are in it
	plan   *Plan
}

// moves says whether a shard belongs to another member in the end.
func (b *planner) moves(n int) bool { return b.out.Before.Owner(n) != b.out.After.Owner(n) }

// lacks says whether nobody takes all of a shard in the end.
func (b *planner) lacks(n int) bool { return b.out.After.Owner(n) == "" || b.out.After.IsFull(n) }

func resourcesOf(load int64) float64 { return float64(load) / object.OneWeight }

func (b *planner) tell() {
	p, before, after := b.plan, b.out.Before, b.out.After
	apart := b.movedApart()
	for n, load := range b.out.Load {
		if b.lacks(n) && (b.counts[n] > 0 || load > 0) {
			p.Unplaced = append(p.Unplaced, UnplacedShard{Shard: n, Member: after.Owner(n), Resources: b.counts[n]})
		}
		if !b.moves(n) {
			continue
		}
		m := PlannedMove{
			Shard: n, From: before.Owner(n), To: after.Owner(n), Resources: max(0, b.counts[n]-apart[n]),
			Load: resourcesOf(load), Why: whyPlaced(after, n),
		}
		p.Resources += m.Resources
		p.Load += m.Load
		p.Moves = append(p.Moves, m)
	}
	ids := map[string]bool{}
	for _, v := range []*membership.View{before, after} {
		for id := range v.Members {
			ids[id] = true
		}
		for _, id := range v.Owners() {
			ids[id] = true
		}
	}
	delete(ids, "")
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		p.Members = append(p.Members, PlannedMember{ID: id, Before: b.shareOf(before, id), After: b.shareOf(after, id)})
	}
	p.Before, p.After = maxOverAvg(before, b.out.Load), maxOverAvg(after, b.out.Load)
	p.Notes = append(p.Notes, notesOf(after)...)
}

// movedApart returns, by shard, how many of its resources do not go where the shard goes, as they were given to other
// members by themselves (Config.MoveAfter).
func (b *planner) movedApart() map[int]int {
	apart := map[int]int{}
	for id := range b.out.Before.Moves {
		n, from := b.out.Before.OwnerOf(id)
		_, to := b.out.After.OwnerOf(id)
		if from != b.out.Before.Owner(n) || to != b.out.After.Owner(n) {
			apart[n]++
		}
	}
	return apart
}

// whyPlaced says what makes a shard belong to its owner.
func whyPlaced(v *membership.View, n int) string {
	owner := v.Owner(n)
	if pin, pinned := v.Pins[n]; pinned && pin.Member == owner {
		return PlacedByPin
	}
	if e, excepted := v.Exceptions[n]; excepted && owner != "" && (e.Member == owner || e.Then == owner) {
		return string(e.Why)
	}
	return PlacedByRing
}

// shareOf tells what a member has by a view.
func (b *planner) shareOf(v *membership.View, id string) PlannedShare {
	s := PlannedShare{State: string(v.StateOf(id)), Weight: v.WeightOf(id)}
	if _, awaited := v.Awaited(id); awaited && s.State == "" {
		s.State = picture.StateAbsent
	}
	if s.State == "" {
		s.Weight = 0
	}
	load := int64(0)
	for n, owner := range v.Owners() {
		if owner == id {
			s.Shards++
			s.Resources += b.counts[n]
			load += b.out.Load[n]
		}
	}
	for resource := range v.Moves {
		n, has := v.OwnerOf(resource)
		switch owner := v.Owner(n); {
		case has == owner:
		case has == id:
			s.Resources++
		case owner == id:
			s.Resources--
		}
	}
	s.Load = resourcesOf(load)
	return s
}

// maxOverAvg returns the load of the member with the most for its weight, as a multiple of the average.
func maxOverAvg(v *membership.View, loads []int64) float64 {
	of, total, weights := map[string]int64{}, int64(0), 0
	for n, owner := range v.Owners() {
		if owner != "" {
			of[owner] += loads[n]
			total += loads[n]
		}
	}
	most := 0.0
	for id := range v.Members {
		if weight := v.WeightOf(id); weight > 0 && (v.Eligible(id) || of[id] > 0) {
			weights += weight
			most = max(most, float64(of[id])/float64(weight))
		}
	}
	if total == 0 || weights == 0 {
		return 0
	}
	return most * float64(weights) / float64(total)
}

// notesOf says what has to be known of a group that a plan ends with.
func notesOf(v *membership.View) (notes []string) {
	for _, id := range slices.SortedFunc(maps.Keys(v.Reservations), cmp.Compare[string]) {
		if _, awaited := v.Awaited(id); awaited {
			notes = append(notes, fmt.Sprintf("member %q has stopped and is expected back: until then what belongs to "+
				"it waits, and nothing moves for balance", id))
		}
	}
	if v.DrainsIgnored() {
		notes = append(notes, "every member is drained then, so that the orders are ignored")
	}
	if v.UnreadyIgnored() {
		notes = append(notes, "too few members are ready, so that those that are not count as if they were")
	}
	if v.HasOlder() {
		notes = append(notes, "a member of an older version lives, so that the coordinator places no shards")
	}
	if newer, rollout := v.Rollout(); rollout {
		notes = append(notes, fmt.Sprintf("members of several versions live (%q is the newest): as long as members "+
			"come and go, nothing moves for balance", newer))
	}
	return notes
}

// checkRevision returns an *InputError where a revision cannot be one.
func checkRevision(revision int64) error {
	if revision < 0 {
		return &InputError{"IfRevision", strconv.FormatInt(revision, 10), "a revision above 0, or 0 for none"}
	}
	return nil
}
