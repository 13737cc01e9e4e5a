package core

import (
	"fmt"
	"testing"
	"time"
)

// leaving makes a Core that handles 200 resources, whose claims etcd answered after a millisecond, and whose shard went
// to another member. At most 64 may be on their way at once, and at least 8; more than 200 ms is slow.
func leaving(t *testing.T) *fixture {
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = fmt.Sprintf("r%03d", i)
	}
	f := owning(t, ids, func(c *Config) {
		c.ReleaseBacklog, c.ReleaseLeast, c.ReleaseSlow, c.Handover = 64, 8, 200*time.Millisecond, 5*time.Second
		c.HandleConcurrency, c.TerminateConcurrency, c.KeysPerLease, c.SummaryLeast = 1000, 1000, 1000, 1000
	})
	f.c.Actions()
	f.pass(time.Millisecond)
	f.active(ids)
	f.pass(10 * time.Millisecond) // so many states wait for a moment
	f.c.Tick(f.now)
	f.c.Actions()
	f.own(false)
	return f
}

// round terminates and releases all resources that the core terminates now, and lets the next owner claim them after a
// while. It returns how many resources there were.
func (f *fixture) round(took time.Duration) int {
	f.t.Helper()
	var all []string
	f.c.Tick(f.now)
	for _, a := range f.c.Actions() {
		if a.Kind == Terminate {
			all = append(all, a.ID)
		}
	}
	for _, id := range all {
		f.done(id, OK)
	}
	f.c.Actions()
	f.pass(took)
	for _, id := range all {
		f.rev = max(f.rev, 1000) + 2
		f.released(id, f.rev)
		f.appears(id, f.rev+1, 99)
	}
	if err := f.c.Audit(); err != nil {
		f.t.Fatal(err)
	}
	return len(all)
}

func TestMoreIsHandedOverAtOnceWhileThatIsQuick(t *testing.T) {
	f := leaving(t)
	for _, want := range []int{2, 4, 8, 16, 32, 64, 64, 10} {
		if got := f.round(10 * time.Millisecond); got != want {
			t.Fatalf("%d at once, want %d", got, want)
		}
	}
	f.want("unwatch 0")
}

func TestLessIsHandedOverAtOnceWhileItTakesLong(t *testing.T) {
	f := leaving(t)
	for _, want := range []int{2, 4, 8, 16} {
		if got := f.round(10 * time.Millisecond); got != want {
			t.Fatalf("%d at once, want %d", got, want)
		}
	}
	for _, want := range []int{32, 16, 8, 8, 8} {
		if got := f.round(time.Second); got != want {
			t.Fatalf("%d at once, want %d", got, want)
		}
	}
	for _, want := range []int{8, 12, 16} {
		if got := f.round(time.Millisecond); got != want {
			t.Fatalf("%d at once, want %d", got, want)
		}
	}
}

// If the first resources are slow, that says how fast etcd is now, and not that it is always so.
func TestTheFirstThatTakesLongCounts(t *testing.T) {
	f := leaving(t)
	for _, want := range []int{2, 8, 8, 8} {
		if got := f.round(time.Second); got != want {
			t.Fatalf("%d at once, want %d", got, want)
		}
	}
	if f.round(time.Millisecond); f.c.limit() != 12 {
		t.Errorf("%d at once after one that was quick, want 12", f.c.limit())
	}
}

// If the way to etcd is long, everything takes long, and nothing is slow.
func TestALongWayIsNotSlow(t *testing.T) {
	f := leaving(t)
	f.c.pace.fastest = 150 * time.Millisecond
	for _, want := range []int{2, 4, 8, 16, 32, 64} {
		if got := f.round(time.Second); got != want {
			t.Fatalf("%d at once, want %d", got, want)
		}
	}
}

// While nobody takes what is offered, the rest is still handled, and only a handful is released at a time.
func TestWhatNobodyTakesInTimeCountsAsSlow(t *testing.T) {
	f := leaving(t)
	f.round(time.Millisecond)
	f.c.Actions() // 4 are terminated
	if got := f.c.limit(); got != 4 {
		t.Fatalf("%d at once, want 4", got)
	}
	sh := f.c.shards[0]
	var ending []string
	for _, r := range sh.list {
		if r.phase.isCall() {
			ending = append(ending, r.id)
		}
	}
	for i, id := range ending {
		f.done(id, OK)
		f.c.Actions()
		f.released(id, 5000+int64(i))
	}
	f.wait(4 * time.Second)
	f.want()
	f.wait(2 * time.Second)
	if got := f.c.limit(); got != 8 {
		t.Errorf("%d at once, want 8", got)
	}
}

func TestWhatWasLearnedOfHandoversIsForgotten(t *testing.T) {
	f := leaving(t)
	f.round(time.Millisecond)
	f.round(time.Millisecond)
	f.pass(2 * time.Minute)
	if got := f.round(time.Millisecond); got != 2 {
		t.Errorf("%d at once after two minutes, want 2", got)
	}
}

// If Terminate itself takes long, as many calls of it are in progress as TerminateConcurrency allows.
func TestATerminateThatTakesLongDelaysNobody(t *testing.T) {
	f := leaving(t)
	ending := func() (ids []string) {
		f.c.Actions()
		for _, r := range f.c.shards[0].list {
			if r.phase.isCall() {
				ids = append(ids, r.id)
			}
		}
		return ids
	}
	first := ending()
	if len(first) != 2 {
		t.Fatalf("%d at once, want 2", len(first))
	}
	f.wait(time.Second)
	if got := len(ending()); got != 64 {
		t.Fatalf("%d at once after a second, want 64", got)
	}
	for _, id := range first {
		f.done(id, OK)
		f.c.Actions()
		f.rev = max(f.rev, 1000) + 2
		f.released(id, f.rev)
		f.pass(10 * time.Millisecond)
		f.appears(id, f.rev+1, 99)
	}
	if got := len(ending()); got != 64 {
		t.Fatalf("%d at once after the first was there, want 64", got)
	}
}

// Calls of Terminate that take long also delay no other call if the handover has become slow and none of them is timed.
func TestSomeThatAreSlowToTerminateDelayNobodyElse(t *testing.T) {
	f := leaving(t)
	for range 4 {
		f.round(10 * time.Millisecond)
	}
	begun := func() (ids []string) {
		f.c.Tick(f.now)
		for _, a := range f.c.Actions() {
			if a.Kind == Terminate {
				ids = append(ids, a.ID)
			}
		}
		return ids
	}
	var quick []string
	hang := 0
	for _, id := range begun() { // 32
		if id != f.c.pace.timed.id && hang < 20 {
			hang++
			continue
		}
		quick = append(quick, id)
		f.done(id, OK)
	}
	f.c.Actions()
	f.pass(time.Second)
	for _, id := range quick {
		f.rev = max(f.rev, 1000) + 2
		f.released(id, f.rev)
		f.appears(id, f.rev+1, 99)
	}
	if got := len(begun()); got != 16 {
		t.Errorf("%d begin while %d hang, want 16", got, hang)
	}
	if err := f.c.Audit(); err != nil {
		t.Error(err)
	}
	f.pass(time.Second)
	if got := len(begun()); got != 64-hang-16 {
		t.Errorf("%d begin when these take long too, want as many as may be at all, %d", got, 64-hang-16)
	}
	if err := f.c.Audit(); err != nil {
		t.Error(err)
	}
}
