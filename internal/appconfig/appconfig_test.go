package appconfig_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

var layout = keys.New("/drm", "app")

func put(t *testing.T, client *clientv3.Client, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), layout.Config(), value); err != nil {
		t.Fatal(err)
	}
}

func TestAnAppThatNobodyCreatedIsErrNoApp(t *testing.T) {
	client := embeddedtest.Client(t)
	if c, err := appconfig.Read(t.Context(), client, layout); !errors.Is(err, appconfig.ErrNoApp) ||
		c != (appconfig.Config{}) {
		t.Errorf("Read: %+v, %v, want ErrNoApp", c, err)
	}
}

func TestAnAppIsCreatedOnceAndNeverRewritten(t *testing.T) {
	client := embeddedtest.Client(t)
	first, err := appconfig.Open(t.Context(), client, layout, 0, 1024)
	if err != nil || first.Shards != 1024 || first.CreateRevision == 0 {
		t.Fatalf("Open: %+v, %v", first, err)
	}
	for _, asked := range []int{0, 1024} {
		if again, err := appconfig.Open(t.Context(), client, layout, asked, 16); err != nil || again != first {
			t.Errorf("Open, asking for %d: %+v, %v, want %+v", asked, again, err, first)
		}
	}
	if read, err := appconfig.Read(t.Context(), client, layout); err != nil || read != first {
		t.Errorf("Read: %+v, %v, want %+v", read, err, first)
	}
	resp, err := client.Get(t.Context(), layout.Config())
	if err != nil {
		t.Fatal(err)
	}
	if kv := resp.Kvs[0]; kv.Version != 1 || kv.CreateRevision != first.CreateRevision || kv.Lease != 0 {
		t.Errorf("the key: %+v", kv)
	}
	if resp.Header.Revision != first.CreateRevision {
		t.Errorf("etcd's revision went on to %d", resp.Header.Revision)
	}
}

func TestOfManyThatOpenAtOnceAllGetTheSame(t *testing.T) {
	client := embeddedtest.Client(t)
	got := make([]appconfig.Config, 40)
	var group errgroup.Group
	for i := range got {
		group.Go(func() (err error) {
			got[i], err = appconfig.Open(t.Context(), client, layout, 0, 1+i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, c := range got {
		if c != got[0] || c.CreateRevision == 0 {
			t.Fatalf("they got %+v", got)
		}
	}
}

func TestAnotherNumberOfShardsIsAnErrorThatTellsIt(t *testing.T) {
	client := embeddedtest.Client(t)
	if _, err := appconfig.Open(t.Context(), client, layout, 64, 1024); err != nil {
		t.Fatal(err)
	}
	c, err := appconfig.Open(t.Context(), client, layout, 128, 1024)
	var shards *appconfig.ShardsError
	if !errors.As(err, &shards) || *shards != (appconfig.ShardsError{Has: 64, Asked: 128}) ||
		c != (appconfig.Config{}) {
		t.Errorf("Open: %+v, %v", c, err)
	}
}

func TestAnAppIsNotCreatedWithShardsThatItCannotHave(t *testing.T) {
	client := embeddedtest.Client(t)
	for _, n := range [][2]int{{-1, 1024}, {keys.MaxShards + 1, 1024}, {0, 0}, {0, -1}, {0, keys.MaxShards + 1}} {
		if c, err := appconfig.Open(t.Context(), client, layout, n[0], n[1]); err == nil {
			t.Errorf("Open(%d, %d) = %+v", n[0], n[1], c)
		}
	}
	if _, err := appconfig.Read(t.Context(), client, layout); !errors.Is(err, appconfig.ErrNoApp) {
		t.Errorf("Read: %v, want ErrNoApp", err)
	}
	if c, err := appconfig.Open(t.Context(), client, layout, keys.MaxShards, 1); err != nil ||
		c.Shards != keys.MaxShards {
		t.Errorf("Open with the most there can be: %+v, %v", c, err)
	}
}

func TestACorruptConfigIsAnErrorAndStaysAsItIs(t *testing.T) {
	client := embeddedtest.Client(t)
	for _, value := range []string{
		"", "x", "{", "[]", `{"schema":1,"shards":0}`, `{"schema":1,"shards":-1}`, `{"schema":1,"shards":4097}`,
		`{"schema":1}`,
		`{"schema":1,"shards":"16"}`, `{"schema":1,"shards":1.5}`, `{"schema":1,"shards":16}x`,
	} {
		put(t, client, value)
		if c, err := appconfig.Read(t.Context(), client, layout); err == nil || c != (appconfig.Config{}) {
			t.Errorf("%s: Read: %+v, %v", value, c, err)
		}
		for _, asked := range []int{0, 16} {
			if c, err := appconfig.Open(t.Context(), client, layout, asked, 16); err == nil ||
				c != (appconfig.Config{}) {
				t.Errorf("%s: Open: %+v, %v", value, c, err)
			}
		}
		if resp, err := client.Get(t.Context(), layout.Config()); err != nil || string(resp.Kvs[0].Value) != value {
			t.Errorf("%s: now it is %s, %v", value, resp.Kvs[0].Value, err)
		}
	}
}

func TestAConfigThatWasOverwrittenIsRefusedThoughItCanBeRead(t *testing.T) {
	client := embeddedtest.Client(t)
	if _, err := appconfig.Open(t.Context(), client, layout, 64, 64); err != nil {
		t.Fatal(err)
	}
	put(t, client, `{"schema":1,"shards":32}`) // the running members have 64
	_, read := appconfig.Read(t.Context(), client, layout)
	_, open := appconfig.Open(t.Context(), client, layout, 32, 32)
	for _, err := range []error{read, open} {
		if !errors.Is(err, appconfig.ErrRewritten) {
			t.Errorf("got %v, want ErrRewritten", err)
		}
	}
}

func TestAnotherVersionsAppIsRefused(t *testing.T) {
	client := embeddedtest.Client(t)
	for value, has := range map[string]int{`{"schema":2,"shards":16,"more":{}}`: 2, `{"shards":16}`: 0} {
		put(t, client, value)
		_, read := appconfig.Read(t.Context(), client, layout)
		_, open := appconfig.Open(t.Context(), client, layout, 16, 16)
		for _, err := range []error{read, open} {
			var schema *appconfig.SchemaError
			if !errors.As(err, &schema) || schema.Has != has || !errors.Is(err, appconfig.ErrSchema) {
				t.Errorf("%s: %v", value, err)
			}
		}
	}
}

func TestAnAppThatWasDeletedAndMadeAnewIsAnother(t *testing.T) {
	client := embeddedtest.Client(t)
	before, err := appconfig.Open(t.Context(), client, layout, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Delete(t.Context(), layout.Config()); err != nil {
		t.Fatal(err)
	}
	after, err := appconfig.Open(t.Context(), client, layout, 16, 16)
	if err != nil || after.CreateRevision <= before.CreateRevision {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
}

func TestTheContextBoundsReadAndOpen(t *testing.T) {
	client := embeddedtest.Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, read := appconfig.Read(ctx, client, layout)
	_, open := appconfig.Open(ctx, client, layout, 16, 16)
	for _, err := range []error{read, open} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	}
}

func ExampleShardsError() {
	fmt.Println(&appconfig.ShardsError{Has: 1024, Asked: 64})
	// Output: the app was created with 1024 shards, not 64
}

// While the number of shards is being changed, nobody opens the app, whether there is a barrier or no config at all.
func TestNobodyOpensAnAppWhoseShardsAreBeingChanged(t *testing.T) {
	client := embeddedtest.Client(t)
	set := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, want appconfig.ReshardError) {
		t.Helper()
		_, read := appconfig.Read(t.Context(), client, layout)
		_, open := appconfig.Open(t.Context(), client, layout, 0, 16)
		for _, err := range []error{read, open} {
			var is *appconfig.ReshardError
			if !errors.As(err, &is) || *is != want || !errors.Is(err, appconfig.ErrResharding) {
				t.Errorf("%s: %v, want %v", what, err, &want)
			}
		}
	}
	set(layout.Config(), appconfig.Barrier(16, 32))
	check("a barrier", appconfig.ReshardError{From: 16, To: 32})
	set(layout.Reshard(), `{"from":16,"to":32,"stage":"moving"}`)
	check("a barrier, and how far it is", appconfig.ReshardError{From: 16, To: 32})
	if _, err := client.Delete(t.Context(), layout.Config()); err != nil {
		t.Fatal(err)
	}
	check("no config", appconfig.ReshardError{From: 16, To: 32})
	set(layout.Config(), appconfig.Encode(1024))
	check("the config of an older member", appconfig.ReshardError{From: 16, To: 32})
	set(layout.Reshard(), "x")
	check("no record that can be read", appconfig.ReshardError{})
}

// While an app is being deleted or loaded, nobody opens it, whether there is a barrier or no config at all.
func TestNobodyOpensAnAppThatIsBeingDeletedOrLoaded(t *testing.T) {
	for _, task := range []appconfig.Task{appconfig.Deleting, appconfig.Loading, "something new"} {
		client := embeddedtest.Client(t)
		check := func(what string) {
			t.Helper()
			_, read := appconfig.Read(t.Context(), client, layout)
			_, open := appconfig.Open(t.Context(), client, layout, 0, 16)
			for _, err := range []error{read, open} {
				var is *appconfig.TaskError
				if !errors.As(err, &is) || is.Task != task || !errors.Is(err, appconfig.ErrUnfinished) {
					t.Errorf("%s of %q: %v", what, task, err)
				}
			}
		}
		put(t, client, appconfig.TaskBarrier(task))
		check("the barrier")
		marker := appconfig.TaskMarker(task, "1", deed.Deed{})
		if _, err := client.Put(t.Context(), layout.Reshard(), marker); err != nil {
			t.Fatal(err)
		}
		check("the barrier and the marker")
		if _, err := client.Delete(t.Context(), layout.Config()); err != nil {
			t.Fatal(err)
		}
		check("the marker")
	}
}
