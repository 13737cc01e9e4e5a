package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestDescribeAndAppsAreWatched(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--create", "--shards", "8", "--id", "r")
	_, stopAgent := l.agent("m1", "--allocate-only", "--handler-log", "--log-level", "error")
	l.members(1)
	l.ok("allocate", "--id", "r", "--wait")
	l.fails(exitNotFound, "describe", "member", "nobody", "--watch")
	l.fails(exitNotFound, "describe", "resource", "nothing", "--watch")
	l.fails(exitUsage, "describe", "shard", "8", "--watch")

	watch := func(args ...string) (<-chan string, func() int) {
		return begin(t, append(l.args(), append(args, "--watch")...)...)
	}
	n := fmt.Sprint(shard.Of("r", 8))
	member, stop1 := watch("-o", "json", "describe", "member", "m1")
	resource, stop2 := watch("-o", "json", "describe", "resource", "r")
	of, stop3 := watch("-o", "json", "describe", "shard", n)
	apps, stop4 := watch("-o", "json", "apps")
	table, stop5 := watch("describe", "resource", "r")
	nextChange(t, member, func(x line[memberDetailJSON]) bool { return x.Change == "end" })
	nextChange(t, resource, func(x line[resourceDetailJSON]) bool {
		return x.Change == "listed" && x.Item.Claim != nil && x.Item.Claim.Member == "m1"
	})
	nextChange(t, resource, func(x line[resourceDetailJSON]) bool { return x.Change == "end" })
	nextChange(t, of, func(x line[shardDetailJSON]) bool { return x.Change == "end" })
	nextChange(t, apps, func(x line[appJSON]) bool { return x.Change == "listed" && x.Item.Name == "lab" })
	nextChange(t, apps, func(x line[appJSON]) bool { return x.Change == "end" })
	if first := next(t, table); !strings.HasPrefix(first, "RESOURCE") || !strings.HasSuffix(first, " r") {
		t.Errorf("the page begins with %q", first)
	}

	l.ok("cordon", "m1", "--reason", "a new disk")
	nextChange(t, member, func(x line[memberDetailJSON]) bool {
		return x.Change == "changed" && len(x.Item.Orders) == 1 && x.Item.Orders[0].Why == "a new disk"
	})
	l.ok("--app", "other", "app", "create", "--shards", "16")
	nextChange(t, apps, func(x line[appJSON]) bool {
		return x.Change == "changed" && x.Item.Name == "other" && x.Item.Shards == 16
	})
	l.ok("--app", "other", "app", "delete", "--yes")
	nextChange(t, apps, func(x line[appJSON]) bool { return x.Change == "gone" && x.Item.Name == "other" })
	l.ok("deallocate", "r", "--wait")
	nextChange(t, resource, func(x line[resourceDetailJSON]) bool { return x.Change == "gone" })
	nextChange(t, of, func(x line[shardDetailJSON]) bool { return x.Change == "changed" && x.Item.Wanted == 0 })
	for !strings.HasPrefix(next(t, table), "r is gone") {
	}
	if code := stopAgent(); code != exitFine {
		t.Errorf("the agent: exit code %d", code)
	}
	nextChange(t, apps, func(x line[appJSON]) bool { return x.Item.Name == "lab" && x.Item.Members == 0 })
	for _, stop := range []func() int{stop1, stop2, stop3, stop4, stop5} {
		if code := stop(); code != exitFine {
			t.Errorf("a watch that was interrupted ended with exit code %d", code)
		}
	}
}

// Each command that follows says in the same words that etcd is lost, and that it is back.
func TestEachWatchSaysThatEtcdIsLostAndBack(t *testing.T) {
	t.Parallel()
	cfg := embeddedtest.Config()
	cfg.DataDir = t.TempDir()
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cfg.ListenClient = server.Endpoint()
	l := &lab{t, []string{"--endpoints", server.Endpoint(), "--app", "lab", "--command-timeout", "30s"}}
	l.ok("allocate", "--create", "--id", "r")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watches := map[string]<-chan string{}
	ended := make(chan error)
	commands := [][]string{
		{"apps"},
		{"assignments"},
		{"describe", "resource", "r"},
		{"describe", "shard", "3"},
		{"events", "--since", "1"},
		{"explain", "r"},
		{"lookup", "r"},
		{"members"},
		{"resources"},
		{"status"},
	}
	for _, args := range commands {
		name := strings.Join(args, " ")
		stdout, in := io.Pipe()
		stderr, errIn := io.Pipe()
		go func() {
			code := run(ctx, append(l.args(), append(args, "--watch")...), strings.NewReader(""), in, errIn)
			_, _ = in.Close(), errIn.Close()
			var err error
			if code != exitFine {
				err = fmt.Errorf("%s: exit code %d", name, code)
			}
			ended <- err
		}()
		watches[name] = linesOf(stderr)
		if came := bytesOf(stdout); args[0] != "members" { // there are none
			<-came
		}
	}
	until := func(prefix string) {
		t.Helper()
		for name, notes := range watches {
			t.Log("await of", name, "that it says:", prefix)
			for line := ""; !strings.HasPrefix(line, prefix); t.Log(line) {
				line = next(t, notes)
			}
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	until("drmctl: etcd is lost: ")
	if server, err = embedded.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	until("drmctl: etcd is back")
	cancel()
	for range commands {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// bytesOf reads all that comes, and closes the channel when something has come.
func bytesOf(r io.Reader) <-chan struct{} {
	came := make(chan struct{})
	go func() {
		_, _ = r.Read(make([]byte, 1))
		close(came)
		_, _ = io.Copy(io.Discard, r)
	}()
	return came
}
