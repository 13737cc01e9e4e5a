package core

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// event is one call of a Core's method.
type event func(c *Core, now time.Duration)

var someIDs = []string{"a", "b", "c"}

// drawEvent draws any event at all, even one that makes no sense. But each lease is granted once, and before any claim
// is on it.
func drawEvent(t *rapid.T, granted *int64) event {
	shard := rapid.IntRange(0, 1).Draw(t, "shard")
	id := rapid.SampledFrom(someIDs).Draw(t, "id")
	rev := rapid.Int64Range(1, 12).Draw(t, "rev")
	token := rapid.Int64Range(1, 8).Draw(t, "token")
	lease := rapid.Int64Range(0, *granted).Draw(t, "lease") // 0: another member's
	yes := rapid.Bool().Draw(t, "yes")
	data := []byte{byte('0' + rev%3)}
	res := WriteResult{Revision: rev, FoundToken: token, FoundLease: lease}
	switch rapid.IntRange(0, 4).Draw(t, "result") {
	case 0, 1:
		res = WriteResult{Applied: true, Revision: rev}
	case 2:
		res = WriteResult{Unknown: true}
	case 3:
		res = WriteResult{Failed: yes, LeaseGone: !yes}
	}
	out := Outcome(rapid.IntRange(0, 5).Draw(t, "outcome"))
	trail := TrailKey{Lease: lease, ModRevision: rev, Read: func() Trail {
		return Trail{Member: "m", At: time.Duration(rev) * time.Minute, IDs: []string{id, "c"}}
	}}
	if yes || lease == 0 {
		trail.Lease = 100 + token%3
	}
	switch rapid.IntRange(0, 33).Draw(t, "event") {
	case 30:
		return func(c *Core, now time.Duration) { c.SetDeclined(now, []bool{yes, rev%2 == 0}, []int{int(rev), 0}) }
	case 29:
		return func(c *Core, now time.Duration) {
			c.SetShare(now, Share{Mine: 1, All: int(token), Since: 1, Alone: yes})
		}
	case 27, 28:
		return func(c *Core, now time.Duration) { c.KeyFound(now, shard, id, lease, []string{"", "x"}[rev%2], yes) }
	case 18, 19:
		return func(c *Core, now time.Duration) { c.TrailPut(now, shard, trail) }
	case 20:
		return func(c *Core, now time.Duration) { c.TrailDeleted(now, shard, trail.Lease, rev) }
	case 21, 22:
		res.FoundMod = token
		return func(c *Core, now time.Duration) { c.TrailDone(now, shard, trail.Lease, res) }
	case 23:
		return func(c *Core, now time.Duration) {
			c.QuarantinePut(now, shard, QuarantineKey{ID: id, Token: token, Digest: Digest(data), Text: "bad"})
		}
	case 24:
		return func(c *Core, now time.Duration) { c.QuarantineDeleted(now, shard, id, rev) }
	case 25:
		text := ""
		if yes {
			text = "bad"
		}
		return func(c *Core, now time.Duration) { c.QuarantineDone(now, shard, id, text, res) }
	case 26:
		return func(c *Core, now time.Duration) { c.AloneDone(now, yes, res) }
	case 17:
		return func(c *Core, now time.Duration) { c.SetAlone(now, yes) }
	case 0, 1:
		return func(c *Core, now time.Duration) { c.SetOwned(now, []bool{yes || shard == 0, yes || shard == 1}, nil) }
	case 2:
		return func(c *Core, now time.Duration) {
			entries := []Entry{{ID: id, Data: data}, {ID: "c"}}
			claims := []ClaimKey{{ID: id, Token: token, ModRevision: rev, Lease: lease}}
			c.ListTraces(now, shard, rev, []TrailKey{trail}, nil)
			c.Snapshot(now, shard, rev, entries, claims, nil)
		}
	case 3, 4:
		return func(c *Core, now time.Duration) {
			c.EntryPut(now, shard, Entry{ID: id, Data: data, Suspended: yes && rev > 6})
		}
	case 5:
		return func(c *Core, now time.Duration) { c.EntryDeleted(now, shard, id) }
	case 6:
		return func(c *Core, now time.Duration) {
			c.ClaimPut(now, shard, ClaimKey{ID: id, Token: token, ModRevision: max(rev, token), Lease: lease})
		}
	case 7:
		return func(c *Core, now time.Duration) { c.ClaimDeleted(now, shard, id, rev) }
	case 8, 9:
		return func(c *Core, now time.Duration) { c.ClaimDone(now, shard, id, res) }
	case 10:
		return func(c *Core, now time.Duration) { c.ReleaseDone(now, shard, id, res) }
	case 11:
		return func(c *Core, now time.Duration) { c.StateDone(now, shard, id, token, res) }
	case 12, 13:
		return func(c *Core, now time.Duration) { c.CallDone(now, shard, id, out, "boom") }
	case 14:
		return func(c *Core, now time.Duration) { c.CallStuck(now, shard, id, "hangs") }
	case 15:
		return func(c *Core, now time.Duration) { c.LeaseFenced(now, lease) }
	case 31:
		return func(c *Core, now time.Duration) { c.RetryPut(now, shard, RetryKey{ID: id, ModRevision: rev}) }
	case 32:
		return func(c *Core, now time.Duration) { c.ListRetries(now, shard, []RetryKey{{ID: id, ModRevision: rev}}) }
	case 33:
		return func(c *Core, now time.Duration) { c.RetryDeleted(now, shard, id, rev) }
	default:
		*granted++
		id := *granted
		return func(c *Core, now time.Duration) { c.LeaseReady(now, id) }
	}
}

func drawConfig(t *rapid.T) Config {
	cfg := testConfig()
	cfg.HandleConcurrency = rapid.IntRange(1, 3).Draw(t, "handles")
	cfg.TerminateConcurrency = rapid.IntRange(1, 3).Draw(t, "terminates")
	cfg.ReleaseBacklog = rapid.IntRange(1, 3).Draw(t, "backlog")
	cfg.ReleaseLeast = rapid.IntRange(1, 2).Draw(t, "least")
	cfg.ReleaseSlow = time.Duration(rapid.IntRange(0, 2).Draw(t, "slow")) * time.Second
	cfg.Handover = time.Duration(rapid.IntRange(0, 5).Draw(t, "handover")) * time.Second
	cfg.HandleAttempts = rapid.IntRange(0, 2).Draw(t, "attempts")
	cfg.KeysPerLease = rapid.IntRange(1, 3).Draw(t, "keys")
	cfg.WriteBacklog = rapid.IntRange(1, 3).Draw(t, "backlog")
	cfg.LeaseIdle = time.Duration(rapid.IntRange(0, 20).Draw(t, "idle")) * time.Second
	switch rapid.IntRange(0, 3).Draw(t, "budgets") {
	case 1:
		cfg.HandleRate = Rate{PerSecond: 0.5, Burst: 1}
	case 2:
		cfg.KeyRate = Rate{PerSecond: 1, Burst: 2}
	case 3:
		cfg.HandleRate, cfg.KeyRate = Rate{PerSecond: 1, Burst: 2}, Rate{PerSecond: 0.5, Burst: 1}
	}
	cfg.ShareGrace = time.Second
	cfg.MaxResources, cfg.RetakeAfter = rapid.IntRange(0, 3).Draw(t, "ceiling"), 2*time.Second
	cfg.HoldUntilTerminated = rapid.Bool().Draw(t, "hold")
	cfg.CanUpdate = rapid.Bool().Draw(t, "update")
	cfg.FinishCalls = rapid.Bool().Draw(t, "finish")
	cfg.QuarantineAfter = rapid.IntRange(0, 3).Draw(t, "quarantine after")
	cfg.QuarantineWindow = 20 * time.Minute
	cfg.Young = 10 * time.Second
	return cfg
}

func TestAnyEventsKeepTheCountsAndSameEventsGiveTheSameActions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		first, second := New(cfg), New(cfg)
		first.cfg.Rand, second.cfg.Rand = testConfig().Rand, testConfig().Rand
		now, granted := time.Hour, int64(0)
		stop := rapid.IntRange(0, 400).Draw(t, "stop")
		for i := range rapid.IntRange(1, 300).Draw(t, "events") {
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			e := drawEvent(t, &granted)
			if i == stop {
				e = func(c *Core, now time.Duration) { c.Stop(now) }
			}
			var seen [2]string
			for i, c := range []*Core{first, second} {
				c.Tick(now)
				e(c, now)
				for _, a := range c.Actions() {
					seen[i] += describe(a) + "; "
				}
				seen[i] += fmt.Sprint(c.Handled(), c.Stats(), c.Idle())
				if err := c.Audit(); err != nil {
					t.Fatal(err)
				}
				if c.counts.handles > cfg.HandleConcurrency || c.counts.terminates > cfg.TerminateConcurrency {
					t.Fatalf("%d Handle and %d Terminate calls at once", c.counts.handles, c.counts.terminates)
				}
			}
			if seen[0] != seen[1] {
				t.Fatalf("the same events gave\n%s\nand\n%s", seen[0], seen[1])
			}
		}
	})
}

func TestSnapshotEqualsTheEventsItReplaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		followed, listed := New(testConfig()), New(testConfig())
		for _, c := range []*Core{followed, listed} {
			c.SetOwned(time.Hour, []bool{true}, nil)
			c.Snapshot(time.Hour, 0, 100, nil, nil, nil)
		}
		entries, claims := map[string]Entry{}, map[string]ClaimKey{}
		rev := int64(100)
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			id := rapid.SampledFrom(someIDs).Draw(t, "id")
			rev++
			switch rapid.IntRange(0, 4).Draw(t, "change") {
			case 0, 1:
				e := Entry{ID: id, Data: []byte{byte('0' + rev%3)}, Suspended: rapid.Bool().Draw(t, "suspended")}
				entries[id] = e
				followed.EntryPut(time.Hour, 0, e)
			case 2:
				delete(entries, id)
				followed.EntryDeleted(time.Hour, 0, id)
			case 3:
				k, had := claims[id]
				if !had {
					k = ClaimKey{ID: id, Token: rev, Lease: 99}
				}
				k.ModRevision = rev
				claims[id] = k
				followed.ClaimPut(time.Hour, 0, k)
			case 4:
				delete(claims, id)
				followed.ClaimDeleted(time.Hour, 0, id, rev)
			}
			if rapid.IntRange(0, 5).Draw(t, "list") == 0 {
				var es []Entry
				var ks []ClaimKey
				for _, id := range someIDs {
					if e, ok := entries[id]; ok {
						es = append(es, e)
					}
					if k, ok := claims[id]; ok {
						ks = append(ks, k)
					}
				}
				listed.Snapshot(time.Hour, 0, rev, es, ks, nil)
				if a, b := known(followed), known(listed); a != b {
					t.Fatalf("followed: %s\nlisted:   %s", a, b)
				}
			}
		}
	})
}

// known describes what a Core believes about the keys in etcd.
func known(c *Core) string {
	list := slices.Clone(c.shards[0].list)
	slices.SortFunc(list, func(a, b *resource) int { return cmp.Compare(a.id, b.id) })
	s := ""
	for _, r := range list {
		s += fmt.Sprintf("%s wanted=%v token=%d lease=%d should be handled=%v; ",
			r.id, r.seen.wanted, r.seen.token, r.seen.lease, c.shouldHandle(r))
	}
	return s
}
