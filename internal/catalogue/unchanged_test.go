package catalogue_test

import (
	"errors"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// refuses checks that Unchanged is refused, and that nothing is written because of it.
func (w *world) refuses(when string) {
	w.Helper()
	w.quiet(func() {
		if _, err := w.sync.Unchanged(w.Context(), w.revision()); !errors.Is(err, catalogue.ErrNoAnswer) {
			w.Errorf("Unchanged, when %s: %v, want ErrNoAnswer", when, err)
		}
	})
}

// confirms checks that Unchanged is accepted as an answer.
func (w *world) confirms(when string) {
	w.Helper()
	if _, err := w.sync.Unchanged(w.Context(), w.revision()); err != nil {
		w.Errorf("Unchanged, when %s: %v", when, err)
	}
}

func TestUnchangedDoesNotConfirmTheDataOfAnAllocationThatEnded(t *testing.T) {
	w := newWorld(t)
	a := item("a", `"v":1`)
	w.apply(a, item("b"))
	w.allocate(item("a", `"v":"mine"`), true)
	w.deallocate("a")
	w.confirms("it is suspended")
	w.allocate(item("a"), false)
	w.refuses("it was woken with the data of the allocation that ended")
	w.refuses("the source has not been asked yet")
	w.apply(a, item("b"))
	w.want(map[string]catalogue.Entry{
		"a": {FromSource: true, Allocated: true, Data: a.Data}, "b": sourced(item("b")),
	})
	w.wantMarks()
	w.confirms("all was applied")
}

func TestUnchangedConfirmsWhatWasWokenWithDataOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.apply(item("a"))
	w.deallocate("a")
	w.allocate(item("a", `"v":"mine"`), true)
	w.confirms("its data are the allocation's")
}

func TestUnchangedDoesNotConfirmWhatASlowFetchLeftOut(t *testing.T) {
	for name, write := range map[string]func(w *world){
		"allocated": func(w *world) { w.allocate(item("a"), false) },
		"allocated and deallocated": func(w *world) {
			w.allocate(item("a"), false)
			w.deallocate("a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(item("b"))
			began := w.revision()
			write(w)
			a := item("a", `"v":1`)
			w.applyAt(began, a, item("b"))
			w.refuses("an entry came after the fetch began")
			w.apply(a, item("b"))
			if got := w.entries()["a"]; !got.FromSource || string(got.Data) != string(a.Data) {
				t.Errorf("the entry is %s", got.Encode())
			}
			w.confirms("all was applied")
		})
	}
}

// The entry changes again between the two times that Apply looks at it.
func TestUnchangedDoesNotConfirmWhatConflictedTwice(t *testing.T) {
	w := newWorld(t)
	w.apply(item("a"), item("b"))
	edits := 0
	w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
		// The first write is a flat transaction, which conflicts, so each write of it is then nested.
		if writes := then[0].GetRequestPut() != nil || then[0].GetRequestTxn() != nil; writes && edits < 4 {
			edits++
			w.edit("a", catalogue.Entry{FromSource: true, Data: item("a", `"by":"hand"`).Data})
		}
		return nil
	}}
	a := item("a", `"v":1`)
	w.applyAt(w.revision()+10, a,
		item("b")) // as if the fetch had begun just before the last change of the entry
	if edits != 4 {
		t.Fatalf("%d edits came between", edits)
	}
	w.refuses("an entry changed all the time")
	w.apply(a, item("b"))
	w.want(wanted([]catalogue.Item{a, item("b")}))
	w.confirms("all was applied")
}

// A deletion whose answer was lost may happen up to a minute later, though the source has the entry again.
func TestUnchangedDoesNotConfirmWhatALostWriteMayUndo(t *testing.T) {
	w := newWorld(t)
	all := items(0, 4)
	w.apply(all...)
	var once sync.Once
	w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) (err error) {
		if then[0].GetRequestRange() == nil {
			once.Do(func() { err = errLost })
		}
		return err
	}}
	if _, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: all[:3]}, w.revision()); !errors.Is(err, errLost) {
		t.Fatalf("Apply: %v", err)
	}
	w.apply(all...)
	if _, err := client.Delete(t.Context(), w.key(all[3].ID)); err != nil { // the deletion that was lost
		t.Fatal(err)
	}
	w.refuses("a deletion was lost")
	w.apply(all...)
	w.want(wanted(all))
}
