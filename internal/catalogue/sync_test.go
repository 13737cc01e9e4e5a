package catalogue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

type outcome = catalogue.Outcome

func wantOutcome(t *testing.T, got, want outcome) {
	t.Helper()
	got.Gone, got.Bulk = nil, false // other tests look at these
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("outcome %s, want %s", g, w)
	}
}

func TestTheFirstFetchFillsTheCatalogueAndTheNextWritesNothing(t *testing.T) {
	w := newWorld(t)
	all := items(0, 2000)
	wantOutcome(t, w.apply(all...), outcome{Resources: 2000, Added: 2000})
	w.want(wanted(all))
	w.quiet(func() { wantOutcome(t, w.apply(all...), outcome{Resources: 2000}) })
	w.elect() // a new term remembers only what it reads
	w.quiet(func() { wantOutcome(t, w.apply(all...), outcome{Resources: 2000}) })
}

func TestChangedDataAreWritten(t *testing.T) {
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		w.apply(item("a", `"v":1`), item("b", `"v":1`))
		if newTerm {
			w.elect()
		}
		next := []catalogue.Item{item("a", `"v":2`), item("b", `"v":1`)}
		wantOutcome(t, w.apply(next...), outcome{Resources: 2, Changed: 1})
		w.want(wanted(next))
		w.quiet(func() { w.apply(next...) })
	}
}

func TestTheSameObjectInAnotherSpellingIsNoChange(t *testing.T) {
	data := func(s string) catalogue.Item { return catalogue.Item{ID: "a", Data: json.RawMessage(s)} }
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		first := data(`{"id":"a","x":{"p":1.0,"q":[true]},"s":"é<"}`)
		w.apply(first)
		if newTerm {
			w.elect()
		}
		w.quiet(func() {
			for _, spelling := range []string{
				`{"x":{"q":[true],"p":1.0},"s":"\u00e9\u003c","id":"a"}`,
				`{ "s":"é<", "id":"a", "x":{"p":1.0, "q":[true]} }`,
				`{"x":{"q":[true],"p":1.0},"s":"\u00e9\u003c","id":"a"}`,
				string(first.Data),
			} {
				wantOutcome(t, w.apply(data(spelling)), outcome{Resources: 1})
			}
		})
		changed := data(`{"x":{"q":[true],"p":2},"s":"é<","id":"a"}`)
		wantOutcome(t, w.apply(changed), outcome{Resources: 1, Changed: 1})
		w.want(wanted([]catalogue.Item{changed}))
		wantOutcome(t, w.apply(first), outcome{Resources: 1, Changed: 1})
	}
}

func TestWhatTheSourceDropsIsRemoved(t *testing.T) {
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		w.apply(items(0, 30)...)
		if newTerm {
			w.elect()
		}
		wantOutcome(t, w.apply(items(10, 31)...), outcome{Resources: 21, Added: 1, Removed: 10})
		w.want(wanted(items(10, 31)))
	}
}

// A fetch begins; then somebody allocates and deallocates; then the answer comes.
func TestASlowFetchDoesNotOverwriteWhatCameAfterItBegan(t *testing.T) {
	for _, knows := range []string{"what was before", "nothing"} {
		t.Run("the coordinator knows "+knows, func(t *testing.T) {
			w := newWorld(t)
			old := []catalogue.Item{item("dropped"), item("dealt"), item("taken", `"v":1`), item("stays")}
			if knows == "nothing" {
				for _, i := range old {
					w.edit(i.ID, sourced(i))
				}
			} else {
				w.apply(old...)
			}
			began := w.revision()
			w.allocate(item("dropped"), false)
			w.deallocate("dealt")
			w.allocate(item("taken", `"v":2`), true)
			w.allocate(item("new", `"v":2`), false)
			w.allocate(item("gone", `"v":2`), false)
			w.deallocate("gone")
			want := w.entries()
			w.quiet(func() {
				w.applyAt(began, item("dealt", `"v":9`), item("taken", `"v":9`), item("stays"), item("new", `"v":9`),
					item("gone", `"v":9`))
			})
			w.want(want)
		})
	}
}

func TestWhatWasDeallocatedStaysSuspendedUntilALaterFetchLacksIt(t *testing.T) {
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		all := items(0, 30)
		w.apply(all...)
		began := w.revision()
		w.deallocate("r0007")
		if newTerm {
			w.elect()
		}
		want := wanted(all)
		suspended := catalogue.Entry{FromSource: true, Suspended: true, Data: want["r0007"].Data}
		want["r0007"] = suspended
		without := append(items(0, 7), items(8, 30)...)
		w.quiet(func() {
			w.applyAt(began, without...) // this fetch began before
			w.apply(all...)              // this fetch has it
			w.apply(all...)
		})
		w.want(want)
		w.wantMarks("r0007")
		w.apply(without...)
		w.want(wanted(without))
		w.wantMarks()
		w.apply(all...) // the source has it again
		w.want(wanted(all))
	}
}

// The coordinator remembers the catalogue, and did not see these entries come and go.
func TestWhatWasAllocatedAndDeallocatedBehindTheCoordinatorIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.allocate(item("before"), false)
	w.load()
	w.apply(items(0, 3)...)
	w.allocate(item("after"), false)
	w.deallocate("before")
	w.deallocate("after")
	w.wantMarks("after", "before")
	wantOutcome(t, w.apply(items(0, 3)...), outcome{Resources: 3, Removed: 2})
	w.want(wanted(items(0, 3)))
	w.wantMarks()
	w.quiet(func() { w.apply(items(0, 3)...) })
}

// The coordinator remembers the source's data, and sees neither the allocation that replaced them nor its end.
func TestTheSourcesDataComeBackAfterAnAllocationWithItsOwn(t *testing.T) {
	w := newWorld(t)
	a := item("a", `"v":1`)
	w.apply(a)
	w.allocate(item("a", `"v":2`), true)
	w.deallocate("a")
	w.allocate(item("a"), false)
	w.wantMarks("a")
	wantOutcome(t, w.apply(a), outcome{Resources: 1, Changed: 1})
	w.want(map[string]catalogue.Entry{"a": {FromSource: true, Allocated: true, Data: a.Data}})
	w.wantMarks()
	w.quiet(func() { w.apply(a) })
}

func TestAMarkThatIsNotNeededIsCleared(t *testing.T) {
	w := newWorld(t)
	w.put(w.store.Layout.Deallocation("nothing"), "")
	w.put(w.store.Layout.Deallocations()+"foreign/key", "")
	w.edit("awake", catalogue.Entry{Allocated: true, Data: item("awake").Data})
	w.put(w.store.Layout.Deallocation("awake"), "")
	w.apply(items(0, 3)...)
	w.wantMarks("") // only the foreign mark is left
	if _, has := w.entries()["awake"]; !has {
		t.Error("awake is gone")
	}
}

func TestManyDeallocatedAreRemoved(t *testing.T) {
	w := newWorld(t)
	all := items(0, 300)
	w.apply(all...)
	for _, i := range all[:140] {
		w.deallocate(i.ID)
	}
	wantOutcome(t, w.apply(all...), outcome{Resources: 300})
	if got := w.marks(); len(got) != 140 {
		t.Errorf("%d marks, want 140", len(got))
	}
	w.apply(all[140:]...)
	w.want(wanted(all[140:]))
	w.wantMarks()
}

func TestAnAllocationSurvivesTheSourceDroppingIt(t *testing.T) {
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		all := []catalogue.Item{item("a", `"v":1`), item("b"), item("c")}
		w.apply(all...)
		w.allocate(item("a"), false)
		w.allocate(item("b", `"v":2`), true)
		if newTerm {
			w.elect()
		}
		w.apply(all[2])
		w.want(map[string]catalogue.Entry{
			"a": {Allocated: true, Data: all[0].Data},
			"b": {Allocated: true, OwnData: true, Data: item("b", `"v":2`).Data},
			"c": sourced(all[2]),
		})
		w.quiet(func() { w.apply(all[2]) })
		w.apply(all...) // it is the source's again
		w.want(map[string]catalogue.Entry{
			"a": {FromSource: true, Allocated: true, Data: all[0].Data},
			"b": {FromSource: true, Allocated: true, OwnData: true, Data: item("b", `"v":2`).Data},
			"c": sourced(all[2]),
		})
	}
}

func TestAFetchDoesNotOverwriteTheDataOfAnAllocation(t *testing.T) {
	w := newWorld(t)
	w.allocate(item("own", `"v":1`), true)
	w.allocate(item("bare"), false)
	w.apply(item("own", `"v":2`), item("bare", `"v":2`))
	want := map[string]catalogue.Entry{
		"own":  {FromSource: true, Allocated: true, OwnData: true, Data: item("own", `"v":1`).Data},
		"bare": {FromSource: true, Allocated: true, Data: item("bare", `"v":2`).Data},
	}
	w.want(want)
	w.quiet(func() { w.apply(item("own", `"v":3`), item("bare", `"v":2`)) })
	w.apply(item("own", `"v":3`), item("bare", `"v":3`))
	want["bare"] = catalogue.Entry{FromSource: true, Allocated: true, Data: item("bare", `"v":3`).Data}
	w.want(want)
}

func TestTheDataOfASuspendedEntryFollowTheSource(t *testing.T) {
	w := newWorld(t)
	w.apply(item("a", `"v":1`))
	w.deallocate("a")
	w.apply(item("a", `"v":2`))
	w.want(map[string]catalogue.Entry{"a": {FromSource: true, Suspended: true, Data: item("a", `"v":2`).Data}})
	w.wantMarks("a")
}

func TestADeposedCoordinatorWritesNothing(t *testing.T) {
	for name, depose := range map[string]func(w *world){
		"nobody has the office": func(w *world) {
			if _, err := client.Delete(w.Context(), w.store.Layout.Coordinator()); err != nil {
				w.Fatal(err)
			}
		},
		"another term": func(w *world) { old := w.sync; w.elect(); w.sync = old },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(item("a", `"v":1`), item("b"))
			w.put(w.store.Layout.Deallocation("nothing"), "")
			depose(w)
			before := w.revision()
			for _, answer := range [][]catalogue.Item{
				{item("a", `"v":2`), item("b")}, // an answer that changes entries
				{item("b")},                     // an answer that removes entries
				items(0, 200),
				{item("a", `"v":1`), item("b")}, // an answer that clears a mark
			} {
				_, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: answer}, before)
				if !errors.Is(err, catalogue.ErrDeposed) {
					t.Errorf("Apply: %v, want ErrDeposed", err)
				}
			}
			if after := w.revision(); after != before {
				t.Errorf("etcd's revision went from %d to %d", before, after)
			}
		})
	}
}

func TestAnAppThatWasDeletedIsToldFromBeingDeposed(t *testing.T) {
	w := newWorld(t)
	if _, err := client.Delete(t.Context(), w.store.Layout.Config()); err != nil {
		t.Fatal(err)
	}
	began := w.revision()
	_, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: items(0, 200)}, began)
	if !errors.Is(err, catalogue.ErrAppGone) {
		t.Errorf("Apply: %v, want ErrAppGone", err)
	}
	w.put(w.store.Layout.Config(), `{"schema":1,"shards":16}`)
	_, err = w.sync.Apply(t.Context(), catalogue.Answer{Items: items(0, 200)}, w.revision())
	if !errors.Is(err, catalogue.ErrAppGone) {
		t.Errorf("Apply in an app made anew: %v, want ErrAppGone", err)
	}
	w.want(nil)
}

func TestACorruptEntryIsOverwrittenWhereTheSourceHasIt(t *testing.T) {
	w := newWorld(t)
	w.put(w.key("a"), "junk")
	w.put(w.key("alone"), "junk")
	w.load()
	w.elect()
	wantOutcome(t, w.apply(item("a")), outcome{Resources: 1, Added: 1})
	w.want(map[string]catalogue.Entry{"a": sourced(item("a")), "alone": {}})
	w.quiet(func() { w.apply(item("a")) })
}

func TestAnEntryThatIsTooLargeIsReportedAndTheOthersGoOn(t *testing.T) {
	w := newWorld(t)
	large := func(id string, bytes int) catalogue.Item { return item(id, `"x":"`+strings.Repeat("x", bytes)+`"`) }
	small := items(0, 300)
	answer := append([]catalogue.Item{large("server", 1_600_000), large("client", 2_200_000)}, small...)
	out := w.apply(answer...)
	if out.Added != 300 || len(out.Rejected) != 2 {
		t.Errorf("added %d, rejected %q", out.Added, out.Rejected)
	}
	w.want(wanted(small))
	w.quiet(func() { w.apply(answer...) })
	again, err := w.sync.Unchanged(t.Context(), w.revision())
	if err != nil || len(again.Rejected) != 2 || again.Resources != 302 {
		t.Errorf("unchanged: %d resources, %q rejected, %v", again.Resources, again.Rejected, err)
	}
}

// The entry fits by itself, but not with the conditions that a conflict makes necessary.
func TestAnEntryThatIsTooLargeToResolveAConflictDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	w.apply(item("a"), item("b"))
	var once sync.Once
	w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
		if then[0].GetRequestPut() != nil { // the entry changes just before the first write
			once.Do(func() { w.edit("a", catalogue.Entry{FromSource: true, Data: item("a", `"by":"hand"`).Data}) })
		}
		if slices.ContainsFunc(then, func(op *pb.RequestOp) bool {
			nested := op.GetRequestTxn()
			return nested != nil && strings.Contains(string(nested.Success[0].GetRequestPut().GetValue()), "large")
		}) {
			return rpctypes.ErrRequestTooLarge
		}
		return nil
	}}
	answer := append(items(0, 300), item("a", `"size":"large"`), item("b", `"v":2`))
	wantOutcome(t, w.apply(answer...), outcome{Resources: 302, Added: 300, Changed: 1, Rejected: []string{"a"}})
	w.sync.Age(catalogue.ReloadEvery) // once it is known as it is, it fits
	w.load()
	wantOutcome(t, w.apply(answer...), outcome{Resources: 302, Changed: 1})
	w.want(wanted(answer))
}

func TestBatchesAreBoundedInNumberAndSize(t *testing.T) {
	w := newWorld(t)
	fat := strings.Repeat("x", 9_000)
	all := make([]catalogue.Item, 260) // 2.3 MB
	for n := range all {
		all[n] = item(fmt.Sprintf("r%d/%s", n, strings.Repeat("/", 100)), `"x":"`+fat+`"`)
	}
	wantOutcome(t, w.apply(all...), outcome{Resources: 260, Added: 260})
	w.want(wanted(all))
	w.apply(all[:150]...)
	w.want(wanted(all[:150]))
}

func TestAMemoryThatIsOutOfDateIsMended(t *testing.T) {
	w := newWorld(t)
	all := items(0, 400)
	w.apply(all...)
	for n := 0; n < 400; n += 40 { // written by hand: one in each batch
		w.edit(all[n].ID, catalogue.Entry{FromSource: true, Data: item(all[n].ID, `"by":"hand"`).Data})
	}
	if _, err := client.Delete(t.Context(), w.key("r0001")); err != nil {
		t.Fatal(err)
	}
	w.put(w.key("r0002"), "junk")
	for n := range all {
		all[n] = item(all[n].ID, `"v":2`)
	}
	wantOutcome(t, w.apply(all...), outcome{Resources: 400, Added: 2, Changed: 398})
	w.want(wanted(all))
	w.quiet(func() { w.apply(all...) })
}

func TestWhatWasDoneByHandIsMendedWithinAnHour(t *testing.T) {
	w := newWorld(t)
	all := items(0, 30)
	w.apply(all...)
	if _, err := client.Delete(t.Context(), w.key("r0001")); err != nil {
		t.Fatal(err)
	}
	w.put(w.key("r0002"), "junk")
	w.edit("r0003", catalogue.Entry{FromSource: true, Data: item("r0003", `"by":"hand"`).Data})
	w.edit("extra", catalogue.Entry{FromSource: true, Data: item("extra").Data})
	w.load() // too early to read it again
	w.quiet(func() { w.apply(all...) })
	w.sync.Age(catalogue.ReloadEvery)
	w.load()
	if _, err := w.sync.Unchanged(t.Context(), w.revision()); !errors.Is(err, catalogue.ErrNoAnswer) {
		t.Errorf("Unchanged after all was read again: %v, want ErrNoAnswer", err)
	}
	wantOutcome(t, w.apply(all...), outcome{Resources: 30, Added: 2, Changed: 1, Removed: 1})
	w.want(wanted(all))
}

func TestReadingAllAgainKeepsSpellingsAndWhatIsHeld(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 30)...)
	w.apply(items(20, 30)...)
	w.sync.Age(catalogue.ReloadEvery)
	w.load()
	wantOutcome(t, w.applyLater(items(20, 30)...), outcome{Resources: 10, Removed: 20})
	w.want(wanted(items(20, 30)))
}

func TestAKeyInTheWrongShardIsNoEntry(t *testing.T) {
	w := newWorld(t)
	wrong := w.store.Layout.Resource((shard.Of("a", w.store.Shards)+1)%w.store.Shards, "a")
	w.put(wrong, string(sourced(item("a")).Encode()))
	w.elect()
	wantOutcome(t, w.apply(item("a")), outcome{Resources: 1, Added: 1})
	resp, err := client.Get(t.Context(), w.key("a"))
	if err != nil || len(resp.Kvs) != 1 {
		t.Errorf("%d entries in the right shard, %v", len(resp.Kvs), err)
	}
	w.apply(item("b"))
	if resp, err := client.Get(t.Context(), wrong); err != nil || len(resp.Kvs) != 1 {
		t.Errorf("the foreign key is gone, %v", err)
	}
}

func TestDataThatNobodyOwnsAreTheSources(t *testing.T) {
	w := newWorld(t)
	w.edit("a", catalogue.Entry{OwnData: true, Data: item("a", `"by":"hand"`).Data})
	w.elect()
	w.apply(item("a"))
	w.want(wanted([]catalogue.Item{item("a")}))
}

func TestUnchangedRemovesWhatWasDeallocatedAndTheSourceLacks(t *testing.T) {
	w := newWorld(t)
	all := items(0, 3)
	w.apply(all...)
	w.allocate(item("a"), false)
	w.deallocate("a")
	w.deallocate("r0001")
	if out, err := w.sync.Unchanged(t.Context(), w.revision()); err != nil || out.Removed != 1 {
		t.Errorf("Unchanged: %+v, %v", out, err)
	}
	want := wanted(all)
	want["r0001"] = catalogue.Entry{FromSource: true, Suspended: true, Data: all[1].Data}
	w.want(want)
	w.wantMarks("r0001")
}

func TestAnAnswerThatFailedToBeWrittenIsNone(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 3)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.sync.Apply(ctx, catalogue.Answer{Items: items(0, 4)}, w.revision()); err == nil {
		t.Fatal("Apply succeeded though its context had ended")
	}
	if _, err := w.sync.Unchanged(t.Context(), w.revision()); !errors.Is(err, catalogue.ErrNoAnswer) {
		t.Errorf("Unchanged: %v, want ErrNoAnswer", err)
	}
}

func TestLoadTellsWhichReadFailed(t *testing.T) {
	w := newWorld(t)
	sync := w.store.NewSync(w.store.Layout.Coordinator(), w.term, w.rules)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sync.Load(ctx, lister{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v", err)
	}
	if err := sync.Load(t.Context(), lister{}); err != nil {
		t.Errorf("Load again: %v", err)
	}
}
