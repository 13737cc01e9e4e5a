package order_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

func TestAWeightIsOrderedAndTakenBack(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	s.wants("of nobody", s.desk.Weigh(s.ctx, "x", 3, order.Options{}), picture.ErrNotFound)
	s.wants("of nobody", s.desk.Unweigh(s.ctx, "x"), picture.ErrNotFound)
	s.must(s.desk.Weigh(s.ctx, "x", 3, order.Options{Absent: true}))
	s.must(s.desk.Unweigh(s.ctx, "x"))
	s.must(s.desk.Weigh(s.ctx, "b", 700, order.Options{By: "ann", Why: "more memory"}))
	first := s.view().Weights["b"]
	if v := s.view(); first.Weight != 700 || first.By != "ann" || first.Why != "more memory" || first.Since.IsZero() ||
		v.WeightOf("b") != 700 {
		t.Errorf("%+v", first)
	}
	s.must(s.desk.Weigh(s.ctx, "b", 700, order.Options{By: "bob"}))
	if again := s.view().Weights["b"]; again.ModRevision != first.ModRevision {
		t.Errorf("the same order again changed %+v to %+v", first, again)
	}
	s.must(s.desk.Weigh(s.ctx, "b", 700, order.Options{By: "bob", Why: "much more"}))
	again := s.view().Weights["b"]
	if again.By != "bob" || again.Why != "much more" || !again.Since.Equal(first.Since) {
		t.Errorf("%+v", again)
	}
	s.must(s.desk.Weigh(s.ctx, "b", 5, order.Options{}))
	if other := s.view().Weights["b"]; other.Weight != 5 || other.Why != "" || other.By != "" {
		t.Errorf("another weight: %+v", other)
	}
	s.must(s.desk.Unweigh(s.ctx, "b"))
	if v := s.view(); len(v.Weights) > 0 || v.WeightOf("b") != 1 {
		t.Errorf("%+v", v.Weights)
	}
	s.must(s.desk.Unweigh(s.ctx, "b")) // there is none any more
}

func TestWeight0KeepsWhatACoordinatorWillPlaceAndIsNotForTheLastMember(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	owned := s.view().Owned("b")
	s.must(s.desk.Weigh(s.ctx, "b", 0, order.Options{}))
	if w := s.view().Weights["b"]; w.Weight != 0 || !slices.Equal(w.Keeps, owned) {
		t.Errorf("%+v, want it to keep %v", w, owned)
	}
	s.wants("the last one", s.desk.Weigh(s.ctx, "a", 0, order.Options{}), order.ErrLastMember)
	s.wants("the last one", s.desk.Drain(s.ctx, "a", order.Options{}), order.ErrLastMember)
	s.must(s.desk.Weigh(s.ctx, "a", 0, order.Options{Force: true}))
	s.must(s.desk.Weigh(s.ctx, "b", 0, order.Options{AtOnce: true}))
	if v := s.view(); v.Weights["a"].Keeps != nil || v.Weights["b"].Keeps != nil || slices.Contains(v.Owners(), "b") {
		t.Errorf("%+v", v.Weights)
	}
}

func TestTheLastMemberIsToldWhatWouldHelp(t *testing.T) {
	s := newStage(t)
	s.join("a")
	says := func(want string) {
		t.Helper()
		err := s.desk.Drain(s.ctx, "a", order.Options{})
		if !errors.Is(err, order.ErrLastMember) || !strings.HasSuffix(err.Error(), "; "+want) {
			t.Errorf("%v, want one that ends with %q", err, want)
		}
	}
	says("start another member first")
	s.join("b", "c")
	s.must(s.desk.Drain(s.ctx, "b", order.Options{}))
	s.must(s.desk.Weigh(s.ctx, "c", 0, order.Options{}))
	says("start another member, or undrain one, or give one a weight above 0, first")
	s.must(s.desk.Undrain(s.ctx, "b"))
	s.must(s.desk.Weigh(s.ctx, "b", 0, order.Options{}))
	says("start another member, or give one a weight above 0, first")
	s.must(s.desk.Weigh(s.ctx, "c", 1, order.Options{}))
	s.must(s.desk.Unweigh(s.ctx, "b"))
	s.must(s.desk.Drain(s.ctx, "b", order.Options{}))
	s.must(s.desk.Drain(s.ctx, "c", order.Options{}))
	says("start another member, or undrain one, first")
}

func TestOfTwoWeightsOf0AtTheSameMomentOneIsTheLast(t *testing.T) {
	s := newStage(t)
	s.join("a", "b")
	for i := range 10 {
		refused := make(chan error)
		go func() { refused <- s.desk.Weigh(s.ctx, "a", 0, order.Options{}) }()
		go func() {
			if i%2 == 0 {
				refused <- s.desk.Drain(s.ctx, "b", order.Options{})
			} else {
				refused <- s.desk.Weigh(s.ctx, "b", 0, order.Options{})
			}
		}()
		one, other := <-refused, <-refused
		if (one == nil) == (other == nil) || !errors.Is(errors.Join(one, other), order.ErrLastMember) {
			t.Fatalf("%v and %v, want one refused", one, other)
		}
		s.must(s.desk.Unweigh(s.ctx, "a"))
		s.must(s.desk.Unweigh(s.ctx, "b"))
		s.must(s.desk.Undrain(s.ctx, "b"))
	}
}
