package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// picky fails to handle one resource at one member.
func picky(r *recorder, resource, member string) {
	r.onHandle = func(_ context.Context, c drm.Claim) error {
		if c.Resource.ID == resource && c.Member == member {
			return errors.New("not from here")
		}
		return nil
	}
}

// moveKeys returns how many moves there are.
func (w *world) moveKeys() int64 {
	w.tb.Helper()
	moves := keys.New("/drm", w.app).Moves()
	resp, err := w.etcd.Get(w.tb.Context(), moves, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		w.tb.Fatal(err)
	}
	return resp.Count
}

func TestWhatDoesNotWorkAtOneMemberMovesToAnotherAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ms := map[string]*drm.Manager{}
	for _, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.MoveAfter = 2
		ms[id] = w.start(cfg)
	}
	const n = 30
	for i := range n {
		if err := ms["a"].Allocate(t.Context(), drm.Resource{ID: fmt.Sprint("r", i)}); err != nil {
			t.Fatal(err)
		}
	}
	handled := func() int { return len(ms["a"].Held()) + len(ms["b"].Held()) + len(ms["c"].Held()) }
	r.until("all are handled", func() bool { return handled() == n })
	client := w.client()
	first := ms["a"].Held()[0]
	rest := map[string]string{}
	for id, m := range ms {
		for _, h := range m.Held() {
			rest[h.Resource] = id
		}
	}
	picky(r, first.Resource, "a")
	if err := ms["a"].Fail(first.Resource, first.Token, errors.New("wedged")); err != nil {
		t.Fatal(err)
	}
	var now drm.Assignment
	r.until("another member has it", func() bool {
		var err error
		now, err = client.Lookup(t.Context(), first.Resource)
		return err == nil && now.Member != "a" && now.State == drm.StateActive
	})
	if now.Expected != now.Member {
		t.Errorf("it should be with %q, and is with %q", now.Expected, now.Member)
	}
	for id, m := range ms {
		for _, h := range m.Held() {
			if h.Resource != first.Resource && rest[h.Resource] != id {
				t.Errorf("%s moved from %s to %s too", h.Resource, rest[h.Resource], id)
			}
			if h.Expected != id {
				t.Errorf("%s has %s, and expects it at %s", id, h.Resource, h.Expected)
			}
		}
	}
	if handled() != n {
		t.Errorf("%d are handled", handled())
	}
	verified, err := client.Verify(t.Context())
	if err != nil || len(verified) > 0 {
		t.Errorf("violations: %v, %v", verified, err)
	}

	// The member that has it leaves: it belongs to its shard's owner again.
	r.onHandle = nil
	w.stop(ms[now.Member])
	r.until("the owner of its shard has it again", func() bool {
		a, err := client.Lookup(t.Context(), first.Resource)
		return err == nil && a.Member == "a" && a.State == drm.StateActive
	})
	if w.moveKeys() != 1 {
		t.Errorf("%d moves; it is to go back when that member is back", w.moveKeys())
	}
	if err := ms["a"].Deallocate(t.Context(), first.Resource); err != nil {
		t.Fatal(err)
	}
	r.until("the move of what is gone is deleted", func() bool { return w.moveKeys() == 0 })
}

func TestWhatWorksNowhereStaysWhereItWasTriedLast(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	r.onHandle = func(context.Context, drm.Claim) error { return errors.New("works nowhere") }
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.MoveAfter = 1
		w.start(cfg)
	}
	client := w.client()
	if err := client.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	r.until("both have tried it, and one goes on trying", func() bool {
		last, runs, inRow := "", 0, 0
		for _, c := range r.all() {
			switch {
			case c.Action != "handle":
				continue
			case c.Member == last:
				inRow++
			default:
				runs++
				inRow = 1
			}
			last = c.Member
		}
		return runs == 2 && inRow >= 3 // it may be tried a second time before its move is known
	})
}
