package core

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// answering drives a core that has budgets and keeps trails, with an etcd that answers everything at once. The keys of
// the resources are the first letters of their ids.
type answering struct {
	*fixture
	outcome func(id string) Outcome // what Handle says; nil: OK
	begun   map[string]int          // calls of Handle by key
	calls   []string                // ids in the order of their calls
	takes   time.Duration           // how long each Handle takes
	ends    []ending                // of the calls of Handle in progress, in order
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
		f.c.KeyFound(f.now, 0, a.ID, a.Token, a.ID[:1], true)
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

// tokenless makes a core that isolates "a1", of whose key another resource has taken the only token meanwhile.
func tokenless(t *testing.T) *answering {
	f := answer(t, []string{"c0"}, keyRate(0.01, 1))
	f.run(time.Second)
	f.accuse("ann", 7, "a1", "b1")
	f.accuse("bob", 8, "a1", "b1")
	f.entry("a1", "v1")
	f.entry("b1", "v1")
	f.run(time.Second)
	f.entry("a0", "v1")
	f.run(25 * time.Second)
	return f
}

func TestAnIsolatedResourceThatGoesAwayKeepsNoOtherWaiting(t *testing.T) {
	f := tokenless(t)
	f.remove("a1")
	f.run(time.Minute)
	if f.begun["b"] != 1 {
		t.Errorf("called: %v; isolation: %+v, %v", f.calls, f.c.isolation, f.c.isolated.items)
	}
}
