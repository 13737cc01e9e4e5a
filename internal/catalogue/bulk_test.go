package catalogue_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// allocateAll returns the outcomes of AllocateAll.
func (w *world) allocateAll(wants ...catalogue.Want) []error {
	w.Helper()
	return w.all(len(wants), func(done func(int, error)) error {
		return w.store.AllocateAll(w.Context(), wants, done)
	})
}

// deallocateAll returns the outcomes of DeallocateAll.
func (w *world) deallocateAll(ids ...string) []error {
	w.Helper()
	return w.all(len(ids), func(done func(int, error)) error {
		return w.store.DeallocateAll(w.Context(), ids, done)
	})
}

func (w *world) all(n int, run func(done func(int, error)) error) []error {
	w.Helper()
	outcomes, told := make([]error, n), make([]int, n)
	if err := run(func(i int, err error) { outcomes[i] = err; told[i]++ }); err != nil {
		w.Fatal(err)
	}
	for i, times := range told {
		if times != 1 {
			w.Fatalf("%d was told %d times", i, times)
		}
	}
	return outcomes
}

func wants(items []catalogue.Item, own bool) []catalogue.Want {
	all := make([]catalogue.Want, len(items))
	for i, it := range items {
		all[i] = catalogue.Want{Item: it, OwnData: own}
	}
	return all
}

// What is done in bulk has the result that the same has one by one, whatever was there, and whether or not answers get
// lost.
func TestInBulkTheResultIsThatOfOneByOne(t *testing.T) {
	for seed := range uint64(20) {
		one, bulk := newWorld(t), newWorld(t)
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // only tests depend on it
		if seed%2 == 0 {
			one.put(one.store.Layout.Source(), `{"vouched_by":0,"gone_after_ms":1,"gone":true}`)
			bulk.put(bulk.store.Layout.Source(), `{"vouched_by":0,"gone_after_ms":1,"gone":true}`)
		}
		for i := range 30 { // what is there
			if e := (catalogue.Entry{
				FromSource: rnd.IntN(2) == 0, Allocated: rnd.IntN(2) == 0, Suspended: rnd.IntN(3) == 0,
				OwnData: rnd.IntN(2) == 0, Data: item(fmt.Sprint(i), `"old":1`).Data,
			}); rnd.IntN(3) > 0 {
				one.edit(fmt.Sprint(i), e)
				bulk.edit(fmt.Sprint(i), e)
			} else if rnd.IntN(4) == 0 {
				one.put(one.key(fmt.Sprint(i)), "junk")
				bulk.put(bulk.key(fmt.Sprint(i)), "junk")
			}
		}
		var all []catalogue.Want
		var ids []string
		for range 40 {
			id := fmt.Sprint(rnd.IntN(35))
			own := rnd.IntN(2) == 0
			w := catalogue.Want{Item: item(id), OwnData: own}
			if own {
				w.Item = item(id, fmt.Sprintf(`"n":%d`, rnd.IntN(5)))
			}
			all, ids = append(all, w), append(ids, fmt.Sprint(rnd.IntN(35)))
		}
		lost := seed%3 == 0
		allocate := func() {
			for _, w := range all {
				one.allocate(w.Item, w.OwnData)
			}
			if lost {
				bulk.loseNextWrite()
			}
			for i, err := range bulk.allocateAll(all...) {
				if err != nil {
					t.Errorf("allocate %v: %v", all[i], err)
				}
			}
		}
		deallocate := func() {
			if lost {
				bulk.loseNextWrite()
			}
			got := bulk.deallocateAll(ids...)
			for i, id := range ids {
				_, err := one.store.Deallocate(t.Context(), id)
				if errors.Is(err, catalogue.ErrNotFound) != errors.Is(got[i], catalogue.ErrNotFound) {
					t.Errorf("deallocate %q: %v, want %v", id, got[i], err)
				}
			}
		}
		steps := []func(){allocate, deallocate}
		if seed%4 < 2 {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			step()
			bulk.want(one.entries())
			if got, want := bulk.marks(), one.marks(); !slices.Equal(got, want) {
				t.Errorf("marks %q, want %q", got, want)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestWhatIsAsItShouldBeIsNotWrittenAgain(t *testing.T) {
	w := newWorld(t)
	all := wants(items(0, 300), true)
	w.allocateAll(all...)
	w.quiet(func() { w.allocateAll(all...) })
}

func TestInBulkEachResourceHasItsOwnOutcome(t *testing.T) {
	w := newWorld(t)
	w.store.Etcd = limited{Committer: txn.New(client), bytes: 64 << 10, refused: new(atomic.Int64)}
	w.store.Quota = catalogue.Quota{Resources: 5, Bytes: 100 << 10}
	w.allocate(item("there"), false)
	big := func(id string, bytes int) catalogue.Item {
		return item(id, fmt.Sprintf(`"x":%q`, strings.Repeat("x", bytes)))
	}
	got := w.allocateAll(wants([]catalogue.Item{
		item("a"), big("too large for etcd", 80<<10), item("b"), big("too large for the quota", 200<<10), item("there"),
		item("a"), item("c"), item("d"), item("e"), item("f"),
	}, true)...)
	quota := 0
	for i, err := range got {
		switch {
		case i == 1 && errors.Is(err, catalogue.ErrTooLarge):
		case i == 3 && errors.Is(err, catalogue.ErrQuota):
		case errors.Is(err, catalogue.ErrQuota):
			quota++
		case i == 1 || i == 3 || err != nil:
			t.Errorf("%d: %v", i, err)
		}
	}
	// What is too large for etcd took room of the quota when it was tried.
	if n := len(w.entries()); n < 4 || n > 5 || n+quota < 7 {
		t.Errorf("%d entries, and %d allocations over the quota", n, quota)
	}
}

func TestInBulkNothingIsWrittenIntoAnotherApp(t *testing.T) {
	for name, gone := range map[string]func(*world){
		"allocate": func(w *world) {
			err := w.store.AllocateAll(t.Context(), wants(items(0, 10), false), func(i int, err error) {
				t.Errorf("%d: %v", i, err)
			})
			if !errors.Is(err, catalogue.ErrAppGone) {
				t.Errorf("got %v, want ErrAppGone", err)
			}
		},
		"deallocate": func(w *world) {
			err := w.store.DeallocateAll(t.Context(), []string{"a", "b"}, func(i int, err error) {
				t.Errorf("%d: %v", i, err)
			})
			if !errors.Is(err, catalogue.ErrAppGone) {
				t.Errorf("got %v, want ErrAppGone", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.allocate(item("a"), false)
			w.store.Config--
			before := w.entries()
			gone(w)
			w.want(before)
		})
	}
}

func TestAnEtcdThatDoesNotAnswerEndsABulk(t *testing.T) {
	w := newWorld(t)
	w.store.Etcd, w.store.Timeout = hang{}, time.Millisecond
	err := w.store.AllocateAll(t.Context(), wants(items(0, 10), false), func(i int, err error) {
		t.Errorf("%d: %v", i, err)
	})
	if err == nil {
		t.Error("it ended without an error")
	}
}
