package membership_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

func (p picture) move(resource string, m membership.Move) picture {
	return p.with(layout.Move(resource), m.Encode())
}

// three has three active members, and a resource in a shard of the first.
func three() (p picture, resource string) {
	p = picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).member("c", membership.Active, 2)
	v := p.view()
	for i := 0; ; i++ {
		resource = fmt.Sprint("r", i)
		if _, owner := v.OwnerOf(resource); owner == "a" {
			return p, resource
		}
	}
}

func TestAMovedResourceBelongsToThatMemberAlone(t *testing.T) {
	p, r := three()
	v := p.move(r, membership.Move{Member: "b", From: "a"}).view()
	n, owner := v.OwnerOf(r)
	if owner != "b" || v.Owner(n) != "a" {
		t.Errorf("the resource belongs to %q, its shard to %q", owner, v.Owner(n))
	}
	for member, want := range map[string]map[int]map[string]bool{
		"a": {n: {r: false}}, "b": {n: {r: true}}, "c": {},
	} {
		if got := v.MovedOf(member); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", member, got, want)
		}
	}
}

func TestAMoveToAMemberThatCannotOwnAnythingIsNotInForce(t *testing.T) {
	for name, change := range map[string]func(picture){
		"gone":     func(p picture) { delete(p, layout.Member("b")) },
		"drained":  func(p picture) { p.drain("b") },
		"leaving":  func(p picture) { p.member("b", membership.Leaving, 1) },
		"no value": func(p picture) { p.with(layout.Move("r"), "{") },
	} {
		p, r := three()
		p.move(r, membership.Move{Member: "b", From: "a"})
		change(p)
		v := p.view()
		if name == "no value" {
			if len(v.Corrupt) != 1 {
				t.Errorf("corrupt: %q", v.Corrupt)
			}
			continue
		}
		if _, owner := v.OwnerOf(r); owner != "a" || len(v.MovedOf("a"))+len(v.MovedOf("b")) > 0 {
			t.Errorf("%s: it belongs to %q", name, owner)
		}
	}
}

func TestTheNextMoveGoesToAMemberThatHasNotTriedItLately(t *testing.T) {
	p, r := three()
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	since := now.Add(-10 * time.Minute)
	first, ok := p.view().NextMove(r, "a", strings.Repeat("é", 1000), now, since)
	if !ok || first.Member == "a" || first.From != "a" || len(first.Why) > 512 || len(first.Tried) != 1 {
		t.Fatalf("%+v %v", first, ok)
	}
	second, ok := p.move(r, first).view().NextMove(r, first.Member, "no", now, since)
	if !ok || second.Member == "a" || second.Member == first.Member {
		t.Fatalf("%+v %v", second, ok)
	}
	if third, ok := p.move(r, second).view().NextMove(r, second.Member, "no", now, since); ok {
		t.Fatalf("everyone has tried it, and yet: %+v", third)
	}
	later := now.Add(time.Hour)
	if third, ok := p.view().NextMove(r, second.Member, "no", later, later.Add(-time.Minute)); !ok ||
		third.Member == second.Member || len(third.Tried) != 1 {
		t.Fatalf("an hour later: %+v %v", third, ok)
	}
	delete(p, layout.Member("b"))
	delete(p, layout.Member("c"))
	if m, ok := p.view().NextMove(r, "a", "no", later, later); ok {
		t.Errorf("nobody else is there, and yet: %+v", m)
	}
}

func TestThereIsALimitOfMoves(t *testing.T) {
	p, r := three()
	for i := range membership.MaxMoves {
		p.move(fmt.Sprint("other", i), membership.Move{Member: "b"})
	}
	if _, ok := p.view().NextMove(r, "a", "no", time.Now(), time.Now()); ok {
		t.Error("one more than the limit")
	}
	if _, ok := p.view().NextMove("other1", "b", "no", time.Now(), time.Now()); !ok {
		t.Error("what was moved before cannot move on")
	}
}

func TestAMoveMovesNothingElse(t *testing.T) {
	p, r := three()
	before := p.view()
	after := p.move(r, membership.Move{Member: "c"}).view()
	for n := range shards {
		if before.Owner(n) != after.Owner(n) {
			t.Errorf("shard %d went from %q to %q", n, before.Owner(n), after.Owner(n))
		}
	}
	if shard.Of(r, shards) != func() int { n, _ := after.OwnerOf(r); return n }() {
		t.Error("it is in another shard")
	}
}
