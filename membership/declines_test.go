package membership_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/membership"
)

// declining makes the view of a picture in which the key of each decline is on the lease of its member.
func (p picture) declining(declines map[string]string) *membership.View {
	for id, said := range declines {
		p[layout.Decline(id)] = fmt.Sprintf(`{"shards":%q}`, said)
	}
	kvs := p.kvs()
	leases := map[string]int64{}
	for _, kv := range kvs {
		leases[string(kv.Key)] = kv.Lease
	}
	for _, kv := range kvs {
		if id, is := strings.CutPrefix(string(kv.Key), layout.Decline("")); is {
			kv.Lease = leases[layout.Member(id)]
		}
	}
	return membership.NewView(layout.Root(), shards, kvs, 7)
}

// A shard that is declined goes to the member that would have it if those that decline it were not there, and no other
// shard moves.
func TestADeclinedShardGoesWhereItWouldWithoutThoseThatDeclineIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.IntRange(1, 5).Draw(t, "members")
		p, declines, without := picture{}, map[string]string{}, map[string]map[int]bool{}
		for i := range members {
			id := fmt.Sprint("m", i)
			p.member(id, membership.Active, 2*i, 2*i+1)
			var list []string
			without[id] = map[int]bool{}
			for n := rapid.IntRange(0, 1).Draw(t, "first"); n < shards; n += rapid.IntRange(2, 9).Draw(t, "step") {
				list = append(list, fmt.Sprint(n))
				without[id][n] = true
			}
			if rapid.Bool().Draw(t, "declines") && len(list) > 0 {
				declines[id] = strings.Join(list, ",")
			} else {
				without[id] = nil
			}
		}
		if rapid.Bool().Draw(t, "pin") {
			p.with(layout.Pin(0), "m0")
		}
		if rapid.Bool().Draw(t, "drain") {
			p.drain("m0")
		}
		plain, v := maps.Clone(p).view(), maps.Clone(p).declining(declines)
		for n := range shards {
			owner := v.Owner(n)
			left := maps.Clone(p)
			someLeft := false
			for i := range members {
				id := fmt.Sprint("m", i)
				drained := id == "m0" && plain.StateOf(id) == membership.Draining
				if without[id][n] {
					delete(left, layout.Member(id))
				} else {
					someLeft = someLeft || !drained
				}
			}
			want := left.view().Owner(n)
			if !someLeft { // all decline it
				want = plain.Owner(n)
			}
			if owner != want {
				t.Fatalf("shard %d is %q's, want %q's (%q's by the ring); declines %v", n, owner, want, plain.Owner(n),
					declines)
			}
			if v.IsFull(n) != !someLeft {
				t.Fatalf("shard %d: IsFull is %v", n, v.IsFull(n))
			}
		}
	})
}

func TestOnlyTheDeclineOfALiveMemberCounts(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1)
	all := fmt.Sprintf("0-%d", shards-1)
	v := maps.Clone(p).declining(map[string]string{"a": all})
	if got := owners(v); !slices.Equal(got, []string{"b"}) {
		t.Errorf("a declines all, and %q own shards", got)
	}
	if d := v.DeclineOf("a").Shards; len(d) != shards || slices.Contains(d, false) || v.DeclineOf("b").Shards != nil {
		t.Errorf("a declines %v, b %v", d, v.DeclineOf("b"))
	}
	for what, v := range map[string]*membership.View{
		"another lease": maps.Clone(p).with(layout.Decline("a"), `{"shards":"`+all+`"}`).view(),
		"nobody's":      maps.Clone(p).declining(map[string]string{"c": all}),
		"out of range":  maps.Clone(p).declining(map[string]string{"a": "4000-4095"}),
	} {
		if got := owners(v); !slices.Equal(got, []string{"a", "b"}) || len(v.Corrupt) > 0 {
			t.Errorf("%s: %q own shards, corrupt: %v", what, got, v.Corrupt)
		}
	}
	for _, bad := range []string{`{"shards":"0","lacks":{"00":1}}`, `{"shards":"0","lacks":{"0":0}}`, `{`} {
		p := maps.Clone(p).with(layout.Decline("a"), bad)
		if v := p.view(); len(v.Corrupt) != 1 {
			t.Errorf("%s: corrupt: %v", bad, v.Corrupt)
		}
	}
	for _, bad := range []string{"", "x", "1,0", "0,1", "0-0", "3-1", "01", "0-4096", "-1", "1,", "0-2,3", "+1"} {
		v := maps.Clone(p).declining(map[string]string{"a": bad})
		if got := owners(v); !slices.Equal(got, []string{"a", "b"}) || len(v.Corrupt) != 1 {
			t.Errorf("%q: %q own shards, corrupt: %v", bad, got, v.Corrupt)
		}
	}
}

func TestDeclineIsOnTheLeaseOfTheRegistration(t *testing.T) {
	g := newGroup(t)
	r, lease := g.registrar("a"), g.grant(600)
	reg, err := r.Register(t.Context(), active(1), lease)
	if err != nil {
		t.Fatal(err)
	}
	declined := membership.Decline{Shards: make([]bool, g.view().Shards), Lacks: make([]int, g.view().Shards)}
	declined.Shards[0], declined.Shards[1], declined.Shards[3] = true, true, true
	declined.Lacks[1] = 17
	for _, want := range []membership.Decline{declined, {}, declined} {
		revision, err := r.Decline(t.Context(), reg, want)
		if err != nil {
			t.Fatal(err)
		}
		if v := g.view(); !v.DeclineOf("a").Equal(want) || v.Revision < revision {
			t.Fatalf("declined: %v at %d, want %v at %d", v.DeclineOf("a"), v.Revision, want, revision)
		}
	}
	if lacks := g.view().Lacks(); lacks[1] != 17 || lacks[0] != 0 { // nobody else is there
		t.Errorf("the view lacks %v", lacks)
	}
	old := reg
	old.CreateRevision--
	if _, err := r.Decline(t.Context(), old, membership.Decline{}); !errors.Is(err, membership.ErrGone) {
		t.Errorf("under another registration: %v", err)
	}
	if got := g.view().DeclineOf("a"); !got.Equal(declined) {
		t.Errorf("another registration changed it to %v", got)
	}
	g.join("b", 1)
	if lacks := g.view().Lacks(); lacks != nil { // b takes them
		t.Errorf("the view lacks %v", lacks)
	}
	if _, err := client.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(t.Context(), g.layout.Decline(""), clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) > 0 {
		t.Errorf("the decline outlives the lease: %v, %v", resp, err)
	}
}

func TestTheShareIsTheWeightAmongThoseThatMayOwnShards(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1, 2).
		member("c", membership.Joining).member("d", membership.Leaving, 3).member("e", membership.Active, 4).drain("e")
	for id, want := range map[string]int{"a": 1, "b": 2, "c": 1, "d": 0, "e": 0, "x": 0} {
		if mine, all := p.view().Share(id); mine != want || all != 4 {
			t.Errorf("%s: %d of %d, want %d of 4", id, mine, all, want)
		}
	}
}
