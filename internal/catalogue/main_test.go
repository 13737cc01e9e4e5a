package catalogue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// All tests share one etcd; each has an app of its own.
var (
	client *clientv3.Client
	apps   atomic.Int64
)

func TestMain(m *testing.M) {
	os.Exit(embeddedtest.Run(m, func(c *clientv3.Client) { client = c }))
}

// world is one app with a coordinator.
type world struct {
	*testing.T
	store *catalogue.Store
	term  int64
	sync  *catalogue.Sync
	rules catalogue.Rules
	now   time.Duration // the time on the rules' clock
}

// delay is the Delay of the world's rules.
const delay = time.Minute

// newWorld makes an app whose source has been asked before, and elects its coordinator.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, 16)
}

// newWorldOf is newWorld with a number of shards.
func newWorldOf(t *testing.T, shards int) *world {
	t.Helper()
	w := &world{T: t, store: newStoreOf(t, shards), now: time.Hour}
	w.rules = catalogue.Rules{Share: 0.5, MoreThan: 10, Delay: delay, Now: func() time.Duration { return w.now }}
	w.put(w.store.Layout.Source(), "{}")
	w.elect()
	return w
}

func newStore(t *testing.T) *catalogue.Store {
	t.Helper()
	return newStoreOf(t, 16)
}

func newStoreOf(t *testing.T, shards int) *catalogue.Store {
	t.Helper()
	layout := keys.New("/drm", fmt.Sprintf("%s %d", t.Name(), apps.Add(1)))
	config, err := appconfig.Open(t.Context(), client, layout, shards, shards)
	if err != nil {
		t.Fatal(err)
	}
	return &catalogue.Store{
		Etcd:    txn.New(client),
		Layout:  layout,
		Shards:  config.Shards,
		Config:  config.CreateRevision,
		Timeout: time.Minute,
		Limits:  new(txn.Limits),
	}
}

// elect begins a new term with an empty memory.
func (w *world) elect() {
	w.Helper()
	if _, err := client.Delete(w.Context(), w.store.Layout.Coordinator()); err != nil {
		w.Fatal(err)
	}
	w.term = w.put(w.store.Layout.Coordinator(), "m")
	w.sync = w.store.NewSync(w.store.Layout.Coordinator(), w.term, w.rules)
	w.load()
}

func (w *world) load() {
	w.Helper()
	if err := w.sync.Load(w.Context(), lister{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(key, value string) int64 {
	w.Helper()
	resp, err := client.Put(w.Context(), key, value)
	if err != nil {
		w.Fatal(err)
	}
	return resp.Header.Revision
}

// key is the key of an entry.
func (w *world) key(id string) string { return keyOf(w.store, id) }

// edit writes an entry as somebody might do by hand.
func (w *world) edit(id string, e catalogue.Entry) {
	w.Helper()
	w.put(w.key(id), string(e.Encode()))
}

func (w *world) revision() int64 {
	w.Helper()
	resp, err := client.Get(w.Context(), w.store.Layout.Config())
	if err != nil {
		w.Fatal(err)
	}
	return resp.Header.Revision
}

// apply gives the Sync an answer to a fetch that begins now.
func (w *world) apply(items ...catalogue.Item) catalogue.Outcome {
	w.Helper()
	return w.applyAt(w.revision(), items...)
}

func (w *world) applyAt(began int64, items ...catalogue.Item) catalogue.Outcome {
	w.Helper()
	w.sync.Ask()
	w.now++
	out, err := w.sync.Apply(w.Context(), catalogue.Answer{Items: items}, began)
	if err != nil {
		w.Fatalf("Apply: %v", err)
	}
	return out
}

// applyLater is apply after a time that is long enough to confirm what is held.
func (w *world) applyLater(items ...catalogue.Item) catalogue.Outcome {
	w.Helper()
	w.now += delay
	return w.apply(items...)
}

func (w *world) allocate(item catalogue.Item, ownData bool) {
	w.Helper()
	if _, err := w.store.Allocate(w.Context(), item, ownData); err != nil {
		w.Fatal(err)
	}
}

func (w *world) deallocate(id string) {
	w.Helper()
	if _, err := w.store.Deallocate(w.Context(), id); err != nil {
		w.Fatal(err)
	}
}

// entries is the catalogue as etcd has it; a corrupt entry appears as a zero Entry.
func (w *world) entries() map[string]catalogue.Entry {
	w.Helper()
	all := map[string]catalogue.Entry{}
	kvs, _, err := lister{}.List(w.Context(), w.store.Layout.Shards())
	if err != nil {
		w.Fatal(err)
	}
	for _, kv := range kvs {
		id := w.store.Layout.Parse(string(kv.Key)).ID
		all[id], _ = catalogue.Decode(kv.Value)
	}
	return all
}

// want checks the whole catalogue.
func (w *world) want(want map[string]catalogue.Entry) {
	w.Helper()
	got := w.entries()
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if _, expected := want[id]; !expected {
			w.Errorf("%q is in the catalogue: %s", id, got[id].Encode())
		}
	}
	for id, e := range want {
		if g, has := got[id]; !has {
			w.Errorf("%q is not in the catalogue", id)
		} else if !bytes.Equal(g.Encode(), e.Encode()) {
			w.Errorf("%q is %s, want %s", id, g.Encode(), e.Encode())
		}
	}
}

// marks lists the ids that have a mark.
func (w *world) marks() []string {
	w.Helper()
	kvs, _, err := lister{}.List(w.Context(), w.store.Layout.Deallocations())
	if err != nil {
		w.Fatal(err)
	}
	ids := []string{}
	for _, kv := range kvs {
		ids = append(ids, w.store.Layout.Parse(string(kv.Key)).ID)
	}
	return ids
}

func (w *world) wantMarks(ids ...string) {
	w.Helper()
	if got := w.marks(); !slices.Equal(got, append([]string{}, ids...)) {
		w.Errorf("marks of %q, want %q", got, ids)
	}
}

// quiet checks that f writes nothing.
func (w *world) quiet(f func()) {
	w.Helper()
	before := w.revision()
	f()
	if after := w.revision(); after != before {
		w.Errorf("etcd's revision went from %d to %d", before, after)
	}
}

// lister is as simple as possible; package follow has the real one.
type lister struct{}

func (lister) List(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, int64, error) {
	resp, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, err
	}
	return resp.Kvs, resp.Header.Revision, nil
}

// item makes an item from an id, and from fields such as `"n":1`.
func item(id string, fields ...string) catalogue.Item {
	data := fmt.Sprintf(`{"id":%q`, id)
	for _, f := range fields {
		data += "," + f
	}
	return catalogue.Item{ID: id, Data: json.RawMessage(data + "}")}
}

// items makes many items, with ids from one number to another.
func items(from, to int) []catalogue.Item {
	all := make([]catalogue.Item, 0, to-from)
	for n := from; n < to; n++ {
		all = append(all, item(fmt.Sprintf("r%04d", n)))
	}
	return all
}

// These entries are as Apply makes them.
func sourced(i catalogue.Item) catalogue.Entry {
	return catalogue.Entry{FromSource: true, Data: i.Data}
}

func wanted(items []catalogue.Item) map[string]catalogue.Entry {
	all := map[string]catalogue.Entry{}
	for _, i := range items {
		all[i.ID] = sourced(i)
	}
	return all
}
