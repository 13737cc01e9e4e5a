package spread

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/shard"
)

// Config is what Run needs. All fields but Events and Seed are required.
type Config struct {
	Members   int // how many members there are at first; they come and go
	Resources int
	Shards    int
	Weights   []int   // the members take these weights in turn
	Events    int     // how many joins, returns, leaves, drains and undrains there are
	Seed      uint64  // decides the events: the same seed gives the same ones
	Bound     float64 // bounds the load with placement, as a multiple of the average
}

// Report is what Run found.
type Report struct {
	// Ring has the figures without placement.
	Ring Figures
	// Balanced has the figures with placement: after each event, exceptions keep each member's load below the bound. An
	// event itself moves what it must, given the exceptions that were there. What balancing moves after that counts as
	// moves beyond the minimum.
	Balanced Figures
	// Exceptions is how many exceptions there are at the end.
	Exceptions int
	// Balance is how long it takes on average to compute them, which only the coordinator does, once for each event.
	Balance time.Duration
	// Smallest and Largest are the fewest and the most resources in a shard. Shards are not divided.
	Smallest, Largest int
	// Kinds counts the events of each kind.
	Kinds map[string]int
}

// The kinds of events.
const (
	Join    = "join"   // a member joins that was never there
	Return  = "return" // a member comes back that left
	Leave   = "leave"  // a member leaves or dies, which has the same effect
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
}

// Run forms a group and lets events happen to it. It fails only when ctx ends, with the error of ctx.
func Run(ctx context.Context, cfg Config) (Report, error) {
	r := &run{
		cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 0)), group: newGroup(cfg.Shards), kinds: map[string]int{},
	}
	for range cfg.Members {
		r.join()
	}
	load := count(cfg.Resources, cfg.Shards)
	ring, balanced := &tally{load: load}, &tally{load: load}
	var balancing time.Duration
	exceptions := map[int]string{}
	balance := func(home []string, eligible map[string]int) {
		began := time.Now()
		exceptions = shard.Balance(shard.Placement{
			Home: home, Exceptions: exceptions, Load: load, Weights: eligible, Bound: cfg.Bound,
		})
		balancing += time.Since(began)
		r.group.place(exceptions)
	}
	owners := func(placement bool) func() []string {
		return func() []string { return r.group.view(placement).Owners() }
	}

	eligible := r.group.eligible()
	ring.begin(ring.decided(owners(false)), eligible)
	balance(ring.owners, eligible)
	balanced.begin(balanced.decided(owners(true)), eligible)
	for range cfg.Events {
		if err := ctx.Err(); err != nil {
			return Report{}, fmt.Errorf("simulate: %w", context.Cause(ctx))
		}
		member := r.happen()
		eligible = r.group.eligible()
		ring.event(member, ring.decided(owners(false)), eligible)
		balanced.event(member, balanced.decided(owners(true)), eligible)
		balance(ring.owners, eligible)
		balanced.event("", owners(true)(), eligible)
	}
	return Report{
		Ring: ring.end(), Balanced: balanced.end(), Exceptions: len(exceptions),
		Balance:  balancing / time.Duration(1+cfg.Events),
		Smallest: slices.Min(load), Largest: slices.Max(load), Kinds: r.kinds,
	}, nil
}

// happen makes one event happen, and returns the member that it happens to. Half of the events take a member away, so
// that the group about keeps its size. The last member stays.
func (r *run) happen() string {
	kind, who := r.choose()
	r.kinds[kind]++
	switch kind {
	case Join:
		who = r.join()
	case Return:
		r.group.join(who, r.group.weight[who])
	case Leave:
		r.group.leave(who)
	case Drain:
		r.group.drain(who)
	case Undrain:
		r.group.undrain(who)
	}
	return who
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
		able = []string{Leave, Drain}
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
	case Leave, Drain:
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
