package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fixture drives a Core by hand. Everything happens in shard 0, and the first lease is lease 1.
type fixture struct {
	t   *testing.T
	c   *Core
	now time.Duration
	rev int64
}

func testConfig() Config {
	return Config{
		HandleConcurrency:    8,
		TerminateConcurrency: 8,
		ReleaseBacklog:       16,
		Backoff:              time.Second,
		BackoffMax:           8 * time.Second,
		RetryMin:             100 * time.Millisecond,
		RetryMax:             time.Second,
		UncertainFor:         5 * time.Second,
		KeysPerLease:         100,
		WriteBacklog:         1000,
		StateDelay:           time.Second,
		SummaryLeast:         100,
		Rand:                 rand.New(rand.NewPCG(1, 2)),
	}
}

// newFixture makes a Core that knows of two shards and owns neither.
func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	cfg := testConfig()
	for _, f := range change {
		f(&cfg)
	}
	f := &fixture{t: t, c: New(cfg), now: time.Hour, rev: 100}
	f.own(false)
	f.want()
	return f
}

// owning makes a Core that owns shard 0, which has these entries, and has lease 1.
func owning(t *testing.T, ids []string, change ...func(*Config)) *fixture {
	f := newFixture(t, change...)
	f.own(true)
	f.want("watch 0")
	f.c.LeaseReady(f.now, 1)
	f.snapshot(ids)
	return f
}

// handled makes a Core whose handler has "a" under token 110.
func handled(t *testing.T, change ...func(*Config)) *fixture {
	f := owning(t, []string{"a"}, change...)
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.want()
	return f
}

func (f *fixture) want(actions ...string) {
	f.t.Helper()
	var got []string
	for _, a := range f.c.Actions() {
		got = append(got, describe(a))
	}
	if !slices.Equal(got, actions) {
		f.t.Fatalf("actions:\n  got  %s\n  want %s", strings.Join(got, "; "), strings.Join(actions, "; "))
	}
	if err := f.c.Audit(); err != nil {
		f.t.Fatal(err)
	}
}

func describe(a Action) string {
	switch a.Kind {
	case Watch, Unwatch:
		return fmt.Sprintf("%v %d", a.Kind, a.Shard)
	case FindKey:
		return fmt.Sprintf("%v %s %d", a.Kind, a.ID, a.Token)
	case NeedLease, Decline:
		return a.Kind.String()
	case Revoke:
		return fmt.Sprintf("%v %d", a.Kind, a.Lease)
	case Claim:
		return fmt.Sprintf("%v %s on %d", a.Kind, a.ID, a.Lease)
	case Release:
		return fmt.Sprintf("%v %s %d", a.Kind, a.ID, a.Token)
	case WriteState:
		return strings.TrimSpace(fmt.Sprintf("%v %s %d %v %s", a.Kind, a.ID, a.Token, a.State, a.Err))
	case WriteSummary:
		return fmt.Sprintf("%v on %d to %d", a.Kind, a.Lease, a.Token)
	case DeleteSummary:
		return fmt.Sprintf("%v on %d", a.Kind, a.Lease)
	case WriteTrail:
		of := "mine"
		if a.Trail.Member != "" {
			of = a.Trail.Member + "'s"
		}
		return fmt.Sprintf("%v on %d at %d %s %s", a.Kind, a.Lease, a.Token, of, strings.Join(a.Trail.IDs, ","))
	case DeleteTrail:
		return fmt.Sprintf("%v on %d at %d", a.Kind, a.Lease, a.Token)
	case Exonerate, FreeAlone:
		return fmt.Sprintf("%v on %d", a.Kind, a.Lease)
	case TakeAlone:
		return fmt.Sprintf("%v %s on %d", a.Kind, a.ID, a.Lease)
	case WriteQuarantine:
		return fmt.Sprintf("%v %s for %d", a.Kind, a.ID, len(a.Quarantine.Deaths))
	case DeleteRetry:
		return fmt.Sprintf("%v %s at %d", a.Kind, a.ID, a.Token)
	case DeleteQuarantine:
		return fmt.Sprintf("%v %s %d", a.Kind, a.ID, a.Token)
	case Handle, Update:
		return fmt.Sprintf("%v %s %d on %d %s", a.Kind, a.ID, a.Token, a.Lease, a.Data)
	case GiveAway:
		return fmt.Sprintf("%v %s %d %s", a.Kind, a.ID, a.Token, a.Err)
	default:
		return fmt.Sprintf("%v %s %d %v", a.Kind, a.ID, a.Token, a.Cause)
	}
}

func (f *fixture) own(mine bool)         { f.c.SetOwned(f.now, []bool{mine, false}, nil) }
func (f *fixture) entry(id, data string) { f.c.EntryPut(f.now, 0, Entry{ID: id, Data: []byte(data)}) }

func (f *fixture) suspend(id, data string) {
	f.c.EntryPut(f.now, 0, Entry{ID: id, Data: []byte(data), Suspended: true})
}
func (f *fixture) remove(id string) { f.c.EntryDeleted(f.now, 0, id) }

// snapshot lists entries with the data "v1", and claims.
func (f *fixture) snapshot(ids []string, claims ...ClaimKey) {
	f.rev++
	var entries []Entry
	for _, id := range ids {
		entries = append(entries, Entry{ID: id, Data: []byte("v1")})
	}
	f.c.Snapshot(f.now, 0, f.rev, entries, claims, nil)
}

func (f *fixture) claimed(id string, token int64) {
	f.c.ClaimDone(f.now, 0, id, WriteResult{Applied: true, Revision: token})
}

func (f *fixture) claimResult(id string, res WriteResult) { f.c.ClaimDone(f.now, 0, id, res) }

func (f *fixture) appears(id string, token, lease int64) {
	f.c.ClaimPut(f.now, 0, ClaimKey{ID: id, Token: token, ModRevision: token, Lease: lease})
}

func (f *fixture) disappears(id string, rev int64)          { f.c.ClaimDeleted(f.now, 0, id, rev) }
func (f *fixture) releaseResult(id string, res WriteResult) { f.c.ReleaseDone(f.now, 0, id, res) }
func (f *fixture) released(id string, rev int64) {
	f.releaseResult(id, WriteResult{Applied: true, Revision: rev})
}

func (f *fixture) done(id string, out Outcome) {
	message := ""
	if out != OK {
		message = "boom"
	}
	f.c.CallDone(f.now, 0, id, out, message)
}

func (f *fixture) hangs(id string) { f.c.CallStuck(f.now, 0, id, "hangs") }

func (f *fixture) saved(id string, token int64) {
	f.c.StateDone(f.now, 0, id, token, WriteResult{Applied: true, Revision: token + 1})
}

// pass lets time pass without a tick.
func (f *fixture) pass(d time.Duration) { f.now += d }

// tick goes to the next timer, which must be at most limit away, and fires it.
func (f *fixture) tick(limit time.Duration) time.Duration {
	f.t.Helper()
	at, ok := f.c.NextTimer()
	if !ok || at < f.now || at > f.now+limit {
		f.t.Fatalf("the next timer is at %v (%v), want one from %v to %v", at, ok, f.now, f.now+limit)
	}
	waited := at - f.now
	f.now = at
	f.c.Tick(f.now)
	return waited
}

// wait lets time pass and fires the timers that are due on the way.
func (f *fixture) wait(d time.Duration) {
	end := f.now + d
	for at, ok := f.c.NextTimer(); ok && at <= end; at, ok = f.c.NextTimer() {
		f.now = at
		f.c.Tick(at)
	}
	f.now = end
}

func (f *fixture) noTimer() {
	f.t.Helper()
	if at, ok := f.c.NextTimer(); ok {
		f.t.Fatalf("a timer is set for %v", at-f.now)
	}
}

func (f *fixture) wantHandled(ids ...string) {
	f.t.Helper()
	var got []string
	for _, h := range f.c.Handled() {
		got = append(got, h.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, ids) {
		f.t.Fatalf("handled: %q, want %q", got, ids)
	}
}
