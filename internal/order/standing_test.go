package order_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// join puts the keys of active members, the first of which coordinates.
func (s *stage) join(members ...string) {
	s.t.Helper()
	for i, id := range members {
		s.put(layout.Slot(i), id)
		s.put(layout.Member(id), memberKey("active", i, membership.Schema))
	}
	s.put(layout.Coordinator(), members[0])
}

func memberKey(state string, slot, schema int) string {
	return fmt.Sprintf(
		`{"state":%q,"weight":1,"slots":[%d],"started":"2026-01-02T03:04:05Z","schema":%d}`, state, slot, schema)
}

func (s *stage) view() *membership.View {
	s.t.Helper()
	v, err := s.desk.Reader.Group(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) wants(what string, err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// hasLease says whether a lease lives.
func (s *stage) hasLease(id int64) bool {
	s.t.Helper()
	resp, err := s.client.TimeToLive(s.ctx, clientv3.LeaseID(id))
	s.must(err)
	return resp.TTL >= 0
}

func TestADrainSaysWhoGaveItWhyAndUntilWhen(t *testing.T) {
	s := newStage(t)
	s.join("a", "b", "c")
	s.must(s.desk.Drain(s.ctx, "b", order.Options{By: "ann", Why: "a new disk", For: time.Hour, AtOnce: true}))
	first := s.view().Drains["b"]
	if first.By != "ann" || first.Why != "a new disk" || time.Since(first.Since).Abs() > time.Minute ||
		time.Until(first.Until.Add(-time.Hour)).Abs() > time.Minute || first.Keeps != nil || first.Force {
		t.Errorf("the order: %+v", first)
	}
	_, lease, _ := s.get(layout.Drain("b"))
	if ttl, err := s.client.TimeToLive(s.ctx, clientv3.LeaseID(lease)); err != nil || ttl.GrantedTTL != 3600 {
		t.Errorf("its lease: %+v, %v, want one of an hour", ttl, err)
	}

	s.must(s.desk.Drain(s.ctx, "b", order.Options{By: "bob"})) // bob says nothing new
	if again := s.view().Drains["b"]; again.ModRevision != first.ModRevision {
		t.Errorf("the order was written anew: %+v", again)
	}
	s.must(s.desk.Drain(s.ctx, "b", order.Options{By: "bob", Why: "two disks"}))
	again := s.view().Drains["b"]
	if again.By != "bob" || again.Why != "two disks" || !again.Since.Equal(first.Since) ||
		!again.Until.Equal(first.Until) {
		t.Errorf("another reason: %+v, before %+v", again, first)
	}
	if _, same, _ := s.get(layout.Drain("b")); same != lease {
		t.Errorf("its lease changed from %x to %x", lease, same)
	}
	s.must(s.desk.Drain(s.ctx, "b", order.Options{By: "cy", For: 2 * time.Hour}))
	longer := s.view().Drains["b"]
	if longer.By != "cy" || longer.Why != "two disks" || time.Until(longer.Until) < time.Hour || s.hasLease(lease) {
		t.Errorf("for longer: %+v; the old lease lives: %v", longer, s.hasLease(lease))
	}
	_, lease, _ = s.get(layout.Drain("b"))
	s.must(s.desk.Undrain(s.ctx, "b"))
	if _, _, there := s.get(layout.Drain("b")); there || s.hasLease(lease) {
		t.Errorf("undrained: the key is there: %v, its lease lives: %v", there, s.hasLease(lease))
	}
	s.must(s.desk.Undrain(s.ctx, "b"))
}

func TestADrainExpiresByItself(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	s.must(s.desk.Drain(s.ctx, "b", order.Options{For: time.Second, AtOnce: true}))
	if s.view().StateOf("b") != membership.Draining {
		t.Error("it is not drained")
	}
	err := s.desk.Reader.WaitDrained(s.ctx, "b")
	if err != nil { // it has no claims, so that the wait is over at once
		t.Error(err)
	}
	gone := s.client.Watch(s.ctx, layout.Drain("b"), clientv3.WithRev(s.view().Drains["b"].ModRevision+1))
	if ev := <-gone; len(ev.Events) != 1 || ev.Events[0].Type != clientv3.EventTypeDelete {
		t.Errorf("%+v, want the key's end", ev)
	}
}

func TestAPacedDrainLetsTheMemberKeepWhatItOwns(t *testing.T) {
	s := newStage(t)
	s.join("a", "b", "c")
	owned := s.view().Owned("b")
	s.must(s.desk.Drain(s.ctx, "b", order.Options{}))
	if v := s.view(); !slices.Equal(v.Drains["b"].Keeps, owned) || !slices.Equal(v.Owned("b"), owned) ||
		v.StateOf("b") != membership.Draining {
		t.Errorf("%+v, want it to keep %v", v.Drains["b"], owned)
	}
	ended, cancel := context.WithTimeout(s.ctx, 3*time.Second) // a busy machine may take long to look
	defer cancel()
	var wait *picture.WaitError
	err := s.desk.Reader.WaitDrained(ended, "b") // something may still come into what it keeps
	if !errors.As(err, &wait) || !strings.HasSuffix(wait.Last, "shards until these are placed elsewhere") {
		t.Errorf("a wait for it: %v", err)
	}
	s.must(s.desk.Drain(s.ctx, "b", order.Options{AtOnce: true}))
	if v := s.view(); v.Drains["b"].Keeps != nil || slices.Contains(v.Owned("b"), true) {
		t.Errorf("at once: %+v", v.Drains["b"])
	}
	s.must(s.desk.Drain(s.ctx, "c", order.Options{AtOnce: true}))
	if v := s.view(); v.Drains["c"].Keeps != nil {
		t.Errorf("at once: %+v", v.Drains["c"])
	}
}

// Whoever drains at the same moment learns of the other's order, so that not everybody is drained.
func TestOfTwoDrainsAtTheSameMomentOneIsTheLast(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	for range 10 {
		refused := make(chan error)
		for _, id := range []string{"a", "b"} {
			go func() { refused <- s.desk.Drain(s.ctx, id, order.Options{}) }()
		}
		one, other := <-refused, <-refused
		if (one == nil) == (other == nil) || !errors.Is(errors.Join(one, other), order.ErrLastMember) {
			t.Fatalf("%v and %v, want one refused", one, other)
		}
		s.must(s.desk.Undrain(s.ctx, "a"))
		s.must(s.desk.Undrain(s.ctx, "b"))
	}
}

func TestByForceEverybodyIsDrained(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	s.must(s.desk.Drain(s.ctx, "a", order.Options{AtOnce: true}))
	s.wants("the last one", s.desk.Drain(s.ctx, "b", order.Options{}), order.ErrLastMember)
	s.must(s.desk.Drain(s.ctx, "b", order.Options{Force: true}))
	if v := s.view(); v.DrainsIgnored() || v.Owner(0) != "" || !v.Drains["b"].Force {
		t.Errorf("the owner is %q, and the drain %+v", v.Owner(0), v.Drains["b"])
	}
	s.must(s.desk.Drain(s.ctx, "b", order.Options{Why: "said later"}))
	if v := s.view(); !v.Drains["b"].Force {
		t.Error("to give a reason took the force away")
	}

	// A drain that is ignored can be given force.
	s.must(s.desk.Undrain(s.ctx, "b"))
	s.put(layout.Drain("b"), time.Now().Format(time.RFC3339)) // as an older version gives it
	if v := s.view(); !v.DrainsIgnored() || v.Drains["b"].Since.IsZero() {
		t.Errorf("%+v", v.Drains["b"])
	}
	s.must(s.desk.Drain(s.ctx, "b", order.Options{Force: true}))
	if v := s.view(); v.DrainsIgnored() || v.Drains["b"].Since.IsZero() {
		t.Errorf("%+v", v.Drains["b"])
	}
}

func TestAMemberOfWeight0IsNobodyWhoCouldTakeAnything(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	s.put(layout.Weight("b"), membership.WeightOrder{}.Encode())
	s.wants("drain", s.desk.Drain(s.ctx, "a", order.Options{}), order.ErrLastMember)
}

func TestACordonKeepsWhatItsMemberOwned(t *testing.T) {
	s := newStage(t)
	s.join("a", "b", "c")
	s.wants("of nobody", s.desk.Cordon(s.ctx, "x", order.Options{}), picture.ErrNotFound)
	s.wants("of nobody", s.desk.Uncordon(s.ctx, "x"), picture.ErrNotFound)
	owned := s.view().Owned("b")
	s.must(s.desk.Cordon(s.ctx, "b", order.Options{By: "ann", For: time.Hour, Force: true}))
	if c := s.view().Cordons["b"]; !slices.Equal(c.Keeps, owned) || c.By != "ann" || c.Until.IsZero() || c.Force {
		t.Errorf("%+v, want it to keep %v", c, owned)
	}
	_, err := s.client.Delete(s.ctx, layout.Member("c"))
	s.must(err)
	if v := s.view(); !slices.Equal(v.Owned("b"), owned) {
		t.Errorf("it owns %v, before the end of another %v", v.Owned("b"), owned)
	}
	s.must(s.desk.Drain(s.ctx, "a", order.Options{AtOnce: true})) // now nobody else can take what b does not keep
	s.must(s.desk.Cordon(s.ctx, "b", order.Options{Why: "again"}))
	if c := s.view().Cordons["b"]; !slices.Equal(c.Keeps, owned) || c.Why != "again" {
		t.Errorf("again: %+v, want it to keep %v", c, owned)
	}
	if all := s.view().Owned("b"); slices.Contains(all, false) {
		t.Errorf("it owns %v, though nobody else does", all)
	}
	if got := picture.CordonOf(s.view(), "b"); got != picture.DrainIgnored {
		t.Errorf("its cordon is %q", got)
	}
	s.must(s.desk.Uncordon(s.ctx, "b"))
	if _, _, there := s.get(layout.Cordon("b")); there {
		t.Error("it is cordoned still")
	}
	s.must(s.desk.Cordon(s.ctx, "x", order.Options{Absent: true}))
	s.must(s.desk.Uncordon(s.ctx, "x"))
}

func TestAPinGivesAShardToItsMember(t *testing.T) {
	s := newStage(t)
	s.join("a", "b", "c")
	n := slices.Index(s.view().Owned("a"), true)
	s.wants("to nobody", s.desk.Pin(s.ctx, n, "x", order.Options{}), picture.ErrNotFound)
	if _, err := s.desk.Unpin(s.ctx, n); !errors.Is(err, picture.ErrNotFound) {
		t.Errorf("unpin what is not pinned: %v", err)
	}
	s.must(s.desk.Pin(s.ctx, n, "b", order.Options{By: "ann", Why: "near"}))
	first := s.view().Pins[n]
	if first.Member != "b" || first.By != "ann" || first.Why != "near" || s.view().Owner(n) != "b" {
		t.Errorf("%+v, and the owner is %q", first, s.view().Owner(n))
	}
	s.must(s.desk.Pin(s.ctx, n, "b", order.Options{By: "bob"}))
	if again := s.view().Pins[n]; again.ModRevision != first.ModRevision {
		t.Errorf("the same was written again: %+v", again)
	}
	s.must(s.desk.Pin(s.ctx, n, "c", order.Options{By: "bob"}))
	if again := s.view().Pins[n]; again.Member != "c" || again.Why != "" {
		t.Errorf("to another: %+v", again)
	}
	s.must(s.desk.Pin(s.ctx, n, "x", order.Options{Absent: true}))
	if v := s.view(); v.Owner(n) != "a" {
		t.Errorf("the owner is %q, though the pin is to one that is gone", v.Owner(n))
	}
	if was, err := s.desk.Unpin(s.ctx, n); was != "x" || err != nil {
		t.Errorf("unpin: %q, %v", was, err)
	}
}

func TestAShardIsMovedToWhoeverCanTakeIt(t *testing.T) {
	s := newStage(t)
	s.join("a", "b", "c")
	n := slices.Index(s.view().Owned("a"), true)
	if moved, err := s.desk.Move(s.ctx, n, "a", order.Options{}); moved || err != nil {
		t.Errorf("to its owner: %v, %v", moved, err)
	}
	moved, err := s.desk.Move(s.ctx, n, "b", order.Options{By: "ann", Why: "hot"})
	if e := s.view().Exceptions[n]; !moved || err != nil || e.Member != "b" || e.Why != membership.WhyMove ||
		e.By != "ann" || e.Reason != "hot" || e.Since.IsZero() || s.view().Owner(n) != "b" {
		t.Errorf("%v, %v: %+v", moved, err, e)
	}
	refused := func(want error, says string) {
		t.Helper()
		was := s.view().Exceptions[n].ModRevision
		moved, err := s.desk.Move(s.ctx, n, "c", order.Options{})
		if moved || !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, %v, want %v that says %q", moved, err, want, says)
		}
		if s.view().Exceptions[n].ModRevision != was {
			t.Error("it was written all the same")
		}
	}
	s.must(s.desk.Pin(s.ctx, n, "b", order.Options{}))
	refused(order.ErrPinned, `to "b"`)
	_, err = s.desk.Unpin(s.ctx, n)
	s.must(err)
	s.must(s.desk.Drain(s.ctx, "c", order.Options{}))
	refused(order.ErrCannotTake, "it is drained; undrain it first")
	s.must(s.desk.Undrain(s.ctx, "c"))
	s.must(s.desk.Cordon(s.ctx, "c", order.Options{}))
	refused(order.ErrCannotTake, "it is cordoned; uncordon it first")
	s.must(s.desk.Uncordon(s.ctx, "c"))
	s.put(layout.Weight("c"), membership.WeightOrder{}.Encode())
	refused(order.ErrCannotTake, "its weight is 0; give it another one first")
	_, err = s.client.Delete(s.ctx, layout.Weight("c"))
	s.must(err)
	s.put(layout.Member("c"), memberKey("leaving", 2, membership.Schema))
	refused(order.ErrCannotTake, "it is leaving")
	s.put(layout.Member("c"), memberKey("active", 2, 1))
	refused(order.ErrCannotTake, `the version of "c" is too old`)
	lease, err := s.client.Grant(s.ctx, 60)
	s.must(err)
	for key, value := range map[string]string{
		layout.Member("c"):  memberKey("active", 2, membership.Schema),
		layout.Decline("c"): `{"shards":"0-15"}`,
	} {
		_, err = s.client.Put(s.ctx, key, value, clientv3.WithLease(lease.ID))
		s.must(err)
	}
	refused(order.ErrCannotTake, "it is full")
	_, err = s.client.Revoke(s.ctx, lease.ID)
	s.must(err)
	refused(order.ErrCannotTake, "it is not there")
	s.put(layout.Exception(n), "?") // what cannot be read is overwritten
	if moved, err := s.desk.Move(s.ctx, n, "b", order.Options{}); !moved || err != nil || s.view().Owner(n) != "b" {
		t.Errorf("over garbage: %v, %v", moved, err)
	}
}

func TestAnOrderToRebalanceIsOverWhenTheCoordinatorDeletesIt(t *testing.T) {
	s := newStage(t)
	if _, err := s.desk.Rebalance(s.ctx, order.Options{}); !errors.Is(err, order.ErrNoPlacer) {
		t.Errorf("nobody is there: %v", err)
	}
	s.put(layout.Member("a"), memberKey("active", 0, 1))
	s.put(layout.Coordinator(), "a")
	if _, err := s.desk.Rebalance(s.ctx, order.Options{}); !errors.Is(err, order.ErrNoPlacer) {
		t.Errorf("the coordinator's version is too old: %v", err)
	}
	s.join("a", "b")
	given, err := s.desk.Rebalance(s.ctx, order.Options{By: "ann", Why: "after the holiday"})
	s.must(err)
	value, lease, _ := s.get(layout.RebalanceOrder())
	if !strings.HasPrefix(value, `{"by":"ann","why":"after the holiday","since":"20`) || lease == 0 {
		t.Errorf("the order: %s on lease %x", value, lease)
	}
	done := make(chan error)
	go func() { done <- s.desk.Reader.WaitBegun(s.ctx, given) }()
	_, err = s.client.Delete(s.ctx, layout.RebalanceOrder()) // as the coordinator does
	s.must(err)
	s.must(<-done)

	given, err = s.desk.Rebalance(s.ctx, order.Options{})
	s.must(err)
	_, err = s.client.Revoke(s.ctx, clientv3.LeaseID(given.Lease)) // as if its time were over
	s.must(err)
	s.wants("it has expired", s.desk.Reader.WaitBegun(s.ctx, given), picture.ErrOrderExpired)
}

func TestNoOrderIsGivenToAnAppThatWasMadeAnew(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	leases := s.leases()
	other := order.Desk{Reader: s.desk.Reader, Created: s.app.CreateRevision + 1}
	s.wants("drain", other.Drain(s.ctx, "a", order.Options{For: time.Hour}), appconfig.ErrGone)
	s.wants("cordon", other.Cordon(s.ctx, "a", order.Options{For: time.Hour}), appconfig.ErrGone)
	s.wants("pin", other.Pin(s.ctx, 1, "a", order.Options{}), appconfig.ErrGone)
	if s.leases() != leases {
		t.Error("leases are left")
	}
}

func TestOrdersThatStandAreListed(t *testing.T) {
	s := newStage(t)
	s.join("a", "b", "c")
	n := slices.Index(s.view().Owned("a"), true)
	s.must(s.desk.Drain(s.ctx, "gone", order.Options{Absent: true, By: "ann", Why: "sold", For: time.Hour}))
	s.must(s.desk.Cordon(s.ctx, "b", order.Options{}))
	s.must(s.desk.Pin(s.ctx, 3, "gone", order.Options{Absent: true}))
	_, err := s.desk.Move(s.ctx, n, "c", order.Options{By: "bob", Why: "hot"})
	s.must(err)
	s.put(layout.Weight("c"), membership.WeightOrder{Weight: 7}.Encode())
	s.put(layout.Weight("d"), "?") // it is no order
	roll, err := s.desk.Reader.Roll(s.ctx)
	s.must(err)
	var got []string
	for _, o := range roll.Orders() {
		got = append(got, fmt.Sprintf("%s %s %d %d %q %q live %v ignored %v until %v",
			o.Kind, o.Member, o.Shard, o.Weight, o.By, o.Why, o.Live, o.Ignored, !o.Until.IsZero()))
	}
	want := []string{
		`cordon b 0 0 "" "" live true ignored false until false`,
		`drain gone 0 0 "ann" "sold" live false ignored false until true`,
		fmt.Sprintf(`move c %d 0 "bob" "hot" live true ignored false until false`, n),
		`pin gone 3 0 "" "" live false ignored true until false`,
		`weight c 0 7 "" "" live true ignored false until false`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAShardIsCountedWithoutReadingOthers(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	const entry = `{"from_source":false,"allocated":true,"own_data":false,"suspended":%v,"data":{"id":%q}}`
	n, in := -1, 0
	for i := range 200 {
		id := fmt.Sprint("r", i)
		at := shardOf(id)
		if n < 0 {
			n = at
		}
		s.put(layout.Resource(at, id), fmt.Sprintf(entry, at == n && in == 1, id))
		if at == n {
			in++
		}
	}
	got, err := s.desk.Reader.Shard(s.ctx, n)
	want := picture.Shard{Number: n, Member: s.view().Owner(n), Resources: in - 1} // one of them is suspended
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
