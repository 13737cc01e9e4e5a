package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

func TestAnAppThatNobodyMadeIsEmpty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.clientOf(drm.ClientConfig{})
	members, err1 := c.Members(t.Context())
	res, err2 := c.Resources(t.Context())
	all, err3 := c.Assignments(t.Context(), drm.AssignmentFilter{})
	status, err4 := c.Status(t.Context())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if members == nil || res == nil || all == nil || len(members)+len(res)+len(all) != 0 ||
		!reflect.DeepEqual(status, drm.Status{App: "app"}) {
		t.Errorf("%v %v %v %+v", members, res, all, status)
	}
	for name, f := range map[string]func() error{
		"lookup":     func() error { _, err := c.Lookup(t.Context(), "x"); return err },
		"deallocate": func() error { return c.Deallocate(t.Context(), "x") },
		"wait":       func() error { _, err := c.Wait(t.Context(), "x"); return err },
		"drain":      func() error { return c.Drain(t.Context(), "x") },
		"undrain":    func() error { return c.Undrain(t.Context(), "x") },
		"allocate":   func() error { return c.Allocate(t.Context(), drm.Resource{ID: "x"}) },
		"absent":     func() error { return c.DrainAbsent(t.Context(), "x") },
	} {
		err := f()
		if !errors.Is(err, drm.ErrNotFound) || !errors.Is(err, drm.ErrNoApp) ||
			!strings.Contains(err.Error(), `no such app "app" at prefix "/drm"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if there, err := c.Exists(t.Context()); there || err != nil {
		t.Errorf("to ask for the app made it: %v", err)
	}
}

func TestWhatNobodyCanHandleIsUnassignedAndSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client()
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x", Data: json.RawMessage(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	a, err := c.Lookup(t.Context(), "x")
	if err != nil || a.State != drm.StateUnassigned || !strings.Contains(a.Error, "no live member") {
		t.Errorf("%+v, %v", a, err)
	}
	s, err := c.Status(t.Context())
	if err != nil || s.Resources != 1 || s.Unassigned != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAssignmentsAndMembersAgree(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(40)...), "a", "b")
	r.until("all is settled", func() bool { return len(r.holders()) == 40 && settled(t, w) })
	c := w.client()
	all, err := c.Assignments(t.Context(), drm.AssignmentFilter{})
	if err != nil || len(all) != 40 {
		t.Fatalf("%d assignments, %v", len(all), err)
	}
	if !slices.IsSortedFunc(all, func(a, b drm.Assignment) int { return strings.Compare(a.Resource, b.Resource) }) {
		t.Error("not in the order of ids")
	}
	by := map[string]int{}
	for _, a := range all {
		if a.Member != a.Expected || a.State != drm.StateActive || r.holders()[a.Resource] != a.Member {
			t.Errorf("%+v", a)
		}
		by[a.Member]++
		one, err := c.Lookup(t.Context(), a.Resource)
		if err != nil || one != a {
			t.Errorf("lookup says %+v (%v), the list %+v", one, err, a)
		}
	}
	var members []drm.MemberInfo
	r.until("the members have said what they have", func() bool {
		var err error
		if members, err = c.Members(t.Context()); err != nil || len(members) != 2 {
			t.Fatal(members, err)
		}
		return members[0].Resources == by["a"] && members[1].Resources == by["b"]
	})
	shards := 0
	for _, m := range members {
		shards += m.Shards
		if m.State != "active" || m.Drain != "" || len(m.Slots) != 1 || m.Started.IsZero() {
			t.Errorf("%+v", m)
		}
		mine, err := c.Assignments(t.Context(), drm.AssignmentFilter{Member: m.ID})
		if err != nil || len(mine) != by[m.ID] {
			t.Errorf("%d assignments of %s, want %d (%v)", len(mine), m.ID, by[m.ID], err)
		}
	}
	if shards != 64 {
		t.Errorf("the members have %d shards together", shards)
	}
}

func TestADrainedMemberHoldsNothingUntilItIsUndrained(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(30)...), "a", "b")
	r.until("all is settled", func() bool { return len(r.holders()) == 30 && settled(t, w) })
	before := r.holders()
	c := w.client()
	if err := c.Drain(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitDrained(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	members, err := c.Members(t.Context())
	if err != nil || members[0].State != "draining" || members[0].Drain != drm.DrainOrdered ||
		members[0].Resources != 0 || members[0].Shards != 0 {
		t.Errorf("%+v, %v", members, err)
	}
	r.until("the other has all", func() bool {
		for _, m := range r.holders() {
			if m != "b" {
				return false
			}
		}
		return len(r.holders()) == 30
	})
	if err := c.Undrain(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitUndrained(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.until("everything is back where it was", func() bool {
		after := r.holders()
		for id, m := range before {
			if after[id] != m {
				return false
			}
		}
		return true
	})
}

func TestADeallocatedResourceOfASourceStaysAwayUntilItIsAllocated(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x", "y")
	w.members(r, src, "a")
	r.until("both are handled", allHeld(r, 2))
	c := w.client()
	if err := c.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitGone(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	_, fetched, _ := src.counts()
	r.until("the source has been asked again", func() bool { _, n, _ := src.counts(); return n > fetched+2 })
	if r.holders()["x"] != "" {
		t.Error("a poll brought back what was deallocated")
	}
	res, err := c.Resources(t.Context())
	if err != nil || len(res) != 2 || !res[0].Suspended || !res[0].FromSource {
		t.Errorf("%+v, %v", res, err)
	}
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	src.set(resources("y"), nil)
	_, fetched, _ = src.counts()
	r.until("the source has been asked again", func() bool { _, n, _ := src.counts(); return n > fetched+2 })
	if r.holders()["x"] == "" {
		t.Error("what an allocation wants went with the source")
	}
}

func TestAResourceLargerThanEtcdTakesIsAClearError(t *testing.T) {
	t.Parallel()
	c := newWorld(t).client()
	big := drm.Resource{ID: "big", Data: json.RawMessage(`{"x":"` + strings.Repeat("x", 2<<20) + `"}`)}
	err := c.Allocate(t.Context(), big)
	var input *drm.InputError
	if !errors.As(err, &input) || input.Field != "data" || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
	fits := drm.Resource{ID: "fits", Data: json.RawMessage(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`)}
	if err := c.Allocate(t.Context(), fits); err != nil {
		t.Error(err)
	}
}

func TestOddIDsAreHandledLikeAnyOther(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	m := w.members(r, nil, "a member/with slashes")["a member/with slashes"]
	for _, id := range []string{"a/b", "..", ".", "with space", "😀", "a%2Fb", strings.Repeat("x", drm.MaxIDBytes)} {
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
		a, err := m.Wait(t.Context(), id)
		if err != nil || a.Resource != id {
			t.Errorf("%q: %+v, %v", id, a, err)
		}
	}
	for _, id := range []string{"", "a\x00b", "\xff", strings.Repeat("x", drm.MaxIDBytes+1)} {
		var input *drm.InputError
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); !errors.As(err, &input) || input.Field != "id" {
			t.Errorf("%q: %v", id, err)
		}
	}
	var input *drm.InputError
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x", Data: []byte(`{"id":"y"}`)}); !errors.As(err, &input) ||
		input.Field != "data.id" {
		t.Errorf("another id in the data: %v", err)
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client()
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Wait(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
