package membership_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

func (g *group) wantSlots(reg membership.Registration, slots ...int) {
	g.Helper()
	if !slices.Equal(reg.Record.Slots, slots) {
		g.Errorf("slots %v, want %v", reg.Record.Slots, slots)
	}
}

func TestNewMembersTakeTheLowestSlots(t *testing.T) {
	g := newGroup(t)
	g.wantSlots(g.join("a", 1), 0)
	g.wantSlots(g.join("b", 3), 1, 2, 3)
	g.wantSlots(g.join("c/😀", shard.Single), slices.Collect(func(yield func(int) bool) {
		for n := 4; n < 4+shard.Single && yield(n); n++ {
		}
	})...)
	if got := g.view().Slots[:5]; !slices.Equal(got, []string{"a", "b", "b", "b", "c/😀"}) {
		t.Errorf("reserved: %q", got)
	}
}

func TestAMembersKeyIsBoundToItsLeaseAndItsSlotsAreNot(t *testing.T) {
	g := newGroup(t)
	reg := g.join("a", 1)
	member, err := client.Get(t.Context(), g.layout.Member("a"))
	if err != nil {
		t.Fatal(err)
	}
	kv := member.Kvs[0]
	if kv.Lease != int64(reg.Lease) || kv.CreateRevision != reg.CreateRevision {
		t.Errorf("the key has lease %x and create revision %d, want %x and %d", kv.Lease, kv.CreateRevision, reg.Lease,
			reg.CreateRevision)
	}
	slot, err := client.Get(t.Context(), g.layout.Slot(0))
	if err != nil {
		t.Fatal(err)
	}
	if slot.Kvs[0].Lease != 0 {
		t.Errorf("the slot has lease %x", slot.Kvs[0].Lease)
	}
	g.revoke(reg.Lease)
	v := g.view()
	if len(v.Members) != 0 || !slices.Equal(v.Slots, []string{"a"}) {
		t.Errorf("after its lease: members %v, slots %q", v.Members, v.Slots)
	}
}

func TestAMemberThatReturnsGetsItsOwnSlots(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	b := g.join("b", 2)
	g.join("c", 1)
	g.revoke(b.Lease)
	again := g.join("b", 2)
	g.wantSlots(again, 1, 2)
	if again.CreateRevision <= b.CreateRevision {
		t.Errorf("create revision %d after %d", again.CreateRevision, b.CreateRevision)
	}
}

func TestANewcomerTakesADeadMembersSlot(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	b := g.join("b", 1)
	g.join("c", 1)
	g.revoke(b.Lease)
	g.wantSlots(g.join("d", 2), 1, 3)
	g.wantSlots(g.join("b", 1), 4) // d has taken b's old slot
}

func TestAGreaterWeightTakesMoreSlots(t *testing.T) {
	g := newGroup(t)
	a := g.join("a", 1)
	g.join("b", 1)
	g.revoke(a.Lease)
	g.wantSlots(g.join("a", 3), 0, 2, 3)
}

func TestALesserWeightFreesSlotsAndTheRingDoesNotShrink(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	b := g.join("b", 3)
	g.revoke(b.Lease)
	g.wantSlots(g.join("b", 1), 1)
	if got := g.view().Slots; !slices.Equal(got, []string{"a", "b", "", ""}) {
		t.Errorf("reserved: %q", got)
	}
	g.wantSlots(g.join("c", 3), 2, 3, 4)
}

func TestMoreSlotsThanATransactionCanFreeAreFreedOverTime(t *testing.T) {
	g := newGroup(t)
	for n := range 300 {
		g.put(g.layout.Slot(n), "a") // as somebody might do by hand
	}
	owned := func() int {
		return len(slices.DeleteFunc(g.view().Slots, func(id string) bool { return id != "a" }))
	}
	for before := 300; before > 1; before = owned() {
		reg := g.join("a", 1)
		g.wantSlots(reg, 0)
		g.revoke(reg.Lease)
		if after := owned(); after >= before {
			t.Fatalf("%d slots are reserved for it, after %d", after, before)
		}
	}
}

func TestMembersThatRegisterAtOnceGetDisjointSlots(t *testing.T) {
	g := newGroup(t)
	dead := g.join("dead", 3)
	g.revoke(dead.Lease)
	const members = 20
	got := make([]membership.Registration, members)
	var all errgroup.Group
	total := 0
	for n := range members {
		weight := 1 + n%3
		total += weight
		lease := g.grant(600)
		all.Go(func() (err error) {
			got[n], err = g.registrar(fmt.Sprint("m", n)).Register(t.Context(), active(weight), lease)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	taken := map[int]int{}
	for n, reg := range got {
		if len(reg.Record.Slots) != 1+n%3 || !slices.IsSorted(reg.Record.Slots) {
			t.Errorf("m%d has slots %v", n, reg.Record.Slots)
		}
		for _, s := range reg.Record.Slots {
			if other, twice := taken[s]; twice {
				t.Errorf("m%d and m%d both have slot %d", n, other, s)
			}
			taken[s] = n
		}
	}
	v := g.view()
	if len(v.Slots) != total || len(v.Members) != members || len(v.Corrupt) != 0 {
		t.Errorf("%d slots for %d, of %d members; corrupt %q", len(v.Slots), total, len(v.Members), v.Corrupt)
	}
	for s, id := range v.Slots {
		if id != fmt.Sprint("m", taken[s]) {
			t.Errorf("slot %d is %q's, and m%d thinks that it has it", s, id, taken[s])
		}
	}
}

func TestAReturningMemberAndItsHeirDoNotGetTheSameSlot(t *testing.T) {
	for range 10 {
		g := newGroup(t)
		g.revoke(g.join("old", 1).Lease)
		var both errgroup.Group
		var regs [2]membership.Registration
		for i, id := range []string{"old", "new"} {
			lease := g.grant(600)
			both.Go(func() (err error) {
				regs[i], err = g.registrar(id).Register(t.Context(), active(1), lease)
				return err
			})
		}
		if err := both.Wait(); err != nil {
			t.Fatal(err)
		}
		if regs[0].Record.Slots[0] == regs[1].Record.Slots[0] {
			t.Fatalf("both have slot %v", regs[0].Record.Slots)
		}
	}
}

func TestATakenIDTellsItsHolder(t *testing.T) {
	g := newGroup(t)
	record := active(1)
	record.Address, record.Labels, record.Version = "10.0.0.1:80", map[string]string{"zone": "a"}, "v1"
	lease := g.grant(600)
	first, err := g.registrar("a").Register(t.Context(), record, lease)
	if err != nil {
		t.Fatal(err)
	}
	before := g.view()
	_, err = g.registrar("a").Register(t.Context(), active(1), g.grant(600))
	var taken *membership.TakenError
	if !errors.As(err, &taken) || !errors.Is(err, membership.ErrTaken) {
		t.Fatalf("Register: %v, want a *TakenError", err)
	}
	h := taken.Holder
	if h.ID != "a" || h.Address != "10.0.0.1:80" || h.Labels["zone"] != "a" || h.Version != "v1" ||
		!h.Started.Equal(record.Started) ||
		h.Lease != int64(lease) || h.CreateRevision != first.CreateRevision {
		t.Errorf("the holder is %+v", h)
	}
	if !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("%q does not name the member", err)
	}
	if after := g.view(); after.Slots[0] != "a" || len(after.Slots) != len(before.Slots) {
		t.Errorf("slots %q", after.Slots)
	}
}

// A newer version may write a key that this one does not understand. To take its place would be to have two members of
// one id.
func TestAMemberThatIsNotUnderstoodIsLive(t *testing.T) {
	g := newGroup(t)
	lease := g.grant(600)
	g.put(g.layout.Slot(0), "a")
	revision := g.put(g.layout.Member("a"), `{"state":"dancing"}`, clientv3.WithLease(lease))
	_, err := g.registrar("a").Register(t.Context(), active(1), g.grant(600))
	var taken *membership.TakenError
	if !errors.As(err, &taken) || taken.Holder.ID != "a" || taken.Holder.CreateRevision != revision ||
		taken.Holder.Lease != int64(lease) {
		t.Errorf("Register: %v", err)
	}
	g.wantSlots(g.join("b", 1), 1)
}

func TestASlotWithoutAMembersIDIsFree(t *testing.T) {
	g := newGroup(t)
	g.put(g.layout.Slot(0), "\n")
	g.put(g.layout.Slot(2), "c")
	g.wantSlots(g.join("a", 4), 0, 1, 2, 3)
	if v := g.view(); len(v.Corrupt) != 0 {
		t.Errorf("corrupt: %q", v.Corrupt)
	}
}

// lossy loses the answer of the first transaction that succeeds.
type lossy struct {
	clientv3.KV
	once *sync.Once
}

type lossyTxn struct {
	clientv3.Txn
	lossy
}

var errLost = errors.New("the answer was lost")

func (l lossy) Txn(ctx context.Context) clientv3.Txn { return &lossyTxn{l.KV.Txn(ctx), l} }

func (t *lossyTxn) If(cmps ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(cmps...); return t }
func (t *lossyTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(ops...); return t }
func (t *lossyTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }
func (t *lossyTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.Txn.Commit()
	t.once.Do(func() { err = errLost })
	return resp, err
}

func TestARegistrationWhoseAnswerWasLostIsFoundByItsLease(t *testing.T) {
	g := newGroup(t)
	r := g.registrar("a")
	r.Client = lossy{client, new(sync.Once)}
	lease := g.grant(600)
	if reg, err := r.Register(t.Context(), active(2), lease); !errors.Is(err, errLost) {
		t.Fatalf("Register: %+v, %v", reg, err)
	}
	before := g.view()
	reg, err := r.Register(t.Context(), active(2), lease)
	if err != nil {
		t.Fatal(err)
	}
	g.wantSlots(reg, 0, 1)
	if m := before.Members["a"]; reg.CreateRevision != m.CreateRevision || reg.Lease != lease ||
		reg.Record.State != membership.Active {
		t.Errorf("found %+v, registered was %+v", reg, m)
	}
	if reg, err = r.SetState(t.Context(), reg, membership.Leaving); err != nil ||
		g.view().StateOf("a") != membership.Leaving {
		t.Errorf("SetState: %+v, %v", reg, err)
	}
}

func TestNobodyRegistersInAnAppThatIsGone(t *testing.T) {
	g := newGroup(t)
	g.delete(g.layout.Config())
	for _, what := range []string{"deleted", "made anew"} {
		if _, err := g.registrar("a").
			Register(t.Context(), active(1), g.grant(600)); !errors.Is(
			err,
			membership.ErrAppGone,
		) {
			t.Errorf("%s: %v, want ErrAppGone", what, err)
		}
		g.put(g.layout.Config(), `{"schema":1,"shards":64}`)
	}
	if v := g.view(); len(v.Members)+len(v.Slots) != 0 {
		t.Errorf("members %v, slots %q", v.Members, v.Slots)
	}
}

func TestRegisterUnderALeaseThatIsNotThereFails(t *testing.T) {
	g := newGroup(t)
	if _, err := g.registrar("a").Register(t.Context(), active(1), 12345); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("got %v, want ErrLeaseNotFound", err)
	}
	if v := g.view(); len(v.Slots) != 0 {
		t.Errorf("slots %q", v.Slots)
	}
}

func TestAWeightThatCannotBeIsRefused(t *testing.T) {
	g := newGroup(t)
	for _, weight := range []int{-1, membership.MaxWeight + 1} {
		if _, err := g.registrar("a").Register(t.Context(), active(weight), 1); err == nil ||
			!strings.Contains(err.Error(), "want 0 to 1000") {
			t.Errorf("weight %d: %v", weight, err)
		}
	}
}

func TestRegisterEndsWithItsContext(t *testing.T) {
	g := newGroup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.registrar("a").Register(ctx, active(1), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	r := g.registrar("a")
	r.Timeout = time.Nanosecond
	if _, err := r.Register(t.Context(), active(1), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
}

func TestSetStateKeepsTheKeyOnItsLease(t *testing.T) {
	g := newGroup(t)
	record := active(2)
	record.State, record.Source = membership.Joining, true
	r := g.registrar("a")
	reg, err := r.Register(t.Context(), record, g.grant(600))
	if err != nil {
		t.Fatal(err)
	}
	if reg, err = r.Activate(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	for _, state := range []membership.State{membership.Active, membership.Leaving} {
		if reg, err = r.SetState(t.Context(), reg, state); err != nil {
			t.Fatal(err)
		}
		m := g.view().Members["a"]
		if m.State != state || m.Lease != int64(reg.Lease) || m.CreateRevision != reg.CreateRevision || !m.Source ||
			!slices.Equal(m.Slots, []int{0, 1}) {
			t.Errorf("after SetState(%s): %+v", state, m)
		}
	}
	g.revoke(reg.Lease)
	if v := g.view(); len(v.Members) != 0 {
		t.Errorf("the key outlived its lease: %v", v.Members)
	}
}

func TestSetStateOfARegistrationThatIsNotInForceIsErrGone(t *testing.T) {
	g := newGroup(t)
	old := g.join("a", 1)
	g.revoke(old.Lease)
	for _, what := range []string{"gone", "replaced"} {
		if _, err := g.registrar("a").
			SetState(t.Context(), old, membership.Leaving); !errors.Is(
			err,
			membership.ErrGone,
		) {
			t.Errorf("%s: %v, want ErrGone", what, err)
		}
		if what == "gone" {
			g.join("a", 1)
		}
	}
	if s := g.view().StateOf("a"); s != membership.Active {
		t.Errorf("the successor is %s", s)
	}
}

func TestOfManyThatStandOneIsCoordinator(t *testing.T) {
	g := newGroup(t)
	won := make([]bool, 10)
	regs := make([]membership.Registration, len(won))
	var all errgroup.Group
	for n := range won {
		regs[n] = g.join(fmt.Sprint("m", n), 1)
		all.Go(func() (err error) {
			won[n], err = g.registrar(fmt.Sprint("m", n)).StandForCoordinator(t.Context(), regs[n])
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	winner := slices.Index(won, true)
	if winner < 0 || slices.Index(won[winner+1:], true) >= 0 {
		t.Fatalf("who won: %v", won)
	}
	c := g.view().Coordinator
	if c.ID != fmt.Sprint("m", winner) || c.Lease != int64(regs[winner].Lease) || c.CreateRevision == 0 {
		t.Errorf("m%d won, and the view says %+v", winner, c)
	}
	g.revoke(regs[winner].Lease)
	if c := g.view().Coordinator; c != (membership.Coordinator{}) {
		t.Errorf("the office outlived its holder's lease: %+v", c)
	}
	next := (winner + 1) % len(won)
	if won, err := g.registrar(fmt.Sprint("m", next)).StandForCoordinator(t.Context(), regs[next]); err != nil || !won {
		t.Errorf("the next one: %v, %v", won, err)
	}
}

func TestAMemberThatIsNotRegisteredDoesNotWin(t *testing.T) {
	g := newGroup(t)
	old := g.join("a", 1)
	g.delete(g.layout.Member("a"))
	for _, what := range []string{"gone", "replaced"} {
		if won, err := g.registrar("a").StandForCoordinator(t.Context(), old); err != nil || won {
			t.Errorf("%s: won %v, %v", what, won, err)
		}
		if what == "gone" {
			g.join("a", 1)
		}
	}
}

func TestResigningTakesOnlyTheOfficeThatWasHeld(t *testing.T) {
	g := newGroup(t)
	a, b := g.join("a", 1), g.join("b", 1)
	stand := func(id string, reg membership.Registration) membership.Coordinator {
		t.Helper()
		if won, err := g.registrar(id).StandForCoordinator(t.Context(), reg); err != nil || !won {
			t.Fatalf("%s stands: %v, %v", id, won, err)
		}
		return g.view().Coordinator
	}
	resign := func(term int64) membership.Coordinator {
		t.Helper()
		if err := g.registrar("a").Resign(t.Context(), term); err != nil {
			t.Fatal(err)
		}
		return g.view().Coordinator
	}
	first := stand("a", a)
	if c := resign(first.CreateRevision); c != (membership.Coordinator{}) {
		t.Errorf("after it resigned: %+v", c)
	}
	second := stand("b", b)
	for _, term := range []int64{first.CreateRevision, 0} {
		if c := resign(term); c != second {
			t.Errorf("after term %d was resigned: %+v, want %+v", term, c, second)
		}
	}
}

func TestErrorsOfEtcdSayWhatWasBeingDone(t *testing.T) {
	g := newGroup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := g.registrar("a")
	_, register := r.Register(ctx, active(1), 1)
	_, set := r.SetState(ctx, membership.Registration{}, membership.Leaving)
	_, stand := r.StandForCoordinator(ctx, membership.Registration{})
	_, read := g.members.Read(ctx, client)
	for want, err := range map[string]error{
		`register member "a"`: register, `set state of member "a" to leaving`: set, "stand for coordinator": stand,
		"resign as coordinator": r.Resign(ctx, 1), "read the members": read,
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %s: context canceled", err, want)
		}
	}
}

func TestAnOfficeThatWasOverwrittenIsKept(t *testing.T) {
	g := newGroup(t)
	a := g.join("a", 1)
	if won, err := g.registrar("a").StandForCoordinator(t.Context(), a); !won || err != nil {
		t.Fatal(won, err)
	}
	term := g.view().Coordinator.CreateRevision
	g.put(g.layout.Coordinator(), "\n")
	if err := g.registrar("a").KeepOffice(t.Context(), a, term); err != nil {
		t.Fatal(err)
	}
	want := membership.Coordinator{ID: "a", CreateRevision: term, Lease: int64(a.Lease)}
	if got := g.view().Coordinator; got != want {
		t.Errorf("coordinator %+v, want %+v", got, want)
	}
	g.delete(g.layout.Coordinator())
	if err := g.registrar("a").KeepOffice(t.Context(), a, term); !errors.Is(err, membership.ErrGone) {
		t.Errorf("a term that has ended: %v", err)
	}
}
