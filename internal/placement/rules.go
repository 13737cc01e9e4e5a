package placement

import "time"

// Rules are what the user decides about the placement. Loads are in the unit of claims.Loads: a resource without a
// weight of its own has 1000.
type Rules struct {
	Off             bool          // nothing moves for the sake of balance
	Quiet           time.Duration // how long members must not have come or gone until something moves for balance
	PerMinute       int64         // how much load moves for balance in a minute
	Moving          int64         // how much load is on its way at once because a member is drained, or for balance
	MovingPerMember int64         // how much of it is on its way to one member
	Again           time.Duration // a shard that was moved is not moved for balance again before
}

// unheard is how long the load that was sent to a member counts as on its way, if the member says nothing.
const unheard = 15 * time.Second

// stalled is how long no member has come or gone when a deployment that is not complete counts as one that has stopped.
const stalled = 10 * time.Minute

// soon is the pause between two looks at what is about to change.
const soon = 200 * time.Millisecond
