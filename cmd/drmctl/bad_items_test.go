package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStatusAndVerifyNameBadItems(t *testing.T) {
	t.Parallel()
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	l.ok("allocate", "--id", "other", "--create") // so that there is an app
	l.ok("deallocate", "other")
	if got := l.ok("status", "-o", "json"); !strings.Contains(got, `"bad_items": []`) &&
		!strings.Contains(got, `"bad_items":[]`) {
		t.Errorf("without any: %s", got)
	}
	answer := []byte(`{"data":[{"id":"a"},{"id":7,"password":"hunter2"},{"id":"b"},{"password":"hunter2"}]}`)
	if err := os.WriteFile(path, answer, 0o600); err != nil {
		t.Fatal(err)
	}
	lines, stop := l.agent("m1", "--source-file", path, "--poll", "0", "--handler-log")
	l.active("a", "b")
	l.statusShows(`source bad items +2, the first \(see -o json\): item 1 \(id "7"\): .*NumberIDs.*`, `source error +-`)
	got := get[struct {
		Source struct {
			Bad      int             `json:"bad"`
			BadItems json.RawMessage `json:"bad_items"`
		}
	}](l, "status")
	var items []struct {
		Index int
		ID    string
		Error string
	}
	if err := json.Unmarshal(got.Source.BadItems, &items); err != nil || got.Source.Bad != 2 || len(items) != 2 ||
		items[0].Index != 1 || items[0].ID != "7" || items[1].Index != 3 || items[1].ID != "" ||
		!strings.Contains(items[1].Error, "an object of password") {
		t.Errorf("%+v %s, %v", got, got.Source.BadItems, err)
	}
	verified := drmctl(t.Context(), append(l.args(), "verify")...)
	if verified.code != exitFailed || strings.Count(verified.stdout, "bad-item") != 2 {
		t.Errorf("verify: %+v", verified)
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
	all := verified.stdout + verified.stderr + l.ok("status") + l.ok("assignments")
	for line := range lines {
		all += line
	}
	if strings.Contains(all, "hunter2") {
		t.Error(all)
	}
}

func TestAnAgentIsStrictIfToldTo(t *testing.T) {
	t.Parallel()
	l, path := newLab(t), filepath.Join(t.TempDir(), "source.json")
	if err := os.WriteFile(path, []byte(`{"data":[{"id":"a"},{"id":"b"},{"id":"a"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got := drmctl(t.Context(), append(l.args(), "agent", "--source-file", path, "--source-strict",
		"--source-retry", "1ms", "--handler-log")...)
	if got.code != exitFailed || !strings.Contains(got.stderr, "SourceStrict") ||
		!strings.Contains(got.stderr, `item 2 (id "a")`) {
		t.Errorf("%+v", got)
	}
}

func TestAllocateTellsNoDataInItsErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(path, []byte(`{"password":"hunter2"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--data", `{"password":"hunter2"}`},
		{"--data", `"hunter2"`},
		{"--data", `hunter2`},
		{"--data", "@" + path},
		{"--data", `{"id":["hunter2"]}`},
		{"--id", "a", "--data", `["hunter2"]`},
		{"--id", "a", "--data", `{"id":"b","password":"hunter2"}`},
		{"--id", "a", "--data", "@" + path},
	} {
		got := drmctl(t.Context(), append([]string{"--app", "a", "--endpoints", "127.0.0.1:1", "allocate"}, args...)...)
		if got.code != exitUsage || strings.Contains(got.stderr, "hunter2") {
			t.Errorf("%v: %+v", args, got)
		}
		checkOneLine(t, got.stderr, "--")
	}
}
