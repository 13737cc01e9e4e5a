package drm

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/foresight"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
)

// ChangeKind says what happens to a group in a Plan.
type ChangeKind string

// The kinds of changes. Those that an order brings are refused where the order would be refused.
const (
	// ChangeDie: the member ends without notice, for good, and nobody knows it before.
	ChangeDie = ChangeKind(foresight.Die)
	// ChangeDieLabelled: all members with a label end so, at the same moment, as when a zone fails.
	ChangeDieLabelled = ChangeKind(foresight.DieLabelled)
	// ChangeStop: the member stops in order, for good, and hands over what it has.
	ChangeStop = ChangeKind(foresight.Stop)
	// ChangeJoin: a member joins, or comes back, with a weight of its own.
	ChangeJoin = ChangeKind(foresight.Join)
	// ChangeWeight: what Client.SetWeight orders.
	ChangeWeight = ChangeKind(foresight.Weigh)
	// ChangeResetWeight: what Client.ResetWeight orders.
	ChangeResetWeight = ChangeKind(foresight.Unweigh)
	// ChangeDrain: what Client.DrainWith orders.
	ChangeDrain = ChangeKind(foresight.Drain)
	// ChangeUndrain: what Client.Undrain orders.
	ChangeUndrain = ChangeKind(foresight.Undrain)
	// ChangeCordon: what Client.Cordon orders.
	ChangeCordon = ChangeKind(foresight.Cordon)
	// ChangeUncordon: what Client.Uncordon orders.
	ChangeUncordon = ChangeKind(foresight.Uncordon)
	// ChangeMove: what Client.Move orders.
	ChangeMove = ChangeKind(foresight.Move)
	// ChangePin: what Client.Pin orders.
	ChangePin = ChangeKind(foresight.Pin)
	// ChangeUnpin: what Client.Unpin orders.
	ChangeUnpin = ChangeKind(foresight.Unpin)
	// ChangeRebalance: what Client.Rebalance orders.
	ChangeRebalance = ChangeKind(foresight.Rebalance)
)

// Change is one thing that happens to a group in a Plan.
type Change struct {
	Kind   ChangeKind
	Member string       // of all kinds but ChangeDieLabelled, ChangeUnpin and ChangeRebalance
	Weight int          // of ChangeJoin, 0 to 1000, where 0 stands for 1; of ChangeWeight, 0 to 1000
	Shard  int          // of ChangeMove, ChangePin and ChangeUnpin
	Label  string       // of ChangeDieLabelled: the name of the label (Config.Labels)
	Value  string       // of ChangeDieLabelled: its value
	Order  OrderOptions // of what is ordered: the options that the order would have
}

// validate returns an *InputError that names a field with a bad value; nil if there is none.
func (c Change) validate(shards int) error {
	member, shard := true, false
	switch c.Kind {
	case ChangeDieLabelled:
		if member = false; c.Label == "" {
			return &InputError{"Label", c.Label, "the name of a label"}
		}
	case ChangeRebalance:
		member = false
	case ChangeUnpin:
		member, shard = false, true
	case ChangeMove, ChangePin:
		shard = true
	case ChangeJoin, ChangeWeight:
		if c.Weight < 0 || c.Weight > membership.MaxWeight {
			return &InputError{"weight", strconv.Itoa(c.Weight), fmt.Sprintf("0 to %d", membership.MaxWeight)}
		}
	case ChangeDie, ChangeStop, ChangeResetWeight, ChangeDrain, ChangeUndrain, ChangeCordon, ChangeUncordon:
	default:
		return &InputError{"Kind", string(c.Kind), "one of the constants of ChangeKind"}
	}
	if shard {
		if err := checkShardNumber(c.Shard, shards); err != nil {
			return err
		}
	}
	if member {
		if err := keys.CheckID(c.Member); err != nil {
			return &InputError{"member", c.Member, err.Error()}
		}
	}
	return c.Order.Validate()
}

// input makes what package foresight knows of a change.
func (c Change) input() foresight.Change {
	f := foresight.Change{
		Kind: foresight.Kind(c.Kind), Member: c.Member, Weight: c.Weight, Shard: c.Shard, Label: c.Label,
		Value: c.Value, Order: order.Options(c.Order),
	}
	if c.Kind == ChangeJoin && c.Weight == 0 {
		f.Weight = 1
	}
	f.Order.IfRevision, f.Order.For = 0, 0 // Client.Plan compares it once, and a plan knows no end of an order
	return f
}

// PlanOptions says how the coordinator places shards, since etcd does not know that: each member has a Config of its
// own, and that of the coordinator counts. The zero value stands for the defaults of Config.
type PlanOptions struct {
	BalanceMoves       int           // as Config.BalanceMoves
	BalanceAfter       time.Duration // as Config.BalanceAfter
	MaxMoving          int           // as Config.MaxMoving
	MaxMovingPerMember int           // as Config.MaxMovingPerMember
	// IfRevision has the plan refused, with ErrChanged, where the group has changed since that revision; 0: it is not
	// compared.
	IfRevision int64
}

// withDefaults returns the options with all defaults, and what the coordinator makes of them.
func (o PlanOptions) withDefaults() (PlanOptions, placement.Rules, error) {
	cfg := Config{
		BalanceMoves: o.BalanceMoves, BalanceAfter: o.BalanceAfter,
		MaxMoving: o.MaxMoving, MaxMovingPerMember: o.MaxMovingPerMember,
	}
	err := cfg.checkNumbers()
	if err == nil {
		err = cfg.checkDurations()
	}
	if err == nil {
		err = checkRevision(o.IfRevision)
	}
	o.BalanceMoves, o.BalanceAfter = cfg.BalanceMoves, cfg.BalanceAfter
	o.MaxMoving, o.MaxMovingPerMember = cfg.MaxMoving, cfg.MaxMovingPerMember
	return o, cfg.balance(), err
}

// Plan is what a group settles at after some changes, by what it was at one revision. Loads are in resources: one that
// has no weight of its own (Config.WeightField) counts as 1.
type Plan struct {
	Revision int64       // etcd's revision that the plan is about
	Options  PlanOptions // what the plan supposes of the coordinator
	Moves    []PlannedMove
	Members  []PlannedMember // by id: all that are there, now or then
	Unplaced []UnplacedShard // by number: what fits nowhere in the end
	// Resources is how many resources move, and Load what they weigh.
	Resources int
	Load      float64
	// Before and After are the load of the member with the most for its weight, as a multiple of the average. 0 where
	// there is no load, or nobody who may have it.
	Before, After float64
	// Rounds is at how many moments shards move, and Took how long it is until the last one, if each member handles
	// within a second what it is given. A correction for balance waits for BalanceAfter before.
	Rounds int
	Took   time.Duration
	// Paced says that the options do not let everything move at once. Which shards move in the later rounds depends on
	// how fast the members are, so that some may come to other members than the plan says; the load is as even.
	Paced bool
	Notes []string // what else has to be known of the group, as sentences for people
}

// PlannedMove is a shard that belongs to another member in the end.
type PlannedMove struct {
	Shard     int
	From, To  string // empty: nobody
	Resources int    // how many resources go along
	Load      float64
	// Why says what makes it belong to To: PlacedByRing, PlacedByPin, or the reason of the coordinator (bound, drain,
	// leave, join, version, ring) or of the operator (move).
	Why string
}

// What PlannedMove.Why says besides the reasons of exceptions.
const (
	PlacedByRing = "ring" // the ring gives it to that member
	PlacedByPin  = "pin"  // an operator has pinned it to that member
)

// PlannedMember is a member before and after the changes.
type PlannedMember struct {
	ID            string
	Before, After PlannedShare
}

// PlannedShare is what a member has at one moment.
type PlannedShare struct {
	State     string // as MemberInfo.State; empty where the member is not there
	Weight    int
	Shards    int
	Resources int     // how many belong to it, by the catalogue; suspended ones count
	Load      float64 // by what the members say of their shards
}

// UnplacedShard is a shard of which resources have no member that takes them.
type UnplacedShard struct {
	Shard     int
	Member    string // who owns it, and has no room for all of it; empty: nobody may own a shard
	Resources int    // how many resources are in it
}

// Moved returns whether anything belongs to another member in the end.
func (p *Plan) Moved() bool { return len(p.Moves) > 0 }

// String says in a line what the plan comes to.
func (p *Plan) String() string {
	if !p.Moved() {
		return fmt.Sprintf("nothing moves, by revision %d", p.Revision)
	}
	words := []string{fmt.Sprintf("%d shards move, with %d resources", len(p.Moves), p.Resources)}
	if len(p.Unplaced) > 0 {
		words = append(words, fmt.Sprintf("%d shards fit nowhere", len(p.Unplaced)))
	}
	return strings.Join(words, "; ") + fmt.Sprintf(", by revision %d", p.Revision)
}
