package core

import (
	"slices"
	"strconv"
	"testing"
)

// active answers the core's actions until the handler has all of ids. The core owns them and has room for them.
func (f *fixture) active(ids []string) {
	f.t.Helper()
	for i := range ids {
		f.claimed(ids[i], 200+int64(i))
	}
	for todo := f.c.Actions(); len(todo) > 0; todo = f.c.Actions() {
		for _, a := range todo {
			switch a.Kind {
			case Handle:
				f.done(a.ID, OK)
			case WriteState:
				f.saved(a.ID, a.Token)
			default:
				f.t.Fatalf("unexpected %s", describe(a))
			}
		}
	}
	sorted := slices.Sorted(slices.Values(ids))
	f.wantHandled(sorted...)
}

func TestHandleConcurrencyIsRespectedInOrder(t *testing.T) {
	f := owning(t, []string{"c", "b", "a"}, func(c *Config) { c.HandleConcurrency = 2 })
	f.want("claim a on 1", "claim b on 1", "claim c on 1")
	f.claimed("b", 110)
	f.claimed("c", 111)
	f.claimed("a", 112)
	f.want("handle b 110 on 1 v1", "handle c 111 on 1 v1")
	if s := f.c.Stats(); s.Calls != 2 || s.Waiting != 1 {
		t.Fatalf("stats: %+v", s)
	}
	f.done("c", Error)
	f.want("handle a 112 on 1 v1", "write-state c 111 failed boom")
	f.hangs("b") // frees its place
	f.wait(testConfig().Backoff)
	f.want("release b 110", "handle c 111 on 1 v1")
}

func TestTerminateConcurrencyIsRespectedInOrder(t *testing.T) {
	f := owning(t, []string{"a", "b", "c"}, func(c *Config) { c.TerminateConcurrency = 2 })
	f.c.Actions()
	f.active([]string{"a", "b", "c"})
	f.remove("b")
	f.remove("c")
	f.remove("a")
	f.want("terminate b 201 removed", "terminate c 202 removed")
	f.wantHandled("a") // it is handled until its turn comes
	f.done("c", OK)
	f.want("release c 202", "terminate a 200 removed")
}

func TestReleaseBacklogDelaysTerminates(t *testing.T) {
	f := owning(t, []string{"a", "b", "c"}, func(c *Config) { c.ReleaseBacklog = 2 })
	f.c.Actions()
	f.active([]string{"a", "b", "c"})
	f.remove("b")
	f.remove("c")
	f.remove("a")
	f.want("terminate b 201 removed", "terminate c 202 removed")
	f.done("c", OK)
	f.want("release c 202") // a still waits
	f.done("b", OK)
	f.want("release b 201")
	f.released("b", 300)
	f.want("terminate a 200 removed")
}

func TestReleaseBacklogDoesNotDelayFencedOnes(t *testing.T) {
	f := owning(t, []string{"a", "b"}, func(c *Config) { c.ReleaseBacklog = 1 })
	f.c.Actions()
	f.active([]string{"a", "b"})
	f.remove("a")
	f.remove("b")
	f.want("terminate a 200 removed")
	f.c.LeaseFenced(f.now, 1)
	f.want("terminate b 201 fenced")
}

func TestWhatNoLongerNeedsItsTurnIsPassedOver(t *testing.T) {
	f := owning(t, []string{"a", "b", "c"}, func(c *Config) { c.HandleConcurrency = 1; c.TerminateConcurrency = 1 })
	f.c.Actions()
	f.active([]string{"a", "b", "c"})
	f.remove("a")
	f.remove("b")
	f.remove("c")
	f.want("terminate a 200 removed")
	f.entry("b", "v1")
	f.done("a", OK)
	f.want("release a 200", "terminate c 202 removed")
	f.wantHandled("b")
}

func TestQueueReusesItsRoomWhileItIsNeverEmpty(t *testing.T) {
	q := queue{id: handleQueue}
	var rs []*resource
	for i := range 10 {
		rs = append(rs, &resource{id: strconv.Itoa(i)})
		q.push(rs[i])
	}
	for i := range 10_000 {
		r := q.pop()
		if r != rs[i%10] {
			t.Fatalf("%d: popped %s, want %s", i, r.id, rs[i%10].id)
		}
		q.push(r)
		q.push(r) // it has no effect, since it waits already
	}
	if q.waiting() != 10 || cap(q.items) > 100 {
		t.Fatalf("%d waiting, room for %d", q.waiting(), cap(q.items))
	}
}

func TestQueueLeavesWhatWentToAnotherQueue(t *testing.T) {
	a, b := queue{id: terminateQueue}, queue{id: urgentQueue}
	r, s := &resource{id: "r"}, &resource{id: "s"}
	a.push(r)
	a.push(s)
	b.push(r)
	if got := a.pop(); got != s {
		t.Fatalf("popped %+v, want s", got)
	}
	if got := b.pop(); got != r {
		t.Fatalf("popped %+v, want r", got)
	}
	if a.pop() != nil || b.pop() != nil {
		t.Fatal("not empty")
	}
}
