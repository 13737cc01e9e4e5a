package picture

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/shard"
)

func entryValue(id string, suspended bool, pad int) string {
	return fmt.Sprintf(`{"from_source":%t,"allocated":false,"own_data":false,"suspended":%t,"data":{"id":%q,"x":"%s"}}`,
		pad%2 == 0, suspended, id, strings.Repeat("x", pad))
}

// mixed makes an app with ids of all kinds, in all states.
func mixed(t *testing.T, client *clientv3.Client, shards, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(3, uint64(shards)))
	lease, err := client.Grant(t.Context(), 6000)
	if err != nil {
		t.Fatal(err)
	}
	on := clientv3.WithLease(lease.ID)
	ops := []clientv3.Op{
		clientv3.OpPut(layout.Member("a"), `{"state":"active","weight":1,"slots":[0]}`, on),
		clientv3.OpPut(layout.Member("b"), `{"state":"active","weight":1,"slots":[1]}`, on),
		clientv3.OpPut(layout.Slot(0), "a"), clientv3.OpPut(layout.Slot(1), "b"),
		clientv3.OpPut(layout.Shards()+"zz", "?"),
	}
	kinds := []string{"feeds/%d/x", "item %d", "é%d", "%d", "a.%d-%d", "日本%d/語", "Z~%d", "{%d}", ".%d"}
	ids := map[string]bool{".": true, "..": true}
	for len(ids) < n {
		ids[fmt.Sprintf(kinds[random.IntN(len(kinds))], random.IntN(10*n))] = true
	}
	for id := range ids {
		id = strings.ReplaceAll(id, "%!d(MISSING)", "")
		s := shard.Of(id, shards)
		kind := random.IntN(20)
		if kind != 0 {
			value := entryValue(id, kind == 1 || kind == 2, random.IntN(300))
			if kind == 3 {
				value = "?"
			}
			ops = append(ops, clientv3.OpPut(layout.Resource(s, id), value))
		}
		if kind >= 2 && kind < 16 {
			member := []string{"a", "b", "gone"}[random.IntN(3)]
			state := []string{claims.Claimed, claims.Active, claims.Failed}[random.IntN(3)]
			value := fmt.Sprintf(`{"member":%q,"state":%q,"since":"2026-01-02T03:04:05Z","error":""}`, member, state)
			if kind == 4 {
				value = "?"
			}
			ops = append(ops, clientv3.OpPut(layout.Claim(s, id), value, on))
		}
		if kind == 5 { // where it does not belong
			ops = append(ops, clientv3.OpPut(layout.Resource((s+1)%max(2, shards), id), entryValue(id, false, 1)))
		}
	}
	put(t, client, ops...)
	resp, err := client.Get(t.Context(), layout.Root())
	if err != nil {
		t.Fatal(err)
	}
	for n := range shards / 2 {
		put(t, client, clientv3.OpPut(layout.Summary(n, int64(lease.ID)),
			string(claims.Summary{Member: "a", Through: resp.Header.Revision}.Encode()), on))
	}
}

func collect[T any](t *testing.T, all iter.Seq2[T, error]) []T {
	t.Helper()
	found := []T{}
	for one, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, one)
	}
	return found
}

func TestAListHasWhatAPictureHasInTheOrderOfIDs(t *testing.T) {
	for _, tt := range []struct {
		shards, resources int
		ops               uint
	}{{1, 700, 0}, {16, 3000, 0}, {16, 200, fewOps}, {100, 2000, 0}, {64, 0, 0}} {
		t.Run(fmt.Sprintf("%d shards, %d resources", tt.shards, tt.resources), func(t *testing.T) {
			client := embeddedtest.Client(t,
				embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = tt.ops }).Endpoint())
			if tt.resources > 0 {
				mixed(t, client, tt.shards, tt.resources)
			}
			r := readerOf(client, tt.shards)
			p, err := r.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range []Filter{
				{},
				{Member: "a"},
				{Unassigned: true},
				{Failed: true},
				{Misplaced: true},
				{States: []string{claims.Claimed, StateUnassigned}},
				{Shards: []int{0}},
				{Shards: []int{tt.shards}},
				{Prefix: "feeds/1"},
				{Prefix: "."},
				{Prefix: "é", Unassigned: true},
				{Prefix: "日"},
				{Prefix: "nothing"},
			} {
				got, want := collect(t, r.EachAssignment(t.Context(), f)), p.Assignments(f)
				if !slices.Equal(got, want) {
					t.Errorf("%+v: got %d, want %d", f, len(got), len(want))
				}
			}
			same := func(a, b Resource) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
			for _, f := range []ResourceFilter{
				{}, {Suspended: true}, {FromSource: true, Prefix: "Z"}, {Allocated: true}, {Shards: []int{0}},
			} {
				want := slices.DeleteFunc(p.Resources(), func(one Resource) bool { return !f.takes(&one) })
				if got := collect(t, r.EachResource(t.Context(), f)); !slices.EqualFunc(got, want, same) {
					t.Errorf("%+v: got %d, want %d", f, len(got), len(want))
				}
			}
		})
	}
}

func TestStatusAndViolationsAreThoseOfThePicture(t *testing.T) {
	for _, tt := range []struct{ shards, resources int }{{1, 5000}, {16, 3000}, {64, 0}} {
		t.Run(fmt.Sprintf("%d shards, %d resources", tt.shards, tt.resources), func(t *testing.T) {
			client := embeddedtest.Client(t)
			if tt.resources > 0 {
				mixed(t, client, tt.shards, tt.resources)
			}
			r := readerOf(client, tt.shards)
			p, err := r.ReadAll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Status(t.Context()); err != nil || !reflect.DeepEqual(got, p.Status()) {
				t.Errorf("got %+v, %v, want %+v", got, err, p.Status())
			}
			ages := map[int64]leaseAge{}
			for _, c := range p.claims {
				ages[c.lease] = leaseAge{time.Hour, time.Hour}
			}
			for _, m := range p.view.Members {
				ages[m.Lease] = leaseAge{time.Hour, time.Hour}
			}
			now := time.Now()
			want := p.verify(ages, now)
			if got, err := r.Verify(t.Context(), now); err != nil || !slices.Equal(got, want) {
				t.Errorf("got %d violations, %v, want %d", len(got), err, len(want))
			}
			if tt.resources > 0 && (len(p.corrupt) == 0 || len(p.strays) == 0 || len(want) < 100) {
				t.Errorf("%d corrupt, %d strays, %d violations: the test shows little",
					len(p.corrupt), len(p.strays), len(want))
			}
		})
	}
}

// large makes an app of so many active resources, or of resources that nobody has, with the ids of a source.
func large(t *testing.T, client *clientv3.Client, shards, n int, claimed bool) {
	t.Helper()
	lease, err := client.Grant(t.Context(), 6000)
	if err != nil {
		t.Fatal(err)
	}
	on := clientv3.WithLease(lease.ID)
	put(t, client,
		clientv3.OpPut(layout.Member("a"), `{"state":"active","weight":1,"slots":[0]}`, on),
		clientv3.OpPut(layout.Slot(0), "a"))
	const writers = 8
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			var ops []clientv3.Op
			for i := w; i < n; i += writers {
				id := fmt.Sprintf("feed-%07d", i)
				s := shard.Of(id, shards)
				ops = append(ops, clientv3.OpPut(layout.Resource(s, id), entryValue(id, false, 60)))
				if claimed {
					ops = append(ops, clientv3.OpPut(layout.Claim(s, id),
						`{"member":"a","state":"active","since":"2026-01-02T03:04:05Z","error":""}`, on))
				}
			}
			for n := 0; n < len(ops); n += 120 {
				if _, err := client.Txn(t.Context()).Then(ops[n:min(n+120, len(ops))]...).Commit(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// heapPeak calls do, and returns how far the heap grew meanwhile, garbage included.
func heapPeak(do func(look func())) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, peak := m.HeapAlloc, uint64(0)
	do(func() {
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	})
	return peak - min(peak, base)
}

// TestAListOfManyNeedsLittleMemory lists 30,000 resources, or as many as DRM_LIST says, in as many shards as
// DRM_LIST_SHARDS says.
func TestAListOfManyNeedsLittleMemory(t *testing.T) {
	n, shards, most := 30_000, 128, uint64(32<<20)
	if asked, err := strconv.Atoi(os.Getenv("DRM_LIST")); err == nil {
		n, shards, most = asked, 1024, 64<<20
	}
	if asked, err := strconv.Atoi(os.Getenv("DRM_LIST_SHARDS")); err == nil {
		shards = asked
	}
	for _, claimed := range []bool{true, false} {
		t.Run(fmt.Sprintf("claimed %t", claimed), func(t *testing.T) {
			client := apart(t)
			began := time.Now()
			large(t, client, shards, n, claimed)
			t.Logf("put in %v", time.Since(began).Round(time.Millisecond))
			r := readerOf(client, shards)
			list := func(name string, run func(row func())) {
				rows, first := 0, time.Duration(0)
				began := time.Now()
				peak := heapPeak(func(look func()) {
					run(func() {
						if rows++; rows == 1 {
							first = time.Since(began)
						}
						if rows%997 == 0 {
							look()
						}
					})
				})
				t.Logf("%s: %d rows in %v, the first after %v, heap %d KiB", name, rows,
					time.Since(began).Round(time.Millisecond), first.Round(time.Millisecond), peak>>10)
				if rows != n || peak > most {
					t.Errorf("%s: %d rows and %d KiB of heap, want %d rows and at most %d MiB",
						name, rows, peak>>10, n, most>>20)
				}
			}
			list("all keys", func(row func()) {
				for s := range shards {
					for _, prefix := range []string{layout.Claims(s), layout.Resources(s)} {
						end := clientv3.GetPrefixRangeEnd(prefix)
						err := r.between(t.Context(), prefix, end, 0, func(*mvccpb.KeyValue) {
							if prefix == layout.Resources(s) {
								row()
							}
						})
						if err != nil {
							t.Fatal(err)
						}
					}
				}
			})
			peak := heapPeak(func(look func()) {
				began := time.Now()
				p, err := r.readAll(t.Context(), func(p *Picture, id string) error {
					e := p.entries[id]
					if p.count(&p.counted, id, e); p.counted.Resources%997 == 0 {
						look()
					}
					return nil
				})
				if err != nil || p.Status().Resources != n {
					t.Errorf("the status is %+v, %v", p, err)
				}
				t.Logf("status: %v", time.Since(began).Round(time.Millisecond))
			})
			if t.Logf("status: heap %d KiB", peak>>10); peak > most {
				t.Errorf("status: %d KiB of heap, want at most %d MiB", peak>>10, most>>20)
			}
			list("assignments", func(row func()) {
				for _, err := range r.EachAssignment(t.Context(), Filter{}) {
					if row(); err != nil {
						t.Fatal(err)
					}
				}
			})
			list("resources", func(row func()) {
				for _, err := range r.EachResource(t.Context(), ResourceFilter{}) {
					if row(); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}
