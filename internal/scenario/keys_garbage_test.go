package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// These tests put by hand what DRM would never put: values that cannot be read, and keys that do not belong to it.

var appLayout = keys.New(drm.DefaultPrefix, "app")

func resourceKey(id string) string { return appLayout.Resource(shard.Of(id, 64), id) }
func claimOf(id string) string     { return appLayout.Claim(shard.Of(id, 64), id) }

// put puts a key by hand.
func (w *world) put(key, value string, opts ...clientv3.OpOption) {
	w.tb.Helper()
	if _, err := w.etcd.Put(context.Background(), key, value, opts...); err != nil {
		w.tb.Fatal(err)
	}
}

// get reads a key by hand. It returns "" where there is none.
func (w *world) get(key string) (value string, lease int64) {
	w.tb.Helper()
	resp, err := w.etcd.Get(context.Background(), key)
	if err != nil {
		w.tb.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", 0
	}
	return string(resp.Kvs[0].Value), resp.Kvs[0].Lease
}

// handled allocates a resource and waits until it is handled.
func (w *world) handled(id string) {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := w.client()
	if err := c.Allocate(ctx, drm.Resource{ID: id}); err != nil {
		w.tb.Fatal(err)
	}
	if _, err := c.Wait(ctx, id); err != nil {
		w.tb.Fatal(err)
	}
}

// allocatedEntry is the value of a catalogue entry of a resource that was allocated with data of its own.
func allocatedEntry(id string) string {
	return fmt.Sprintf(
		`{"from_source":false,"allocated":true,"own_data":true,"suspended":false,"data":{"id":%q}}`, id)
}

// activeClaim is the value of a claim that says that the member handles the resource.
func activeClaim(member string) string {
	return fmt.Sprintf(`{"member":%q,"state":"active","since":"2026-01-01T00:00:00Z","error":""}`, member)
}

func TestForeignAndCorruptKeysAreIgnoredAndLeftAlone(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("s1", "s2")
	ms := w.members(r, src, "a", "b")
	w.handled("before")
	foreign := map[string]string{
		appLayout.Shard(3) + "what":                              "?",
		appLayout.Shard(3) + "claims/a/b":                        "?",
		resourceKey("corrupt"):                                   "{",
		resourceKey("another"):                                   allocatedEntry("before"),
		appLayout.Resource(63-shard.Of("stray", 64), "stray"):    allocatedEntry("stray"),
		appLayout.Claim(63-shard.Of("before", 64), "before"):     activeClaim("b"),
		claimOf("nobody's"):                                      "\xff",
		appLayout.Group() + "what":                               "?",
		appLayout.Member("broken"):                               "not JSON",
		appLayout.Member("many"):                                 `{"state":"active","weight":1,"slots":[100000]}`,
		appLayout.Slot(7):                                        "\n",
		appLayout.Pin(5):                                         "\xff",
		appLayout.Pin(4000):                                      "a",
		appLayout.Exception(6):                                   `{"member":""}`,
		appLayout.Weight("a"):                                    `{"weight":"7"}`,
		appLayout.Placement():                                    `{"1":2}`,
		appLayout.Stats("nobody"):                                "[]",
		appLayout.Deallocations() + "a/b":                        "?",
		appLayout.AcceptOrder():                                  "?",
		appLayout.Orders() + "what":                              "?",
		appLayout.Root() + "what":                                "?",
		appLayout.Root() + "config/more":                         "?",
		appLayout.Shards() + "ffff/resources/x":                  "?",
		appLayout.Root()[:len(appLayout.Root())-1] + "-2/config": "?", // below the prefix, but in another app
	}
	for key, value := range foreign {
		w.put(key, value)
	}
	w.handled("after")
	src.set(resources("s1", "s2", "s3"), nil)
	r.until("all that can be handled is", allHeld(r, 5))
	found, err := w.client().VerifySettled(t.Context(), 0)
	if err != nil || len(found) < len(foreign)-3 {
		t.Errorf("%d violations, %v: %+v", len(found), err, found)
	}
	// It is handled a second time where the slot that nobody can read makes the ring longer.
	if n := r.count("handle", "before"); n > 2 {
		t.Errorf("what was handled already was handled %d times", n)
	}
	for _, m := range ms {
		w.stop(m)
	}
	for _, c := range r.all() {
		switch c.Resource {
		case "before", "after", "s1", "s2", "s3":
		default:
			t.Errorf("%+v", c)
		}
	}
	for key, value := range foreign {
		if got, _ := w.get(key); got != value {
			t.Errorf("%s was touched: %q", key, got)
		}
	}
}

func TestAClaimThatIsNotUnderstoodIsSomebodyElses(t *testing.T) {
	t.Parallel()
	for name, leased := range map[string]bool{"bound to a lease": true, "without a lease": false} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			w.members(r, nil, "a")
			w.handled("x")
			var opts []clientv3.OpOption
			if leased {
				lease, err := w.etcd.Grant(t.Context(), 600)
				if err != nil {
					t.Fatal(err)
				}
				opts = append(opts, clientv3.WithLease(lease.ID))
			}
			w.put(claimOf("y"), "garbage", opts...)
			if err := w.client().Allocate(t.Context(), drm.Resource{ID: "y"}); err != nil {
				t.Fatal(err)
			}
			w.handled("z") // z comes after y, so the member has decided about y
			if n := r.count("handle", "y"); n != 0 {
				t.Errorf("handled %d times under another's claim", n)
			}
			if got, _ := w.get(claimOf("y")); got != "garbage" {
				t.Errorf("it was touched: %q", got)
			}
			if _, err := w.etcd.Delete(t.Context(), claimOf("y")); err != nil {
				t.Fatal(err)
			}
			w.handled("y")
		})
	}
}

func TestGarbageOverAClaimOfOursIsPutRight(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	m := w.members(r, nil, "a")["a"]
	w.handled("x")
	_, lease := w.get(claimOf("x"))
	w.put(claimOf("x"), "garbage")
	r.until("the claim is back under its lease", func() bool {
		value, now := w.get(claimOf("x"))
		return value != "garbage" && now == lease
	})
	w.stop(m)
	if h, e := r.count("handle", "x"), r.count("terminate", "x"); h != 1 || e != 1 {
		t.Errorf("handled %d times, terminated %d times, want once each", h, e)
	}
	if value, _ := w.get(claimOf("x")); value != "" {
		t.Errorf("the member has stopped, and its claim is still there: %q", value)
	}
}

func TestGarbageOverTheEntryOfWhatIsHandledChangesNothing(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ms := w.members(r, nil, "a")
	w.handled("x")
	w.put(resourceKey("x"), "garbage")
	w.handled("y")
	if len(r.holders()) != 2 {
		t.Errorf("held: %v", r.holders())
	}
	found, err := w.client().Verify(t.Context())
	if err != nil || len(found) != 1 || found[0].Kind != drm.ViolationCorrupt || found[0].Resource != "x" {
		t.Errorf("%+v, %v", found, err)
	}
	// A member that starts anew has never understood the entry, so it does not begin with the resource.
	w.stop(ms["a"])
	w.members(r, nil, "a")
	w.handled("z")
	if n := r.count("handle", "x"); n != 1 {
		t.Errorf("handled %d times", n)
	}
	if got, _ := w.get(resourceKey("x")); got != "garbage" {
		t.Errorf("it was touched: %q", got)
	}
	// The id is enough to repair the entry: Allocate overwrites it, and Deallocate removes it.
	w.handled("x")
	w.put(resourceKey("x"), "garbage")
	if err := w.client().Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.until("it is terminated", func() bool { return len(r.holders()) == 2 })
}

func TestGarbageOverAMembersOwnKeysIsPutRight(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"member": appLayout.Member("a"), "slot": appLayout.Slot(0), "coordinator": appLayout.Coordinator(),
		"stats": appLayout.Stats("a"), "source": appLayout.Source(),
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			src := newSource("s1")
			m := w.members(r, src, "a")["a"]
			r.until("it is handled", allHeld(r, 1))
			w.put(key, "\xff")
			src.set(resources("s1", "s2"), nil) // only a coordinator takes this over
			r.until("everything is handled", func() bool { return len(r.holders()) == 2 && settled(t, w) })
			if name != "stats" { // figures are written when they change, and every 10 s at most
				r.until("nothing is wrong any more", func() bool {
					found, err := w.client().Verify(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return len(found) == 0
				})
			}
			w.stop(m)
			if name == "source" || name == "slot" || name == "stats" {
				return // the key has no lease, or nobody uses its value
			}
			if value, _ := w.get(key); value != "" {
				t.Errorf("the member has stopped, and left %q", value)
			}
		})
	}
}

func TestGarbageOverTheConfigStopsNobodyAndLetsNobodyIn(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"garbage", `{"schema":1,"shards":32}`} {
		t.Run(value, func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			m := w.members(r, nil, "a")["a"]
			w.put(appLayout.Config(), value)
			if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Wait(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			cfg := w.config("b", r)
			cfg.Shards = 0
			if _, err := w.tryStart(t.Context(), cfg); err == nil {
				t.Error("a member started on it")
			}
			_, err := w.client().Status(t.Context())
			if err == nil || value != "garbage" && !errors.Is(err, appconfig.ErrRewritten) {
				t.Errorf("a client: %v", err)
			}
			if got, _ := w.get(appLayout.Config()); got != value {
				t.Errorf("it was touched: %q", got)
			}
		})
	}
}

func TestAMemberThatStartsWhereAllIsGarbageHandlesWhatIsNot(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.put(appLayout.Config(), `{"schema":1,"shards":64}`)
	for i := range 10 {
		w.put(appLayout.Slot(i), fmt.Sprintf("\x00%d", i))
		w.put(appLayout.Pin(i), "\x00")
		w.put(appLayout.Member(fmt.Sprint(i)), "{")
		w.put(resourceKey(fmt.Sprint(i)), "{")
	}
	w.put(appLayout.Slot(keys.MaxSlots), "far away")
	w.put(appLayout.Placement(), "{")
	w.put(appLayout.Source(), "{")
	src := newSource("s1", "3")
	w.members(r, src, "a")
	r.until("the source's are handled, and what it has anew", allHeld(r, 2))
}
