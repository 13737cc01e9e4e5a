package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// listedEntry is an element of what resources prints.
type listedEntry struct {
	ID         string
	Origin     string
	State      string
	Suspension *drm.Suspension
}

// entry returns the catalogue's entry of a resource as resources prints it.
func (l *lab) entry(id string) listedEntry {
	l.t.Helper()
	for _, e := range get[[]listedEntry](l, "resources") {
		if e.ID == id {
			return e
		}
	}
	return listedEntry{}
}

func TestWhatIsSuspendedIsHandledByNobodyUntilItIsResumed(t *testing.T) {
	t.Parallel()
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	fill := func(data string) {
		if err := os.WriteFile(path, []byte(`{"data":[`+data+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill(`{"id":"a"},{"id":"b"}`)
	l.fails(exitNotFound, "suspend", "a") // there is no app
	l.agent("m1", "--source-file", path, "--poll", "0", "--handler-log")
	l.active("a", "b")
	l.ok("allocate", "--id", "own", "--wait")
	l.fails(exitNotFound, "suspend", "none")
	l.fails(exitNotFound, "resume", "none")
	l.fails(exitUsage, "suspend")
	l.fails(exitUsage, "resume", "a", "b")

	for _, id := range []string{"a", "own"} {
		l.prints(fmt.Sprintf(`{"resource":%q,"suspended":true,"done":true}`, id),
			"suspend", id, "--wait", "--by", "ann", "--reason", "it floods the log")
	}
	l.prints(`{"resource":"a","suspended":true,"done":false}`, "suspend", "a", "--by", "bob") // again
	a := get[assignmentJSON](l, "lookup", "a")
	if a.State != "unassigned" || !strings.HasPrefix(a.Error, "it is suspended by ann since ") ||
		!strings.HasSuffix(a.Error, ": it floods the log") || a.Suspension == nil || a.Suspension.By != "ann" {
		t.Errorf("lookup: %+v", a)
	}
	for id, origin := range map[string]string{"a": "source", "own": "allocated"} {
		if e := l.entry(id); e.Origin != origin || e.State != "suspended" || e.Suspension == nil ||
			e.Suspension.Why != "it floods the log" || time.Since(e.Suspension.Since) > time.Hour {
			t.Errorf("resources: %+v", e)
		}
	}
	if s := get[statusJSON](l, "status"); s.Resources != 1 || s.Suspended != 2 || len(s.Suspensions) != 2 ||
		s.Suspensions[0].Resource != "a" || s.Suspensions[1].By != "ann" {
		t.Errorf("status: %+v", s)
	}
	for _, command := range []string{"status", "resources"} {
		if got := l.ok(command); !strings.Contains(got, "by ann: it floods the log (since ") {
			t.Errorf("%s prints %s", command, got)
		}
	}
	if got := l.ok("verify"); strings.Contains(got, "own") {
		t.Errorf("verify: %s", got)
	}
	if got := l.ok("retry", "a", "-o", "json"); !strings.Contains(got, `"retried":[]`) ||
		!strings.Contains(got, "nobody has it: it is suspended by ann since ") {
		t.Errorf("retry prints %s", got)
	}

	// Neither the source nor an allocation wakes it.
	l.ok("allocate", "--id", "own", "--data", `{"n":2}`)
	fill(`{"id":"a","n":2},{"id":"b"},{"id":"c"}`)
	l.active("b", "c")
	if s := get[statusJSON](l, "status"); s.Suspended != 2 || s.Active != 2 {
		t.Errorf("status after a change of the source: %+v", s)
	}
	got := drmctl(t.Context(), append(l.args(), "allocate", "--id", "own", "--wait")...)
	if got.code != exitNotFound {
		t.Errorf("allocate --wait: %+v", got)
	}
	checkOneLine(t, got.stderr, "it is suspended by ann", "it floods the log")

	for _, id := range []string{"a", "own"} {
		l.prints(fmt.Sprintf(`{"resource":%q,"suspended":false,"done":true}`, id), "resume", id, "--wait")
	}
	l.prints(`{"resource":"a","suspended":false,"done":false}`, "resume", "a")
	l.active("a", "b", "c", "own")
	for id, origin := range map[string]string{"a": "source", "own": "allocated"} {
		if e := l.entry(id); e.Origin != origin || e.State != "wanted" || e.Suspension != nil {
			t.Errorf("resources: %+v", e)
		}
	}

	// With the resource goes the suspension.
	l.ok("suspend", "own")
	l.ok("suspend", "a", "--wait")
	l.ok("deallocate", "own")
	l.fails(exitNotFound, "suspend", "own")
	fill(`{"id":"b"},{"id":"c"}`)
	eventually(t, func() error {
		if e := l.entry("a"); e.ID != "" {
			return fmt.Errorf("the source has dropped it: %+v", e)
		}
		return nil
	})
	l.ok("allocate", "--id", "own", "--wait")
	fill(`{"id":"a"},{"id":"b"},{"id":"c"}`)
	l.active("a", "b", "c", "own")
}
