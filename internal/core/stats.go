package core

import (
	"iter"
	"time"
)

// Handled is one resource that the handler has under a valid claim.
type Handled struct {
	ID    string
	Shard int
	Token int64
	Since time.Duration // when it became active or failed, by the clock that measures leases

	Ailing bool   // the handler reported that what it started fails
	Err    string // if Ailing: the reason that the handler reported
}

// Handled lists the resources that the handler has under valid claims.
func (c *Core) Handled() []Handled {
	var list []Handled
	for r := range c.resources() {
		if c.isHandled(r) {
			list = append(list, c.handled(r))
		}
	}
	return list
}

// HandledOne is Handled for one resource; ok is false if it is not handled.
func (c *Core) HandledOne(number int, id string) (h Handled, ok bool) {
	r := c.find(c.now, number, id)
	if r == nil || !c.isHandled(r) {
		return Handled{}, false
	}
	return c.handled(r), true
}

func (c *Core) handled(r *resource) Handled {
	return Handled{
		ID: r.id, Shard: r.sh.number, Token: r.claim.token, Since: r.told.since,
		Ailing: r.handling.ailing, Err: r.told.err,
	}
}

// isHandled says whether Handle has succeeded under the claim, which is valid, and nothing has ended it since.
func (c *Core) isHandled(r *resource) bool {
	if !r.claimed() || !r.handling.started || r.handling.dirty || c.isVoid(r) {
		return false
	}
	if r.phase.isCall() {
		return r.phase == callingUpdate
	}
	return !r.handling.lapsed
}

// Stats are figures of a Core.
type Stats struct {
	Shards           int // shards that are followed
	Known            int // resources in these shards, with those that only a claim tells of
	Claims           int // claims of this member
	Active           int // of these: handled, and not reported to fail
	Failed           int // of these: the last call failed, or the handler reported a failure
	Calls            int // calls in progress
	Stuck            int // calls that were given up and have not returned
	Waiting          int // resources that wait until a call for them may begin
	WaitingForBudget int // of these: resources that wait until a rate allows their Handle
}

// Stats counts what the Core has. It goes through all resources.
func (c *Core) Stats() Stats {
	s, _ := c.Count()
	return s
}

// Count is Stats, and adds up what this member's shards weigh.
func (c *Core) Count() (s Stats, l Loads) {
	s = Stats{
		Calls: c.counts.handles + c.counts.terminates, Stuck: c.counts.stuck,
		Waiting: c.handles.waiting() + c.terminates.waiting() + c.urgent.waiting(),
	}
	l.Shards = map[int]int64{}
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		s.Shards++
		s.Known += len(sh.list)
		load := int64(0)
		for _, r := range sh.list {
			handled := c.isHandled(r)
			if r.seen.wanted && sh.owns(r.id) {
				w := r.seen.weight.value()
				load += w
				if !handled && r.told.state != StateFailed && r.told.state != StateQuarantined {
					l.Pending += w
				}
			}
			if !r.claimed() {
				continue
			}
			s.Claims++
			if r.waitsForBudget() {
				s.Waiting++
				s.WaitingForBudget++
			}
			switch {
			case handled && !r.handling.ailing:
				s.Active++
			case r.told.state == StateFailed:
				s.Failed++
			}
		}
		if load > 0 {
			l.Shards[sh.number] = load
		}
	}
	return s, l
}

// Left says how many claims a member still has, and why.
type Left struct {
	Claims     int // all of them; each also counts in one of the next five
	Calling    int // a call is in progress
	Stuck      int // a call was given up, and has not returned
	Failing    int // Terminate failed, and the policy holds the claim until it succeeds
	Waiting    int // Terminate has not been called: there was no place, or no time
	Unreleased int // the handler does not have the resource, but etcd has not deleted the claim

	Calls int // all calls that have not returned, whether their resources are claimed or not
}

// Left counts what is left.
func (c *Core) Left() Left {
	l := Left{Calls: c.counts.handles + c.counts.terminates + c.counts.stuck}
	for r := range c.resources() {
		if !r.claimed() {
			continue
		}
		l.Claims++
		switch {
		case r.handling.stuck:
			l.Stuck++
		case r.phase.isCall():
			l.Calling++
		case r.handling.started && r.handling.terminateFailures > 0:
			l.Failing++
		case r.handling.started:
			l.Waiting++
		default:
			l.Unreleased++
		}
	}
	return l
}

// resources returns all resources that are known, shard by shard.
func (c *Core) resources() iter.Seq[*resource] {
	return func(yield func(*resource) bool) {
		for _, sh := range c.shards {
			if sh == nil {
				continue
			}
			for _, r := range sh.list {
				if !yield(r) {
					return
				}
			}
		}
	}
}
