package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/backup"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

const shards = 16

// All tests share one etcd; each has apps of its own.
var (
	client *clientv3.Client
	apps   atomic.Int64
)

func TestMain(m *testing.M) {
	os.Exit(embeddedtest.Run(m, func(c *clientv3.Client) { client = c }))
}

func newApp(t *testing.T) *backup.App {
	layout := keys.New("/drm", fmt.Sprintf("%s %d", t.Name(), apps.Add(1)))
	return &backup.App{Client: client, Layout: layout, Timeout: time.Minute}
}

// set writes a key of an app, without its root.
func set(t *testing.T, a *backup.App, key, value string, opts ...clientv3.OpOption) {
	t.Helper()
	if _, err := client.Put(t.Context(), a.Layout.Root()+key, value, opts...); err != nil {
		t.Fatal(err)
	}
}

// all are the keys of an app, without its root.
func all(t *testing.T, a *backup.App) map[string]string {
	t.Helper()
	resp, err := client.Get(t.Context(), a.Layout.Root(), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, kv := range resp.Kvs {
		found[strings.TrimPrefix(string(kv.Key), a.Layout.Root())] = string(kv.Value)
	}
	return found
}

func lease(t *testing.T) clientv3.LeaseID {
	t.Helper()
	l, err := client.Grant(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Revoke(context.WithoutCancel(t.Context()), l.ID) })
	return l.ID
}

// entryOf is the key of a resource's entry, without the root.
func entryOf(id string) string { return keys.At("").Resource(shard.Of(id, shards), id) }

// fill writes an app with something of every kind. It returns what a load restores, and, on a lease, what is left.
func fill(t *testing.T, a *backup.App) (restored map[string]string) {
	t.Helper()
	open(t, a)
	restored = map[string]string{
		"config":               appconfig.Encode(shards),
		"group/slots/00000":    "m<1>",
		"group/slots/00001":    "",
		"group/blocks/0000002": `{"member":"m2","slots":40,"used":40}`,
		"group/drains/m1":      `{"by":"me","why":"a<b & c","since":"2026-01-02T03:04:05Z"}`,
		"group/cordons/m2":     "2026-01-02T03:04:05Z",
		"group/weights/m1":     `{"weight":3}`,
		"group/pins/0003":      `{"member":"m1"}`,
		"group/moves/r1":       `{"member":"m1"}`,
		"group/placement/0001": `{"member":"m1","why":"move"}`,
		"group/placement/0002": `{"member":"m1","why":"ghost"}`,
		"group/schema":         `{"schema":2}`,
		"deallocated/r2":       "",
		entryOf("r2"): `{"from_source":true,"allocated":false,"own_data":false,"suspended":true,` +
			`"data":{"id":"r2"}}`,
		entryOf("r/3"): `{"from_source":false,"allocated":true,"own_data":true,"suspended":false,` +
			`"data":{"id":"r/3", "x":1.50}}`,
		keys.At("").Quarantine(shard.Of("r/3", shards), "r/3"): `{"data":"ab","at":"2026-01-02T03:04:05Z","deaths":[]}`,
	}
	for i := range 300 {
		id := fmt.Sprintf("many-%d", i)
		restored[entryOf(id)] = string(catalogue.Entry{
			Allocated: true, OwnData: true, Data: json.RawMessage(fmt.Sprintf(`{"id":%q,"secret":"s3cret"}`, id)),
		}.Encode())
	}
	for key, value := range restored {
		if key != "config" {
			set(t, a, key, value)
		}
	}
	return restored
}

// more adds what a load does not restore.
func more(t *testing.T, a *backup.App) {
	t.Helper()
	on := clientv3.WithLease(lease(t))
	set(t, a, "group/drains/m9", `{"until":"2026-01-02T03:04:05Z"}`, on)
	set(t, a, "stats/m1", `{}`, on)
	set(t, a, "orders/fetch", "", on)
	set(t, a, "deaths/m1", `{"deaths":[]}`)
	set(t, a, "shards/0001/begun/00000000000000aa", `{"member":"m1"}`)
	set(t, a, "x", "\xff\x00")
	set(t, a, "shards/zzzz/x", "null")
	set(t, a, "shards/0001/resources/stray-of-another-shard", "{}")
}

func open(t *testing.T, a *backup.App) {
	t.Helper()
	if _, err := appconfig.Open(t.Context(), client, a.Layout, shards, shards); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, a *backup.App, data bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, _, err := a.Dump(t.Context(), backup.Header{App: "a", Prefix: "/drm", Data: data}, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if value, has := want[key]; !has {
			t.Errorf("%q is there: %q", key, got[key])
		} else if value != got[key] {
			t.Errorf("%q is %q, want %q", key, got[key], value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if _, has := got[key]; !has {
			t.Errorf("%q is not there", key)
		}
	}
}

func TestADumpIsLoadedToTheByte(t *testing.T) {
	from, to := newApp(t), newApp(t)
	want := fill(t, from)
	more(t, from)
	set(t, from, "source", `{"resources":3,"attempt_revision":77,"vouched_by":5,"vouched_at":"2020-01-01T00:00:00Z",`+
		`"gone_after_ms":1000,"error":"Get \"https://me:s3cret-too@host/x\": refused","held":3,"held_removals":{}}`)
	text := dump(t, from, true)
	if bytes.Contains(text, []byte("s3cret-too")) {
		t.Error("the dump has the password of a URL")
	}
	opts := backup.LoadOptions{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	opts.DryRun = true
	would, err := to.Load(t.Context(), bytes.NewReader(text), opts)
	if err != nil || len(all(t, to)) > 0 {
		t.Fatalf("a dry run wrote %v, %v", all(t, to), err)
	}
	opts.DryRun = false
	done, err := to.Load(t.Context(), bytes.NewReader(text), opts)
	if err != nil {
		t.Fatal(err)
	}
	want["source"] = `{"error":"Get \"https://***@host/x\": refused","gone_after_ms":1000,"resources":3,` +
		`"vouched_at":"2026-01-02T03:04:05Z"}`
	same(t, all(t, to), want)
	if done != would || done.Resources != 302 || done.Orders != 6 || done.Others != 8 || done.Left != 5 ||
		done.Ignored != 3 {
		t.Errorf("loaded %+v, and a dry run %+v", done, would)
	}
	if config, err := appconfig.Read(t.Context(), client, to.Layout); err != nil || config.Shards != shards {
		t.Errorf("the config: %+v, %v", config, err)
	}
	if _, err := to.Load(t.Context(), bytes.NewReader(text), opts); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("loaded twice: %v, want ErrNotEmpty", err)
	}
}

func TestADumpWithoutDataHasNone(t *testing.T) {
	from, to := newApp(t), newApp(t)
	fill(t, from)
	more(t, from)
	set(t, from, entryOf("junk"), "s3cret")
	set(t, from, "foreign", "s3cret")
	text := dump(t, from, false)
	if bytes.Contains(text, []byte("s3cret")) {
		t.Error("the dump has what the entries have")
	}
	_, err := to.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{})
	if !errors.Is(err, backup.ErrRedacted) || len(all(t, to)) > 0 {
		t.Errorf("loaded: %v, want ErrRedacted", err)
	}
	if _, err := to.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{WithoutData: true}); err == nil {
		t.Error("an entry that cannot be read was loaded without data")
	}
	if _, err := client.Delete(t.Context(), from.Layout.Root()+entryOf("junk")); err != nil {
		t.Fatal(err)
	}
	text = dump(t, from, false)
	if _, err := to.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{WithoutData: true}); err != nil {
		t.Fatal(err)
	}
	want := `{"from_source":false,"allocated":true,"own_data":true,"suspended":false,"data":{"id":"r/3"}}`
	if got := all(t, to)[entryOf("r/3")]; got != want {
		t.Errorf("loaded %s, want %s", got, want)
	}
}

// Whatever is missing or changed is noticed, and then nothing of the dump is there.
func TestADumpThatIsNotWholeIsNotLoaded(t *testing.T) {
	from := newApp(t)
	fill(t, from)
	text := dump(t, from, true)
	lines := bytes.SplitAfter(text, []byte("\n"))
	for name, bad := range map[string][]byte{
		"nothing":           {},
		"no header":         bytes.Join(lines[1:], nil),
		"no footer":         bytes.Join(lines[:len(lines)-2], nil),
		"cut":               text[:len(text)/2],
		"cut in the footer": text[:len(text)-5],
		"a line less":       bytes.Join(slices.Delete(slices.Clone(lines), 50, 51), nil),
		"a byte changed":    bytes.Replace(text, []byte("s3cret"), []byte("s4cret"), 1),
		"more at the end":   append(bytes.Clone(text), "{}\n"...),
		"a newer version":   bytes.Replace(text, []byte(`{"drm_dump":1`), []byte(`{"drm_dump":2`), 1),
		"a newer schema":    bytes.Replace(text, []byte(`"schema":1`), []byte(`"schema":3`), 1),
		"HTML":              []byte("<html>"),
		"not JSON":          append(bytes.Clone(lines[0]), "x\n"...),
	} {
		t.Run(name, func(t *testing.T) {
			to := newApp(t)
			_, err := to.Load(t.Context(), bytes.NewReader(bad), backup.LoadOptions{})
			if !errors.As(err, new(*backup.DumpError)) {
				t.Errorf("got %v, want a DumpError", err)
			}
			same(t, all(t, to), map[string]string{})
			open(t, to)
			_, err = to.Load(t.Context(), bytes.NewReader(bad), backup.LoadOptions{})
			if !errors.As(err, new(*backup.DumpError)) {
				t.Errorf("got %v, want a DumpError", err)
			}
			same(t, all(t, to), map[string]string{"config": appconfig.Encode(shards)})
		})
	}
}

// A dump may have been through a program that begins files with a byte order mark. Another encoding is named.
func TestADumpWithAMarkIsLoaded(t *testing.T) {
	from, to := newApp(t), newApp(t)
	fill(t, from)
	text := dump(t, from, true)
	for foreign, want := range map[string]string{
		"<!DOCTYPE html><html>":    "it is HTML",
		"\xff\xfe{\x00\"\x00d\x00": "it is text in UTF-16",
	} {
		_, err := to.Load(t.Context(), strings.NewReader(foreign), backup.LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %q", foreign, err, want)
		}
	}
	marked := append([]byte("\xef\xbb\xbf"), text...)
	if _, err := to.Load(t.Context(), bytes.NewReader(marked), backup.LoadOptions{}); err != nil {
		t.Error(err)
	}
}

// cut is a client whose nth write fails: before it is sent, or after it, so that only its answer is lost.
func cut(t *testing.T, n int, after bool) (c *clientv3.Client, failed *atomic.Bool) {
	t.Helper()
	failed = new(atomic.Bool)
	var sent atomic.Int64
	c, err := clientv3.New(clientv3.Config{
		Endpoints: client.Endpoints(), Logger: client.GetLogger(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
			opts ...grpc.CallOption,
		) error {
			if txn, is := req.(*pb.TxnRequest); !is || !writes(txn) || int(sent.Add(1)) != n {
				return invoke(ctx, method, req, reply, conn, opts...)
			}
			failed.Store(true)
			if after {
				_ = invoke(ctx, method, req, reply, conn, opts...)
			}
			return errors.New("cut")
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, failed
}

func writes(txn *pb.TxnRequest) bool {
	return slices.ContainsFunc(txn.Success, func(op *pb.RequestOp) bool { return op.GetRequestRange() == nil })
}

// Where a load is interrupted, nobody can open the app until it is loaded again or deleted.
func TestALoadThatWasInterruptedIsBegunAnewOrGivenUp(t *testing.T) {
	from := newApp(t)
	want := fill(t, from)
	text := dump(t, from, true)
	for n := 1; ; n++ {
		interrupted, to := false, newApp(t)
		for _, after := range []bool{false, true} {
			var failed *atomic.Bool
			c, failed := cut(t, n, after)
			broken := *to
			broken.Client = c
			_, err := broken.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{})
			interrupted = interrupted || failed.Load()
			if failed.Load() && err == nil {
				t.Fatalf("write %d failed, and the load did not", n)
			}
			_, opened := appconfig.Read(t.Context(), client, to.Layout)
			switch {
			case opened == nil:
				same(t, all(t, to), want)
			case errors.Is(opened, appconfig.ErrNoApp):
				same(t, all(t, to), map[string]string{})
			case !errors.Is(opened, appconfig.ErrUnfinished):
				t.Errorf("cut at %d: the app cannot be opened: %v", n, opened)
			}
			if opened != nil && n%2 == 0 {
				if _, err := to.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{}); err != nil {
					t.Fatalf("cut at %d: loaded again: %v", n, err)
				}
				same(t, all(t, to), want)
			}
			if _, err := to.Delete(t.Context(), nil); err != nil && !errors.Is(err, appconfig.ErrNoApp) {
				t.Fatalf("cut at %d: %v", n, err)
			}
			same(t, all(t, to), map[string]string{})
		}
		if !interrupted {
			if n < 8 {
				t.Errorf("a load has only %d writes", n-1)
			}
			return
		}
	}
}

func TestADeletionThatWasInterruptedIsFinished(t *testing.T) {
	for n := 1; ; n++ {
		interrupted, a := false, newApp(t)
		for _, after := range []bool{false, true} {
			fill(t, a)
			more(t, a)
			c, failed := cut(t, n, after)
			broken := *a
			broken.Client = c
			_, err := broken.Delete(t.Context(), nil)
			interrupted = interrupted || failed.Load()
			if failed.Load() && err == nil {
				t.Fatalf("write %d failed, and the deletion did not", n)
			}
			if _, err := appconfig.Read(t.Context(), client, a.Layout); err != nil &&
				!errors.Is(err, appconfig.ErrUnfinished) && !errors.Is(err, appconfig.ErrNoApp) {
				t.Errorf("cut at %d: the app cannot be opened: %v", n, err)
			}
			if _, err := a.Delete(t.Context(), nil); err != nil && !errors.Is(err, appconfig.ErrNoApp) {
				t.Fatal(err)
			}
			same(t, all(t, a), map[string]string{})
		}
		if !interrupted {
			return
		}
	}
}

func TestADeletionCountsTheKeys(t *testing.T) {
	a := newApp(t)
	want := fill(t, a)
	for i := range 3000 { // more than is deleted at once, in one shard
		set(t, a, fmt.Sprintf("shards/0004/resources/x%d", i), "{}")
	}
	var told int64
	done, err := a.Delete(t.Context(), func(n int64) { told = n })
	if err != nil || done.Keys != int64(len(want)+3000) || told != done.Keys-1 {
		t.Errorf("deleted %d, told %d, %v; want %d", done.Keys, told, err, len(want)+3000)
	}
	if _, err := a.Delete(t.Context(), nil); !errors.Is(err, appconfig.ErrNoApp) {
		t.Errorf("deleted again: %v, want ErrNoApp", err)
	}
}

func TestAnAppInUseIsNotDeleted(t *testing.T) {
	for name, tt := range map[string]struct {
		key    string
		leased bool
		says   string // "": it is deleted
	}{
		"a member":               {"group/members/m1", true, "members are live"},
		"a member without":       {"group/members/m1", false, "members are live"},
		"a claim":                {keys.At("").Claim(3, "r"), true, "1 claims of members that have ended"},
		"a claim on no lease":    {keys.At("").Claim(3, "r"), false, ""},
		"a reservation":          {"group/reservations/m1", true, "reservations of members"},
		"an order with an end":   {"group/drains/m1", true, ""},
		"figures that live on":   {"stats/m1", true, ""},
		"a config of the future": {"config", false, "schema 7"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			value := "{}"
			if tt.key == "config" {
				value = `{"schema":7}`
			} else {
				open(t, a)
			}
			var opts []clientv3.OpOption
			if tt.leased {
				opts = append(opts, clientv3.WithLease(lease(t)))
			}
			set(t, a, tt.key, value, opts...)
			before := all(t, a)
			_, err := a.Delete(t.Context(), nil)
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an error that says %q", err, tt.says)
			}
			same(t, all(t, a), before)
		})
	}
}

func TestWhileTheShardsAreChangedNothingIsDeletedOrLoaded(t *testing.T) {
	a := newApp(t)
	set(t, a, "reshard", `{"from":16,"to":32}`)
	from := newApp(t)
	fill(t, from)
	_, deleted := a.Delete(t.Context(), nil)
	_, loaded := a.Load(t.Context(), bytes.NewReader(dump(t, from, true)), backup.LoadOptions{})
	for _, err := range []error{deleted, loaded} {
		if !errors.Is(err, appconfig.ErrResharding) {
			t.Errorf("got %v, want ErrResharding", err)
		}
	}
}

// slow lets etcd compact what is being dumped.
type slow struct {
	writes int
	before func()
}

func (s *slow) Write(p []byte) (int, error) {
	s.writes++
	if s.writes == 1 {
		s.before()
	}
	return len(p), nil
}

func TestADumpWhoseRevisionIsCompactedSaysSo(t *testing.T) {
	a := newApp(t)
	open(t, a)
	for i := range 40 {
		id := fmt.Sprint(i)
		set(t, a, entryOf(id), string(catalogue.Entry{
			Data: json.RawMessage(fmt.Sprintf(`{"id":%q,"x":%q}`, id, strings.Repeat("x", 500<<10))),
		}.Encode()))
	}
	w := &slow{before: func() {
		set(t, a, "x", "1")
		resp, err := client.Get(t.Context(), "x")
		if err == nil {
			_, err = client.Compact(t.Context(), resp.Header.Revision)
		}
		if err != nil {
			t.Error(err)
		}
	}}
	_, _, err := a.Dump(t.Context(), backup.Header{Data: true}, w)
	if !errors.As(err, new(*backup.CompactedError)) {
		t.Errorf("got %v, want a CompactedError", err)
	}
}

func TestTheFailureOfAReaderOfADumpEndsIt(t *testing.T) {
	a := newApp(t)
	fill(t, a)
	_, _, err := a.Dump(t.Context(), backup.Header{}, failing{})
	if !errors.Is(err, errFull) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	if _, _, err := newApp(t).Dump(t.Context(), backup.Header{}, failing{}); !errors.Is(err, appconfig.ErrNoApp) {
		t.Errorf("got %v, want ErrNoApp", err)
	}
}

var errFull = errors.New("the disk is full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
