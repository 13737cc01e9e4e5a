package membership_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/membership"
)

// schema2 lets all members of a picture know Schema 2.
func (p picture) schema2() picture {
	for key, value := range p {
		if strings.HasPrefix(key, layout.Members()) && !strings.Contains(value, "schema") {
			p[key] = strings.TrimSuffix(value, "}") + `,"schema":2}`
		}
	}
	return p
}

func TestADrainedMemberKeepsItsShardsWhileTheCoordinatorIsReplaced(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).
		member("c", membership.Active, 2).schema2()
	keeps := p.view().Owned("c")
	p.with(layout.Drain("c"), membership.Restriction{Keeps: keeps}.Encode())
	guided := p.with(layout.Coordinator(), "a").view()
	if got := guided.Owned("c"); !slices.Equal(got, keeps) {
		t.Fatalf("with a coordinator, c has %v, want %v", got, keeps)
	}
	delete(p, layout.Coordinator())
	if got := p.view(); !slices.Equal(got.Owners(), guided.Owners()) {
		t.Errorf("while the office is free: %v, want %v", got.Owners(), guided.Owners())
	}
	p.member("old", membership.Joining)
	for name, coordinator := range map[string]string{
		"whose key cannot be read": "", "that is gone": "x", "of an older version": "old",
	} {
		if got := p.with(layout.Coordinator(), coordinator).view(); slices.Contains(got.Owned("c"), true) {
			t.Errorf("c keeps shards, and the coordinator is one %s", name)
		}
	}
}

func TestDrainsAndUnreadinessStayInForceWhileTheOnlyMemberThatWorksIsAwaited(t *testing.T) {
	for name, p := range map[string]picture{
		"drained": picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).schema2().
			with(layout.Drain("b"), "{}"),
		"unready": picture{}.member("a", membership.Active, 0).member("b", membership.Unready, 1).schema2(),
	} {
		before := p.view()
		if got := before.Owner(0); got != "a" {
			t.Fatalf("%s: %s owns a shard", name, got)
		}
		p.member("a", membership.Leaving, 0).schema2()
		p.with(layout.Reservation("a"), membership.Reservation{Keeps: before.Owned("a")}.Encode())
		for _, gone := range []bool{false, true} {
			if gone {
				delete(p, layout.Member("a"))
			}
			if got := p.view(); !slices.Equal(got.Owners(), before.Owners()) || got.DrainsIgnored() {
				t.Errorf("%s: while a is away: %v", name, got.Owners())
			}
		}
		delete(p, layout.Reservation("a"))
		if got := p.view().Owner(0); got != "b" {
			t.Errorf("%s: a is not expected any more, and the shard belongs to %q", name, got)
		}
	}
}
