package groupsim

import (
	"fmt"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/schedule"
)

// Plan describes one run: the group, how bad its surroundings are, and what happens when.
type Plan struct {
	Seed      uint64 // decides the delays and chances that are drawn during the run
	Members   int    // how many start together
	Shards    int
	Uneven    int // the loads of shards: 0: all are the same; 1: some are empty; 2: up to tenfold; 3: one is heavy
	Weighty   int // percent of members with another weight than 1
	PerMinute int // rules of the placement, in shards of mean load
	Moving    int
	PerMember int
	Ops       int  // how many writes the coordinator may send at once
	Lag       int  // how late members see what happens, in ms
	Lossy     int  // percent of the members' writes whose answer is lost, or that fail
	Cuts      int  // percent of the coordinator's writes at which it dies, or whose answer is lost
	Clocks    int  // by how many seconds wall clocks differ at most
	Older     int  // percent of the members that start with Schema 1
	Versions  int  // how many versions members have
	Quick     bool `json:",omitempty"` // the group is balanced after seconds of quiet, and again soon
	Events    []Event
}

// Kind says what an Event does, and to whom.
type Kind uint8

// The kinds of events. Each comment begins with what Event.Who counts.
const (
	Start      Kind = iota // member: it starts, if it is not there
	Stop                   // member: it stops in order
	Rejoin                 // member: it stops with Rejoin, and comes back after For
	Late                   // member: it stops with Rejoin, and does not come back in time
	Die                    // member: its process dies, and comes back after For unless For is 0
	KillOffice             // nobody: the coordinator's process dies, and comes back after For unless For is 0
	CutOff                 // member: its network fails for For
	Unready                // member: it cannot work for For
	Drain                  // member: it is drained, a little at a time
	DrainHard              // member: it is drained at once, or by force
	DrainFor               // member: it is drained for For
	Undrain                // member
	Cordon                 // member
	Uncordon               // member
	Pin                    // shard: it is pinned to a member
	Unpin                  // shard
	Move                   // shard: it is moved to a member
	Rebalance              // nobody: an operator orders it
	Weigh                  // member: an operator gives it another weight
	Unweigh                // member
	Load                   // shard: it weighs something else
	Surge                  // shard: it and all after it weigh something else
	Full                   // member: it is full for For
	Upgrade                // member: a new one of a new version starts, and then this one stops
	Flap                   // member: it dies, and starts again at once
	Forget                 // nobody: somebody deletes all exceptions by hand
	Depose                 // nobody: somebody deletes the coordinator's key by hand
	SetWeight              // member: it gives itself another weight
	Kinds                  // how many kinds there are
)

var kindNames = [Kinds]string{
	"start", "stop", "rejoin", "late", "die", "kill-office", "cut-off", "unready", "drain", "drain-hard", "drain-for",
	"undrain", "cordon", "uncordon", "pin", "unpin", "move", "rebalance", "weigh", "unweigh", "load", "surge", "full",
	"upgrade", "flap", "forget", "depose", "set-weight",
}

func (k Kind) String() string { return kindNames[k] }

// MarshalText makes a Plan easier to read as JSON.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (k *Kind) UnmarshalText(name []byte) error {
	i := slices.Index(kindNames[:], string(name))
	if i < 0 {
		return fmt.Errorf("kind of event: got %q, want one of %v", name, kindNames)
	}
	*k = Kind(i)
	return nil
}

// Event is one thing that happens.
type Event struct {
	Kind Kind
	At   time.Duration
	Who  int
	What int // another member, a weight, or whatever else the kind needs
	For  time.Duration
}

// Random is a source of choices for Draw that chooses at random.
func Random(seed uint64) schedule.Source { return schedule.Random(seed, 0x9809) }

// Draw makes a Plan with up to the given number of events.
func Draw(s schedule.Source, events int) Plan {
	p := Plan{
		Seed:      uint64(s.Choose("seed", 1<<30)),
		Members:   2 + s.Choose("members", 4),
		Shards:    4 + 4*s.Choose("shards", 8),
		Uneven:    s.Choose("uneven", 4),
		Weighty:   []int{0, 0, 30}[s.Choose("weighty", 3)],
		PerMinute: []int{1000, 10, 3}[s.Choose("per minute", 3)],
		Moving:    []int{1000, 8, 2}[s.Choose("moving", 3)],
		PerMember: []int{1000, 3, 1}[s.Choose("per member", 3)],
		Ops:       []int{126, 7, 2, 1}[s.Choose("ops", 4)],
		Lag:       []int{1, 30, 400}[s.Choose("lag", 3)],
		Lossy:     []int{0, 0, 5, 20}[s.Choose("lossy", 4)],
		Cuts:      []int{0, 0, 3, 15}[s.Choose("cuts", 4)],
		Clocks:    []int{0, 2, 90}[s.Choose("clocks", 3)],
		Older:     []int{0, 0, 0, 0, 0, 20}[s.Choose("older", 6)],
		Versions:  1 + s.Choose("versions", 2),
	}
	var at time.Duration
	for range s.Choose("events", events+1) {
		// Some come at about the same time, since the rare cases are those where several happen together.
		at += []time.Duration{20, 0, 500, 3000, 20_000, 90_000}[s.Choose("apart", 6)] * time.Millisecond
		p.Events = append(p.Events, Event{
			Kind: Kind(s.Choose("kind", int(Kinds))),
			At:   at,
			Who:  s.Choose("who", 40),
			What: s.Choose("what", 40),
			For:  []time.Duration{0, 300, 3000, 10_000, 60_000}[s.Choose("for", 5)] * time.Millisecond,
		})
	}
	return p
}

// Simplifications are functions each of which makes a Plan simpler in one respect, where it can be. None of them
// changes Events.
func Simplifications() []func(*Plan) {
	return []func(*Plan){
		func(q *Plan) { q.Lossy = 0 }, func(q *Plan) { q.Cuts = 0 }, func(q *Plan) { q.Older = 0 },
		func(q *Plan) { q.Clocks = 0 }, func(q *Plan) { q.Lag = 1 }, func(q *Plan) { q.Weighty = 0 },
		func(q *Plan) { q.Uneven = 0 }, func(q *Plan) { q.Ops = 126 },
		func(q *Plan) { q.Shards = max(4, q.Shards/2) },
		func(q *Plan) { q.Members = max(2, q.Members-1) }, func(q *Plan) { q.PerMinute = 1000 },
		func(q *Plan) { q.Moving = 1000 }, func(q *Plan) { q.PerMember = 1000 }, func(q *Plan) { q.Versions = 1 },
	}
}
