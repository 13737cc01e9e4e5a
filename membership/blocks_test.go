package membership_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// counting counts what the largest transaction compares and does, and how many transactions there are.
type counting struct {
	clientv3.KV
	mu               sync.Mutex
	compares, ops, n int
	before           func() // called before each transaction, if it is there
	refused          int
}

type countingTxn struct {
	clientv3.Txn
	c *counting
}

func (c *counting) Txn(ctx context.Context) clientv3.Txn { return countingTxn{c.KV.Txn(ctx), c} }

func (t countingTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.compares = max(t.c.compares, len(cs))
	t.c.n++
	return countingTxn{t.Txn.If(cs...), t.c}
}

func (t countingTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.ops = max(t.c.ops, len(ops))
	return countingTxn{t.Txn.Then(ops...), t.c}
}

func (t countingTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	return countingTxn{t.Txn.Else(ops...), t.c}
}

func (t countingTxn) Commit() (*clientv3.TxnResponse, error) {
	if f := t.c.before; f != nil {
		t.c.before = nil
		f()
	}
	resp, err := t.Txn.Commit()
	if err == nil && !resp.Succeeded {
		t.c.mu.Lock()
		t.c.refused++
		t.c.mu.Unlock()
	}
	return resp, err
}

func (g *group) counted(id string) (*membership.Registrar, *counting) {
	c := &counting{KV: client}
	r := g.registrar(id)
	r.Client = c
	return r, c
}

// holds checks what a member has, and that the view agrees.
func (g *group) holds(id string, slots []int, blocks ...shard.Block) {
	g.Helper()
	v := g.view()
	var has []shard.Block
	for _, b := range v.Blocks {
		if b.Member == id {
			has = append(has, b)
		}
	}
	if m := v.Members[id]; !slices.Equal(m.Slots, slots) || !slices.Equal(has, blocks) || !v.HasItsSlots(id) ||
		len(m.Blocks) != len(blocks) {
		g.Errorf("%s has the slots %v and the blocks %+v (%v), want %v and %+v",
			id, m.Slots, has, m.Blocks, slots, blocks)
	}
}

func TestAMemberOfAnyWeightJoinsByOneTransaction(t *testing.T) {
	g := newGroup(t)
	at := 0
	for i, weight := range []int{1000, 33, 999, 32, 1000} {
		id := fmt.Sprint("m", i)
		r, c := g.counted(id)
		reg, err := r.Register(t.Context(), active(weight), g.grant(600))
		if err != nil || reg.Record.Holds() != weight {
			t.Fatalf("weight %d: %+v, %v", weight, reg.Record, err)
		}
		if c.n != 1 || c.ops > 33 || c.compares > 40 {
			t.Errorf("weight %d takes %d transactions of %d comparisons and %d operations",
				weight, c.n, c.compares, c.ops)
		}
		if weight > shard.Single {
			g.holds(id, nil, shard.Block{From: at, Slots: weight, Used: weight, Member: id})
		}
		at += weight
	}
	v := g.view()
	owned := map[string]int{}
	for _, owner := range v.Owners() {
		owned[owner]++
	}
	if owned["m0"] < 10 || owned["m0"]+owned["m2"]+owned["m4"] < 55 {
		t.Errorf("of %d shards the members have %v", shards, owned)
	}
}

// However many members have gone and left something, a registration takes no more comparisons than etcd does.
func TestARegistrationNeverTakesTooManyComparisons(t *testing.T) {
	for _, weight := range []int{1, 32, 33, 500, 1000} {
		g := newGroup(t)
		at := 0
		for i := range 40 {
			g.put(g.layout.Slot(at), fmt.Sprint("gone", i))
			at++
		}
		for i := range 70 {
			b := shard.Block{From: at, Slots: 32, Used: 32, Member: fmt.Sprint("former", i)}
			if i%3 == 0 {
				b.Member = "a"
			}
			g.put(g.layout.Block(at), membership.EncodeBlock(b))
			at += b.Slots
		}
		r, c := g.counted("a")
		reg, err := r.Register(t.Context(), active(weight), g.grant(600))
		if err != nil || reg.Record.Holds() != weight || c.n != 1 {
			t.Fatalf("weight %d: %+v, %v, after %d transactions", weight, reg.Record, err, c.n)
		}
		if c.compares > 128 || c.ops > 128 {
			t.Errorf("weight %d takes %d comparisons and %d operations", weight, c.compares, c.ops)
		}
		if v := g.view(); !v.HasItsSlots("a") {
			t.Errorf("weight %d: the member has lost something", weight)
		}
	}
}

func TestAMemberThatReturnsGetsItsBlocks(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	b := g.join("b", 100)
	g.join("c", 50)
	before := g.view().Owners()
	g.revoke(b.Lease)
	g.join("b", 100)
	g.holds("b", nil, shard.Block{From: 1, Slots: 100, Used: 100, Member: "b"})
	if !slices.Equal(g.view().Owners(), before) {
		t.Error("shards moved")
	}
}

func TestANewcomerUsesTheBlockOfAMemberThatIsGone(t *testing.T) {
	g := newGroup(t)
	a := g.join("a", 100)
	g.join("b", 40)
	g.revoke(a.Lease)
	g.join("c", 60)
	g.holds("c", nil, shard.Block{From: 0, Slots: 100, Used: 60, Member: "c"})
	g.join("a", 100) // its block is another's by now
	g.holds("a", nil, shard.Block{From: 140, Slots: 100, Used: 100, Member: "a"})
}

func TestBlocksOfAMemberThatIsExpectedBackAreNotForOthers(t *testing.T) {
	g := newGroup(t)
	a, _ := g.join("a", 100), g.join("b", 40)
	if _, err := g.registrar("a").Leave(t.Context(), a, membership.Reservation{}, g.grant(600), 0); err != nil {
		t.Fatal(err)
	}
	owners := g.view().Owners()
	g.revoke(a.Lease)
	if !slices.Equal(g.view().Owners(), owners) {
		t.Error("shards moved while their member is expected back")
	}
	g.join("c", 90)
	g.holds("c", nil, shard.Block{From: 140, Slots: 90, Used: 90, Member: "c"})
}

// A reservation that comes between the read and the transaction of a newcomer is heeded.
func TestAMemberThatStopsMeanwhileKeepsItsSlots(t *testing.T) {
	for _, weight := range []int{1, 100} {
		g := newGroup(t)
		a := g.join("a", weight)
		g.join("b", 1)
		g.revoke(a.Lease)
		r, c := g.counted("c")
		c.before = func() { // a comes back, and stops again
			again := g.join("a", weight)
			_, err := g.registrar("a").Leave(t.Context(), again, membership.Reservation{}, g.grant(600), 0)
			if err != nil {
				t.Error(err)
			}
			g.revoke(again.Lease)
		}
		if _, err := r.Register(t.Context(), active(weight), g.grant(600)); err != nil {
			t.Fatal(err)
		}
		v := g.view()
		if c.refused != 1 || !v.HasItsSlots("c") || !v.HasBeenHere("a") {
			t.Errorf("weight %d: c took a's slots, slots %q, blocks %+v", weight, v.Slots, v.Blocks)
		}
	}
}

func TestWeightsChangeLive(t *testing.T) {
	g := newGroup(t)
	g.join("a", 2)
	reg := g.join("b", 3)
	g.join("c", 2)
	weigh := func(n int) {
		t.Helper()
		before := g.view()
		var err error
		if reg, err = g.registrar("b").Weigh(t.Context(), reg, n); err != nil {
			t.Fatal(err)
		}
		v := g.view()
		if m := v.Members["b"]; m.Weight != n || v.WeightOf("b") != n || n > 0 && m.Holds() != n ||
			m.CreateRevision != reg.CreateRevision || m.Lease != int64(reg.Lease) || m.State != membership.Active {
			t.Errorf("weight %d: %+v", n, m)
		}
		grew := n > before.WeightOf("b")
		for s, owner := range v.Owners() {
			was := before.Owner(s)
			if owner != was && (grew && owner != "b" || !grew && was != "b") {
				t.Errorf("weight %d: shard %d went from %s to %s", n, s, was, owner)
			}
			if n == 0 && owner == "b" {
				t.Errorf("shard %d is with a member of weight 0", s)
			}
		}
	}
	weigh(5)
	g.holds("b", []int{2, 3, 4, 7, 8})
	weigh(1)
	g.holds("b", []int{2})
	weigh(0)
	g.holds("b", []int{2})
	weigh(2)
	g.holds("b", []int{2, 3})
	weigh(300)
	g.holds("b", []int{2, 3}, shard.Block{From: 9, Slots: 298, Used: 298, Member: "b"})
	weigh(200)
	g.holds("b", []int{2, 3}, shard.Block{From: 9, Slots: 298, Used: 198, Member: "b"})
	weigh(2)
	g.holds("b", []int{2, 3})
	weigh(250)
	g.holds("b", []int{2, 3}, shard.Block{From: 9, Slots: 298, Used: 248, Member: "b"})
}

// A member that has begun to leave is not made active again by another weight, and keeps its reservation.
func TestAWeightThatComesTooLateChangesNothing(t *testing.T) {
	for _, when := range []string{"before", "meanwhile"} {
		g := newGroup(t)
		g.join("a", 1)
		reg := g.join("b", 1)
		leave := func() {
			until := g.grant(600)
			if _, err := g.registrar("b").Leave(t.Context(), reg, membership.Reservation{}, until, 0); err != nil {
				t.Error(err)
			}
		}
		r, c := g.counted("b")
		if when == "before" {
			leave()
		} else {
			c.before = leave
		}
		_, err := r.Weigh(t.Context(), reg, 5)
		v := g.view()
		if _, reserved := v.Reservations["b"]; !errors.Is(err, membership.ErrGone) || !reserved ||
			v.Members["b"].State != membership.Leaving || v.Members["b"].Weight != 1 {
			t.Errorf("%s: %v, %+v, reserved: %v", when, err, v.Members["b"], reserved)
		}
	}
}

// An operator's order comes before what a member says itself.
func TestAMemberHoldsWhatAnOperatorOrders(t *testing.T) {
	g := newGroup(t)
	g.put(g.layout.Weight("a"), membership.WeightOrder{Weight: 4}.Encode())
	reg := g.join("a", 2)
	if v := g.view(); reg.Record.Holds() != 4 || reg.Record.Weight != 2 || v.WeightOf("a") != 4 {
		t.Errorf("%+v counts %d", reg.Record, v.WeightOf("a"))
	}
	g.delete(g.layout.Weight("a"))
	reg, err := g.registrar("a").Weigh(t.Context(), reg, 2)
	if err != nil || reg.Record.Holds() != 2 {
		t.Errorf("%+v, %v", reg.Record, err)
	}
	g.put(g.layout.Weight("b"), membership.WeightOrder{}.Encode())
	if b := g.join("b", 2); b.Record.Holds() != 0 || slices.Contains(g.view().Owners(), "b") {
		t.Errorf("a newcomer of weight 0 has %+v", b.Record)
	}
}

func TestMembersOfAllWeightsRegisterAtOnce(t *testing.T) {
	g := newGroup(t)
	var all errgroup.Group
	weights := []int{1, 40, 1000, 3, 33, 700, 32, 64}
	for i, weight := range weights {
		lease := g.grant(600)
		all.Go(func() error {
			_, err := g.registrar(fmt.Sprint("m", i)).Register(t.Context(), active(weight), lease)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	v, holders := g.view(), map[int]string{}
	take := func(n int, id string) {
		if holders[n] != "" {
			t.Errorf("slot %d is %s's and %s's", n, holders[n], id)
		}
		holders[n] = id
	}
	for n, id := range v.Slots {
		if id != "" {
			take(n, id)
		}
	}
	for _, b := range v.Blocks {
		for n := b.From; n < b.From+b.Slots; n++ {
			take(n, b.Member)
		}
	}
	for i, weight := range weights {
		if m := v.Members[fmt.Sprint("m", i)]; m.Holds() != weight || !v.HasItsSlots(m.ID) {
			t.Errorf("%s of weight %d has %+v", m.ID, weight, m.Record)
		}
	}
	if v.Reserved().Length() != len(holders) {
		t.Errorf("a ring of %d slots, of which %d are reserved", v.Reserved().Length(), len(holders))
	}
}

func TestBlocksAreReservedWhereEtcdTakesFewOperations(t *testing.T) {
	for _, limit := range []uint{2, 3} {
		g := narrowly(t, limit)
		g.join("a", 2)
		reg := g.join("b", 50)
		g.holds("b", nil, shard.Block{From: 2, Slots: 50, Used: 50, Member: "b"})
		if _, err := g.registrar("b").Weigh(t.Context(), reg, 60); err != nil {
			t.Fatal(err)
		}
		if m := g.view().Members["b"]; m.Holds() != 60 || !g.view().HasItsSlots("b") {
			t.Errorf("limit %d: %+v", limit, m.Record)
		}
	}
}

// Members of older versions see a weight that they accept, and the slots that are reserved by themselves.
func TestOlderMembersCanReadAnyWeight(t *testing.T) {
	for weight, older := range map[int]int{0: 1, 1: 1, 32: 32, 33: 32, 1000: 32} {
		r := membership.Record{State: membership.Active, Weight: weight, Slots: []int{3}}
		var read struct{ Weight int }
		decode(t, r.Encode(), &read)
		if read.Weight != older {
			t.Errorf("weight %d is read as %d, want %d", weight, read.Weight, older)
		}
		v := picture{}.with(layout.Member("a"), r.Encode()).view()
		if v.Members["a"].Weight != weight {
			t.Errorf("weight %d became %d", weight, v.Members["a"].Weight)
		}
	}
}

func TestABlockThatCannotBeReadIsNone(t *testing.T) {
	for _, value := range []string{
		"", "x", `{"member":"a","slots":0,"used":0}`, `{"member":"a","slots":1001,"used":1}`,
		`{"member":"a","slots":10,"used":11}`, `{"member":"a","slots":10,"used":-1}`,
		`{"member":"\n","slots":10,"used":1}`,
	} {
		v := picture{}.with(layout.Block(5), value).view()
		if len(v.Blocks) > 0 || !slices.Equal(v.Corrupt, []string{layout.Block(5)}) {
			t.Errorf("%q: blocks %+v, corrupt %q", value, v.Blocks, v.Corrupt)
		}
	}
	b := membership.EncodeBlock(shard.Block{Slots: 10, Used: 10, Member: "a"})
	v := picture{}.with(layout.Block(5), b).with(layout.Block(9), b).with(layout.Block(15), b).view()
	if len(v.Blocks) != 2 || !slices.Equal(v.Corrupt, []string{layout.Block(9)}) {
		t.Errorf("blocks %+v, corrupt %q", v.Blocks, v.Corrupt)
	}
	if far := (picture{}).with(layout.Block(keys.MaxBlock), b).view(); len(far.Blocks) != 1 {
		t.Errorf("blocks %+v", far.Blocks)
	}
}

// Who the coordinator foresees to own a shard owns it when the members have joined, one after the other.
func TestForeseenOwnersAreThoseThatFollow(t *testing.T) {
	weights := []int{1, 3, 40, 1000, 0}
	for seed := range 8 {
		g := newGroup(t)
		pick := func(i int) int { return weights[(seed+i)*7%len(weights)] }
		for i := range 4 {
			reg := g.join(fmt.Sprint("m", i), max(1, pick(i)))
			switch (seed + i) % 4 {
			case 1: // gone
				g.revoke(reg.Lease)
			case 2: // gone, and expected back
				r := membership.Reservation{Keeps: g.view().Owned(fmt.Sprint("m", i))}
				if _, err := g.registrar(fmt.Sprint("m", i)).Leave(t.Context(), reg, r, g.grant(600), 0); err != nil {
					t.Fatal(err)
				}
				g.revoke(reg.Lease)
			}
		}
		g.put(g.layout.Weight("n1"), membership.WeightOrder{Weight: pick(5)}.Encode())
		comers := []string{"n0", "n1", "n2"}
		regs := make([]membership.Registration, len(comers))
		for i, id := range comers {
			joining := active(max(1, pick(i+1)))
			joining.State = membership.Joining
			var err error
			if regs[i], err = g.registrar(id).Register(t.Context(), joining, g.grant(600)); err != nil {
				t.Fatal(err)
			}
		}
		foreseen := g.view().Foresee(comers, func(string) bool { return false })
		for i, id := range comers {
			if _, err := g.registrar(id).Activate(t.Context(), regs[i]); err != nil {
				t.Fatal(err)
			}
		}
		if owners := g.view().Owners(); !slices.Equal(owners, foreseen.Owners) {
			t.Errorf("seed %d: owned by %v, foreseen %v", seed, owners, foreseen.Owners)
		}
	}
}

// Whoever reserves at the end of the ring notices that somebody else has done so since it looked.
func TestARingThatGrewMeanwhileIsLookedAtAgain(t *testing.T) {
	for _, mine := range []int{1, 40} {
		for _, theirs := range []int{1, 40} {
			g := newGroup(t)
			g.join("a", 3)
			r, c := g.counted("b")
			c.before = func() { g.join("c", theirs) }
			if _, err := r.Register(t.Context(), active(mine), g.grant(600)); err != nil {
				t.Fatal(err)
			}
			v := g.view()
			if c.refused != 1 || len(v.Corrupt) > 0 || v.Reserved().Length() != 3+mine+theirs || !v.HasItsSlots("b") ||
				!v.HasItsSlots("c") {
				t.Errorf("weights %d and %d: slots %q, blocks %+v, corrupt %q",
					mine, theirs, v.Slots, v.Blocks, v.Corrupt)
			}
		}
	}
}

func BenchmarkNewViewOfAThousandWeights(b *testing.B) {
	everybody := func(string) bool { return true }
	for name, weight := range map[string]func(i int) int{
		"1 each":      func(int) int { return 1 },
		"32 each":     func(int) int { return 32 },
		"1 to 1000":   func(i int) int { return 1 + i*389%1000 },
		"100 to 1000": func(i int) int { return 100 * (1 + i%10) },
	} {
		p, r := picture{}, shard.Reserved{LastSlot: keys.MaxSlots}
		for i := range 1000 {
			id := fmt.Sprint("m", i)
			h := r.Reserve(everybody, id, weight(i))
			m := membership.Record{
				State: membership.Active, Weight: weight(i), Slots: h.Slots, Schema: membership.Schema,
			}
			for _, n := range h.Slots {
				for len(r.Slots) <= n {
					r.Slots = append(r.Slots, "")
				}
				r.Slots[n], p[layout.Slot(n)] = id, id
			}
			for _, block := range h.Blocks {
				m.Blocks, m.Held = append(m.Blocks, block.From), h.Weight()
				p[layout.Block(block.From)] = membership.EncodeBlock(block)
			}
			r.Blocks = append(r.Blocks, h.Blocks...)
			p[layout.Member(id)] = m.Encode()
		}
		kvs := p.kvs()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(r.Length()), "slots")
			b.ReportMetric(float64(len(kvs)), "keys")
			for b.Loop() {
				membership.NewView(layout.Root(), 4096, kvs, 7)
			}
		})
	}
}
