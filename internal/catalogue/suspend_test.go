package catalogue_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

var order = catalogue.Suspension{
	By: "ann", Why: "it floods <the> log", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

func (w *world) suspend(id string) {
	w.Helper()
	if _, err := w.store.Suspend(w.Context(), id, order); err != nil {
		w.Fatal(err)
	}
}

func (w *world) resume(id string) {
	w.Helper()
	if _, err := w.store.Resume(w.Context(), id); err != nil {
		w.Fatal(err)
	}
}

// suspended is an entry as Suspend makes it.
func suspended(e catalogue.Entry) catalogue.Entry {
	e.Suspended, e.Suspension = true, &order
	return e
}

func allocated(i catalogue.Item, own bool) catalogue.Entry {
	return catalogue.Entry{Allocated: true, OwnData: own, Data: i.Data}
}

func TestASuspensionComesBackAsItWentIn(t *testing.T) {
	for _, e := range []catalogue.Entry{
		suspended(sourced(item("a"))), suspended(allocated(item("a"), false)), suspended(allocated(item("a"), true)),
		suspended(catalogue.Entry{FromSource: true, Allocated: true, OwnData: true, Data: item("a").Data}),
	} {
		got, err := catalogue.Decode(e.Encode())
		if err != nil || !sameEntry(got, e) || got.Suspension == nil || *got.Suspension != order {
			t.Errorf("%s is %+v (%v)", e.Encode(), got, err)
		}
		var older struct { // what a program of an older version reads
			FromSource bool `json:"from_source"`
			Allocated  bool
			OwnData    bool `json:"own_data"`
			Suspended  bool
			Data       json.RawMessage
		}
		if err := json.Unmarshal(e.Encode(), &older); err != nil || !older.Suspended || older.Allocated ||
			older.OwnData || older.FromSource != e.FromSource || string(older.Data) != string(e.Data) {
			t.Errorf("an older version reads %s as %+v (%v)", e.Encode(), older, err)
		}
	}
	for _, value := range []string{
		`{"from_source":true,"suspended":true,"suspension":7,"data":{"id":"a"}}`,
		`{"from_source":true,"suspended":true,"suspension":null,"data":{"id":"a"}}`,
	} {
		if got, err := catalogue.Decode([]byte(value)); err != nil || !got.Suspended || got.Suspension != nil {
			t.Errorf("%s is %+v (%v), want it suspended", value, got, err)
		}
	}
	late := catalogue.Entry{Suspended: true, Suspension: &catalogue.Suspension{
		By: "ann", Since: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
	}, Data: item("a").Data}
	if got, err := catalogue.Decode(late.Encode()); err != nil || got.Suspension == nil || got.Suspension.By != "ann" {
		t.Errorf("a time that cannot be written: %s is %+v (%v)", late.Encode(), got, err)
	}
}

func TestWhatIsSuspendedStaysSoWhateverTheSourceAnswers(t *testing.T) {
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		elect := func() {
			if newTerm {
				w.elect()
			}
		}
		both := item("both", `"own":1`)
		w.allocate(item("alone"), false)
		w.allocate(both, true)
		all := []catalogue.Item{item("had", `"v":1`), item("both"), item("gone"), item("other")}
		w.apply(all...)
		for _, id := range []string{"alone", "both", "had", "gone"} {
			w.suspend(id)
		}
		elect()
		all[0] = item("had", `"v":2`)
		w.apply(all...)
		sourcedBoth := catalogue.Entry{FromSource: true, Allocated: true, OwnData: true, Data: both.Data}
		want := map[string]catalogue.Entry{
			"alone": suspended(allocated(item("alone"), false)), "both": suspended(sourcedBoth),
			"had": suspended(sourced(all[0])), "gone": suspended(sourced(item("gone"))),
			"other": sourced(item("other")),
		}
		w.want(want)
		w.wantMarks("alone", "both", "gone", "had")
		elect()
		w.quiet(func() { w.apply(all...) })

		// The source drops two of them: nobody else wants the one, and an allocation the other.
		w.applyLater(all[0], all[3])
		w.applyLater(all[0], all[3])
		delete(want, "gone")
		want["both"] = suspended(allocated(both, true))
		w.want(want)

		// And now it has what only an allocation had wanted.
		elect()
		w.applyLater(all[0], all[3], item("alone"))
		want["alone"] = suspended(catalogue.Entry{FromSource: true, Allocated: true, Data: item("alone").Data})
		w.want(want)

		for _, id := range []string{"alone", "both", "had", "other"} {
			w.resume(id)
		}
		want["alone"] = catalogue.Entry{FromSource: true, Allocated: true, Data: item("alone").Data}
		want["both"], want["had"] = allocated(both, true), sourced(all[0])
		w.want(want)
		w.apply(all[0], all[3], item("alone"))
		w.want(want)
		w.wantMarks()
	}
}

func TestSuspendAndResume(t *testing.T) {
	w := newWorld(t)
	for _, err := range []error{
		second(w.store.Suspend(t.Context(), "none", order)),
		second(w.store.Resume(t.Context(), "none")),
	} {
		if !errors.Is(err, catalogue.ErrNotFound) {
			t.Errorf("of no resource: %v", err)
		}
	}
	a := item("a", `"v":1`)
	w.allocate(a, true)
	w.quiet(func() { w.resume("a") })
	w.suspend("a")

	// Again, without and with a reason.
	w.quiet(func() {
		if _, err := w.store.Suspend(t.Context(), "a", catalogue.Suspension{By: "bob", Since: time.Now()}); err != nil {
			t.Error(err)
		}
	})
	again := catalogue.Suspension{By: "bob", Why: "still", Since: time.Now().UTC()}
	if _, err := w.store.Suspend(t.Context(), "a", again); err != nil {
		t.Error(err)
	}
	again.Since = order.Since
	entry := allocated(a, true)
	entry.Suspended, entry.Suspension = true, &again
	w.want(map[string]catalogue.Entry{"a": entry})

	// An allocation may bring other data, and wakes nothing.
	w.allocate(item("a"), false)
	w.want(map[string]catalogue.Entry{"a": entry})
	entry.Data = item("a", `"v":2`).Data
	w.allocate(item("a", `"v":2`), true)
	w.want(map[string]catalogue.Entry{"a": entry})

	// A deallocation ends all that: the source may have it.
	w.deallocate("a")
	w.want(map[string]catalogue.Entry{"a": {Suspended: true, Data: entry.Data}})
	for _, err := range []error{
		second(w.store.Suspend(t.Context(), "a", order)),
		second(w.store.Resume(t.Context(), "a")),
	} {
		if !errors.Is(err, catalogue.ErrNotFound) {
			t.Errorf("of what nobody wants: %v", err)
		}
	}
	w.allocate(a, true)
	w.want(map[string]catalogue.Entry{"a": allocated(a, true)})
}

// A coordinator of an older version writes the entry without who has suspended it when the source changes the data.
func TestWhatAnOlderCoordinatorHasWrittenCanBeResumed(t *testing.T) {
	w := newWorld(t)
	w.apply(item("a"))
	w.suspend("a")
	w.edit("a", catalogue.Entry{FromSource: true, Suspended: true, Data: item("a", `"v":2`).Data})
	w.resume("a")
	w.want(map[string]catalogue.Entry{"a": sourced(item("a", `"v":2`))})
}

func TestForgetLeavesWhatAnAllocationWantsSuspended(t *testing.T) {
	w := newWorld(t)
	w.apply(item("both"), item("had"))
	w.allocate(item("both"), false)
	w.allocate(item("alone"), false)
	for _, id := range []string{"both", "had", "alone"} {
		w.suspend(id)
	}
	if n, err := w.store.Leaves(t.Context()); n != 1 || err != nil {
		t.Errorf("%d would be removed (%v), want 1", n, err)
	}
	done, err := w.store.Forget(t.Context(), w.record(catalogue.Vouch{Gone: true}))
	if want := (catalogue.Forgotten{Removed: 1, Kept: 1}); err != nil || done != want {
		t.Fatalf("%+v (%v), want %+v", done, err, want)
	}
	w.want(map[string]catalogue.Entry{
		"both": suspended(allocated(item("both"), false)), "alone": suspended(allocated(item("alone"), false)),
	})
	w.resume("both")
	w.want(map[string]catalogue.Entry{
		"both": allocated(item("both"), false), "alone": suspended(allocated(item("alone"), false)),
	})
}

func second(_ int64, err error) error { return err }
