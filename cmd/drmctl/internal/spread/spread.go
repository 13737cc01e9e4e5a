package spread

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Config is what Run needs. All fields but Events, Seed and Skew are required.
type Config struct {
	Members   int // how many members there are at first; they come and go
	Resources int
	Shards    int
	Weights   []int   // the members take these weights in turn
	Events    int     // how many times a member comes or goes
	Seed      uint64  // decides the events: the same seed gives the same ones
	Skew      float64 // how unequal the weights of resources are: the exponent of Zipf's law; 0: all are equal
}

// Report is what Run found.
type Report struct {
	// Ring has the figures of the ring alone.
	Ring Figures
	// Balanced has the figures of the ring with the coordinator's exceptions. Joins, drains and leaves in order are
	// prepared; a death or the end of a drain is corrected after it. Corrections count as moves beyond the minimum.
	Balanced Figures
	// Rendezvous and Jump have the figures of rendezvous hashing, and of jump hashing over members numbered without
	// gaps. Nobody asked how long they take.
	Rendezvous, Jump Figures
	// Cost is what the exceptions take.
	Cost Cost
	// Smallest and Largest are the fewest and the most resources in a shard. Shards are not divided.
	Smallest, Largest int
	// Heaviest is the load of the heaviest shard as a multiple of the average member's load.
	Heaviest float64
	// Kinds counts the events of each kind.
	Kinds map[string]int
}

// The kinds of events.
const (
	Join    = "join"   // a member joins that was never there
	Return  = "return" // a member comes back that has left
	Leave   = "leave"  // a member leaves in order
	Death   = "death"  // a member is gone
	Drain   = "drain"
	Undrain = "undrain"
)

// run is a group and what has happened to it so far.
type run struct {
	cfg   Config
	rand  *rand.Rand
	group *group
	born  int
	kinds map[string]int

	load                             []int64
	ring, balanced, rendezvous, jump *tally
	placer                           *placer
	rival                            *rendezvous
}

// Run forms a group and lets events happen to it. It fails only when ctx ends, with the error of ctx.
func Run(ctx context.Context, cfg Config) (Report, error) {
	load, smallest, largest := weigh(cfg.Resources, cfg.Shards, cfg.Skew)
	r := &run{
		cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 0)), group: newGroup(cfg.Shards), kinds: map[string]int{},
		load: load, ring: &tally{load: load}, balanced: &tally{load: load},
		rendezvous: &tally{load: load}, jump: &tally{load: load}, rival: newRendezvous(cfg.Shards),
	}
	r.placer = &placer{group: r.group, load: load}
	for range cfg.Members {
		r.join()
	}
	r.begin()
	for range cfg.Events {
		if err := ctx.Err(); err != nil {
			return Report{}, fmt.Errorf("simulate: %w", context.Cause(ctx))
		}
		r.event()
	}
	var total int64
	for _, n := range load {
		total += n
	}
	return Report{
		Ring: r.ring.end(), Balanced: r.balanced.end(), Rendezvous: r.rendezvous.end(), Jump: r.jump.end(),
		Cost: r.placer.end(), Smallest: smallest, Largest: largest, Kinds: r.kinds,
		Heaviest: float64(slices.Max(load)) * float64(len(r.group.eligible())) / float64(total),
	}, nil
}

// begin places everything for the first time.
func (r *run) begin() {
	members := r.group.eligible()
	r.ring.begin(r.ring.decided(r.owners(false)), members)
	r.placer.spread(r.ring.owners, members)
	r.balanced.begin(r.balanced.decided(r.owners(true)), members)
	r.rendezvous.begin(r.rival.assign(members), members)
	r.jump.begin(naiveJump(r.cfg.Shards, members), members)
}

// owners finds the owners as each member does, with or without the exceptions.
func (r *run) owners(exceptions bool) func() []string {
	return func() []string { return r.group.view(exceptions).Owners() }
}

// event makes one event happen, and counts what moves.
func (r *run) event() {
	kind, who := r.happen()
	members := r.group.eligible()
	r.ring.event(kind, who, r.ring.decided(r.owners(false)))
	homes := r.ring.owners
	switch kind {
	case Join, Return:
		r.placer.fill(who, homes, r.balanced.owners, members)
	case Leave, Drain:
		r.placer.empty(who, homes, r.balanced.owners, members)
	}
	r.balanced.event(kind, who, r.balanced.decided(r.owners(true)))
	r.placer.level(homes, r.balanced.owners, members)
	r.balanced.event(kind, "", r.owners(true)())
	r.rendezvous.event(kind, who, r.rival.assign(members))
	r.jump.event(kind, who, naiveJump(r.cfg.Shards, members))
	for _, t := range []*tally{r.ring, r.balanced, r.rendezvous, r.jump} {
		t.evenness(members)
	}
}

// happen makes one event happen, and returns its kind and the member that it happens to. Half of the events take a
// member away, so that the group about keeps its size. The last member stays.
func (r *run) happen() (kind, who string) {
	kind, who = r.choose()
	r.kinds[kind]++
	switch kind {
	case Join:
		who = r.join()
	case Return:
		r.group.join(who, r.group.weight[who])
	case Leave, Death:
		r.group.leave(who)
	case Drain:
		r.group.drain(who)
	case Undrain:
		r.group.undrain(who)
	}
	return kind, who
}

// choose picks the next event, and the member.
func (r *run) choose() (kind, who string) {
	g := r.group
	var gone, drained []string
	for id := range g.weight {
		if !g.here[id] {
			gone = append(gone, id)
		} else if g.drained[id] {
			drained = append(drained, id)
		}
	}
	active := slices.Collect(maps.Keys(g.eligible()))
	var able []string
	if r.rand.IntN(2) == 0 && len(active) > 1 {
		able = []string{Leave, Death, Drain}
	} else {
		able = []string{Join}
		if len(gone) > 0 {
			able = append(able, Return)
		}
		if len(drained) > 0 {
			able = append(able, Undrain)
		}
	}
	kind = able[r.rand.IntN(len(able))]
	switch kind {
	case Return:
		who = r.one(gone)
	case Undrain:
		who = r.one(drained)
	case Leave, Death, Drain:
		who = r.one(active)
	}
	return kind, who
}

// one picks a member. The order of a map must not influence it.
func (r *run) one(ids []string) string {
	slices.Sort(ids)
	return ids[r.rand.IntN(len(ids))]
}

// join adds a member that was never there.
func (r *run) join() string {
	id := fmt.Sprintf("member-%05d", r.born)
	r.group.join(id, r.cfg.Weights[r.born%len(r.cfg.Weights)])
	r.born++
	return id
}
