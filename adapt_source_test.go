package drm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/source"
)

// answering is a Retriever whose Fetch is a function.
type answering func() ([]Resource, error)

func (answering) Setup(context.Context, API) error            { return nil }
func (answering) TearDown(context.Context) error              { return nil }
func (f answering) Fetch(context.Context) ([]Resource, error) { return f() }
func adapted(resources []Resource, err error) (a source.Answer) {
	u := userRetriever{retriever: answering(func() ([]Resource, error) { return resources, err })}
	return u.Fetch(context.Background())
}

// busy is an error with advice, or one that panics when it is asked for some.
type busy struct{ after time.Duration }

func (busy) Error() string { return "busy" }

func (b busy) Retryable() (time.Duration, bool) {
	if b.after < 0 {
		panic("no advice")
	}
	return b.after, true
}

// Package source sees what an answer is without a look at the user's error.
func TestWhatAFetchReturnsIsTakenDown(t *testing.T) {
	one := []Resource{{ID: "a"}}
	if a := adapted(one, nil); a.Failure != nil || a.Unchanged || a.Items == nil {
		t.Errorf("resources: %+v", a)
	}
	if a := adapted(nil, fmt.Errorf("cached: %w", ErrNotModified)); a.Failure != nil || !a.Unchanged {
		t.Errorf("not modified: %+v", a)
	}
	said := &BadItemsError{}
	said.Add(BadItem{Index: 1, ID: "b"})
	a := adapted(one, fmt.Errorf("page 2: %w", said))
	if a.Failure != nil || a.Unchanged || a.Before != "page 2: " {
		t.Fatalf("bad items: %+v", a)
	}
	items, bad := a.Items.Check()
	first := bad.First()
	if len(items) != 1 || bad.Count() != 1 || first[0].ID != "b" || first[0].Error != "it is bad" || first[0].TooLarge {
		t.Errorf("bad items: %v, %+v", items, first)
	}
	bad.AddTooLarge("c")
	var told *BadItemsError
	if first := bad.First(); !first[1].TooLarge || first[1].Index != -1 {
		t.Errorf("too large: %+v", first)
	}
	err := bad.AsError("here: ")
	if !errors.As(err, &told) || told.Count() != 2 ||
		err.Error() != `here: item 1 (id "b"): it is bad, and another one` {
		t.Errorf("bad items are told as %v", err)
	}
}

func TestWhatAFetchFailsWithIsTakenDown(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want source.Failure // without Err
	}{
		"no advice": {errors.New("no"), source.Failure{}},
		"advice": {
			fmt.Errorf("get: %w", busy{time.Minute}), source.Failure{Advised: true, After: time.Minute, Again: true},
		},
		"advice that panics": {busy{-1}, source.Failure{}},
	} {
		a := adapted(nil, c.err)
		if a.Failure == nil {
			t.Errorf("%s: %+v", name, a)
			continue
		}
		got := *a.Failure
		if !errors.Is(got.Err, c.err) || got.Err.Error() != c.err.Error() {
			t.Errorf("%s: told as %v", name, got.Err)
		}
		if got.Err = nil; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	var panicked *PanicError
	a := userRetriever{retriever: answering(func() ([]Resource, error) { panic("oh") })}.Fetch(t.Context())
	if a.Failure == nil || !errors.As(a.Failure.Err, &panicked) || a.Failure.Err.Error() != "panic: oh" {
		t.Errorf("a panic: %+v", a.Failure)
	}
}
