package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

func TestReshard(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	etcd := embeddedtest.Client(t, l.global[1])
	fails := func(code int, want string, args ...string) {
		t.Helper()
		got := drmctl(t.Context(), append(l.args(), args...)...)
		if got.code != code {
			t.Errorf("%v: exit code %d, want %d", args, got.code, code)
		}
		checkOneLine(t, got.stderr, want)
	}
	l.fails(exitNotFound, "reshard", "8")
	for _, wrong := range [][]string{{}, {"x"}, {"0"}, {"4097"}, {"8", "9"}} {
		l.fails(exitUsage, append([]string{"reshard"}, wrong...)...)
	}
	l.ok("allocate", "--id", "a", "--create", "--shards", "16")
	l.ok("allocate", "--id", "b", "--data", `{"n":1}`)
	fails(exitFailed, "that many shards already: 16", "reshard", "16")
	layout := keys.New("/drm", "lab")
	put := func(key, value string) {
		t.Helper()
		if _, err := etcd.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put(layout.Member("m1"), "{}")
	fails(exitFailed, "in use: members are live, and have to be stopped first: m1", "reshard", "8")
	if _, err := etcd.Delete(t.Context(), layout.Member("m1")); err != nil {
		t.Fatal(err)
	}
	put(layout.Pin(3), "m1")
	var done map[string]any
	if err := json.Unmarshal([]byte(l.ok("reshard", "8", "-o", "json")), &done); err != nil {
		t.Fatal(err)
	}
	if dropped := done["dropped_orders"].([]any); done["from"] != 16.0 || done["to"] != 8.0 ||
		done["resources"] != 2.0 || len(dropped) != 1 {
		t.Errorf("it said %v", done)
	}
	if table := l.ok("reshard", "32", "--wait", "--wait-timeout", "1m"); !strings.Contains(table, "32, were 8") {
		t.Errorf("it said %q", table)
	}
	if out := l.ok("resources"); !strings.Contains(out, `"n":1`) {
		t.Errorf("the resources are %q", out)
	}
	// This is as if a change had been interrupted.
	put(layout.Reshard(), `{"from":32,"to":64,"stage":"counting"}`)
	put(layout.Config(), appconfig.Barrier(32, 64))
	for _, command := range [][]string{{"status"}, {"members"}, {"verify"}, {"allocate", "--id", "c", "--create"}} {
		fails(exitFailed, "run `drmctl reshard 64` again", command...)
	}
	fails(exitFailed, "run `drmctl reshard 64` again", "reshard", "65")
	l.ok("reshard", "64")
	l.ok("status")
}
