package shard

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
)

// Capacity says how much load a member can have.
type Capacity struct {
	// Weight is the member's share relative to the others'. A member of weight 0 or less has no share, and is given
	// nothing.
	Weight int
	// Takes says whether the member may be given shards. One that does not, such as a cordoned member, keeps what it
	// has, and may be relieved of it.
	Takes bool
	// Room is how much load the member may have at most; below 0 there is no limit. A member that has more already is
	// given nothing.
	Room int64
}

// Problem is what a Planner starts from. It changes nothing in it.
type Problem struct {
	Home    []string             // by shard: the owner without exceptions, by ring and pins; "" if there is none
	Owner   []string             // by shard: the owner in force; "" or a member that is not among Members: none
	Load    []int64              // by shard, in any unit; less than 0 counts as 0
	Members map[string]Capacity  // all members that own shards or may own some
	Fixed   func(shard int) bool // the shards that must stay where they are, such as pinned ones; nil: none
}

// Step says that a shard goes from one member to another. From is "" if the shard has no owner.
type Step struct {
	Shard    int
	From, To string
}

// Planner changes a placement of shards on members, a little at a time, and notes the steps. Each of its methods starts
// from what those before it have left. It depends on nothing but its input, so it gives the same answer to everyone.
//
// It keeps each member's load within the member's limit: 1.05 × its fair share, or its fair share and the heaviest
// shard, whichever is more. This is consistent hashing with bounded loads (Mirrokni, Thorup & Zadimoghaddam, 2018),
// for loads of any size and members of any weight; the second term is there because a shard cannot be divided. A
// member's fair share is the part of all load that its weight makes of all weights. If a member cannot have that much,
// since it takes no shards or has no room, the others share the rest.
//
// A member's strain is its load as a part of its limit.
type Planner struct {
	problem Problem
	names   []string // the members in order, so that nothing depends on a map's order
	number  map[string]int
	can     []Capacity
	emptied []bool // the member must hold nothing
	prefer  func(member string) bool

	load, fair, limit []int64 // by member
	easy              []int64 // midway from fair to limit

	home, owner []int // by shard, -1 if there is none
	size        []int64
	fixed       []bool
	total       int64
	heaviest    int64

	targets targets
	moved   []int  // the shards that were moved, in that order, each once
	noted   []bool // by shard: it is in moved
}

// NewPlanner makes a planner. It panics if Home, Owner and Load differ in length.
func NewPlanner(problem Problem) *Planner {
	shards := len(problem.Home)
	if len(problem.Owner) != shards || len(problem.Load) != shards {
		panic("shard: one home, one owner and one load for each shard are needed")
	}
	members := len(problem.Members)
	p := &Planner{
		problem: problem,
		names:   slices.Sorted(maps.Keys(problem.Members)),
		number:  make(map[string]int, members),
		can:     make([]Capacity, members),
		emptied: make([]bool, members),
		load:    make([]int64, members), fair: make([]int64, members),
		limit: make([]int64, members), easy: make([]int64, members),
		home: make([]int, shards), owner: make([]int, shards),
		size: make([]int64, shards), fixed: make([]bool, shards), noted: make([]bool, shards),
	}
	for m, name := range p.names {
		p.number[name], p.can[m] = m, problem.Members[name]
	}
	for s := range shards {
		p.home[s], p.owner[s] = p.find(problem.Home[s]), p.find(problem.Owner[s])
		p.size[s] = max(0, problem.Load[s])
		p.fixed[s] = problem.Fixed != nil && problem.Fixed(s)
		p.total += p.size[s]
		p.heaviest = max(p.heaviest, p.size[s])
		if m := p.owner[s]; m >= 0 {
			p.load[m] += p.size[s]
		}
	}
	p.measure()
	return p
}

// Prefer makes a planner give shards only to members for which which is true, until it is called again: if any of them
// takes shards. If none of them has room, a shard that must go somewhere goes to another member. A nil which prefers
// none.
func (p *Planner) Prefer(which func(member string) bool) {
	p.prefer = which
	p.measure()
}

// Owners returns the owner of each shard as planned, "" if there is none.
func (p *Planner) Owners() []string {
	owners := make([]string, len(p.owner))
	for s, m := range p.owner {
		if m >= 0 {
			owners[s] = p.names[m]
		}
	}
	return owners
}

// Steps returns what has to be done, what helps most first. There is at most one step for each shard.
func (p *Planner) Steps() []Step {
	var steps []Step
	for _, s := range p.moved {
		if m := p.owner[s]; m >= 0 && p.names[m] != p.problem.Owner[s] {
			steps = append(steps, Step{Shard: s, From: p.problem.Owner[s], To: p.names[m]})
		}
	}
	return steps
}

// Load returns the load that a member has as planned.
func (p *Planner) Load(member string) int64 { return p.about(member, p.load) }

// Limit returns the load that a member may have: 0 for one that has no share. It changes only if members are emptied,
// or members that take nothing lose load.
func (p *Planner) Limit(member string) int64 { return p.about(member, p.limit) }

// Fair returns a member's fair share of the load, rounded down.
func (p *Planner) Fair(member string) int64 { return p.about(member, p.fair) }

func (p *Planner) about(member string, figures []int64) int64 {
	if m := p.find(member); m >= 0 {
		return figures[m]
	}
	return 0
}

// find returns a member's number, -1 if there is no such member.
func (p *Planner) find(name string) int {
	if m, ok := p.number[name]; ok {
		return m
	}
	return -1
}

// shares says whether a member has a share of the load.
func (p *Planner) shares(m int) bool { return p.can[m].Weight > 0 && !p.emptied[m] }

// takes says whether a member may be given shards, if it has room.
func (p *Planner) takes(m int) bool { return p.can[m].Takes && p.shares(m) }

// hasRoom says whether a member may have so much more load.
func (p *Planner) hasRoom(m int, size int64) bool {
	room := p.can[m].Room
	return room < 0 || size == 0 || p.load[m]+size <= room
}

// measure finds the members' shares and limits, and prepares the choice of targets.
func (p *Planner) measure() {
	rest, weights := p.total, int64(0)
	var open []int // members that can have their fair share, as far as is known
	for m := range p.names {
		p.fair[m], p.limit[m], p.easy[m] = 0, 0, 0
		if p.shares(m) {
			open = append(open, m)
			weights += int64(p.can[m].Weight)
		}
	}
	for again := true; again; {
		again = false
		most, all := rest, weights
		open = slices.DeleteFunc(open, func(m int) bool {
			w := int64(p.can[m].Weight)
			capacity, limited := p.capacity(m)
			if !limited || capacity >= mulDiv(most, w, all) {
				return false
			}
			p.setLimit(m, capacity, capacity*105/100)
			rest -= capacity
			weights -= w
			again = true
			return true
		})
	}
	for _, m := range open {
		w := int64(p.can[m].Weight)
		p.setLimit(m, mulDiv(rest, w, weights), mulDiv(rest, w*105, weights*100))
	}
	p.targets.rank(p)
}

// capacity returns how much load a member can have, if that is limited.
func (p *Planner) capacity(m int) (load int64, limited bool) {
	if !p.can[m].Takes {
		return p.load[m], true
	}
	return p.can[m].Room, p.can[m].Room >= 0
}

func (p *Planner) setLimit(m int, fair, bound int64) {
	p.fair[m] = fair
	p.limit[m] = max(bound, fair+p.heaviest)
	p.easy[m] = fair + (p.limit[m]-fair)/2
}

// mulDiv returns a × b / c, rounded down, for numbers of which the result is not too large. None is below 0.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	quotient, _ := bits.Div64(hi, lo, uint64(c))
	return int64(quotient)
}

// strain is a member's load with some load added, as a part of its limit.
func (p *Planner) strain(m int, added int64) float64 {
	return float64(p.load[m]+added) / float64(max(1, p.limit[m]))
}

// put gives a shard to a member.
func (p *Planner) put(s, to int) {
	from := p.owner[s]
	if from == to {
		return
	}
	p.owner[s] = to
	if from >= 0 {
		p.load[from] -= p.size[s]
		p.targets.fix(p, from)
	}
	if to >= 0 {
		p.load[to] += p.size[s]
		p.targets.fix(p, to)
	}
	if !p.noted[s] {
		p.noted[s] = true
		p.moved = append(p.moved, s)
	}
}

// target returns the member to which a shard goes best, -1 if none takes it: the one with the least strain or, where
// that is as good or easy, the shard's home. must says that the shard has to go somewhere, even to a member that is not
// preferred.
func (p *Planner) target(s int, must bool) int {
	best := p.targets.pick(p, p.size[s], must)
	if best >= 0 && p.suits(s, best) {
		return p.home[s]
	}
	return best
}

// suits says whether a shard's home is as good for it as another member.
func (p *Planner) suits(s, other int) bool {
	h, size := p.home[s], p.size[s]
	return h >= 0 && h != p.owner[s] && p.targets.tier[h] == p.targets.tier[other] && p.hasRoom(h, size) &&
		(p.load[h]+size <= p.easy[h] || p.strain(h, size) <= p.strain(other, size))
}

// heaviestFirst sorts shards by their load.
func (p *Planner) heaviestFirst(shards []int) {
	slices.SortFunc(shards, func(x, y int) int {
		return cmp.Or(cmp.Compare(p.size[y], p.size[x]), cmp.Compare(x, y))
	})
}

// held returns the shards of a member that a condition holds for, the heaviest first.
func (p *Planner) held(m int, which func(shard int) bool) (shards []int) {
	for s, owner := range p.owner {
		if owner == m && which(s) {
			shards = append(shards, s)
		}
	}
	p.heaviestFirst(shards)
	return shards
}
