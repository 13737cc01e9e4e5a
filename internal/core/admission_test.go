package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// answering drives a core that has budgets and keeps trails, with an etcd that answers everything at once. The keys of
// the resources are the first letters of their ids; "-" stands for no key.
type answering struct {
	*fixture
	outcome func(id string) Outcome // what Handle says; nil: OK
	begun   map[string]int          // calls of Handle by key
	calls   []string                // ids in the order of their calls
	takes   time.Duration           // how long each Handle takes
	ends    []ending                // of the calls of Handle in progress, in order
	slow    ActionKind              // of actions that are not answered
	pending []Action                // those actions
}

type ending struct {
	at time.Duration
	id string
}

func answer(t *testing.T, ids []string, change ...func(*Config)) *answering {
	change = append([]func(*Config){wary, func(cfg *Config) { cfg.KeysPerLease = 1 << 20 }}, change...)
	f := &answering{fixture: newFixture(t, change...), begun: map[string]int{}}
	f.own(true)
	f.want("watch 0")
	f.c.LeaseReady(f.now, 1)
	f.c.SetShare(f.now, Share{Mine: 1, All: 1, Since: 1, Alone: true})
	f.pass(time.Hour) // a budget begins empty
	f.snapshot(ids)
	return f
}

// settle answers all actions until there are none.
func (f *answering) settle() {
	f.t.Helper()
	for actions := f.c.Actions(); len(actions) > 0; actions = f.c.Actions() {
		for _, a := range actions {
			f.respond(a)
		}
		if err := f.c.Audit(); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *answering) respond(a Action) {
	if a.Kind == f.slow {
		f.pending = append(f.pending, a)
		return
	}
	f.rev++
	applied := WriteResult{Applied: true, Revision: f.rev}
	switch a.Kind {
	case Claim:
		f.claimed(a.ID, f.rev)
	case Release:
		f.c.ReleaseDone(f.now, 0, a.ID, applied)
	case WriteTrail, DeleteTrail:
		f.c.TrailDone(f.now, 0, a.Lease, applied)
	case FindKey:
		f.c.KeyFound(f.now, 0, a.ID, a.Token, strings.Trim(a.ID[:1], "-"), true)
	case WriteState:
		f.c.StateDone(f.now, 0, a.ID, a.Token, applied)
	case WriteSummary:
		f.c.SummaryDone(f.now, 0, a.Lease, a.Token, applied)
	case TakeAlone:
		f.c.AloneDone(f.now, true, applied)
	case FreeAlone:
		f.c.AloneDone(f.now, false, applied)
	case Handle:
		f.begun[a.ID[:1]]++
		f.calls = append(f.calls, a.ID)
		f.ends = append(f.ends, ending{f.now + f.takes, a.ID})
	case Update, Terminate:
		f.done(a.ID, OK)
	case Cancel:
	default:
		f.t.Fatalf("unexpected %s", describe(a))
	}
}

// run lets time pass, with an answer to everything.
func (f *answering) run(d time.Duration) {
	f.t.Helper()
	end := f.now + d
	f.settle()
	for {
		at, ok := f.c.NextTimer()
		if len(f.ends) > 0 && (!ok || f.ends[0].at < at) {
			at, ok = f.ends[0].at, true
		}
		if !ok || at > end {
			break
		}
		f.now = max(f.now, at)
		f.c.Tick(f.now)
		for len(f.ends) > 0 && f.ends[0].at <= f.now {
			id, out := f.ends[0].id, OK
			if f.ends = f.ends[1:]; f.outcome != nil {
				out = f.outcome(id)
			}
			f.done(id, out)
		}
		f.settle()
	}
	f.now = end
}

// quick answers what was not answered.
func (f *answering) quick() {
	f.slow = 0
	for _, a := range f.pending {
		f.respond(a)
	}
	f.pending = nil
}

func named(key string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%04d", key, i)
	}
	return ids
}

func failing(key string) func(id string) Outcome {
	return func(id string) Outcome {
		if strings.HasPrefix(id, key) {
			return Error
		}
		return OK
	}
}

// What has failed and is tried again has been listed by its trail a short time ago. If it needed no token to be listed
// again, more and more resources would be listed and wait for a token, and nothing else would be listed.
func TestResourcesOfOneKeyThatFailKeepNoOtherKeyWaiting(t *testing.T) {
	f := answer(t, named("a", 500), keyRate(1, 10), func(cfg *Config) { cfg.HandleConcurrency = 8 })
	f.outcome, f.takes = failing("a"), 200*time.Millisecond
	f.run(5 * time.Minute)
	for i := range 5 {
		f.entry(fmt.Sprintf("b%04d", i), "v1")
	}
	f.run(time.Second)
	if n := f.begun["b"]; n != 5 {
		t.Errorf("%d of 5 resources of another key have begun, %d listed and waiting", n, f.c.trails.ahead)
	}
}

// beginWithSuspects makes a core that has begun with "c0" and with "a0" a moment ago, while it isolates "a1". "b1" is
// to be isolated next.
func beginWithSuspects(t *testing.T, bound func(*Config)) *answering {
	f := answer(t, []string{"c0"}, bound)
	f.run(time.Second)
	f.accuse("ann", 7, "b1", "a1")
	f.accuse("bob", 8, "b1", "a1")
	f.entry("a1", "v1")
	f.entry("b1", "v1")
	f.run(time.Second)
	f.entry("a0", "v1")
	f.run(time.Second)
	return f
}

func (f *answering) wantCalls(ids ...string) {
	f.t.Helper()
	if !slices.Equal(f.calls, ids) {
		f.t.Fatalf("after %v: called %v, want %v; %+v", f.now-2*time.Hour, f.calls, ids, f.c.isolation)
	}
}

func TestAnIsolatedResourceThatGoesAwayKeepsNoOtherWaiting(t *testing.T) {
	f := beginWithSuspects(t, handleRate(0.01, 2))
	f.run(20 * time.Second)
	f.wantCalls("c0", "a0") // a1 waits for a token
	f.remove("a1")
	f.run(2 * time.Minute)
	f.wantCalls("c0", "a0", "b1")
}

func TestOthersOfItsKeyDoNotTakeTheTokenOfAnIsolatedResource(t *testing.T) {
	f := beginWithSuspects(t, keyRate(0.01, 1))
	f.wantCalls("c0") // a0 waits
	f.run(12 * time.Second)
	f.wantCalls("c0", "a1")
	f.entry("d0", "v1")
	f.run(50 * time.Second)
	f.wantCalls("c0", "a1", "d0", "b1")
	f.run(100 * time.Second)
	f.wantCalls("c0", "a1", "d0", "b1", "a0")
}

func TestAnIsolatedResourceWhoseKeyHasNoTokenAnyMoreKeepsNothingElseWaiting(t *testing.T) {
	f := beginWithSuspects(t, keyRate(0.01, 1))
	f.slow = WriteTrail
	f.run(12 * time.Second)
	f.c.SetShare(f.now, Share{Mine: 1, All: 1, Since: 2, Alone: true}) // it has registered again, and has no tokens
	f.quick()
	f.entry("-0", "v1")
	f.run(time.Second)
	f.wantCalls("c0", "-0")
	f.run(170 * time.Second)
	f.wantCalls("c0", "-0", "a1", "b1")
}

// What was admitted while nothing may begin would be listed before everything else, and wait for tokens then.
func TestWhatWaitsBehindASuspectKeepsNoOtherKeyWaitingAfterwards(t *testing.T) {
	f := answer(t, nil, keyRate(2, 1), func(cfg *Config) { cfg.HandleConcurrency = 8 })
	f.accuse("ann", 7, "s")
	f.accuse("bob", 8, "s")
	f.takes = time.Minute
	f.entry("s", "v1")
	f.run(time.Second)
	f.wantCalls("s")
	f.takes = 200 * time.Millisecond
	for _, id := range named("a", 500) {
		f.entry(id, "v1")
	}
	f.run(time.Minute)
	f.wantCalls("s")
	f.entry("b", "v1")
	f.run(15 * time.Second)
	if f.begun["a"] == 0 || f.begun["b"] == 0 {
		t.Errorf("calls by key: %v", f.begun)
	}
}

func TestAResourceWhoseKeyIsBeingFoundIsNotIsolated(t *testing.T) {
	f := beginWithSuspects(t, keyRate(0.01, 1))
	f.slow = FindKey
	f.entry("a1", "v2")
	f.run(12 * time.Second)
	if i := f.c.isolation; i.begun && i.r.id == "a1" {
		t.Error("a1 is isolated")
	}
	f.quick()
	f.run(120 * time.Second)
	f.wantCalls("c0", "a0", "b1", "a1")
}

func TestWhatWaitsForATrailKeepsNoOtherKeyWaitingAfterwards(t *testing.T) {
	f := answer(t, nil, keyRate(2, 1), func(cfg *Config) { cfg.HandleConcurrency = 8 })
	f.takes = 200 * time.Millisecond
	f.slow = WriteTrail
	for _, id := range named("a", 500) {
		f.entry(id, "v1")
	}
	f.run(time.Minute)
	f.wantCalls()
	f.quick()
	f.entry("b", "v1")
	f.run(20 * time.Second)
	if n := f.begun["a"]; n < 30 || n > 42 || f.begun["b"] == 0 {
		t.Errorf("calls by key: %v", f.begun)
	}
}
