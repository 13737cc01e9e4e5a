package picture

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// steps takes the steps of a watch one by one. The watch has ended when the test ends.
func steps[T any](t *testing.T, watch iter.Seq2[Change[T], error]) func(kind ChangeKind) T {
	t.Helper()
	next, stop := iter.Pull2(watch)
	t.Cleanup(stop)
	return func(kind ChangeKind) T {
		t.Helper()
		got, err, _ := next()
		if err != nil || got.Kind != kind {
			t.Fatalf("got %s %v, %+v; want %s", got.Kind, err, got.Item, kind)
		}
		return got.Item
	}
}

func noLoss(t *testing.T) func(error) {
	return func(err error) { t.Logf("lost: %v", err) }
}

func TestAWatchOfAMemberTellsWhatChanges(t *testing.T) {
	client := embeddedtest.Client(t)
	r := readerOf(client, 4)
	config := fmt.Sprintf(`{"shards":%d}`, r.Shards)
	put(t, client, clientv3.OpPut(layout.Config(), config), memberPut("a"), memberPut("b"))
	for _, err := range r.WatchMember(t.Context(), "nobody", noLoss(t)) {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("of a member that is not there: %v", err)
		}
	}
	next := steps(t, r.WatchMember(t.Context(), "a", noLoss(t)))
	next(ListBegins)
	if d := next(Listed); d.ID != "a" || !d.Live {
		t.Errorf("got %+v", d)
	}
	next(ListEnds)
	// What is of others only, and what says the same again, is no change.
	put(t, client, clientv3.OpPut(layout.Trail(1, 7), `{"member":"b","at":"2026-01-02T03:04:05Z","ids":["x"]}`))
	put(t, client, clientv3.OpPut(layout.Stats("b"), `{}`))
	put(t, client, clientv3.OpPut(layout.Pin(3), `{"member":"b"}`))
	put(t, client, clientv3.OpPut(layout.Trail(2, 8), `{"member":"a","at":"2026-01-02T03:04:05Z","ids":["y"]}`))
	if d := next(Changed); len(d.Trails) != 1 || d.Trails[0].Shard != 2 {
		t.Errorf("a trail: %+v", d.Trails)
	}
	put(t, client, clientv3.OpDelete(layout.Trail(2, 8)))
	if d := next(Changed); len(d.Trails) != 0 {
		t.Errorf("no trail: %+v", d.Trails)
	}
	put(t, client, clientv3.OpPut(layout.Drain("a"), `{"why":"disk"}`))
	if d := next(Changed); len(d.Orders) != 1 || d.Orders[0].Why != "disk" {
		t.Errorf("a drain: %+v", d.Orders)
	}
	put(t, client, clientv3.OpDelete(layout.Drain("a")), clientv3.OpDelete(layout.Member("a")))
	if d := next(Gone); d.ID != "a" {
		t.Errorf("gone: %+v", d)
	}
	put(t, client, memberPut("a"))
	if d := next(Changed); !d.Live || len(d.Orders) != 0 {
		t.Errorf("back: %+v", d)
	}
}

func TestAWatchOfAShardAndOfAResourceTellsWhatChanges(t *testing.T) {
	client := embeddedtest.Client(t)
	r := readerOf(client, 4)
	config, err := client.Put(t.Context(), layout.Config(), fmt.Sprintf(`{"shards":%d}`, r.Shards))
	if err != nil {
		t.Fatal(err)
	}
	n := shard.Of("x", r.Shards)
	put(t, client, memberPut("a"), clientv3.OpPut(layout.Resource(n, "x"), entryValue("x", false, 3)))
	one := steps(t, r.WatchResource(t.Context(), "x", config.Header.Revision, noLoss(t)))
	all := steps(t, r.WatchShard(t.Context(), n, noLoss(t)))
	one(ListBegins)
	one(Listed)
	one(ListEnds)
	all(ListBegins)
	if d := all(Listed); d.Wanted != 1 || d.States[StateUnassigned] != 1 {
		t.Errorf("got %+v", d)
	}
	all(ListEnds)
	put(t, client, clientv3.OpPut(layout.Resource(n, "xy"), entryValue("xy", false, 3))) // another shard, perhaps
	put(t, client, clientv3.OpPut(layout.Claim(n, "x"),
		`{"member":"a","state":"failed","since":"2026-01-02T03:04:05Z","error":"no"}`))
	if d := one(Changed); d.Claim == nil || d.Claim.Error != "no" {
		t.Errorf("a claim: %+v", d.Claim)
	}
	for d := all(Changed); d.States["failed"] != 1; {
		d = all(Changed)
	}
	put(t, client, clientv3.OpDelete(layout.Claim(n, "x")), clientv3.OpDelete(layout.Resource(n, "x")))
	if d := one(Gone); d.Resource != "x" {
		t.Errorf("gone: %+v", d)
	}
}

func TestAWatchOfAppsTellsWhatChanges(t *testing.T) {
	client := embeddedtest.Client(t)
	r := readerOf(client, 4)
	of := func(name string) keys.Layout { return keys.New("/apps", name) }
	word := func(name string, a App) string { return fmt.Sprint(name, " ", a.Config.Shards, " ", a.Members) }
	valid := `{"schema":1,"shards":%d}`
	put(t, client, clientv3.OpPut(of("é").Config(), fmt.Sprintf(valid, 8)),
		clientv3.OpPut(of("ruin").Resource(1, "x"), "?"))
	next := steps(t, WatchApps(t.Context(), r, "/apps", word, noLoss(t)))
	next(ListBegins)
	listed := []string{next(Listed), next(Listed)}
	slices.Sort(listed)
	if got := strings.Join(listed, ", "); got != "ruin 0 0, é 8 0" {
		t.Errorf("listed %s", got)
	}
	next(ListEnds)
	put(t, client, clientv3.OpPut(of("é").Resource(1, "x"), "?")) // is no change
	put(t, client, clientv3.OpPut(of("é").Member("m"), "{}"))
	if got := next(Changed); got != "é 8 1" {
		t.Errorf("a member: %s", got)
	}
	put(t, client, clientv3.OpDelete(of("ruin").Resource(1, "x")))
	if got := next(Gone); got != "ruin 0 0" {
		t.Errorf("gone: %s", got)
	}
	put(t, client, clientv3.OpPut(of("new").Config(), fmt.Sprintf(valid, 2)))
	if got := next(Changed); got != "new 2 0" {
		t.Errorf("new: %s", got)
	}
	put(t, client, clientv3.OpDelete(of("é").Root(), clientv3.WithPrefix()))
	if got := next(Gone); got != "é 8 1" {
		t.Errorf("deleted: %s", got)
	}
}

// What happens again and again is looked at once in a while, and the last state is told.
func TestAWatchLooksNoMoreOftenThanPeopleCanRead(t *testing.T) {
	client := embeddedtest.Client(t)
	r := readerOf(client, 4)
	put(t, client, clientv3.OpPut(layout.Config(), fmt.Sprintf(`{"shards":%d}`, r.Shards)), memberPut("a"))
	next := steps(t, r.WatchMember(t.Context(), "a", noLoss(t)))
	next(ListBegins)
	next(Listed)
	next(ListEnds)
	began, told := time.Now(), 0
	for i := range 500 {
		put(t, client, clientv3.OpPut(layout.Drain("a"), fmt.Sprintf(`{"why":"%d"}`, i)))
	}
	for last := ""; last != "499"; told++ {
		last = next(Changed).Orders[0].Why
	}
	if most := 2 + int(time.Since(began)/sightEvery); told > most {
		t.Errorf("told %d times, want %d at most", told, most)
	}
}
