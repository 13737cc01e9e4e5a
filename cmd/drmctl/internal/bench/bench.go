package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// Options of Run. Only Etcd is required.
type Options struct {
	// Etcd starts an etcd, or names one that runs already.
	Etcd func(ctx context.Context) (Etcd, error)
	// Scale multiplies the number of resources in each bench. What a bench should reach is stated for 1; far below
	// that, fixed costs weigh more. Default 1.
	Scale float64
	// LeaseTTL is the TTL of the members' leases. What a bench should reach is stated for the default,
	// drm.DefaultLeaseTTL.
	LeaseTTL time.Duration
	// Spawn starts drmctl in a process of its own, with these arguments, and without what the environment says of
	// etcd's address and of apps. Only takeover needs it.
	Spawn func(args ...string) (Process, error)
	// Resources is how many resources the member has that takeover kills, before Scale. Default 1,000.
	Resources int
	// Runs is how many times takeover kills a member with a supervisor, and without. Default 10.
	Runs int
	// Say is called with one line for each step. Optional.
	Say func(line string)
}

// Etcd is where a bench runs.
type Etcd struct {
	// Config says how to reach it.
	Config drm.EtcdConfig
	// Stop ends the etcd, with all that is in it. Nil for an etcd that belongs to somebody else; a bench then removes
	// what it has written.
	Stop func() error
	// CPU returns how much processor time the etcd has used so far. Nil where that is unknown.
	CPU func() time.Duration
}

// Result is the outcome of a bench.
type Result struct {
	Bench   string
	Figures map[string]float64
	Reach   string // what it should reach, for people
	OK      bool   // whether it reached that
}

// bench is one of the benches.
type bench struct {
	name, work, reach string
	run               func(ctx context.Context, l *lab) (figures map[string]float64, ok bool, err error)
}

// Takeover is the name of the bench that Options.Resources and Options.Runs are for.
const Takeover = "takeover"

var benches = slices.DeleteFunc(allBenches, func(b bench) bool { return b.name == Takeover && runtime.GOOS != "linux" })

var allBenches = []bench{
	{
		"claim", "one member starts cold on 100,000 catalogued resources",
		"≥ 0.4 of raw batched put to the last Handle, ≥ 0.25 to all active", claim,
	},
	{
		"mutex", "10,000 resources with a concurrency.Mutex each, 64 goroutines, by rate, against ours on 100,000",
		"≥ 4 times as fast", mutex,
	},
	{
		"failover", "4 members, 40,000 resources, one killed: from etcd's first delete event to the last Handle",
		"≤ 3 times reading the events and putting as many keys; no other member passes a local deadline", failover,
	},
	{
		"handover", "4 → 5 members, 40,000 resources: from Terminate returned to Handle called, for each",
		"99 % within raw delete and put of the moved keys", handover,
	},
	{
		"join-storm", "10 members start within 1 s, 20,000 resources",
		"≤ 1.5 times the moves of a single assignment", joinStorm,
	},
	{
		"idle", "10 members, 100,000 resources, nothing happens, 60 s; and 30 s with users and passwords",
		"no revisions but one source write a poll, ≤ 1 % of a core each; no tokens asked for", idle,
	},
	{
		"many", "200 apps × 3 members in one process, nothing happens: with a client for each, and with one connection",
		"≤ 2 % of a core for all 600 members with one connection", many,
	},
	{
		"memory", "one member that holds 200,000 resources of 100 bytes",
		"≤ 1 KiB each beside the data", memory,
	},
	{
		"scale", "100 members, 200,000 resources: what one join and one death cost those that they do not concern",
		"no event and no key but the group's", scale,
	},
	{
		"sync", "a source of 1,000,000 resources: first sync, then 1 % changed",
		"first ≥ 0.5 of raw put; then only the changes are written, and no more than they are read", syncing,
	},
	{
		"rolling", "10 members, 10,000 resources: all replaced one by one, with stable ids, with Rejoin, with new ids",
		"no move with Rejoin; ≤ 2 moves of each resource with new ids and versions", rolling,
	},
	{
		"flapping", "4 members and one that lives 8 s, 3,000 resources: without and with what is remembered of deaths",
		"≤ half of the moves in a minute", flapping,
	},
	{
		Takeover, "kill -9 of one of 4 members, with 1,000 resources: ten times under drmctl run, and without",
		"to the last Handle at most 0.1 s (p99) longer than raw revoke and put of as many keys", takeover,
	},
	{
		"million", "1,000,000 resources on 10 members, one killed",
		"all handled again, and no other member passes a local deadline", million,
	},
}

// Names lists the benches, in the order in which they run.
func Names() []string {
	names := make([]string, len(benches))
	for i, b := range benches {
		names[i] = b.name
	}
	return names
}

// Work says what a bench does, for people.
func Work(name string) string {
	if i := index(name); i >= 0 {
		return benches[i].work
	}
	return ""
}

func index(name string) int {
	return slices.IndexFunc(benches, func(b bench) bool { return b.name == name })
}

// Run runs one bench. An error means that it could not be measured. A bench that misses its reach is not an error.
func Run(ctx context.Context, name string, opts Options) (res Result, err error) {
	i := index(name)
	if i < 0 {
		return res, fmt.Errorf("no bench %q, want %s", name, strings.Join(Names(), ", "))
	}
	b := benches[i]
	l, err := newLab(ctx, b.name, opts)
	if err != nil {
		return res, fmt.Errorf("bench %s: %w", name, err)
	}
	figures, ok, err := b.run(ctx, l)
	if cerr := l.close(ctx); err == nil {
		err = cerr
	}
	if err != nil {
		return res, fmt.Errorf("bench %s: %w", name, err)
	}
	return Result{Bench: name, Figures: figures, Reach: b.reach, OK: ok}, nil
}
