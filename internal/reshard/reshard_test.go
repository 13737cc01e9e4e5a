package reshard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/reshard"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// All tests share one etcd; each has an app of its own.
var (
	client *clientv3.Client
	apps   atomic.Int64
)

func TestMain(m *testing.M) {
	os.Exit(embeddedtest.Run(m, func(c *clientv3.Client) { client = c }))
}

// app is an app without members.
type app struct {
	*testing.T
	layout keys.Layout
	shards int
	config appconfig.Config
}

func newApp(t *testing.T, shards int) *app {
	t.Helper()
	a := &app{T: t, layout: keys.New("/drm", fmt.Sprint("app ", apps.Add(1))), shards: shards}
	a.config = a.open(shards)
	return a
}

func (a *app) open(shards int) appconfig.Config {
	a.Helper()
	config, err := appconfig.Open(a.Context(), client, a.layout, shards, shards)
	if err != nil {
		a.Fatal(err)
	}
	return config
}

func (a *app) put(key, value string, opts ...clientv3.OpOption) {
	a.Helper()
	if _, err := client.Put(a.Context(), key, value, opts...); err != nil {
		a.Fatal(err)
	}
}

func (a *app) delete(key string) {
	a.Helper()
	if _, err := client.Delete(a.Context(), key); err != nil {
		a.Fatal(err)
	}
}

func (a *app) lease() clientv3.OpOption {
	a.Helper()
	lease, err := client.Grant(a.Context(), 600)
	if err != nil {
		a.Fatal(err)
	}
	return clientv3.WithLease(lease.ID)
}

func (a *app) home(id string) int { return shard.Of(id, a.shards) }

// fill puts n resources, and of some of them records of quarantine and trails.
func (a *app) fill(n int) {
	a.Helper()
	for i := range n {
		id := fmt.Sprintf("r/%d", i)
		a.put(a.layout.Resource(a.home(id), id), fmt.Sprintf(`{"from_source":true,"data":{"id":%q,"n":%d}}`, id, i))
		if i%7 == 0 {
			a.put(a.layout.Quarantine(a.home(id), id), fmt.Sprintf(`{"data":"%d","deaths":[{"member":"a"}]}`, i))
		}
	}
	for lease := range int64(2) {
		by := map[int][]string{}
		for i := range n / 2 {
			id := fmt.Sprintf("r/%d", i)
			by[a.home(id)] = append(by[a.home(id)], id)
		}
		for home, ids := range by {
			t := claims.Trail{
				Member: "a", Life: fmt.Sprint(lease), At: time.Unix(int64(home), 0), IDs: ids, Returned: len(ids) / 2,
			}
			a.put(a.layout.Trail(home, lease+1), string(t.Encode()))
		}
	}
}

// order puts everything in the group that names shards, and something that does not.
func (a *app) order() {
	a.Helper()
	keeps := make([]bool, a.shards)
	keeps[0], keeps[1] = true, true
	by := membership.Order{By: "me", Why: "test", Since: time.Unix(1e9, 0).UTC()}
	a.put(a.layout.Slot(0), "a")
	a.put(a.layout.Pin(1), membership.Pin{Order: by, Member: "a"}.Encode())
	a.put(a.layout.Pin(2), "b")
	a.put(a.layout.Placement(), `{"0":"a"}`)
	a.put(a.layout.Exception(1), membership.Exception{Member: "a", Why: membership.WhyMove}.Encode())
	a.put(a.layout.Exception(2), membership.Exception{Member: "a", Why: membership.WhyBound}.Encode())
	a.put(a.layout.Drain("a"), membership.Restriction{Order: by, Keeps: keeps}.Encode(), a.lease())
	a.put(a.layout.Cordon("b"), membership.Restriction{Order: by, Keeps: keeps}.Encode())
	a.put(a.layout.Drain("old"), "2026-01-02T03:04:05Z")
	a.put(a.layout.Weight("a"), membership.WeightOrder{Weight: 2}.Encode())
	a.put(a.layout.Weight("b"), membership.WeightOrder{Keeps: keeps}.Encode())
	a.put(a.layout.Block(3), membership.EncodeBlock(shard.Block{Slots: 40, Used: 33, Member: "a"}))
	a.put(a.layout.Move("r/1"), membership.Move{Member: "b", From: "a"}.Encode())
	a.put(a.layout.Deallocation("r/2"), "")
	a.put(a.layout.Retry(a.home("r/3"), "r/3"), "{}", a.lease())
	a.put(a.layout.Deaths("a"), `{"deaths":[]}`)
}

// all returns the values of all keys of the app. That of a trail is written with one line for each name, in order.
func (a *app) all() map[string]string {
	a.Helper()
	resp, err := client.Get(a.Context(), a.layout.Root(), clientv3.WithPrefix())
	if err != nil {
		a.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range resp.Kvs {
		key := strings.TrimPrefix(string(kv.Key), a.layout.Root())
		all[key] = string(kv.Value)
		var fields map[string]any // the order of fields makes no difference
		if err := json.Unmarshal(kv.Value, &fields); err == nil {
			b, _ := json.Marshal(fields)
			all[key] = string(b)
		}
		if a.layout.Parse(string(kv.Key)).Kind == keys.Trail {
			t, err := claims.DecodeTrail(kv.Value)
			if err != nil {
				a.Fatal(err)
			}
			all[key] = lines(t)
		}
		if kv.Lease != 0 {
			all[key] += " on a lease"
		}
	}
	return all
}

func lines(t claims.Trail) string {
	all := make([]string, len(t.IDs))
	for i, id := range t.IDs {
		all[i] = fmt.Sprintf("%s %s %s %v", t.Member, t.Life, id, i < t.Returned)
	}
	sort.Strings(all)
	return strings.Join(all, "\n")
}

// after returns what all has to return once the app has that number of shards.
func (a *app) after(before map[string]string, shards int) map[string]string {
	to := *a
	to.shards = shards
	all, trails := map[string]string{}, map[string][]string{}
	for key, value := range before {
		parsed := a.layout.Parse(a.layout.Root() + key)
		at := a.layout.Root() + key
		switch parsed.Kind {
		case keys.Config:
			value = fmt.Sprintf(`{"schema":1,"shards":%d}`, shards)
		case keys.Resource:
			at = a.layout.Resource(to.home(parsed.ID), parsed.ID)
		case keys.Quarantine:
			at = a.layout.Quarantine(to.home(parsed.ID), parsed.ID)
		case keys.Trail:
			for line := range strings.SplitSeq(value, "\n") {
				at := a.layout.Trail(to.home(strings.Fields(line)[2]), parsed.Lease)
				trails[at] = append(trails[at], line)
			}
			continue
		case keys.Pin, keys.Exception, keys.Placement, keys.Retry:
			continue
		case keys.Drain, keys.Cordon:
			value = strings.Replace(value, `"keeps":"0-1",`, "", 1)
		case keys.Weight:
			value = strings.Replace(value, `"keeps":"0-1",`, "", 1)
		default:
		}
		all[strings.TrimPrefix(at, a.layout.Root())] = value
	}
	for at, found := range trails {
		sort.Strings(found)
		all[strings.TrimPrefix(at, a.layout.Root())] = strings.Join(found, "\n")
	}
	return all
}

func (a *app) job(to int) *reshard.Job {
	return &reshard.Job{Client: client, Layout: a.layout, Timeout: 30 * time.Second, To: to}
}

func (a *app) reshard(to int) reshard.Report {
	a.Helper()
	report, err := a.job(to).Run(a.Context())
	if err != nil {
		a.Fatal(err)
	}
	return report
}

func (a *app) wantAll(want map[string]string) {
	a.Helper()
	if diff := cmp.Diff(want, a.all()); diff != "" {
		a.Errorf("etcd has (-want +got):\n%s", diff)
	}
}

func TestAfterAChangeEverythingIsWhereItBelongs(t *testing.T) {
	for _, change := range [][2]int{{16, 32}, {32, 16}, {7, 5}, {3, 4096}, {64, 1}} {
		t.Run(fmt.Sprint(change), func(t *testing.T) {
			a := newApp(t, change[0])
			a.fill(200)
			a.order()
			before := a.all()
			report := a.reshard(change[1])
			a.wantAll(a.after(before, change[1]))
			if report.From != change[0] || report.To != change[1] || report.Resources != 200 ||
				report.Quarantined != 29 || report.Trailed != 200 || report.Moved == 0 || report.Ignored != 0 {
				t.Errorf("report: %+v", report)
			}
			dropped := []string{
				"1 exceptions of the coordinator", "the move of shard 1 to member \"a\"",
				"the pin of shard 1 to member \"a\"", "the pin of shard 2 to member \"b\"",
				"the shards that member \"a\" keeps in spite of its drain",
				"the shards that member \"b\" keeps in spite of its cordon", "the table of exceptions",
			}
			if !slices.Equal(report.Dropped, dropped) {
				t.Errorf("dropped: %q", report.Dropped)
			}
			if was, is := a.config.CreateRevision, a.open(change[1]).CreateRevision; is <= was {
				t.Errorf("the config was created at %d, and is created at %d", was, is)
			}
		})
	}
}

var errInterrupted = errors.New("interrupted")

// Wherever a change is interrupted, the app is as it was, or nobody can open it until the change is finished.
func TestAChangeThatWasInterruptedIsContinued(t *testing.T) {
	writes := []string{}
	for n := 0; ; n++ {
		a := newApp(t, 4)
		a.fill(60)
		a.order()
		before := a.all()
		last, done := "", false
		for at := n; !done; at = 1 << 30 { // the second time, it is not interrupted
			j := a.job(6)
			var mu sync.Mutex
			j.Interrupt(func(what string) error {
				mu.Lock()
				defer mu.Unlock()
				if at--; at < 0 {
					last = what
					return errInterrupted
				}
				return nil
			})
			report, err := j.Run(t.Context())
			switch {
			case err == nil:
				done = true
				if report.From != 4 || report.To != 6 || report.Resources != 60 || len(report.Dropped) != 7 {
					t.Errorf("after %q: %+v", last, report)
				}
			case !errors.Is(err, errInterrupted):
				t.Fatalf("after %q: %v", last, err)
			case last == "finish":
				done = true
			default:
				_, read := appconfig.Read(t.Context(), client, a.layout)
				_, open := appconfig.Open(t.Context(), client, a.layout, 0, 16)
				if !errors.Is(read, appconfig.ErrResharding) || !errors.Is(open, appconfig.ErrResharding) ||
					!strings.Contains(open.Error(), "drmctl reshard 6") {
					t.Errorf("after %q: %v and %v, want ErrResharding", last, read, open)
				}
				var other *appconfig.ReshardError
				if _, err := a.job(5).Run(t.Context()); !errors.As(err, &other) || other.To != 6 {
					t.Errorf("after %q, a change to another number: %v", last, err)
				}
			}
		}
		a.wantAll(a.after(before, 6))
		if last == "" {
			break // it has not got as far as to be interrupted
		}
		if !slices.Contains(writes, last) {
			writes = append(writes, last)
		}
	}
	for _, what := range []string{
		"begin", "bar", "save moving", "put", "delete", "trail", "save finishing", "unbar", "finish",
	} {
		if !slices.Contains(writes, what) {
			t.Errorf("no interruption after %q; there were %q", what, writes)
		}
	}
}

func TestNothingBeginsWhileTheAppIsUsed(t *testing.T) {
	a := newApp(t, 4)
	a.fill(20)
	refused := func(what string, to int, check func(error) bool) {
		t.Helper()
		before := a.all()
		if _, err := a.job(to).Run(t.Context()); !check(err) {
			t.Errorf("%s: %v", what, err)
		}
		a.wantAll(before)
	}
	refused("none", 0, func(err error) bool { return err != nil })
	refused("too many", keys.MaxShards+1, func(err error) bool { return err != nil })
	refused("the same", 4, func(err error) bool { return errors.Is(err, reshard.ErrSame) })
	a.put(a.layout.Member("m"), "any value", a.lease())
	refused("a live member", 6, func(err error) bool {
		var live *reshard.InUseError
		return errors.As(err, &live) && slices.Equal(live.Members, []string{"m"}) && strings.Contains(err.Error(), "m")
	})
	a.delete(a.layout.Member("m"))
	a.put(a.layout.Claim(a.home("r/1"), "r/1"), "any value", a.lease())
	a.put(a.layout.Reservation("back"), "any value", a.lease())
	refused("claims", 6, func(err error) bool {
		var left *reshard.ClaimsError
		return errors.As(err, &left) && left.Claims == 1 && slices.Equal(left.Reservations, []string{"back"}) &&
			left.For > time.Minute && left.Endless == ""
	})
	a.delete(a.layout.Reservation("back"))
	a.put(a.layout.Claim(a.home("r/1"), "r/1"), "any value")
	refused("a claim that never ends", 6, func(err error) bool {
		var left *reshard.ClaimsError
		return errors.As(err, &left) && left.Endless == a.layout.Claim(a.home("r/1"), "r/1")
	})
	a.delete(a.layout.Claim(a.home("r/1"), "r/1"))
	a.put(a.layout.Resource(shard.Of("stray", 6), "stray"), "{}")
	if shard.Of("stray", 6) == a.home("stray") {
		t.Fatal("it is no stray")
	}
	refused("a stray", 6, func(err error) bool {
		var stray *reshard.StrayError
		return errors.As(err, &stray) && stray.Keys == 1
	})
	a.delete(a.layout.Resource(shard.Of("stray", 6), "stray"))
	a.reshard(6)
	gone := newApp(t, 4)
	gone.delete(gone.layout.Config())
	if _, err := gone.job(6).Run(t.Context()); !errors.Is(err, appconfig.ErrNoApp) {
		t.Errorf("no app: %v", err)
	}
}

func TestWaitingForClaimsToEnd(t *testing.T) {
	a := newApp(t, 4)
	a.fill(20)
	lease, err := client.Grant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	a.put(a.layout.Claim(a.home("r/1"), "r/1"), "any value", clientv3.WithLease(lease.ID))
	j := a.job(6)
	j.Wait = true
	if _, err := j.Run(t.Context()); err != nil {
		t.Error(err)
	}
	a.put(a.layout.Claim(shard.Of("r/1", 6), "r/1"), "any value", a.lease())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	j = a.job(4)
	j.Wait = true
	var left *reshard.ClaimsError
	if _, err := j.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &left) {
		t.Errorf("a wait that ends: %v", err)
	}
}

// before runs a change, and does something after the first write of a kind.
func (a *app) amid(to int, what string, do func(), change func(*reshard.Job)) error {
	a.Helper()
	j := a.job(to)
	once := false
	j.Interrupt(func(wrote string) error {
		if wrote == what && !once {
			once = true
			do()
		}
		return nil
	})
	change(j)
	_, err := j.Run(a.Context())
	if !once {
		a.Errorf("there was no write of the kind %q", what)
	}
	return err
}

func same(*reshard.Job) {}

func TestAChangeFindsWhatSomebodyWritesMeanwhile(t *testing.T) {
	a := newApp(t, 4)
	a.fill(40)
	extra := func() { a.put(a.layout.Resource(shard.Of("extra", 6), "extra"), "{}") }
	err := a.amid(6, "save moving", extra, same)
	var differs *reshard.DiffersError
	if !errors.As(err, &differs) || !strings.Contains(differs.Before, "40 resources") ||
		!strings.Contains(differs.After, "41 resources") {
		t.Fatalf("got %v", err)
	}
	j := a.job(6)
	j.Unverified = true
	if report, err := j.Run(t.Context()); err != nil || report.Resources != 41 {
		t.Errorf("unverified: %+v, %v", report, err)
	}
	a.open(6)
}

func TestAChangeIsGivenUpWhereTheAppWasUsedAtTheLastMoment(t *testing.T) {
	a := newApp(t, 4)
	a.fill(40)
	before := a.all()
	claim := a.layout.Claim(a.home("r/1"), "r/1")
	err := a.amid(6, "begin", func() { a.put(claim, "any value", a.lease()) }, same)
	var left *reshard.ClaimsError
	if !errors.As(err, &left) {
		t.Fatalf("got %v", err)
	}
	a.delete(claim)
	a.wantAll(before)
	a.open(4)
}

// A member of an older version that is started in the moment without a config creates one.
func TestAConfigThatAnOlderMemberHasMadeMeanwhileGoes(t *testing.T) {
	for _, when := range []string{"begin", "unbar"} {
		a := newApp(t, 4)
		a.fill(40)
		before := a.all()
		member := a.layout.Member("old")
		start := func() {
			a.put(a.layout.Config(), appconfig.Encode(9))
			a.put(member, "any value", a.lease())
		}
		err := a.amid(6, when, start, same)
		var live *reshard.InUseError
		if !errors.As(err, &live) {
			t.Fatalf("after %q: %v", when, err)
		}
		if _, err := appconfig.Open(t.Context(), client, a.layout, 0, 9); !errors.Is(err, appconfig.ErrResharding) {
			t.Errorf("after %q: %v, want ErrResharding", when, err)
		}
		a.delete(member)
		a.reshard(6)
		a.wantAll(a.after(before, 6))
	}
}

// A process that was stopped for a while writes nothing into an app that is used again.
func TestAChangeThatAnotherProcessHasFinishedWritesNothingMore(t *testing.T) {
	a := newApp(t, 4)
	a.fill(200)
	before := a.all()
	err := a.amid(6, "put", func() {
		a.reshard(6)
		a.wantAll(a.after(before, 6))
	}, same)
	if err == nil {
		t.Error("it does not say that another process was faster")
	}
	a.wantAll(a.after(before, 6))
}

// From any number of shards to any other, and back, nothing is lost.
func TestChangesInARow(t *testing.T) {
	for range 5 {
		a := newApp(t, 1+rand.IntN(40))
		a.fill(rand.IntN(150))
		original := a.all()
		first := a.shards
		for range 3 {
			to := 1 + rand.IntN(40)
			if to == a.shards {
				continue
			}
			before := a.all()
			a.reshard(to)
			a.wantAll(a.after(before, to))
			a.shards = to
		}
		if a.shards != first {
			a.reshard(first)
		}
		a.wantAll(original)
	}
}
