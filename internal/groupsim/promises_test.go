package groupsim

import (
	"slices"
	"testing"
	"time"
)

// between returns whom a shard has belonged to in a stretch of time, one after the other.
func (r *Result) between(n int, from, to time.Duration) (owners []string) {
	for _, s := range r.Stays[n] {
		switch {
		case s.Since < from:
			owners = []string{s.Owner}
		case s.Since < to:
			owners = append(owners, s.Owner)
		}
	}
	return owners
}

// calm returns a plan in which nothing happens, and nothing gets lost.
func calm(seed uint64) Plan {
	p := Draw(Random(seed), 0)
	p.Members = max(p.Members, 3)
	p.Lossy, p.Cuts, p.Older = 0, 0, 0
	return p
}

func mustRun(t *testing.T, p Plan) Result {
	t.Helper()
	res := Run(p, Options{})
	if res.Err != nil {
		t.Fatalf("%v\n%s", res.Err, simulation.Describe(p))
	}
	return res
}

// Each member is replaced by one with another id and of a newer version. Each shard moves once, and what is uneven at
// the end may be corrected afterwards. Where news are so late that a member does not wait for the coordinator, it is
// twice.
func TestARollingUpdateMovesEachShardAtMostTwice(t *testing.T) {
	for seed := range uint64(60) {
		p := calm(seed)
		p.Versions, p.Uneven = 2, 2*int(seed%2) // shards without load go to whom the ring says
		const begin = 30 * time.Minute          // whatever was uneven at first has been corrected
		at := begin
		for i := range p.Members {
			p.Events = append(p.Events, Event{Kind: Upgrade, At: at, Who: i, For: 5 * time.Second})
			at += 20 * time.Second
		}
		res := mustRun(t, p)
		last := startUp + at
		for n := range p.Shards {
			during := res.between(n, startUp+begin, last)
			most := 2
			if p.Lag > 30 {
				most = 3
			}
			if after := res.between(n, startUp+begin, last+9*time.Minute); len(during) > most || len(after) > 3 {
				t.Fatalf("seed %d: shard %d belongs to %v during the update, and to %v in the end\n%s",
					seed, n, during, after, simulation.Describe(p))
			}
		}
	}
}

// What moves has to, and it moves once, unless a member that dies has got it.
func (r *Result) once(t *testing.T, p Plan, from, to time.Duration) {
	t.Helper()
	for n := range p.Shards {
		owners := r.between(n, from, to)
		dead := func(id string) bool { return slices.Contains(r.Died, id) }
		if len(owners) > 2 && !slices.ContainsFunc(owners, dead) {
			t.Fatalf("shard %d belongs to %v\n%s", n, owners, simulation.Describe(p))
		}
	}
}

func TestACoordinatorThatDiesInADrainLeavesNothingUndoneAndMovesNothingTwice(t *testing.T) {
	died := 0
	for seed := range uint64(150) {
		p := calm(seed)
		p.Members, p.Moving, p.PerMember, p.Ops = max(p.Members, 4), 2+int(seed%3), 1, 1+int(seed%4)
		const begin = 10 * time.Minute
		p.Events = []Event{{Kind: Drain, At: begin, Who: int(seed), What: 1}}
		if seed%2 == 0 {
			p.Cuts = 20 // dies in the middle of a plan, or its answers are lost
		} else {
			p.Events = append(p.Events, Event{Kind: KillOffice, At: begin + time.Duration(seed)*50*time.Millisecond})
		}
		p.Events = append(p.Events, Event{Kind: Unpin, At: begin + 20*time.Second}) // until then it may die again
		res := mustRun(t, p)
		res.once(t, p, startUp+begin, startUp+begin+50*time.Second)
		if len(res.Died) > 0 {
			died++
		}
	}
	if died < 60 {
		t.Errorf("in %d runs only, a coordinator has died", died)
	}
}

func TestACoordinatorThatDiesInACorrectionMovesNothingTwice(t *testing.T) {
	corrected := 0
	for seed := range uint64(150) {
		p := calm(seed)
		p.Members, p.PerMinute, p.Ops = max(p.Members, 4), 3, 1+int(seed%3)
		const begin = 40 * time.Minute
		p.Events = []Event{
			{Kind: Surge, At: begin, Who: int(seed) % 4},
			{Kind: KillOffice, At: begin + 2*time.Second + time.Duration(seed)*100*time.Millisecond},
		}
		if seed%2 == 0 {
			p.Cuts = 20
		}
		res := mustRun(t, p)
		res.once(t, p, startUp+begin, startUp+begin+9*time.Minute)
		corrected += res.Counts.Whats[Corrected]
	}
	if corrected < 200 {
		t.Errorf("only %d shards were moved for balance", corrected)
	}
}

// When a member is not back in time, the ring gives away what it had, and the coordinator places at once what would
// bring a member above the bound.
func TestAStopWithRejoinMovesNothingAndOneThatIsNotBackMovesOnlyItsOwn(t *testing.T) {
	for seed := range uint64(60) {
		p := calm(seed)
		const begin = 40 * time.Minute
		late := seed%2 == 1
		e := Event{Kind: Rejoin, At: begin, Who: int(seed), For: 5 * time.Second}
		if late {
			e.Kind, e.For = Late, 0
		}
		p.Events = []Event{e}
		res := mustRun(t, p)
		stopped := p.Events[0].Who % p.Members
		for n := range p.Shards {
			owners := res.between(n, startUp+begin, startUp+begin+50*time.Second)
			gone := owners[0] == "m0"+string(rune('0'+stopped))
			if len(owners) > 3 || len(owners) > 1 && !(late && gone) {
				t.Fatalf("seed %d: shard %d belongs to %v\n%s", seed, n, owners, simulation.Describe(p))
			}
		}
	}
}
