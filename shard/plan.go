package shard

import (
	"slices"
	"sort"
)

// Spread places the shards for which free is true as evenly as possible. It costs nothing to move them, since nothing
// in them is handled yet, or since they have no owner. The heaviest come first, each to the member with the least
// strain. A shard stays at its home where that is as good, so that few exceptions are needed; one without load belongs
// to its home in any case. Where the placement in force is nearly as even, only shards without an owner are placed, so
// that there is little to write while an app fills.
//
// Shards that have an owner stay there if they are fixed, or if their owner may not be given any: it could not get them
// back.
func (p *Planner) Spread(free func(shard int) bool) {
	p.measure()
	var all, orphans, fixed []int
	for s, owner := range p.owner {
		if !free(s) || owner >= 0 && (p.fixed[s] || p.shares(owner) && !p.takes(owner)) {
			continue
		}
		if p.size[s] == 0 {
			if p.home[s] >= 0 {
				p.put(s, p.home[s])
			}
			continue
		}
		if owner < 0 && p.fixed[s] {
			fixed = append(fixed, s)
			continue
		}
		all = append(all, s)
		if owner < 0 {
			orphans = append(orphans, s)
		}
	}
	p.heaviestFirst(fixed)
	p.place(fixed, nil)
	p.heaviestFirst(all)
	p.heaviestFirst(orphans)

	inForce := p.state()
	p.place(orphans, nil)
	little := p.state()
	littleStrain, littleExcess := p.worst()
	p.restore(inForce)
	held := make([]int, len(all))
	for i, s := range all {
		held[i] = p.owner[s]
		p.put(s, -1)
	}
	p.place(all, held)
	strain, excess := p.worst()
	if littleStrain <= strain*1.02 && littleExcess-excess <= p.total/100 {
		p.restore(little)
	}
}

// place gives shards that have no owner one: first to those whose home has less than its fair share, then the others to
// the members with the least strain. A shard that is more than its home's fair share is among the first, since what
// comes before it must leave room for it. held is who had the shards, and keeps those that nobody takes.
func (p *Planner) place(shards, held []int) {
	var rest []int // indices
	for i, s := range shards {
		h := p.home[s]
		switch {
		case h >= 0 && p.targets.tier[h] == 0 && p.hasRoom(h, p.size[s]) && p.load[h]+p.size[s] <= p.fair[h]:
			p.put(s, h)
		case h >= 0 && p.size[s] > p.fair[h]:
			p.settle(s, i, held)
		default:
			rest = append(rest, i)
		}
	}
	for _, i := range rest {
		p.settle(shards[i], i, held)
	}
}

// settle gives a shard to its home if that is as good as the member with the least strain, otherwise to that member.
// held[i] keeps the shard if nobody takes it.
func (p *Planner) settle(s, i int, held []int) {
	to := p.targets.pick(p, p.size[s], true)
	switch h := p.home[s]; {
	case to >= 0 && h >= 0 && p.targets.tier[h] == p.targets.tier[to] && p.hasRoom(h, p.size[s]) &&
		p.strain(h, p.size[s]) <= p.strain(to, p.size[s]):
		to = h
	case to < 0 && held != nil && held[i] >= 0:
		to = held[i]
	case to < 0:
		to = h
	}
	p.put(s, to)
}

// worst returns the greatest strain of a member, and how much load is above the fair shares.
func (p *Planner) worst() (strain float64, excess int64) {
	for m := range p.names {
		if p.shares(m) {
			strain = max(strain, p.strain(m, 0))
			excess += max(0, p.load[m]-p.fair[m])
		}
	}
	return strain, excess
}

// placement is what a planner has planned at some time.
type placement struct {
	owner []int
	load  []int64
}

func (p *Planner) state() placement {
	return placement{slices.Clone(p.owner), slices.Clone(p.load)}
}

func (p *Planner) restore(to placement) {
	copy(p.owner, to.owner)
	copy(p.load, to.load)
	p.targets.rank(p)
}

// Empty gives the shards of a member away that must hold nothing, the heaviest first: each to its home if that does not
// come close to its limit, otherwise to the member with the least strain that takes it. It moves at most so much load,
// but at least one shard if most is above 0, and returns how much load is left. Nobody may be there to take a shard;
// then it stays. The member cannot keep its shards, so Empty moves fixed ones too.
func (p *Planner) Empty(member string, most int64) (left int64) {
	m := p.find(member)
	if m < 0 {
		return 0
	}
	p.emptied[m] = true
	p.measure()
	if most <= 0 {
		return p.load[m]
	}
	shards := p.held(m, func(int) bool { return true })
	give := func(s int) bool {
		to := p.target(s, true)
		if to >= 0 {
			p.put(s, to)
		}
		return to >= 0
	}
	some := false
	for _, s := range shards {
		if p.size[s] <= most && give(s) {
			most -= p.size[s]
			some = some || p.size[s] > 0
		}
	}
	for _, s := range slices.Backward(shards) {
		if some || p.size[s] > 0 && p.owner[s] == m && give(s) {
			break
		}
	}
	return p.load[m]
}

// Fill gives a member that joins its fair share, and not more: from the members above their limits first, then shards
// whose home it is, so that few exceptions are needed, then from the members with the most strain. It takes nothing
// from a member that has no more than its own fair share, and no fixed shards. Shards without load go to their home.
func (p *Planner) Fill(member string) {
	m := p.find(member)
	if m < 0 {
		return
	}
	p.measure()
	if !p.takes(m) {
		return
	}
	homing, others := make([][]int, len(p.names)), make([][]int, len(p.names)) // what each member can give
	for s, from := range p.owner {
		switch {
		case from < 0 || from == m || p.fixed[s]:
		case p.size[s] == 0:
			if p.home[s] == m {
				p.put(s, m)
			}
		case p.home[s] == m:
			homing[from] = append(homing[from], s)
		default:
			others[from] = append(others[from], s)
		}
	}
	for d := range p.names {
		p.heaviestFirst(homing[d])
		p.heaviestFirst(others[d])
	}
	p.fillFrom(m, homing, p.limit)
	p.fillFrom(m, others, p.limit)
	p.fillFrom(m, homing, p.fair)
	p.fillFrom(m, others, p.fair)
}

// fillFrom gives a newcomer shards of the members that have more load than some level, the one with the most strain
// first. shards is what they can give, the heaviest first.
func (p *Planner) fillFrom(m int, shards [][]int, level []int64) {
	var donors []int
	for d, list := range shards {
		if len(list) > 0 && p.load[d] > level[d] {
			donors = append(donors, d)
		}
	}
	for len(donors) > 0 {
		at := 0
		for i, d := range donors {
			if p.strain(d, 0) > p.strain(donors[at], 0) {
				at = i
			}
		}
		from := donors[at]
		list := shards[from]
		if i := p.loan(list, m); i >= 0 && p.load[from] > level[from] {
			p.put(list[i], m)
			shards[from] = slices.Delete(list, i, i+1)
		} else {
			donors = slices.Delete(donors, at, at+1)
		}
	}
}

// loan returns which of a member's shards, the heaviest first, goes to a newcomer next: the heaviest that leaves the
// member its fair share, otherwise the lightest. It is -1 if there is none.
func (p *Planner) loan(shards []int, m int) int {
	i := sort.Search(len(shards), func(i int) bool {
		s := shards[i]
		d := p.owner[s]
		return p.load[d]-p.size[s] >= p.fair[d] && p.lends(s, m)
	})
	if i == len(shards) {
		i--
	}
	if i < 0 || !p.lends(shards[i], m) {
		return -1
	}
	return i
}

// lends says whether a shard's owner may give it to a newcomer: the owner has more than its fair share, the newcomer
// gets no more than its own, and the two are more even then. Where that holds for a shard, it holds for lighter ones.
func (p *Planner) lends(s, m int) bool {
	d, size := p.owner[s], p.size[s]
	if p.load[d] <= p.fair[d] || p.load[m]+size > p.fair[m] || !p.hasRoom(m, size) {
		return false
	}
	if !p.shares(d) {
		return true
	}
	wd, wm := float64(p.can[d].Weight), float64(p.can[m].Weight)
	return float64(size)*(1/wd+1/wm) < 2*(float64(p.load[d])/wd-float64(p.load[m])/wm)
}

// donor is a member that gives shards away since it was above its limit.
type donor struct {
	member int
	shards []int // what it may give, the heaviest first
}

// Level corrects the placement: members above their limits give shards to those with the least strain, until they are
// midway between their fair share and their limit. That distance keeps shards from going to and fro when loads vary a
// little; if no member is above its limit, Level does nothing. It puts no member above its limit for another's sake,
// unless no shard fits anywhere; then the move must make the greater strain of the two less. It ends where no single
// move would make anything better. It moves at most so much load, but at least one shard if most is above 0, and no
// fixed shards. A member that has no share is not its business, see Empty.
func (p *Planner) Level(most int64) {
	p.measure()
	b := &budget{left: most}
	for again := true; again; {
		again = false
		donors := p.donors()
		for len(donors) > 0 {
			at := 0
			for i := range donors {
				if p.strain(donors[i].member, 0) > p.strain(donors[at].member, 0) {
					at = i
				}
			}
			d := &donors[at]
			if p.load[d.member] > p.easy[d.member] && p.relieve(d, b) {
				again = true
			} else {
				donors = slices.Delete(donors, at, at+1)
			}
		}
	}
}

// donors returns the members above their limits, and what they may give.
func (p *Planner) donors() (donors []donor) {
	number := make(map[int]int)
	for m := range p.names {
		if p.shares(m) && p.load[m] > p.limit[m] {
			number[m] = len(donors)
			donors = append(donors, donor{member: m})
		}
	}
	if len(donors) == 0 {
		return nil
	}
	for s, m := range p.owner {
		if i, ok := number[m]; ok && p.size[s] > 0 && !p.fixed[s] {
			donors[i].shards = append(donors[i].shards, s)
		}
	}
	for _, d := range donors {
		p.heaviestFirst(d.shards)
	}
	return donors
}

// budget is how much load may still be moved.
type budget struct {
	left int64
	used bool
}

// allows says whether so much load may be moved.
func (b *budget) allows(size int64) bool { return size <= b.left || !b.used && b.left > 0 }

func (b *budget) use(size int64) {
	b.left -= size
	b.used = true
}

// relieve makes a donor give one shard, and reports whether it did: if possible the heaviest one that is no more than
// has to go, so that few shards move, otherwise the lightest. One that is no longer above its limit gives only what
// keeps both members from their limits.
func (p *Planner) relieve(d *donor, b *budget) bool {
	m, shards := d.member, d.shards
	over, strain := p.load[m] > p.limit[m], p.strain(m, 0)
	want := p.load[m] - p.easy[m]
	fits := func(s int) bool {
		to := p.targets.pick(p, p.size[s], false)
		if to < 0 || to == m || !b.allows(p.size[s]) {
			return false
		}
		after := p.load[to] + p.size[s]
		return after <= p.limit[to] && over || after <= p.easy[to] && p.strain(to, p.size[s]) < strain
	}
	small := sort.Search(len(shards), func(i int) bool { return p.size[shards[i]] <= want })
	i := small + sort.Search(len(shards)-small, func(i int) bool { return fits(shards[small+i]) })
	if i < len(shards) {
		return p.give(d, p.homing(d, i), b)
	}
	i = len(shards) - 1
	if !over || i < 0 || !b.allows(p.size[shards[i]]) {
		return false
	}
	size := p.size[shards[i]]
	to := p.targets.pick(p, size, false)
	if to < 0 || to == m || p.load[to]+size > p.limit[to] && p.strain(to, size) >= strain {
		return false
	}
	return p.give(d, i, b)
}

// homing returns which shard a donor gives instead of another: one that is not much lighter, and can go home.
func (p *Planner) homing(d *donor, i int) int {
	for j := i; j < len(d.shards) && 2*p.size[d.shards[j]] >= p.size[d.shards[i]]; j++ {
		s := d.shards[j]
		h := p.home[s]
		if h >= 0 && h != d.member && p.targets.tier[h] == 0 && p.hasRoom(h, p.size[s]) &&
			p.load[h]+p.size[s] <= p.easy[h] {
			return j
		}
	}
	return i
}

// give makes a donor give a shard away.
func (p *Planner) give(d *donor, i int, b *budget) bool {
	s := d.shards[i]
	b.use(p.size[s])
	p.put(s, p.target(s, false))
	d.shards = slices.Delete(d.shards, i, i+1)
	return true
}
