package catalogue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// record writes the source's record and returns its mod revision.
func (w *world) record(v catalogue.Vouch) int64 {
	w.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.Fatal(err)
	}
	return w.put(w.store.Layout.Source(), string(b))
}

const day = 24 * time.Hour

func TestDeallocateJudgesByTheRecordWhetherThereIsASource(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	forever := time.Duration(math.MaxInt64)
	old := `{"last_attempt":"2020-01-01T00:00:00Z"}`
	put := func(record string) func(*world) { return func(w *world) { w.put(w.store.Layout.Source(), record) } }
	vouched := func(ago, after time.Duration) func(*world) {
		return func(w *world) { w.record(catalogue.VouchFor(1, now.Add(-ago), after, forever)) }
	}
	inOffice := func(w *world) { w.record(catalogue.VouchFor(w.term, now.Add(-2*day), day, forever)) }
	forgotten := func(w *world) { w.record(catalogue.Vouch{At: now, AfterMS: 1, Gone: true}) }
	for name, c := range map[string]struct {
		record   func(w *world) // nil: there is none
		sourced  bool           // the entry is from a source
		suspends bool
	}{
		"none ever":                      {nil, false, false},
		"none, but the entry is of one":  {nil, true, true},
		"of an older version":            {put(old), false, true},
		"not understood":                 {put("junk"), false, true},
		"an hour ago":                    {vouched(time.Hour, day), false, true},
		"two days ago":                   {vouched(2*day, day), false, false},
		"two days ago, had by it":        {vouched(2*day, day), true, false},
		"two days ago, never gone":       {vouched(2*day, forever), false, true},
		"two days ago, and in office":    {inOffice, false, true},
		"being forgotten":                {forgotten, true, false},
		"by a clock that is a day ahead": {vouched(-day, day), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.store.Wall = func() time.Time { return now }
			if _, err := client.Delete(t.Context(), w.store.Layout.Source()); err != nil {
				t.Fatal(err)
			}
			if c.record != nil {
				c.record(w)
			}
			w.edit("a", catalogue.Entry{FromSource: c.sourced, Allocated: true, Data: item("a").Data})
			w.deallocate("a")
			if c.suspends {
				w.want(map[string]catalogue.Entry{"a": {FromSource: c.sourced, Suspended: true, Data: item("a").Data}})
				w.wantMarks("a")
			} else {
				w.want(nil)
				w.wantMarks()
			}
		})
	}
}

// left makes a catalogue with everything that a source can leave, and returns what must stay of it.
func (w *world) left(many int) (stays map[string]catalogue.Entry) {
	w.Helper()
	for n := range many {
		id := fmt.Sprintf("source %d", n)
		w.edit(id, sourced(item(id)))
	}
	w.edit("both", catalogue.Entry{FromSource: true, Allocated: true, Data: item("both").Data})
	w.edit("own", catalogue.Entry{FromSource: true, Allocated: true, OwnData: true, Data: item("own", `"v":1`).Data})
	w.edit("allocated", catalogue.Entry{Allocated: true, OwnData: true, Data: item("allocated", `"v":1`).Data})
	w.put(w.key("corrupt"), "junk")
	for _, id := range []string{"had", "never had"} {
		w.edit(id, catalogue.Entry{FromSource: id == "had", Suspended: true, Data: item(id).Data})
		w.put(w.store.Layout.Deallocation(id), "")
	}
	w.put(w.store.Layout.Deallocation("woken"), "")
	return map[string]catalogue.Entry{
		"both":      {Allocated: true, Data: item("both").Data},
		"own":       {Allocated: true, OwnData: true, Data: item("own", `"v":1`).Data},
		"allocated": {Allocated: true, OwnData: true, Data: item("allocated", `"v":1`).Data},
		"corrupt":   {},
	}
}

// forgotten checks that nothing of the source remains.
func (w *world) forgotten(stays map[string]catalogue.Entry) {
	w.Helper()
	w.want(stays)
	w.wantMarks()
	if resp, err := client.Get(w.Context(), w.store.Layout.Source()); err != nil || len(resp.Kvs) != 0 {
		w.Errorf("the record is still there: %v, %v", resp, err)
	}
}

func TestForgetLeavesWhatWasAllocatedAndNothingElse(t *testing.T) {
	w := newWorld(t)
	stays := w.left(40)
	revision := w.record(catalogue.Vouch{Gone: true})
	if n, err := w.store.Leaves(t.Context()); err != nil || n != 40 {
		t.Errorf("Leaves: %d, %v, want 40", n, err)
	}
	done, err := w.store.Forget(t.Context(), revision)
	if want := (catalogue.Forgotten{Removed: 40, Kept: 2, Suspended: 2}); err != nil || done != want {
		t.Errorf("Forget: %+v, %v, want %+v", done, err, want)
	}
	w.forgotten(stays)
	if done, err := w.store.Forget(t.Context(), 0); err != nil || done != (catalogue.Forgotten{}) {
		t.Errorf("Forget once more: %+v, %v", done, err)
	}
}

func TestForgetTakesWhatEtcdTakesAtOnce(t *testing.T) {
	for _, l := range []limited{{ops: 3}, {ops: 8}, {bytes: 4 << 10}} {
		w := newWorld(t)
		l.Committer, l.refused = txn.New(client), new(atomic.Int64)
		w.store.Etcd = l
		stays := w.left(60)
		done, err := w.store.Forget(t.Context(), w.record(catalogue.Vouch{Gone: true}))
		if want := (catalogue.Forgotten{Removed: 60, Kept: 2, Suspended: 2}); err != nil || done != want {
			t.Errorf("%d operations, %d bytes: %+v, %v, want %+v", l.ops, l.bytes, done, err, want)
		}
		w.forgotten(stays)
	}
}

// More entries than fit on a page, in one shard.
func TestForgetGoesThroughAShardOfManyPages(t *testing.T) {
	w := newWorld(t)
	count := 0
	for n := 0; count < 1100; n++ {
		id := fmt.Sprintf("r%d", n)
		if shard.Of(id, w.store.Shards) == 0 {
			w.edit(id, sourced(item(id)))
			count++
		}
	}
	done, err := w.store.Forget(t.Context(), w.record(catalogue.Vouch{Gone: true}))
	if err != nil || done.Removed != count {
		t.Errorf("Forget: %+v, %v, want %d removed", done, err, count)
	}
	w.forgotten(nil)
}

func TestForgetTakesOverWhatIsWrittenMeanwhile(t *testing.T) {
	w := newWorld(t)
	stays := w.left(3)
	revision := w.record(catalogue.Vouch{Gone: true})
	edited := false
	w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
		if !edited && then[0].GetRequestTxn() != nil {
			edited = true
			for n := range 3 { // as if all were allocated meanwhile
				id := fmt.Sprintf("source %d", n)
				w.edit(id, catalogue.Entry{FromSource: true, Allocated: true, Data: item(id).Data})
				stays[id] = catalogue.Entry{Allocated: true, Data: item(id).Data}
			}
			w.put(w.key("both"),
				string(catalogue.Entry{FromSource: true, Suspended: true, Data: item("both").Data}.Encode()))
			w.put(w.store.Layout.Deallocation("both"), "")
			delete(stays, "both")
		}
		return nil
	}}
	if _, err := w.store.Forget(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	w.forgotten(stays)
}

// Forget leaves the record when it is interrupted, so another Forget can do the rest.
func TestForgetCanBeDoneAgain(t *testing.T) {
	w := newWorld(t)
	stays := w.left(100)
	revision := w.record(catalogue.Vouch{Gone: true})
	removed := 0
	for round := 0; ; round++ {
		writes := 0
		w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
			if then[0].GetRequestRange() == nil {
				if writes++; writes > 3 {
					return errLost
				}
			}
			return nil
		}}
		done, err := w.store.Forget(t.Context(), revision)
		removed += done.Removed
		if err == nil {
			break
		}
		if !errors.Is(err, errLost) || round > 20 {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if removed != 100 {
		t.Errorf("%d were removed, want 100", removed)
	}
	w.forgotten(stays)
}

func TestForgetEndsWhereTheSourceIsBack(t *testing.T) {
	w := newWorld(t)
	w.left(10)
	before := w.entries()
	revision := w.record(catalogue.Vouch{Gone: true})
	w.record(catalogue.VouchFor(w.term, time.Now(), day, day+1))
	if _, err := w.store.Forget(t.Context(), revision); !errors.Is(err, catalogue.ErrSourceBack) {
		t.Errorf("Forget: %v, want ErrSourceBack", err)
	}
	if _, err := w.store.Forget(t.Context(), 0); !errors.Is(err, catalogue.ErrSourceBack) {
		t.Errorf("Forget, as if there were no record: %v, want ErrSourceBack", err)
	}
	w.want(before)
	if _, err := client.Delete(t.Context(), w.store.Layout.Config()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Forget(context.Background(), revision); !errors.Is(err, catalogue.ErrAppGone) {
		t.Errorf("Forget in an app that is gone: %v, want ErrAppGone", err)
	}
}

// The catalogue of a queue that never had a source must not grow.
func TestNothingIsLeftOfWhatIsAllocatedAndDeallocatedWithoutASource(t *testing.T) {
	w := newWorld(t)
	if _, err := client.Delete(t.Context(), w.store.Layout.Source()); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		w.allocate(item(fmt.Sprintf("job %d", n), `"v":1`), true)
		w.deallocate(fmt.Sprintf("job %d", n))
	}
	w.want(nil)
	w.wantMarks()
}
