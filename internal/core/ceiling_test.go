package core

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func atMost(n int) func(*Config) {
	return func(c *Config) { c.MaxResources, c.RetakeAfter = n, 10*time.Second }
}

func (f *fixture) wantRoomUsed(want int) {
	f.t.Helper()
	if got := f.c.ceiling.used; got != want {
		f.t.Fatalf("%d take room, want %d", got, want)
	}
}

func TestNoMoreIsClaimedThanTheCeilingAllows(t *testing.T) {
	f := owning(t, []string{"a", "b", "c"}, atMost(2))
	f.want("claim c on 1", "claim b on 1")
	f.claimed("c", 110)
	f.want("handle c 110 on 1 v1")
	f.claimResult("b", WriteResult{Revision: 111, FoundToken: 111, FoundLease: 99}) // another member was faster
	f.want("claim a on 1")
	f.claimed("a", 112)
	f.want("handle a 112 on 1 v1")
	f.disappears("b", 113)
	f.want()
	f.done("a", OK)
	f.want("write-state a 112 active")
	f.saved("a", 112)
	f.remove("a")
	f.want("terminate a 112 removed")
	f.done("a", OK)
	f.want("release a 112")
	f.released("a", 114)
	f.want("claim b on 1")
}

// The shard is declined meanwhile, since two resources do not fit, and stays with this member.
func TestAClaimWhoseAnswerWasLostTakesRoom(t *testing.T) {
	f := owning(t, []string{"a", "b"}, atMost(1))
	f.want("claim b on 1")
	f.claimResult("b", WriteResult{Unknown: true})
	f.want()
	f.wantRoomUsed(1)
	f.wait(200 * time.Millisecond)
	f.want("decline", "claim b on 1") // again: it takes room already
	f.claimResult("b", WriteResult{Unknown: true})
	f.remove("b")
	f.want()
	f.wait(4 * time.Second) // it may still be applied
	f.want("decline")       // it lacks another number
	f.wait(2 * time.Second)
	f.want("release b 0") // looks whether it is there
	f.told()
	f.c.Actions() // how much is lacking has changed
	f.released("b", 120)
	f.want("claim a on 1")
}

func TestAClaimOnAnEndedLeaseTakesRoomUntilItsKeyIsGone(t *testing.T) {
	f := handled(t, atMost(1))
	f.entry("b", "v1")
	f.want()
	f.c.LeaseFenced(f.now, 1)
	f.want("terminate a 110 fenced")
	f.done("a", OK)
	f.want("revoke 1")
	f.c.LeaseReady(f.now, 2)
	f.want()
	f.wantRoomUsed(1)
	f.disappears("a", 120)
	f.want("claim b on 2") // it waited for longer
	f.wantRoomUsed(1)
}

// shards makes a Core that owns so many shards, each of which has so many resources, and lists them. Claims are
// answered, and calls succeed.
func shardsOf(t *testing.T, sizes []int, change ...func(*Config)) *fixture {
	cfg := testConfig()
	cfg.HandleConcurrency, cfg.SummaryLeast = 1000, 1000
	for _, f := range change {
		f(&cfg)
	}
	f := &fixture{t: t, c: New(cfg), now: time.Hour, rev: 100}
	owned := make([]bool, len(sizes))
	for n := range owned {
		owned[n] = true
	}
	f.c.SetOwned(f.now, owned, nil)
	f.c.LeaseReady(f.now, 1)
	for n, size := range sizes {
		f.list(n, size)
	}
	return f
}

func (f *fixture) list(n, size int) {
	f.rev++
	var entries []Entry
	for i := range size {
		entries = append(entries, Entry{ID: fmt.Sprintf("s%d-%d", n, i), Data: []byte("v1")})
	}
	f.c.Snapshot(f.now, n, f.rev, entries, nil, nil)
}

// settle answers everything with success, lets some time pass, and returns how often something was declined.
func (f *fixture) settle(d time.Duration) (declines int) {
	f.t.Helper()
	for end := f.now + d; ; {
		for actions := f.c.Actions(); len(actions) > 0; actions = f.c.Actions() {
			if err := f.c.Audit(); err != nil {
				f.t.Fatal(err)
			}
			for _, a := range actions {
				f.rev++
				switch a.Kind {
				case Claim:
					f.c.ClaimDone(f.now, a.Shard, a.ID, WriteResult{Applied: true, Revision: f.rev})
				case Release:
					f.c.ReleaseDone(f.now, a.Shard, a.ID, WriteResult{Applied: true, Revision: f.rev})
				case WriteState:
					f.c.StateDone(f.now, a.Shard, a.ID, a.Token, WriteResult{Applied: true, Revision: f.rev})
				case Handle, Terminate:
					f.c.CallDone(f.now, a.Shard, a.ID, OK, "")
				case Decline:
					declines++
				default:
				}
				if used := f.c.ceiling.used; used > f.c.cfg.MaxResources {
					f.t.Fatalf("%d take room", used)
				}
			}
		}
		at, ok := f.c.NextTimer()
		if !ok || at > end {
			f.now = end
			return declines
		}
		f.now = max(at, f.now)
		f.c.Tick(f.now)
	}
}

// held says how many resources of each shard are handled.
func (f *fixture) held() []int {
	counts := make([]int, len(f.c.shards))
	for _, h := range f.c.Handled() {
		counts[h.Shard]++
	}
	return counts
}

// told makes the view say what the member declines.
func (f *fixture) told() {
	declined, _ := f.c.Declined()
	f.c.SetDeclined(f.now, declined, nil)
}

func (f *fixture) wantDeclined(shards ...int) {
	f.t.Helper()
	var got []int
	all, _ := f.c.Declined()
	for n, declined := range all {
		if declined {
			got = append(got, n)
		}
	}
	if !slices.Equal(got, shards) {
		f.t.Fatalf("declined: %v, want %v; held: %v", got, shards, f.held())
	}
}

func TestShardsThatDoNotFitAreDeclinedWhole(t *testing.T) {
	f := shardsOf(t, []int{3, 3, 3, 3}, atMost(7))
	f.settle(5 * time.Second)
	f.wantDeclined(2, 3)
	if got := f.held(); !slices.Equal(got[:2], []int{3, 3}) {
		t.Fatalf("held: %v", got)
	}
	f.c.SetOwned(f.now, []bool{true, true, false, false}, nil) // others take the rest
	f.told()
	if n := f.settle(time.Hour); n > 1 { // it lacks nothing any more
		t.Errorf("declined %d times more", n)
	}
	if got := f.held(); !slices.Equal(got, []int{3, 3, 0, 0}) {
		t.Errorf("held: %v", got)
	}
}

func TestWhatAllDeclineIsTakenAsFarAsItFits(t *testing.T) {
	f := shardsOf(t, []int{3, 3, 3}, atMost(7))
	f.settle(5 * time.Second)
	f.wantDeclined(2)
	if got := f.held()[2]; got > 1 {
		t.Fatalf("%d held of a shard that is declined", got)
	}
	f.told() // the view says so, and the member owns it all the same
	f.settle(time.Minute)
	f.wantDeclined(2)
	if got := f.held(); !slices.Equal(got, []int{3, 3, 1}) {
		t.Errorf("held: %v", got)
	}
}

func TestAFullMemberDeclinesWhatItDoesNotOwnToo(t *testing.T) {
	f := shardsOf(t, []int{3, 3, 3}, atMost(3))
	f.c.SetOwned(f.now, []bool{true, true, false}, nil)
	f.settle(5 * time.Second)
	f.wantDeclined(1, 2)
}

func TestAShardThatGrowsMakesTheMemberDeclineTheOneOfWhichItHasLeast(t *testing.T) {
	f := shardsOf(t, []int{2, 4, 3}, atMost(9))
	f.settle(5 * time.Second)
	f.wantDeclined()
	f.list(1, 5)
	f.settle(5 * time.Second)
	f.wantDeclined(0)
}

// Others may have room for a shard of which this member has nothing, since what all decline has taken its room.
func TestAShardThatDoesNotFitBesideWhatAllDeclineIsDeclinedToo(t *testing.T) {
	f := shardsOf(t, []int{3, 3, 3, 0}, atMost(7))
	f.settle(5 * time.Second)
	f.told()
	f.settle(5 * time.Second)
	f.wantDeclined(2)
	if got := f.held(); !slices.Equal(got, []int{3, 3, 1, 0}) {
		t.Fatalf("held: %v", got)
	}
	f.list(3, 1)
	f.settle(5 * time.Second)
	f.wantDeclined(2, 3)
	if got := f.held(); !slices.Equal(got, []int{3, 3, 1, 0}) {
		t.Fatalf("held: %v", got)
	}
}

func TestShardsAreTakenBackWhenThereHasBeenRoomForAWhile(t *testing.T) {
	f := shardsOf(t, []int{30, 30, 30, 30}, atMost(100))
	f.settle(5 * time.Second)
	f.wantDeclined(3)
	f.told()
	f.c.SetOwned(f.now, []bool{true, true, true, false}, nil)
	f.settle(time.Minute)
	f.wantDeclined(3)                                          // 90 and 30 are too many
	f.c.SetOwned(f.now, []bool{true, true, false, false}, nil) // a new member has one
	f.settle(9 * time.Second)
	f.wantDeclined(3)
	f.settle(3 * time.Second)
	f.wantDeclined()
	f.c.SetOwned(f.now, []bool{true, true, false, true}, nil)
	f.list(3, 60) // it has grown meanwhile
	f.settle(3 * time.Second)
	f.wantDeclined(1, 2) // it has more of the new one than of each of the others
}

// Whatever happens in a group of full members, no more than a change in a second is told.
func TestWhatIsDeclinedChangesOnceASecondAtMost(t *testing.T) {
	sizes := make([]int, 40)
	for n := range sizes {
		sizes[n] = 1 + n%5
	}
	f := shardsOf(t, sizes, atMost(30))
	for i := range 200 {
		f.list(i%len(sizes), 1+(i*7)%6)
		f.settle(100 * time.Millisecond)
	}
	f.settle(0)
	total := 0
	for range 20 {
		before := fmt.Sprint(f.c.Declined())
		n := f.settle(time.Second)
		total += n
		if n > 1 || n == 0 && before != fmt.Sprint(f.c.Declined()) {
			t.Fatalf("%d changes within a second", n)
		}
	}
	if total > 3 {
		t.Errorf("%d changes though nothing happens", total)
	}
}
