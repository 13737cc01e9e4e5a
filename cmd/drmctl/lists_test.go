package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

// line is a line that a --watch prints.
type line[T any] struct {
	Change   string
	Revision int64
	Item     *T
}

// nextChange returns the next line of a watch that is as it should be.
func nextChange[T any](t *testing.T, lines <-chan string, want func(line[T]) bool) line[T] {
	t.Helper()
	for text := range lines {
		var got line[T]
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if want(got) {
			return got
		}
	}
	t.Fatal("the watch has ended")
	return line[T]{}
}

func TestListsAreFilteredAndWatched(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-log")
	l.members(1)
	for _, id := range []string{"eu/1", "eu/2", "us-1"} {
		l.ok("allocate", "--wait", "--id", id)
	}

	one := get[assignmentJSON](l, "lookup", "eu/2")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "eu/1 eu/2 us-1"},
		{[]string{"--id-prefix", "eu/"}, "eu/1 eu/2"},
		{[]string{"--state", "active,claimed", "--member", "m1"}, "eu/1 eu/2 us-1"},
		{[]string{"--state", "failed"}, ""},
		{[]string{"--misplaced"}, ""},
		{[]string{"--unassigned"}, ""},
		{[]string{"--shard", fmt.Sprint(one.Shard)}, "eu/2"},
	} {
		args := append([]string{"-o", "name", "assignments"}, tt.args...)
		if got := strings.Join(strings.Fields(l.ok(args...)), " "); got != tt.want {
			t.Errorf("%q: got %q, want %q", args, got, tt.want)
		}
	}
	if got := l.ok("-o", "name", "resources", "--allocated", "--id-prefix", "us"); got != "us-1\n" {
		t.Errorf("resources: got %q", got)
	}
	if got := l.ok("-o", "name", "resources", "--suspended"); got != "" {
		t.Errorf("suspended resources: got %q", got)
	}
	l.fails(exitUsage, "assignments", "--shard", "4095")
	l.fails(exitUsage, "resources", "--shard", "4095", "--watch")
	l.fails(exitNotFound, "lookup", "nope", "--watch")

	all, stopAll := begin(t, append(l.args(), "-o", "json", "assignments", "--watch")...)
	failed, stopFailed := begin(t, append(l.args(), "-o", "json", "assignments", "--unassigned", "--watch")...)
	entries, stopEntries := begin(t, append(l.args(), "-o", "json", "resources", "--watch")...)
	looked, stopLook := begin(t, append(l.args(), "-o", "json", "lookup", "us-1", "--watch")...)
	ends := func(x line[assignmentJSON]) bool { return x.Change == string(drm.WatchListEnds) }
	if x := nextChange(t, all, func(line[assignmentJSON]) bool { return true }); x.Change != "list" || x.Item != nil {
		t.Errorf("the first line is %+v", x)
	}
	for _, lines := range []<-chan string{all, failed, looked} {
		if x := nextChange(t, lines, ends); x.Item != nil || x.Revision == 0 {
			t.Errorf("a list ends with %+v", x)
		}
	}
	nextChange(t, entries, func(x line[map[string]any]) bool { return x.Change == "end" })

	l.ok("allocate", "--wait", "--id", "new")
	x := nextChange(t, all, func(x line[assignmentJSON]) bool {
		return x.Change == "changed" && x.Item.Resource == "new" && x.Item.State == "active"
	})
	if x.Item.Member != "m1" || x.Item.Token == 0 {
		t.Errorf("got %+v", x.Item)
	}
	nextChange(t, entries, func(x line[map[string]any]) bool {
		return x.Change == "changed" && (*x.Item)["id"] == "new" && (*x.Item)["origin"] == "allocated"
	})
	l.ok("deallocate", "--wait", "us-1")
	for _, lines := range []<-chan string{all, looked} {
		nextChange(t, lines, func(x line[assignmentJSON]) bool {
			return x.Change == "gone" && x.Item.Resource == "us-1"
		})
	}
	nextChange(t, entries, func(x line[map[string]any]) bool { return x.Change == "gone" && (*x.Item)["id"] == "us-1" })
	l.ok("drain", "m1", "--force")
	nextChange(t, failed, func(x line[assignmentJSON]) bool {
		return x.Change == "changed" && x.Item.State == "unassigned" && strings.Contains(x.Item.Error, "drained")
	})
	for _, stop := range []func() int{stopAll, stopFailed, stopEntries, stopLook} {
		if code := stop(); code != exitFine {
			t.Errorf("a watch that was interrupted ended with exit code %d", code)
		}
	}
}

func TestAWatchPrintsATable(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--create", "--id", "r")
	lines, stop := begin(t, append(l.args(), "assignments", "--watch")...)
	var got []string
	for text := range lines {
		got = append(got, strings.Join(strings.Fields(text)[:2], " "))
		if len(got) == 2 {
			l.ok("allocate", "--id", "s")
		}
		if len(got) == 3 {
			break
		}
	}
	if want := "CHANGE RESOURCE, listed r, changed s"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}
