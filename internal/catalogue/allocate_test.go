package catalogue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/shard"
)

func keyOf(s *catalogue.Store, id string) string {
	return s.Layout.Resource(shard.Of(id, s.Shards), id)
}

func TestAllocateAndDeallocate(t *testing.T) {
	const id = "a/b"
	fromSource, own := json.RawMessage(`{"id":"a/b","v":1}`), json.RawMessage(`{"id":"a/b","v":2}`)
	bare := json.RawMessage(`{"id":"a/b"}`)
	type entry = catalogue.Entry
	for _, tt := range []struct {
		name   string
		before *entry
		source bool // whether the app has a source
		do     func(*catalogue.Store, context.Context) (int64, error)
		after  *entry
		err    error
	}{
		{"allocate what is new", nil, false, allocate(id, bare, false), &entry{Allocated: true, Data: bare}, nil},
		{
			"allocate what is new with data",
			nil, true,
			allocate(id, own, true), &entry{Allocated: true, OwnData: true, Data: own}, nil,
		},
		{
			"allocate what the source has: its data stay",
			&entry{FromSource: true, Data: fromSource}, true,
			allocate(id, bare, false), &entry{FromSource: true, Allocated: true, Data: fromSource}, nil,
		},
		{
			"allocate what the source has, with data",
			&entry{FromSource: true, Data: fromSource}, true,
			allocate(id, own, true), &entry{FromSource: true, Allocated: true, OwnData: true, Data: own}, nil,
		},
		{
			"allocate again: the data stay",
			&entry{Allocated: true, OwnData: true, Data: own}, false,
			allocate(id, bare, false), &entry{Allocated: true, OwnData: true, Data: own}, nil,
		},
		{
			"allocate again with other data",
			&entry{Allocated: true, OwnData: true, Data: own}, false,
			allocate(id, fromSource, true), &entry{Allocated: true, OwnData: true, Data: fromSource}, nil,
		},
		{
			"allocate wakes what was deallocated",
			&entry{FromSource: true, Suspended: true, Data: fromSource}, true,
			allocate(id, bare, false), &entry{FromSource: true, Allocated: true, Data: fromSource}, nil,
		},
		{
			"allocate wakes what was deallocated, with data",
			&entry{Suspended: true, Data: fromSource}, true,
			allocate(id, own, true), &entry{Allocated: true, OwnData: true, Data: own}, nil,
		},
		{
			"allocate wakes what the source has, with data",
			&entry{FromSource: true, Suspended: true, Data: fromSource}, true,
			allocate(id, own, true), &entry{FromSource: true, Allocated: true, OwnData: true, Data: own}, nil,
		},
		{
			"allocate does not bring back the data of an allocation that ended",
			&entry{Suspended: true, Data: own}, true,
			allocate(id, bare, false), &entry{Allocated: true, Data: bare}, nil,
		},
		{
			"deallocate where there is no source",
			&entry{Allocated: true, OwnData: true, Data: own}, false,
			deallocate(id), nil, nil,
		},
		{
			"deallocate where the source may have it",
			&entry{Allocated: true, OwnData: true, Data: own}, true,
			deallocate(id), &entry{Suspended: true, Data: own}, nil,
		},
		{
			"deallocate what the source has",
			&entry{FromSource: true, Data: fromSource}, true,
			deallocate(id), &entry{FromSource: true, Suspended: true, Data: fromSource}, nil,
		},
		{
			"deallocate what the source had, though its record is gone",
			&entry{FromSource: true, Allocated: true, Data: fromSource}, false,
			deallocate(id), &entry{FromSource: true, Suspended: true, Data: fromSource}, nil,
		},
		{"deallocate what is not there", nil, true, deallocate(id), nil, catalogue.ErrNotFound},
		{
			"deallocate what was deallocated",
			&entry{FromSource: true, Suspended: true, Data: fromSource}, true,
			deallocate(id), &entry{FromSource: true, Suspended: true, Data: fromSource}, catalogue.ErrNotFound,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{T: t, store: newStore(t)}
			if tt.source {
				w.put(w.store.Layout.Source(), "{}")
			}
			if tt.before != nil {
				w.edit(id, *tt.before)
				if tt.before.Suspended {
					w.put(w.store.Layout.Deallocation(id), "")
				}
			}
			rev, err := tt.do(w.store, t.Context())
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil && !strings.Contains(err.Error(), `"a/b"`) {
				t.Errorf("%q does not name the resource", err)
			}
			if err == nil && rev != w.revision() {
				t.Errorf("revision %d, want %d", rev, w.revision())
			}
			if tt.after == nil {
				w.want(nil)
			} else {
				w.want(map[string]catalogue.Entry{id: *tt.after})
			}
			woken := tt.before != nil && tt.before.Suspended && tt.before.FromSource && !tt.after.OwnData
			if tt.after != nil && (tt.after.Suspended || woken) {
				w.wantMarks(id)
			} else {
				w.wantMarks()
			}
		})
	}
}

func allocate(id string, data json.RawMessage, own bool) func(*catalogue.Store, context.Context) (int64, error) {
	return func(s *catalogue.Store, ctx context.Context) (int64, error) {
		return s.Allocate(ctx, catalogue.Item{ID: id, Data: data}, own)
	}
}

func deallocate(id string) func(*catalogue.Store, context.Context) (int64, error) {
	return func(s *catalogue.Store, ctx context.Context) (int64, error) { return s.Deallocate(ctx, id) }
}

func TestAllocateOverwritesACorruptEntry(t *testing.T) {
	w := newWorld(t)
	w.put(w.key("a"), "junk")
	w.allocate(item("a"), false)
	w.want(map[string]catalogue.Entry{"a": {Allocated: true, Data: item("a").Data}})
}

func TestDeallocateTakesOutACorruptEntry(t *testing.T) {
	w := &world{T: t, store: newStore(t)}
	w.put(w.key("a"), "junk")
	w.deallocate("a")
	w.want(nil)
	w.put(w.store.Layout.Source(), "{}")
	w.put(w.key("b"), "junk")
	w.deallocate("b") // the source may have it, so it is suspended
	w.want(map[string]catalogue.Entry{"b": {Suspended: true, Data: item("b").Data}})
	w.wantMarks("b")
}

func TestOfManyAllocationsAtOnceNoneIsLost(t *testing.T) {
	w := newWorld(t)
	w.edit("shared", catalogue.Entry{FromSource: true, Data: item("shared").Data})
	var group errgroup.Group
	for n := range 10 {
		group.Go(func() error {
			_, err := w.store.Allocate(t.Context(), item("shared", fmt.Sprintf(`"n":%d`, n)), n%2 == 0)
			return err
		})
		group.Go(func() error {
			_, err := w.store.Allocate(t.Context(), item(fmt.Sprint("own", n)), false)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	got := w.entries()
	if len(got) != 11 {
		t.Errorf("%d entries, want 11", len(got))
	}
	if e := got["shared"]; !e.FromSource || !e.Allocated || !e.OwnData {
		t.Errorf("shared is %s", e.Encode())
	}
}

func TestOfManyDeallocationsAtOnceOneFindsIt(t *testing.T) {
	w := newWorld(t)
	w.allocate(item("a"), false)
	var found, missed atomic.Int64
	var group errgroup.Group
	for range 20 {
		group.Go(func() error {
			switch _, err := w.store.Deallocate(t.Context(), "a"); {
			case err == nil:
				found.Add(1)
			case errors.Is(err, catalogue.ErrNotFound):
				missed.Add(1)
			default:
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if found.Load() != 1 || missed.Load() != 19 {
		t.Errorf("%d found it and %d did not", found.Load(), missed.Load())
	}
}

func TestAnAppThatWasDeletedTakesNoResources(t *testing.T) {
	w := newWorld(t)
	w.allocate(item("a"), false)
	for _, deleted := range []bool{true, false} {
		if deleted {
			if _, err := client.Delete(t.Context(), w.store.Layout.Config()); err != nil {
				t.Fatal(err)
			}
		} else {
			w.put(w.store.Layout.Config(), `{"schema":1,"shards":16}`) // created again
		}
		_, allocated := w.store.Allocate(t.Context(), item("b"), false)
		_, deallocated := w.store.Deallocate(t.Context(), "a")
		for _, err := range []error{allocated, deallocated} {
			if !errors.Is(err, catalogue.ErrAppGone) {
				t.Errorf("got %v, want ErrAppGone", err)
			}
		}
	}
	w.want(map[string]catalogue.Entry{"a": {Allocated: true, Data: item("a").Data}})
}

func TestAResourceThatDoesNotFitIntoARequestIsErrTooLarge(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{1_600_000, 2_200_000} { // over the server's limit, and over the client's
		_, err := w.store.Allocate(t.Context(), item("a", `"x":"`+strings.Repeat("x", size)+`"`), true)
		if !errors.Is(err, catalogue.ErrTooLarge) {
			t.Errorf("%d bytes: %v, want ErrTooLarge", size, err)
		} else if len(err.Error()) > 500 {
			t.Errorf("the error is %d bytes long", len(err.Error()))
		}
	}
	w.want(nil)
	w.allocate(item("a", `"x":"`+strings.Repeat("x", 1_400_000)+`"`), true)
}

func TestEveryRequestIsBounded(t *testing.T) {
	store := newStore(t)
	store.Etcd, store.Timeout = hang{}, 20*time.Millisecond // an etcd that never answers
	_, allocated := store.Allocate(t.Context(), item("a"), false)
	_, deallocated := store.Deallocate(t.Context(), "a")
	_, applied := store.NewSync("guard", 1, catalogue.Rules{}).
		Apply(t.Context(), catalogue.Answer{Items: items(0, 1)}, 1)
	for _, err := range []error{allocated, deallocated, applied} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
	}
}
