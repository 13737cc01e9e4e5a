package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// faulty is an etcd behind a bad network. The hooks see what a transaction is about to do: an error of before keeps it
// from being sent, and an error of after loses its answer.
type faulty struct {
	txn.Committer
	before, after func(then []*pb.RequestOp) error
}

func (f faulty) Commit(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if f.before != nil {
		if err := f.before(req.Success); err != nil {
			return nil, err
		}
	}
	resp, err := f.Committer.Commit(ctx, req)
	if f.after != nil && err == nil {
		if err := f.after(req.Success); err != nil {
			return nil, err
		}
	}
	return resp, err
}

// hang is an etcd that never answers.
type hang struct{}

func (hang) Commit(ctx context.Context, _ *pb.TxnRequest) (*pb.TxnResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

var errLost = errors.New("the answer was lost")

// loseNextWrite lets the next transaction that writes happen, but loses its answer.
func (w *world) loseNextWrite() {
	var once sync.Once
	w.store.Etcd = faulty{Committer: txn.New(client), after: func(then []*pb.RequestOp) (err error) {
		if then[0].GetRequestRange() == nil {
			once.Do(func() { err = errLost })
		}
		return err
	}}
}

func (w *world) applyAndLose(items ...catalogue.Item) {
	w.Helper()
	w.loseNextWrite()
	if _, err := w.sync.Apply(w.Context(), catalogue.Answer{Items: items}, w.revision()); !errors.Is(err, errLost) {
		w.Fatalf("Apply: %v, want %v", err, errLost)
	}
}

// In each case etcd has the write, and the coordinator does not know it.
func TestALostAnswerLeavesNoLie(t *testing.T) {
	a1, a2, b := item("a", `"v":1`), item("a", `"v":2`), item("b")
	for _, tt := range []struct {
		name        string
		lost, after []catalogue.Item
	}{
		{"a change is taken back", []catalogue.Item{a2, b}, []catalogue.Item{a1, b}},
		{"a change is not taken back", []catalogue.Item{a2, b}, []catalogue.Item{a2, b}},
		{"an addition is taken back", []catalogue.Item{a1, b, item("c")}, []catalogue.Item{a1, b}},
		{"a removal is taken back", []catalogue.Item{b}, []catalogue.Item{a1, b}},
		{"a removal is not taken back", []catalogue.Item{b}, []catalogue.Item{b}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(a1, b)
			w.applyAndLose(tt.lost...)
			w.apply(tt.after...)
			w.want(wanted(tt.after))
			w.quiet(func() { w.apply(tt.after...) })
		})
	}
}

func TestAWriteThatNeverHappenedIsMadeByTheNextFetch(t *testing.T) {
	w := newWorld(t)
	all := items(0, 600)
	failed := false
	w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
		if then[0].GetRequestPut() != nil && !failed {
			failed = true
			return errLost
		}
		return nil
	}}
	// One transaction at a time, since the hook is not safe for concurrent use.
	if _, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: all[:100]}, w.revision()); !errors.Is(err, errLost) {
		t.Fatalf("Apply: %v, want %v", err, errLost)
	}
	w.want(nil)
	w.store.Etcd = txn.New(client)
	w.apply(all...)
	w.want(wanted(all))
}

// TestAnyHistoryEndsAsTheSourceAndTheOperatorsWant plays random histories against a model: what the last writer of each
// entry wanted. The histories have fetches that begin long before their answer comes, lost answers, and new
// coordinators.
func TestAnyHistoryEndsAsTheSourceAndTheOperatorsWant(t *testing.T) {
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			h := newHistory(t, seed)
			for range 40 {
				h.step()
			}
			h.apply(h.revision(), h.source)
			h.check()
		})
	}
}

// history is a world and its model. There are few ids, so that no removal is held.
type history struct {
	*world
	rnd    *rand.Rand
	source map[string]catalogue.Item // what the source has now
	model  map[string]catalogue.Entry
	wrote  map[string]int64 // the revision at which an operator last wrote an entry
	log    []string
}

func newHistory(t *testing.T, seed uint64) *history {
	return &history{
		world:  newWorld(t),
		rnd:    rand.New(rand.NewPCG(seed, seed)),
		source: map[string]catalogue.Item{"always": item("always")},
		model:  map[string]catalogue.Entry{},
		wrote:  map[string]int64{},
	}
}

func (h *history) id() string { return string(rune('a' + h.rnd.IntN(6))) }

func (h *history) item(id string) catalogue.Item {
	return item(id, fmt.Sprintf(`"v":%d`, h.rnd.IntN(3)))
}

func (h *history) step() {
	h.Helper()
	switch n := h.rnd.IntN(10); {
	case n < 2:
		h.sourceChanges()
	case n < 4:
		h.operate()
	case n < 6:
		h.apply(h.revision(), h.source)
	case n < 8: // a fetch whose answer comes later
		began, answer := h.revision(), map[string]catalogue.Item{}
		for id, i := range h.source {
			answer[id] = i
		}
		for range h.rnd.IntN(4) {
			h.sourceChanges()
			h.operate()
		}
		h.apply(began, answer)
	case n < 9:
		h.log = append(h.log, "new term")
		h.elect()
	default:
		h.log = append(h.log, "the next answer is lost")
		h.loseNextWrite()
	}
	h.check()
}

func (h *history) sourceChanges() {
	id := h.id()
	if _, has := h.source[id]; has && h.rnd.IntN(2) == 0 {
		delete(h.source, id)
		h.log = append(h.log, "source drops "+id)
		return
	}
	h.source[id] = h.item(id)
	h.log = append(h.log, "source has "+string(h.source[id].Data))
}

func (h *history) operate() {
	h.Helper()
	id := h.id()
	e, has := h.model[id]
	store := *h.store
	store.Etcd = txn.New(client)
	if h.rnd.IntN(2) == 0 {
		i, own := h.item(id), h.rnd.IntN(2) == 0
		rev, err := store.Allocate(h.Context(), i, own)
		if err != nil {
			h.Fatal(err)
		}
		h.log = append(h.log, fmt.Sprintf("allocate %s own=%v", i.Data, own))
		if own || !has || e.Suspended && !e.FromSource {
			e.Data, e.OwnData = i.Data, own
		}
		e.Allocated, e.Suspended = true, false
		h.model[id], h.wrote[id] = e, rev
		return
	}
	rev, err := store.Deallocate(h.Context(), id)
	h.log = append(h.log, "deallocate "+id)
	if gone := !has || e.Suspended; gone || err != nil {
		if gone != errors.Is(err, catalogue.ErrNotFound) {
			h.Fatalf("Deallocate: %v; not there: %v\n%q", err, gone, h.log)
		}
		return
	}
	h.model[id], h.wrote[id] = catalogue.Entry{FromSource: e.FromSource, Suspended: true, Data: e.Data}, rev
}

// apply applies an answer, and does so again if an answer of etcd was lost.
func (h *history) apply(began int64, answer map[string]catalogue.Item) {
	h.Helper()
	h.log = append(h.log, fmt.Sprintf("apply %d items that are %d revisions old", len(answer), h.revision()-began))
	var items []catalogue.Item
	for _, i := range answer {
		items = append(items, i)
	}
	_, err := h.sync.Apply(h.Context(), catalogue.Answer{Items: items}, began)
	if errors.Is(err, errLost) {
		h.log = append(h.log, "lost; apply again")
		h.model = h.entries() // a part of the answer was written, all of it right at that time
		began, answer, items = h.revision(), h.source, nil
		for _, i := range answer {
			items = append(items, i)
		}
		_, err = h.sync.Apply(h.Context(), catalogue.Answer{Items: items}, began)
	}
	if err != nil {
		h.Fatalf("Apply: %v\n%q", err, h.log)
	}
	for id, i := range answer {
		e, has := h.model[id]
		if has && h.wrote[id] > began {
			continue
		}
		e.FromSource = true
		if !e.OwnData {
			e.Data = i.Data
		}
		h.model[id] = e
	}
	for id, e := range h.model {
		if _, has := answer[id]; has || h.wrote[id] > began || !e.FromSource && !e.Suspended {
			continue
		}
		e.FromSource = false
		if e.Allocated {
			h.model[id] = e
		} else {
			delete(h.model, id)
		}
	}
}

func (h *history) check() {
	h.Helper()
	h.want(h.model)
	marks := h.marks()
	for id, e := range h.model {
		if e.Suspended && !slices.Contains(marks, id) {
			h.Errorf("%q is suspended and has no mark", id)
		}
	}
	if h.Failed() {
		h.Fatalf("after %q", h.log)
	}
}
