package scenario_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func maxTxnOps(n uint) func(*embedded.Config) { return func(c *embedded.Config) { c.MaxTxnOps = n } }

// limitedWorld makes a world on an etcd that accepts less than usual in a request.
func limitedWorld(t *testing.T, limit func(*embedded.Config)) *world {
	t.Helper()
	return worldAt(t, embeddedtest.ServerOf(t, limit).Endpoint())
}

// wide makes resources of some size.
func wide(version string, ids ...string) []drm.Resource {
	all := make([]drm.Resource, len(ids))
	for i, id := range ids {
		all[i] = drm.Resource{
			ID: id, Data: json.RawMessage(fmt.Sprintf(`{"id":%q,"version":%q,"pad":%q}`, id, version,
				strings.Repeat("x", 200))),
		}
	}
	return all
}

func TestAGroupWorksOnAnEtcdThatTakesLittleInARequest(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*embedded.Config){
		"3 operations": maxTxnOps(3), "8 operations": maxTxnOps(8), "64 operations": maxTxnOps(64),
		"16 KiB": func(c *embedded.Config) { c.MaxRequestBytes = 16 << 10 },
	} {
		for _, shards := range []int{1, 64} {
			t.Run(fmt.Sprintf("%s, %d shards", name, shards), func(t *testing.T) {
				const n = 500
				w, r := limitedWorld(t, limit), newRecorder(t)
				src := newSource()
				src.set(wide("first", ids(n)...), nil)
				config := func(id string) drm.Config {
					cfg := w.config(id, r)
					cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
					cfg.Shards, cfg.Weight = shards, 4
					return cfg
				}
				a := w.start(config("a"))
				r.until("the source's are handled", allHeld(r, n))
				c := w.client()
				healthy := func() {
					t.Helper()
					s, err := c.Status(t.Context())
					if err != nil || s.Source.Error != "" || s.Source.TooLarge != 0 {
						t.Errorf("source: %+v, %v", s.Source, err)
					}
				}
				healthy()

				w.start(config("b"))
				r.until("two share them", func() bool {
					return allHeld(r, n)() && (shards == 1 || len(heldBy(r, "b")) > 0)
				})
				if err := a.Allocate(t.Context(), drm.Resource{ID: "more"}); err != nil {
					t.Error(err)
				}
				for _, id := range ids(200) {
					if err := c.Deallocate(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
				r.until("what was deallocated is not handled, and what was allocated is", allHeld(r, n+1-200))
				src.set(append(wide("first", ids(n)[150:300]...), wide("second", ids(n)[300:]...)...), nil)
				r.until("what changed is handled", func() bool {
					changed := map[string]bool{}
					for _, call := range r.all() {
						if call.Action == "handle" && strings.Contains(call.Data, "second") {
							changed[call.Resource] = true
						}
					}
					return len(changed) == 200 && allHeld(r, n+1-200)()
				})
				if err := c.Drain(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				r.until("b has all", func() bool { return len(heldBy(r, "b")) == n+1-200 })
				if found, err := c.Lookup(t.Context(), "more"); err != nil || found.Member != "b" {
					t.Errorf("Lookup: %+v, %v", found, err)
				}
				healthy()
			})
		}
	}
}

// Even where etcd does not accept the source's items, the record must be written, or status could not tell of it.
func TestTheRecordOfAFetchIsCutShortWhereEtcdTakesLittle(t *testing.T) {
	t.Parallel()
	w, r := limitedWorld(t, func(c *embedded.Config) { c.MaxRequestBytes = 8 << 10 }), newRecorder(t)
	const large = 100
	all := wide("", "small")
	for i := range large {
		id := fmt.Sprintf("%03d%s", i, strings.Repeat("i", 200)) // the record names them
		all = append(all, drm.Resource{
			ID: id, Data: json.RawMessage(fmt.Sprintf(`{"id":%q,"pad":%q}`, id, strings.Repeat("x", 9<<10))),
		})
	}
	src := newSource()
	src.set(all, nil)
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, 100*time.Millisecond
	w.start(cfg)
	r.until("what fits is handled", allHeld(r, 1))
	if s, err := w.client().Status(t.Context()); err != nil || s.Source.TooLarge != large || s.Source.Error != "" ||
		s.Source.LastSuccess.IsZero() {
		t.Errorf("source: %+v, %v", s.Source, err)
	}
}

// Two operations are enough for everything but the catalogue of a source, whose writes compare three keys.
func TestTwoOperationsInATransactionAreEnoughWithoutASource(t *testing.T) {
	t.Parallel()
	w, r := limitedWorld(t, maxTxnOps(2)), newRecorder(t)
	cfg := w.config("a", r)
	cfg.Weight = 8
	a := w.start(cfg)
	const n = 100
	for _, id := range ids(n) {
		if err := a.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	r.until("all are handled", allHeld(r, n))
	w.start(w.config("b", r))
	r.until("two share them", func() bool { return allHeld(r, n)() && len(heldBy(r, "b")) > 0 })
	if _, err := a.Wait(t.Context(), "r0"); err != nil {
		t.Error(err)
	}
	if err := a.Deallocate(t.Context(), "r0"); err != nil {
		t.Error(err)
	}
	r.until("the rest is handled", allHeld(r, n-1))
	w.stop(a)
	r.until("b has all", func() bool { return len(heldBy(r, "b")) == n-1 })

	r.until("b coordinates", func() bool {
		s, err := w.client().Status(t.Context())
		return err == nil && s.Coordinator == "b"
	})
	const low = "--max-txn-ops is too low: this needs 3"
	// c is the first member with a source. It waits for a fetch, although another member coordinates.
	cfg = w.config("c", r)
	cfg.AllocateOnly, cfg.Retriever = false, newSource("x")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := w.tryStart(ctx, cfg); err == nil || !strings.Contains(err.Error(), low) {
		t.Errorf("Start with a source: %v", err)
	}
	if s, err := w.client().Status(t.Context()); err != nil || !strings.Contains(s.Source.Error, low) {
		t.Errorf("status: %+v, %v", s.Source, err)
	}
	r.until("b has all again", func() bool { return len(heldBy(r, "b")) == n-1 })
	cfg.App = "other"
	if _, err := w.tryStart(ctx, cfg); err == nil || !strings.Contains(err.Error(), low) {
		t.Errorf("Start with a source, alone: %v", err)
	}
}

func TestAnEtcdThatTakesOneOperationInATransactionIsRefused(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, maxTxnOps(1))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := w.tryStart(ctx, w.config("a", newRecorder(t))); err == nil ||
		!strings.Contains(err.Error(), "--max-txn-ops is too low: this needs 2") {
		t.Errorf("Start: %v", err)
	}
}
