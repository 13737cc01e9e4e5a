//go:build unix

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// TestAgentsShareAThousandResources does the main job with real processes: three agents share a source's resources; one
// is killed, one leaves, one joins; the source changes; and drmctl allocates while a member is down. A resource must
// never be handled twice at once, and nothing may be touched that need not be.
func TestAgentsShareAThousandResources(t *testing.T) {
	th := newTheatre(t)
	ids := numbered("r", e2eResources)
	th.source.fill(ids)
	for _, id := range []string{"a", "b", "c"} {
		th.start(id)
	}
	before := th.settled(e2eResources, "a", "b", "c")

	t.Log("kill -9 of a")
	deletion := th.lastDeletion()
	mark := th.journal.Len()
	killed := th.kill("a")
	th.ok("allocate", "--id", "while-down", "--data", `{"why":"a is down"}`) // this comes before anybody takes over
	after := th.settled(e2eResources+1, "b", "c")
	expired := deletion()
	var takeover []time.Duration // when resources were taken over, counted from the kill
	for _, e := range th.since(mark) {
		if e.Resource == "while-down" {
			continue
		}
		if before[e.Resource] != "a" || e.Action != journal.Handle {
			t.Errorf("%s of %s, which %s had, after the kill of a", e.Action, e.Resource, before[e.Resource])
		}
		takeover = append(takeover, e.Time.Sub(killed))
	}

	t.Log("a resource is deallocated and allocated while a is down")
	th.ok("deallocate", "while-down", "--wait")
	if h := journal.Holders(th.journal.Events())["while-down"]; len(h) != 0 {
		t.Errorf("deallocated, and still handled by %v", h)
	}
	th.ok("allocate", "--id", "while-down", "--wait")

	t.Log("SIGTERM of b")
	mark = th.journal.Len()
	left := time.Now()
	th.terminate("b")
	th.settled(e2eResources+1, "c")
	events := th.since(mark)
	handover := events[len(events)-1].Time.Sub(left)
	th.judgeTakeover(slices.Min(takeover), slices.Max(takeover), expired.Sub(killed), handover)
	for _, e := range th.since(mark) {
		if after[e.Resource] != "b" && e.Resource != "while-down" {
			t.Errorf("%s of %s, which %s had, when b left", e.Action, e.Resource, after[e.Resource])
		}
	}

	t.Log("d joins")
	before = th.settled(e2eResources+1, "c")
	mark = th.journal.Len()
	th.start("d")
	after = th.settled(e2eResources+1, "c", "d")
	moved := 0
	for r, m := range after {
		if m != before[r] {
			moved++
		}
	}
	if events = th.since(mark); len(events) != 2*moved {
		t.Errorf("%d events for %d resources that moved to d", len(events), moved)
	}

	t.Log("the source changes")
	mark = th.journal.Len()
	kept := ids[100:]
	th.source.fill(append(slices.Clone(kept), numbered("new", 50)...))
	asked := th.fetches.count() // the last of these fetches may still have got the old answer
	th.settled(len(kept)+50+1, "c", "d")
	last := th.since(mark)
	th.judgeChange(asked, last[len(last)-1].Time, handover)
	if len(last) != 150 {
		t.Errorf("%d events for 100 resources removed and 50 added", len(last))
	}

	th.terminate("c")
	want := append(append(slices.Clone(kept), numbered("new", 50)...), "while-down")
	th.settled(len(want), "d")
	for _, f := range journal.Check(th.journal.Events(), journal.Expect{Resources: want}) {
		t.Error(f)
	}
	th.terminate("d")
	if held := journal.Holders(th.journal.Events()); len(held) != 0 {
		t.Errorf("%d resources are handled after everyone left", len(held))
	}
}
