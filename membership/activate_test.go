package membership_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/membership"
)

// enter registers a member that is not active yet.
func (g *group) enter(id string, weight int) membership.Registration {
	g.Helper()
	record := active(weight)
	record.State = membership.Joining
	reg, err := g.registrar(id).Register(g.Context(), record, g.grant(600))
	if err != nil {
		g.Fatal(err)
	}
	return reg
}

// A slot that is reserved but not live yet would move shards between the other members, and then move them again.
func TestAMemberThatIsJoiningMovesNothing(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	g.join("b", 2)
	before := g.view().Owners()
	reg := g.enter("c", 3)
	g.wantSlots(reg)
	if v := g.view(); !slices.Equal(v.Owners(), before) || len(v.Slots) != 3 ||
		v.Members["c"].State != membership.Joining {
		t.Errorf("shards moved when a member registered, or it has slots already: %q", v.Slots)
	}
	reg, err := g.registrar("c").Activate(t.Context(), reg)
	if err != nil {
		t.Fatal(err)
	}
	g.wantSlots(reg, 3, 4, 5)
	gained := 0
	for n, owner := range g.view().Owners() {
		switch {
		case owner == "c":
			gained++
		case owner != before[n]:
			t.Errorf("shard %d went from %s to %s when c joined", n, before[n], owner)
		}
	}
	if gained == 0 {
		t.Error("the joiner got nothing")
	}
}

func TestAMemberThatDiesWhileJoiningLeavesNoTrace(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	g.join("b", 1)
	before := g.view()
	g.revoke(g.enter("c", 4).Lease)
	if v := g.view(); !slices.Equal(v.Owners(), before.Owners()) || !slices.Equal(v.Slots, before.Slots) {
		t.Errorf("slots %q, were %q", v.Slots, before.Slots)
	}
}

func TestAMemberThatActivatesKeepsItsKeyOnItsLease(t *testing.T) {
	g := newGroup(t)
	reg := g.enter("a", 2)
	active, err := g.registrar("a").Activate(t.Context(), reg)
	if err != nil {
		t.Fatal(err)
	}
	m := g.view().Members["a"]
	if m.State != membership.Active || m.Lease != int64(reg.Lease) || m.CreateRevision != reg.CreateRevision ||
		active.CreateRevision != reg.CreateRevision {
		t.Errorf("registered %+v, activated %+v, read %+v", reg, active, m)
	}
	again, err := g.registrar("a").Activate(t.Context(), reg) // as after an answer that was lost
	if err != nil || !slices.Equal(again.Record.Slots, []int{0, 1}) || len(g.view().Slots) != 2 {
		t.Errorf("once more: %+v, %v", again, err)
	}
	g.revoke(reg.Lease)
	if len(g.view().Members) != 0 {
		t.Error("the key outlived its lease")
	}
}

func TestActivatingARegistrationThatIsNotInForceIsErrGone(t *testing.T) {
	g := newGroup(t)
	old := g.enter("a", 1)
	g.revoke(old.Lease)
	for _, what := range []string{"gone", "replaced"} {
		if _, err := g.registrar("a").Activate(t.Context(), old); !errors.Is(err, membership.ErrGone) {
			t.Errorf("%s: %v, want ErrGone", what, err)
		}
		if what == "gone" {
			g.enter("a", 1)
		}
	}
	if m := g.view().Members["a"]; m.State != membership.Joining || len(g.view().Slots) != 0 {
		t.Errorf("it wrote nevertheless: %+v", m)
	}
}

func TestNobodyActivatesInAnAppThatIsGone(t *testing.T) {
	g := newGroup(t)
	reg := g.enter("a", 1)
	g.delete(g.layout.Config())
	if _, err := g.registrar("a").Activate(t.Context(), reg); !errors.Is(err, membership.ErrAppGone) {
		t.Errorf("got %v, want ErrAppGone", err)
	}
}

// slowReads makes everybody wait until all have read the group once.
type slowReads struct {
	clientv3.KV
	once *sync.Once
	read *sync.WaitGroup
}

func (s slowReads) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := s.KV.Get(ctx, key, opts...)
	s.once.Do(func() { s.read.Done(); s.read.Wait() })
	return resp, err
}

func TestMembersThatActivateAtOnceGetDisjointSlots(t *testing.T) {
	const members, weight = 8, 3
	g := newGroup(t)
	var read, done sync.WaitGroup
	read.Add(members)
	for n := range members {
		id := string(rune('a' + n))
		reg, r := g.enter(id, weight), g.registrar(id)
		r.Client = slowReads{r.Client, new(sync.Once), &read}
		done.Go(func() {
			if _, err := r.Activate(t.Context(), reg); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	v := g.view()
	seen := map[int]string{}
	for id, m := range v.Members {
		for _, slot := range m.Slots {
			if other := seen[slot]; other != "" || v.Slots[slot] != id {
				t.Errorf("slot %d is with %s and %s, and reserved for %s", slot, id, other, v.Slots[slot])
			}
			seen[slot] = id
		}
	}
	if len(seen) != members*weight {
		t.Errorf("%d slots, want %d", len(seen), members*weight)
	}
}
