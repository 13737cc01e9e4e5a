package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSourceNumberIDsGoesWithASource(t *testing.T) {
	got := drmctl(t.Context(), "agent", "--app", "a", "--handler-log", "--allocate-only", "--source-number-ids")
	if got.code != exitUsage {
		t.Errorf("exit code %d, want %d", got.code, exitUsage)
	}
	checkOneLine(t, got.stderr, "--source-number-ids", "--source-url", "--source-file")
}

// active waits until these resources, and no others, are assigned and active.
func (l *lab) active(ids ...string) {
	l.t.Helper()
	eventually(l.t, func() error {
		var active []string
		all := get[[]assignmentJSON](l, "assignments")
		for _, a := range all {
			if a.State == "active" {
				active = append(active, a.Resource)
			}
		}
		if !slices.Equal(active, ids) || len(all) != len(ids) {
			return fmt.Errorf("assignments %+v, want %v active", all, ids)
		}
		return nil
	})
}

// Nothing polls the source here, so the agent learns of changes by watching the file.
func TestAgentReadsItsSourceFileAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	fill := func(body string) {
		if err := os.WriteFile(path+".new", []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	fill(`{"data":[{"id":1},{"id":"two"}]}`)
	_, stop := l.agent("m1", "--source-file", path, "--source-number-ids", "--poll", "0", "--handler-log")
	l.active("1", "two")
	fill(`{"data":[{"id":"two"},{"id":3}]}`)
	l.active("3", "two")
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

// statusShows waits until the table of status has these lines.
func (l *lab) statusShows(patterns ...string) {
	l.t.Helper()
	eventually(l.t, func() error {
		table := l.ok("status")
		for _, p := range patterns {
			if !regexp.MustCompile(`(?m)^` + p + `$`).MatchString(table) {
				return fmt.Errorf("the status is without %q:\n%s", p, table)
			}
		}
		return nil
	})
}

func TestStatusTellsWhatTheSourceChanged(t *testing.T) {
	t.Parallel()
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	fill := func(n int) {
		var items []string
		for i := range n {
			items = append(items, fmt.Sprintf(`{"id":"r%d"}`, i))
		}
		if err := os.WriteFile(path+".new", []byte(`{"data":[`+strings.Join(items, ",")+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	const at = `source last change +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, `
	l.ok("allocate", "--id", "other", "--create") // so that there is an app
	l.ok("deallocate", "other")
	l.statusShows(`source last change +-`)
	fill(20)
	_, stop := l.agent("m1", "--source-file", path, "--poll", "0", "--removal-delay", "24h", "--handler-log")
	l.statusShows(at+`\+20 ~0 -0`, `resources +20`)
	fill(3)
	l.statusShows(at+`\+20 ~0 -0`, `source removals held +17, since .*, confirmed by an answer after \S+`,
		`source resources +3`, `resources +20`)
	l.ok("source", "accept")
	l.statusShows(at+`\+0 ~0 -17`, `resources +3`)
	fill(4)
	l.statusShows(at+`\+1 ~0 -0`, `resources +4`)
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

func TestAgentAcceptsNumberIDsOfAnHTTPSourceIfToldTo(t *testing.T) {
	t.Parallel()
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":1,"name":"one"}]}`)
	}))
	t.Cleanup(source.Close)
	l := newLab(t)
	_, stop := l.agent("m1", "--source-url", source.URL, "--source-number-ids", "--handler-log")
	l.active("1")
	got := get[[]struct{ Data json.RawMessage }](l, "resources")
	if want := `{"id":"1","name":"one"}`; len(got) != 1 || string(got[0].Data) != want {
		t.Errorf("the catalogue has %+v, want the data %s", got, want)
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

// The source has such a resource, so "not found" alone would puzzle the user.
func TestLookupOfASuspendedResourceSaysThatItWasDeallocated(t *testing.T) {
	t.Parallel()
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	if err := os.WriteFile(path, []byte(`{"data":[{"id":"a"},{"id":"b"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.agent("m1", "--source-file", path, "--poll", "0", "--handler-log")
	l.active("a", "b")
	l.ok("deallocate", "a", "--wait")
	for _, args := range [][]string{{"lookup", "a"}, {"lookup", "never"}} {
		got := drmctl(t.Context(), append(l.args(), args...)...)
		if got.code != exitNotFound {
			t.Errorf("%q: exit code %d, want %d", args, got.code, exitNotFound)
		}
		checkOneLine(t, got.stderr, "not found")
		if told := strings.Contains(got.stderr, "deallocated"); told != (args[1] == "a") {
			t.Errorf("%q: %s", args, got.stderr)
		}
	}
}
