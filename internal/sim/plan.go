package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
	"github.com/distributed-resource-manager/drm/internal/schedule"
)

// Plan describes one run: the members, how bad their surroundings are, and which faults happen when.
type Plan struct {
	Seed                 uint64 // decides the delays and chances that are drawn during the run
	Members              int
	Shards               int
	Resources            int
	HoldUntilTerminated  bool
	KeepOnOutage         bool
	CanUpdate            bool
	HandleAttempts       int
	MoveAfter            int
	KeysPerLease         int
	WriteBacklog         int
	SummaryLeast         int
	HandleConcurrency    int
	TerminateConcurrency int
	ReleaseBacklog       int
	Lossy                int // percent of requests whose answer is lost, or that fail
	Slow                 int // percent of messages that take long
	Skew                 int // how many permille clocks run faster or slower than etcd's, at most
	Bad                  int // percent of handler calls that fail, panic or hang
	Hung                 int // percent of handler calls that ignore their context, and return long after, or never
	FinishCalls          bool
	Receivers            Receivers
	Late                 int // percent of requests to receivers that the receivers get to late
	QuarantineAfter      int // 0: no trails are kept, and nobody is suspected
	Crowd                int // core.Config.Crowd
	Poison               int // how many resources kill the processes that handle them
	Supervised           bool
	Flaky                int // percent of handlings that break later, or whose service restarts
	Faults               []Fault
	Limits               Limits
	Group                *groupsim.Plan `json:",omitempty"` // who owns what: real views say it; nil: it is drawn
}

// noCrowd is a Plan.Crowd that no death exceeds.
const noCrowd = 1000

// Kind says what a Fault does, and to whom.
type Kind uint8

// The kinds of faults and changes. Each comment begins with what Fault.Who counts.
const (
	Crash          Kind = iota // member: its process dies, and comes back after For
	Pause                      // member: nothing in it runs for For
	Cut                        // member: its network fails for For
	Stall                      // member: its watches are silent for For
	Drain                      // member: it gets no shards for For
	Leave                      // member: it stops in order, and comes back after For
	Move                       // resource: its shard goes to another member
	Change                     // resource: its data change
	Touch                      // resource: its entry is written again as it was
	Remove                     // resource: its entry goes, and comes back after For
	Suspend                    // resource: its entry is suspended for For
	Compact                    // nobody: etcd forgets the past, and watches that lag must list again
	Break                      // member: its watches are cancelled, and list again
	DeleteClaim                // resource: somebody deletes its claim by hand
	RevokeLease                // member: somebody revokes one of its leases by hand
	Deafen                     // member: etcd hears it, but it hears nothing of etcd for For
	Silence                    // resource: all watches of its shard are silent for For
	Elect                      // nobody: etcd has no leader for For; the new one gives each lease its whole TTL again
	LoseKey                    // member: its key is gone, and it registers again after For
	Miss                       // resource: some watches of its shard silently lose the next event
	DeleteSummary              // resource: somebody deletes the summaries of its shard by hand
	Busy                       // member: its loop is busy for For; its leases' keepers and its handlers go on
	BlockLog                   // member: writes to its log block for For
	Give                       // resource: it is moved to another member without its shard, for For, or for ever with 0
	Unready                    // member: it says for For that it cannot work; it gets no shards if enough others can
	Free                       // resource: somebody frees it from quarantine
	RestartService             // member: the process of its receiver dies, and is back after For
	kinds
)

var kindNames = [kinds]string{
	"crash", "pause", "cut", "stall", "drain", "leave", "move", "change", "touch", "remove", "suspend", "compact",
	"break",
	"delete-claim", "revoke-lease", "deafen", "silence", "elect", "lose-key", "miss", "delete-summary",
	"busy", "block-log", "give", "unready", "free", "restart-service",
}

func (k Kind) String() string { return kindNames[k] }

// MarshalText makes a Plan easier to read as JSON.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (k *Kind) UnmarshalText(name []byte) error {
	i := slices.Index(kindNames[:], string(name))
	if i < 0 {
		return fmt.Errorf("kind of fault: got %q, want one of %v", name, kindNames)
	}
	*k = Kind(i)
	return nil
}

// Fault is one thing that befalls a member or a resource.
type Fault struct {
	Kind Kind
	At   time.Duration
	Who  int
	For  time.Duration
}

// Random is a source of choices for Draw that chooses at random.
func Random(seed uint64) schedule.Source { return schedule.Random(seed, 0x5eed) }

// Draw makes a Plan with up to the given number of faults.
func Draw(s schedule.Source, faults int) Plan {
	p := Plan{
		Seed:                 uint64(s.Choose("seed", 1<<30)),
		Members:              2 + s.Choose("members", 3),
		Shards:               1 + s.Choose("shards", 4),
		Resources:            1 + s.Choose("resources", 6),
		HoldUntilTerminated:  s.Choose("hold", 2) == 1,
		KeepOnOutage:         s.Choose("keep", 4) == 3,
		CanUpdate:            s.Choose("update", 2) == 1,
		HandleAttempts:       s.Choose("handle attempts", 3),
		MoveAfter:            s.Choose("move after", 3),
		KeysPerLease:         1 + s.Choose("keys per lease", 4),
		HandleConcurrency:    1 + s.Choose("handle concurrency", 4),
		TerminateConcurrency: 1 + s.Choose("terminate concurrency", 4),
		ReleaseBacklog:       1 + s.Choose("release backlog", 4),
		WriteBacklog:         1 + s.Choose("write backlog", 4),
		SummaryLeast:         1 + s.Choose("summary least", 3),
		Lossy:                []int{0, 2, 10, 30}[s.Choose("lossy", 4)],
		Slow:                 []int{0, 2, 10, 40}[s.Choose("slow", 4)],
		Skew:                 []int{0, 10, 40}[s.Choose("skew", 3)],
		Bad:                  []int{0, 5, 20, 50}[s.Choose("bad", 4)],
		Hung:                 []int{0, 0, 2, 10}[s.Choose("hung", 4)],
		FinishCalls:          s.Choose("finish calls", 2) == 1,
		Receivers:            []Receivers{NoReceivers, NoReceivers, KnowTokens, KnowNumbers}[s.Choose("receivers", 4)],
		Late:                 []int{0, 5, 20}[s.Choose("late", 3)],
	}
	if p.QuarantineAfter = []int{0, 1, 2, 3}[s.Choose("quarantine after", 4)]; p.QuarantineAfter > 0 {
		p.Poison = min([]int{0, 0, 0, 1, 1, 2}[s.Choose("poison", 6)], p.Resources)
		if p.Crowd = noCrowd; p.Poison == 0 && s.Choose("crowd", 2) == 1 { // poison in a crowd may kill often
			p.Crowd = 1
		}
	}
	p.Supervised = s.Choose("supervised", 2) == 1
	p.Flaky = []int{0, 0, 10, 30}[s.Choose("flaky", 4)]
	p.FinishCalls = p.FinishCalls || p.Receivers == KnowTokens // without it, such receivers cannot be right
	var at time.Duration
	for range s.Choose("faults", faults+1) {
		// Faults often come at about the same time, since the rare cases are those where several happen together.
		at += []time.Duration{0, 3, 30, 300, 2000}[s.Choose("apart", 5)] * time.Millisecond
		p.Faults = append(p.Faults, Fault{
			Kind: Kind(s.Choose("kind", int(kinds))),
			At:   at,
			Who:  s.Choose("who", 6),
			For:  []time.Duration{0, 20, 300, 1500, 5000, 9000}[s.Choose("for", 6)] * time.Millisecond,
		})
	}
	p.Limits = Limits{
		MaxResources: []int{0, 0, 0, 1, 2, 3}[s.Choose("most resources", 6)],
		HandleRate:   s.Choose("handle rate", 4) == 3,
		KeyRate:      s.Choose("key rate", 4) == 3,
	}
	if s.Choose("group", 2) == 1 {
		p.Group = drawGroup(s, &p)
	}
	return p
}
