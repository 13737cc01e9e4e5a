package core

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rationed makes a Core that owns shard 0 with these resources, and has claimed them all. Nothing is done yet of what
// follows from that. The keys of the resources are the first letters of their ids; "-" stands for no key.
func rationed(t *testing.T, ids []string, change ...func(*Config)) *fixture {
	f := owning(t, ids, change...)
	f.c.SetShare(f.now, Share{Mine: 1, All: 1, Since: 1, Alone: true})
	f.pass(time.Hour) // a budget begins empty
	f.c.Actions()
	for i, id := range ids {
		f.claimed(id, int64(200+i))
	}
	return f
}

// begins takes the actions, finds keys, ends each Handle successfully, and returns the ids in the order of the calls.
// It stores the states.
func (f *fixture) begins() (ids []string) {
	f.t.Helper()
	for actions := f.c.Actions(); len(actions) > 0; actions = f.c.Actions() {
		for _, a := range actions {
			switch a.Kind {
			case FindKey:
				f.c.KeyFound(f.now, 0, a.ID, a.Token, strings.Trim(a.ID[:1], "-"), true)
			case Handle:
				ids = append(ids, a.ID)
				f.done(a.ID, OK)
			case WriteState:
				f.saved(a.ID, a.Token)
			default:
				f.t.Fatalf("unexpected %s", describe(a))
			}
		}
		if err := f.c.Audit(); err != nil {
			f.t.Fatal(err)
		}
	}
	return ids
}

func (f *fixture) wantBegins(ids ...string) {
	f.t.Helper()
	if got := f.begins(); !slices.Equal(got, ids) {
		f.t.Fatalf("%v after the start: %v begin, want %v", f.now-2*time.Hour, got, ids)
	}
}

func handleRate(perSecond float64, burst int) func(*Config) {
	return func(c *Config) { c.HandleRate = Rate{PerSecond: perSecond, Burst: burst} }
}

func keyRate(perSecond float64, burst int) func(*Config) {
	return func(c *Config) { c.KeyRate = Rate{PerSecond: perSecond, Burst: burst} }
}

func TestHandleIsCalledNoMoreOftenThanItsRateAllows(t *testing.T) {
	f := rationed(t, []string{"a", "b", "c", "d", "e"}, handleRate(2, 2))
	f.wantBegins("a", "b")
	for _, id := range []string{"c", "d", "e"} {
		if waited := f.tick(time.Second); waited != 500*time.Millisecond {
			t.Fatalf("%s waits for %v", id, waited)
		}
		f.wantBegins(id)
	}
	f.wait(time.Hour)
	f.wantBegins()
}

func TestAnotherTryOfHandleCountsToo(t *testing.T) {
	f := rationed(t, []string{"a"}, handleRate(0.1, 1))
	f.want("handle a 200 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 200 failed boom")
	f.saved("a", 200)
	f.wait(9900 * time.Millisecond) // the pause of a second is over
	f.c.Actions()
	f.saved("a", 200)
	f.want()
	f.wait(200 * time.Millisecond)
	f.want("handle a 200 on 1 v1")
}

func TestUpdateAndTerminateNeedNoBudget(t *testing.T) {
	f := rationed(t, []string{"a", "b"}, handleRate(0.001, 1), canUpdate)
	f.wantBegins("a")
	f.entry("a", "v2")
	f.want("update a 200 on 1 v2")
	f.done("a", OK)
	f.want()
	f.remove("a")
	f.want("terminate a 200 removed")
}

func TestAKeyThatWaitsKeepsNothingElseWaiting(t *testing.T) {
	f := rationed(t, []string{"a1", "a2", "a3", "a4", "b1", "b2", "-1", "-2"}, keyRate(1, 1),
		func(c *Config) { c.HandleConcurrency = 1 })
	f.wantBegins("a1", "b1", "-1", "-2")
	for _, ids := range [][]string{{"a2", "b2"}, {"a3"}, {"a4"}} {
		f.tick(time.Second)
		f.wantBegins(ids...)
	}
	f.wait(time.Hour)
	f.wantBegins()
}

// Tokens that are spent before there is a place would make calls begin together that were allowed one after the other.
func TestATokenIsSpentWhenTheCallBegins(t *testing.T) {
	f := rationed(t, []string{"a", "b", "c", "d"}, handleRate(1, 1), func(c *Config) { c.HandleConcurrency = 1 })
	f.want("handle a 200 on 1 v1")
	f.wait(time.Minute)
	f.want()
	f.done("a", OK)
	f.want("handle b 201 on 1 v1", "write-state a 200 active")
	f.done("b", OK)
	f.want("write-state b 201 active") // one token was saved, not sixty
}

func TestAResourceThatWaitsForABudgetIsGivenUpAtOnce(t *testing.T) {
	for cause, end := range map[string]func(*fixture){
		"moved":   func(f *fixture) { f.own(false) },
		"removed": func(f *fixture) { f.remove("b") },
		"stopped": func(f *fixture) { f.c.Stop(f.now) },
	} {
		t.Run(cause, func(t *testing.T) {
			for name, bound := range map[string]func(*Config){
				"member": handleRate(0.001, 1), "key": keyRate(0.001, 1),
			} {
				f := rationed(t, []string{"b1", "b"}, bound)
				f.wantBegins("b1")
				end(f)
				if acts := f.c.Actions(); !slices.ContainsFunc(acts, func(a Action) bool {
					return a.Kind == Release && a.ID == "b"
				}) {
					t.Fatalf("%s: b is not released: %v", name, acts)
				}
				f.released("b", 300)
				f.c.Actions()
				if err := f.c.Audit(); err != nil {
					t.Fatal(err)
				}
				if n := len(f.c.budgets.rations); n > 1 {
					t.Errorf("%s: %d rations are kept", name, n)
				}
			}
		})
	}
}

func TestAClaimSaysWhatItsHandleWaitsForOnlyWhereItWaitsLong(t *testing.T) {
	f := rationed(t, []string{"a1", "a2", "a3"}, keyRate(0.25, 1))
	f.wantBegins("a1")
	f.wait(4 * time.Second)
	f.wantBegins("a2") // nothing was written before
	f.wait(1500 * time.Millisecond)
	f.want("write-state a3 202 claimed Handle waits for its turn: resources of its key may begin 0.25 a second, " +
		"this member 0.25 of these, and 1 wait")
	f.saved("a3", 202)
	if s := f.c.Stats(); s.WaitingForBudget != 1 || s.Waiting != 1 {
		t.Errorf("%+v", s)
	}
	f.wait(2500 * time.Millisecond)
	f.want("handle a3 202 on 1 v1")
	f.done("a3", OK)
	f.want("write-state a3 202 active") // without the note
	f.saved("a3", 202)
	f.wait(time.Hour)
	f.want()
}

func TestAKeyIsFoundOnceForTheSameData(t *testing.T) {
	f := rationed(t, []string{"a"}, keyRate(1, 1))
	f.want("find-key a 1")
	f.c.KeyFound(f.now, 0, "a", 1, "k", true)
	f.want("handle a 200 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 200 failed boom")
	f.saved("a", 200)
	f.tick(time.Second)
	f.wait(time.Second)
	f.want("handle a 200 on 1 v1")
	f.done("a", Error)
	f.entry("a", "v2")
	f.want("find-key a 2")
	f.entry("a", "v3")
	f.c.KeyFound(f.now, 0, "a", 2, "k", true) // the key of older data
	f.want("find-key a 3")
	f.c.KeyFound(f.now, 0, "a", 3, "other", true)
	f.want("handle a 200 on 1 v3")
}

func TestResourcesWhoseKeyIsNotFoundShareOneBudget(t *testing.T) {
	f := rationed(t, []string{"a", "b", "c"}, keyRate(1, 1))
	f.want("find-key a 1", "find-key b 1", "find-key c 1")
	f.c.KeyFound(f.now, 0, "a", 1, "", false)
	f.c.KeyFound(f.now, 0, "b", 1, "ignored", false)
	f.c.KeyFound(f.now, 0, "c", 1, "c", true)
	f.wantBegins("a", "c")
	f.tick(time.Second)
	f.wantBegins("b")
}

func TestFewKeysAreFoundAtOnce(t *testing.T) {
	ids := make([]string, 3*keysAtOnce)
	for i := range ids {
		ids[i] = fmt.Sprintf("r%04d", i)
	}
	f := owning(t, ids, keyRate(1, 1), func(c *Config) { c.KeysPerLease = len(ids) })
	f.c.Actions()
	for i, id := range ids {
		f.claimed(id, int64(200+i))
	}
	var asked []Action
	for _, a := range f.c.Actions() {
		if a.Kind == FindKey {
			asked = append(asked, a)
		}
	}
	if len(asked) != keysAtOnce {
		t.Fatalf("%d keys are being found", len(asked))
	}
	f.c.KeyFound(f.now, 0, asked[0].ID, 1, "k", true)
	if next := f.c.Actions(); len(next) != 1 || next[0].Kind != FindKey {
		t.Fatalf("after an answer: %v", next)
	}
}

func TestBudgetsOfManyKeysAreDroppedWhenTheyAreFullAgain(t *testing.T) {
	b := newBudgets(&Config{KeyRate: Rate{PerSecond: 1, Burst: 1}})
	b.setPart(1, time.Hour)
	for i := range 100_000 {
		b.of(fmt.Sprint("k", i), true, time.Hour+time.Duration(i)*time.Millisecond)
	}
	if len(b.keys) > 2*1000+leastKeys+1 { // those of the last second are not full, and twice that may be kept
		t.Errorf("%d budgets are kept", len(b.keys))
	}
}

func TestAMembersShareShrinksAtOnceAndGrowsAfterTheGrace(t *testing.T) {
	b := newBudgets(&Config{KeyRate: Rate{PerSecond: 100, Burst: 10}, ShareGrace: time.Second})
	c := &Core{budgets: b}
	at := func(now time.Duration, s Share, want float64) {
		t.Helper()
		b.grow(now)
		c.SetShare(now, s)
		if math.Abs(b.share.part-want) > 1e-9 {
			t.Fatalf("at %v: the share is %g, want %g", now, b.share.part, want)
		}
	}
	s := time.Second
	at(0, Share{Mine: 1, All: 2, Since: 7}, 0)
	at(s/2, Share{Mine: 1, All: 4, Since: 7}, 0)
	at(s, Share{Mine: 1, All: 2, Since: 7}, 0.25) // the least of the grace
	at(2*s, Share{Mine: 1, All: 2, Since: 7}, 0.5)
	at(3*s, Share{Mine: 2, All: 4, Since: 7}, 0.5)
	at(3*s, Share{Mine: 1, All: 3, Since: 7}, 1.0/3)
	at(3*s, Share{Mine: 1, All: 1, Since: 7, Alone: true}, 1.0/3)
	at(4*s, Share{Mine: 1, All: 1, Since: 7, Alone: true}, 1)
	at(5*s, Share{}, 0)
	at(5*s, Share{Mine: 1, All: 2, Since: 7}, 0)
	at(6*s, Share{Mine: 1, All: 2, Since: 7}, 0.5)
	at(7*s, Share{Mine: 1, All: 1, Since: 9, Alone: true}, 1) // another registration, and nobody else
}

// TestNoKeyIsSpentFasterThanItsRateByTheWholeGroup makes members come, go and hear of that late, while all of them
// spend whatever they may.
func TestNoKeyIsSpentFasterThanItsRateByTheWholeGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := Rate{
			PerSecond: float64(rapid.IntRange(1, 300).Draw(t, "rate")), Burst: rapid.IntRange(1, 60).Draw(t, "burst"),
		}
		const grace, step, most = time.Second, 10 * time.Millisecond, 5
		type news struct {
			at time.Duration
			to Share
		}
		type one struct {
			c     *Core
			heard []news
		}
		members, born := map[int]*one{}, 0
		changed := func(now time.Duration) { // each member hears of it within the grace
			for _, id := range slices.Sorted(maps.Keys(members)) {
				m := members[id]
				late := time.Duration(rapid.IntRange(0, 90).Draw(t, "late")) * step
				if n := len(m.heard); n > 0 {
					late = max(late, m.heard[n-1].at-now) // in order
				}
				m.heard = append(m.heard, news{now + late, Share{
					Mine: 1, All: len(members), Since: int64(id), Alone: len(members) == 1,
				}})
			}
		}
		var spent []time.Duration
		key := rapid.SampledFrom([]string{"early", "late"}).Draw(t, "key")
		for now := step; now < 12*time.Second; now += step {
			switch rapid.IntRange(0, 60).Draw(t, "change") {
			case 0:
				if len(members) < most {
					born++
					members[born] = &one{c: &Core{budgets: newBudgets(&Config{KeyRate: rule, ShareGrace: grace})}}
					changed(now)
				}
			case 1:
				if gone := rapid.IntRange(0, born).Draw(t, "gone"); members[gone] != nil {
					delete(members, gone)
					changed(now)
				}
			}
			for id := range born + 1 {
				m := members[id]
				if m == nil {
					continue
				}
				b := m.c.budgets
				b.grow(now)
				for len(m.heard) > 0 && m.heard[0].at <= now {
					m.c.SetShare(now, m.heard[0].to)
					m.heard = m.heard[1:]
				}
				if b.share.part == 0 || key == "late" && now < 6*time.Second {
					continue
				}
				for k := b.of(key, true, now); k.begin.limiter.AllowN(moment(now), 1); {
					spent = append(spent, now)
				}
			}
		}
		// In each window, no more than the rate, and one burst: that of the key, or one call of each member.
		burst := float64(max(rule.Burst, most))
		for i, from := range spent {
			for n, to := range spent[i:] {
				if allowed := burst + rule.PerSecond*(to-from).Seconds() + 1e-6; float64(n+1) > allowed {
					t.Fatalf("%d calls from %v to %v, want at most %g", n+1, from, to, allowed)
				}
			}
		}
	})
}

// BenchmarkBudget measures the time of each resource where 100,000 wait for 100 keys.
func BenchmarkBudget(b *testing.B) {
	entries := benchEntries()
	end := perResource(b)
	for b.Loop() {
		c := benchCore()
		c.cfg.KeyRate = Rate{PerSecond: 100, Burst: 10}
		c.budgets = newBudgets(&c.cfg)
		now := time.Hour
		c.SetShare(now, Share{Mine: 1, All: 1, Since: 1, Alone: true})
		c.SetOwned(now, all(true), nil)
		rev := drive(c, now, entries, 100)
		for at, ok := c.NextTimer(); ok; at, ok = c.NextTimer() {
			now = max(at, now+time.Millisecond)
			c.Tick(now)
			rev = drive(c, now, entries, rev)
		}
		if n := len(c.Handled()); n != benchResources {
			b.Fatalf("%d handled", n)
		}
	}
	end()
}

// Each of a hundred thousand resources says what it waits for: none of them may look at all of ten thousand keys.
func TestSayingWhatIsWaitedForCostsTheSameWithManyKeys(t *testing.T) {
	ids := make([]string, 26*26)
	for i := range ids {
		ids[i] = string(rune('0'+i)) + "1" // each has a key of its own
	}
	f := rationed(t, ids, handleRate(0.001, 1), keyRate(1, 1), func(c *Config) { c.KeysPerLease = len(ids) })
	for acts := f.c.Actions(); len(acts) > 0; acts = f.c.Actions() {
		for _, a := range acts {
			if a.Kind == FindKey {
				f.c.KeyFound(f.now, 0, a.ID, a.Token, a.ID, true)
			}
		}
	}
	b := f.c.budgets
	q := b.rations[f.c.shards[0].byID[ids[len(ids)-1]]]
	says := ""
	if n := testing.AllocsPerRun(10, func() { says = b.reason(q) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
	want := fmt.Sprintf("this member may begin 0.001 a second, and %d wait", len(ids)-1)
	if !strings.HasSuffix(says, want) {
		t.Errorf("%q, want %q", says, want)
	}
}
