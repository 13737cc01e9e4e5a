package membership_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/membership"
)

// known adds the key of a member that knows reservations, and its slot.
func (p picture) known(id string, state membership.State, slot int) picture {
	p.member(id, state, slot)
	return p.with(layout.Member(id), fmt.Sprintf(`{"state":%q,"weight":1,"slots":[%d],"schema":2}`, state, slot))
}

// away is a picture of three members, of which b has stopped and is expected back. It keeps what it had. before is the
// view when all three were there.
func away() (p picture, before *membership.View) {
	all := picture{}.known("a", membership.Active, 0).known("b", membership.Active, 1).known("c", membership.Active, 2)
	before = all.view()
	r := membership.Reservation{Until: time.Unix(1_800_000_000, 0).UTC(), Keeps: before.Owned("b")}
	p = all.with(layout.Reservation("b"), r.Encode())
	delete(p, layout.Member("b"))
	return p, before
}

func TestShardsWaitForAMemberThatIsExpectedBack(t *testing.T) {
	p, before := away()
	v := p.view()
	if !slices.Equal(v.Owners(), before.Owners()) {
		t.Errorf("owned by %v, want %v", v.Owners(), before.Owners())
	}
	r, awaited := v.Awaited("b")
	if !awaited || r.Until.Unix() != 1_800_000_000 || !slices.Equal(r.Keeps, before.Owned("b")) {
		t.Errorf("Awaited: %+v, %v", r, awaited)
	}
	for _, state := range []membership.State{membership.Leaving, membership.Joining} {
		p.known("b", state, 1)
		if v := p.view(); !slices.Equal(v.Owners(), before.Owners()) {
			t.Errorf("while it is %s: owned by %v", state, v.Owners())
		}
	}
	for _, state := range []membership.State{membership.Active, membership.Unready} {
		p.known("b", state, 1)
		if _, awaited := p.view().Awaited("b"); awaited {
			t.Errorf("it is awaited while it is %s", state)
		}
	}
}

func TestNothingElseGoesToAMemberThatIsAway(t *testing.T) {
	p, before := away()
	delete(p, layout.Member("c"))
	v := p.view()
	for n, owner := range v.Owners() {
		if was := before.Owner(n); was == "c" && owner != "a" || was != "c" && owner != was {
			t.Errorf("shard %d goes from %s to %s", n, was, owner)
		}
	}
	delete(p, layout.Member("a")) // nobody else can own a shard
	for n, owner := range p.view().Owners() {
		if owner != "b" {
			t.Errorf("shard %d belongs to %q", n, owner)
		}
	}
	delete(p, layout.Reservation("b"))
	if owners := p.view().Owners(); slices.Contains(owners, "b") {
		t.Errorf("after the reservation: owned by %v", owners)
	}
}

// A member of an older version does not know of the reservation, and takes over what would be its own without it.
func TestAnOlderMemberTakesOverFromOneThatIsAway(t *testing.T) {
	p, before := away()
	p.member("c", membership.Active, 2)
	v := p.view()
	delete(p, layout.Reservation("b"))
	gone := p.view()
	for n, owner := range v.Owners() {
		want := before.Owner(n)
		if want == "b" && gone.Owner(n) == "c" {
			want = "c"
		}
		if owner != want {
			t.Errorf("shard %d belongs to %s, want %s", n, owner, want)
		}
	}
}

func TestAnOrderEndsTheWaitForAMember(t *testing.T) {
	for name, order := range map[string]struct{ key, value string }{
		"drain":     {layout.Drain("b"), ""},
		"no weight": {layout.Weight("b"), `{"weight":0}`},
	} {
		p, _ := away()
		v := p.with(order.key, order.value).view()
		if _, awaited := v.Awaited("b"); awaited || slices.Contains(v.Owners(), "b") {
			t.Errorf("%s: awaited %v, owned by %v", name, awaited, v.Owners())
		}
	}
}

func TestAReservationThatCannotBeReadReservesAllTheSame(t *testing.T) {
	for _, value := range []string{"", "x", `{"keeps":"9-1"}`, `{"keeps":"5000"}`, `{"until":7}`} {
		p, before := away()
		v := p.with(layout.Reservation("b"), value).view()
		if !slices.Equal(v.Owners(), before.Owners()) || len(v.Corrupt) > 0 {
			t.Errorf("%q: owned by %v, corrupt %v", value, v.Owners(), v.Corrupt)
		}
	}
}

func TestAReservationComesBackAsItWentIn(t *testing.T) {
	keeps := make([]bool, shards)
	keeps[0], keeps[5], keeps[6] = true, true, true
	want := membership.Reservation{Since: time.Unix(7, 0).UTC(), Until: time.Unix(37, 0).UTC(), Keeps: keeps}
	kvs := []*mvccpb.KeyValue{{Key: []byte(layout.Reservation("b")), Value: []byte(want.Encode())}}
	got := membership.NewView(layout.Root(), shards, kvs, 9).Reservations["b"]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAMemberThatStopsKeepsItsPlaceUntilItIsBack(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	reg := g.join("b", 2)
	before := g.view()
	until := g.grant(60)
	left, err := g.registrar("b").Leave(t.Context(), reg, membership.Reservation{Keeps: before.Owned("b")}, until, 0)
	if err != nil || left.Record.State != membership.Leaving {
		t.Fatalf("%+v, %v", left, err)
	}
	g.revoke(reg.Lease)
	if v := g.view(); !slices.Equal(v.Owners(), before.Owners()) || len(v.Members) != 1 {
		t.Errorf("while it is away: owned by %v", v.Owners())
	}
	if c := g.join("c", 1); slices.Contains(reg.Record.Slots, c.Record.Slots[0]) {
		t.Errorf("c has the slots %v, and b had %v", c.Record.Slots, reg.Record.Slots)
	}
	record := active(2)
	record.State = membership.Joining
	back, err := g.registrar("b").Register(t.Context(), record, g.grant(60))
	if err != nil {
		t.Fatal(err)
	}
	if _, awaited := g.view().Awaited("b"); !awaited {
		t.Error("it is not awaited any more as soon as it registers")
	}
	if back, err = g.registrar("b").Activate(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	v := g.view()
	if !slices.Equal(back.Record.Slots, reg.Record.Slots) || len(v.Reservations) > 0 {
		t.Errorf("slots %v, want %v; reservations %v", back.Record.Slots, reg.Record.Slots, v.Reservations)
	}
}

// A member whose view is older than what it has declined does not know who has taken that over.
func TestNothingIsReservedByAViewThatIsOlderThanWhatTheMemberDeclines(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	reg := g.join("b", 1)
	old := g.view()
	r := g.registrar("b")
	if _, err := r.Decline(t.Context(), reg, membership.Decline{Shards: old.Owned("b")}); err != nil {
		t.Fatal(err)
	}
	after := g.view()
	_, err := r.Leave(t.Context(), reg, membership.Reservation{Keeps: old.Owned("b")}, g.grant(60), old.Revision)
	if v := g.view(); !errors.Is(err, membership.ErrOutdated) || len(v.Reservations) > 0 || !v.SameMembers(after) {
		t.Errorf("reserved: %+v, owned by %v, %v", v.Reservations, v.Owners(), err)
	}
	lost := reg
	lost.CreateRevision--
	if _, err := r.Leave(t.Context(), lost, membership.Reservation{}, g.grant(60), old.Revision); !errors.Is(err,
		membership.ErrGone) {
		t.Errorf("under another registration: %v", err)
	}
	if _, err := r.Leave(t.Context(), reg, membership.Reservation{}, g.grant(60), after.Revision); err != nil {
		t.Errorf("by a view that shows what the member declines: %v", err)
	}
}

func TestAMemberThatIsBackAndNotReadyIsNotAwaited(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	reg := g.join("b", 1)
	if _, err := g.registrar("b").Leave(t.Context(), reg, membership.Reservation{}, g.grant(60), 0); err != nil {
		t.Fatal(err)
	}
	g.revoke(reg.Lease)
	record := active(1)
	record.State = membership.Joining
	back, err := g.registrar("b").Register(t.Context(), record, g.grant(60))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.registrar("b").SetState(t.Context(), back, membership.Unready); err != nil {
		t.Fatal(err)
	}
	if v := g.view(); len(v.Reservations) > 0 {
		t.Errorf("reservations %v", v.Reservations)
	}
}
