package core

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

const (
	benchResources = 100_000
	benchShards    = 1024
)

// benchEntries are the entries of each shard.
func benchEntries() [][]Entry {
	shards := make([][]Entry, benchShards)
	for i := range benchResources {
		n := i % benchShards
		shards[n] = append(shards[n], Entry{ID: fmt.Sprintf("resource-%06d", i), Data: []byte(`{"id":"x"}`)})
	}
	return shards
}

func benchCore() *Core {
	cfg := testConfig()
	cfg.HandleConcurrency, cfg.TerminateConcurrency, cfg.ReleaseBacklog = 64, 64, 512
	cfg.KeysPerLease, cfg.WriteBacklog = 8192, 8192
	return New(cfg)
}

// drive answers every action with success, until there are none.
func drive(c *Core, now time.Duration, entries [][]Entry, rev int64) int64 {
	for actions := c.Actions(); len(actions) > 0; actions = c.Actions() {
		for i := range actions {
			a := &actions[i]
			rev++
			switch a.Kind {
			case Watch:
				c.Snapshot(now, a.Shard, rev, entries[a.Shard], nil, nil)
			case NeedLease:
				c.LeaseReady(now, rev)
			case Claim:
				c.ClaimDone(now, a.Shard, a.ID, WriteResult{Applied: true, Revision: rev})
			case Release:
				c.ReleaseDone(now, a.Shard, a.ID, WriteResult{Applied: true, Revision: rev})
			case WriteTrail, DeleteTrail:
				c.TrailDone(now, a.Shard, a.Lease, WriteResult{Applied: true, Revision: rev})
			case WriteState:
				c.StateDone(now, a.Shard, a.ID, a.Token, WriteResult{Applied: true, Revision: rev})
			case FindKey:
				c.KeyFound(now, a.Shard, a.ID, a.Token, a.ID[len(a.ID)-2:], true)
			case Handle, Terminate:
				c.CallDone(now, a.Shard, a.ID, OK, "")
			default:
			}
		}
	}
	return rev
}

func all(mine bool) []bool {
	owned := make([]bool, benchShards)
	for i := range owned {
		owned[i] = mine
	}
	return owned
}

// perResource reports the time that a benchmark of 100,000 resources takes for each of them.
func perResource(b *testing.B) (end func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	return func() {
		b.StopTimer()
		runtime.ReadMemStats(&after)
		n := float64(b.N) * benchResources
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/resource")
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "B/resource")
		b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/resource")
	}
}

// BenchmarkTakeOver measures the time of each resource from the snapshot through its claim and Handle to its state.
func BenchmarkTakeOver(b *testing.B) {
	entries := benchEntries()
	end := perResource(b)
	for b.Loop() {
		c := benchCore()
		c.SetOwned(time.Hour, all(true), nil)
		drive(c, time.Hour, entries, 100)
		if n := len(c.Handled()); n != benchResources {
			b.Fatalf("%d handled", n)
		}
	}
	end()
}

// BenchmarkTakeOverWithTrails is BenchmarkTakeOver with trails. It also reports how many are written.
func BenchmarkTakeOverWithTrails(b *testing.B) {
	entries := benchEntries()
	end := perResource(b)
	trails := 0
	for b.Loop() {
		cfg := benchCore().cfg
		cfg.QuarantineAfter, cfg.QuarantineWindow, cfg.Young, cfg.Crowd = 3, time.Hour, 10*time.Second, 32
		c := New(cfg)
		c.SetOwned(time.Hour, all(true), nil)
		rev := drive(c, time.Hour, entries, 100)
		trails += c.trails.open
		if n := len(c.Handled()); n != benchResources {
			b.Fatalf("%d handled", n)
		}
		c.Tick(time.Hour + 11*time.Second)
		drive(c, time.Hour+11*time.Second, entries, rev)
		if c.trails.open > 0 {
			b.Fatalf("%d trails are left", c.trails.open)
		}
	}
	end()
	b.ReportMetric(float64(trails)/float64(b.N), "trails")
}

// BenchmarkGiveAway measures the time of each resource through Terminate to its release.
func BenchmarkGiveAway(b *testing.B) {
	entries := benchEntries()
	var spent time.Duration
	for b.Loop() {
		b.StopTimer()
		c := benchCore()
		c.SetOwned(time.Hour, all(true), nil)
		rev := drive(c, time.Hour, entries, 100)
		b.StartTimer()
		start := time.Now()
		c.SetOwned(time.Hour, all(false), nil)
		drive(c, time.Hour, entries, rev)
		spent += time.Since(start)
		if s := c.Stats(); s != (Stats{}) {
			b.Fatalf("%+v", s)
		}
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/benchResources, "ns/resource")
}

// BenchmarkFence measures how long it takes to fence a lease with 8,192 of 100,000 claims.
func BenchmarkFence(b *testing.B) {
	entries := benchEntries()
	for b.Loop() {
		b.StopTimer()
		c := benchCore()
		c.SetOwned(time.Hour, all(true), nil)
		drive(c, time.Hour, entries, 100)
		var lease int64
		for id, l := range c.leases {
			if l.keys == c.cfg.KeysPerLease {
				lease = id
			}
		}
		b.StartTimer()
		c.LeaseFenced(time.Hour, lease)
	}
}

// BenchmarkWatchEvent measures an event about another member's claim. Many of those come after a takeover.
func BenchmarkWatchEvent(b *testing.B) {
	entries := benchEntries()
	c := benchCore()
	c.SetOwned(time.Hour, all(true), nil)
	rev := drive(c, time.Hour, entries, 100)
	handled := c.Handled()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h := handled[i%len(handled)]
		c.ClaimPut(time.Hour, h.Shard, ClaimKey{ID: h.ID, Token: h.Token, ModRevision: rev, Lease: 101})
	}
}

// BenchmarkIdleMemory reports the memory of a handled resource while nothing happens to it.
func BenchmarkIdleMemory(b *testing.B) {
	entries := benchEntries()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := benchCore()
	c.SetOwned(time.Hour, all(true), nil)
	drive(c, time.Hour, entries, 100)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		c.NextTimer()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/benchResources, "B/handled")
	b.ReportMetric(float64(unsafe.Sizeof(resource{})), "B/struct")
	runtime.KeepAlive(c)
	runtime.KeepAlive(entries)
}
