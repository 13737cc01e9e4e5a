package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

// list replaces a source's file by one with so many resources.
func list(t *testing.T, path string, resources int) {
	t.Helper()
	items := make([]string, resources)
	for n := range items {
		items[n] = fmt.Sprintf(`{"id":"r%03d"}`, n)
	}
	if err := os.WriteFile(path+".new", []byte(`{"data":[`+strings.Join(items, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAnOperatorAcceptsWhatIsHeld(t *testing.T) {
	t.Parallel()
	l, file := newLab(t), filepath.Join(t.TempDir(), "list.json")
	l.fails(exitNotFound, "source", "fetch") // there is no such app
	list(t, file, 130)
	lines, stop := l.agent("m1", "--source-file", file, "--poll", "0", "--removal-policy", "hold", "--handler-log")
	go func() {
		for range lines {
		}
	}()
	eventually(t, func() error {
		if s := get[statusJSON](l, "status"); s.Active != 130 {
			return fmt.Errorf("status: %+v", s)
		}
		return nil
	})
	l.prints(`{"held":0,"held_since":null,"held_ids":[],"ordered":false,"done":false,"removed":0}`, "source", "accept")
	list(t, file, 1)
	l.prints(`{"ordered":true,"done":true,"resources":1,"held":129}`, "source", "fetch", "--wait",
		"--wait-timeout", "1m")
	s := get[statusJSON](l, "status").Source
	if s.Held != 129 || s.HeldSince == nil || len(s.HeldIDs) != 100 || s.HeldIDs[0] != "r001" {
		t.Errorf("status: %+v", s)
	}
	if table := l.ok("status"); !strings.Contains(table, "129, since ") ||
		!strings.Contains(table, "until `drmctl source accept`") {
		t.Errorf("status:\n%s", table)
	}
	if dry := get[acceptJSON](l, "source", "accept", "--dry-run"); dry.Held != 129 || dry.Ordered ||
		len(dry.HeldIDs) != 100 {
		t.Errorf("dry run: %+v", dry)
	}
	if table := l.ok("source", "--dry-run", "accept"); !strings.HasPrefix(table, "r001\n") ||
		!strings.Contains(table, "and 29 more\nwould remove 129, which are held since ") {
		t.Errorf("dry run:\n%s", table)
	}
	done := get[acceptJSON](l, "source", "accept", "--wait", "--wait-timeout", "1m")
	if done.Held != 129 || !done.Ordered || !done.Done || done.Removed != 129 {
		t.Errorf("accept: %+v", done)
	}
	if s := get[statusJSON](l, "status"); s.Resources != 1 || s.Source.Held != 0 {
		t.Errorf("status: %+v", s)
	}
	if err := os.WriteFile(file, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := drmctl(t.Context(), append(l.args(), "source", "fetch", "--wait", "--wait-timeout", "1m")...)
	if failed.code != exitFailed {
		t.Errorf("exit code %d", failed.code)
	}
	checkOneLine(t, failed.stderr, "list.json")
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

func TestSourceCommandsRefuseWhatMeansNothing(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"source", "accept", "x"}, []string{"source accept", "x"}},
		{[]string{"source", "fetch", "x"}, []string{"source fetch", "x"}},
		{[]string{"source", "accept", "--dry-run", "--wait"}, []string{"--dry-run", "--wait"}},
		{[]string{"source", "accept", "--wait", "--wait-timeout", "-1s"}, []string{"--wait-timeout", "-1s"}},
		{[]string{"source", "acept"}, []string{"source acept", "accept"}},
	} {
		got := drmctl(t.Context(), append([]string{"--app", "a"}, c.args...)...)
		if got.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", c.args, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, c.want...)
	}
}

func TestTheHelpOfAGroupListsItsCommands(t *testing.T) {
	for _, args := range [][]string{{"source"}, {"source", "--help"}, {"help", "source"}} {
		got := drmctl(t.Context(), args...)
		if got.code != exitFine {
			t.Errorf("%v: exit code %d: %s", args, got.code, got.stderr)
		}
		for _, want := range []string{"drmctl source COMMAND", "accept", "fetch", sourceFetchCommand().Usage} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%v does not say %q:\n%s", args, want, got.stdout)
			}
		}
	}
}

func TestAgentsRemovalOptions(t *testing.T) {
	for _, c := range []struct {
		args []string
		want drm.RemovalLimit
	}{
		{nil, drm.RemovalLimit{Share: 0.2, MoreThan: 10}},
		{[]string{"--max-removals", "50%/3"}, drm.RemovalLimit{Share: 0.5, MoreThan: 3}},
		{[]string{"--max-removals", "0.01%"}, drm.RemovalLimit{Share: 0.0001}},
		{[]string{"--max-removals=100%"}, drm.RemovalLimit{Share: 1}},
	} {
		got, err := sourceOf(t, append([]string{"--source-url", "http://127.0.0.1:1/"}, c.args...)...)
		if err != nil || got.MaxRemovals != c.want || got.RemovalDelay != time.Minute ||
			got.RemovalPolicy != drm.ConfirmRemovals {
			t.Errorf("%v: %+v, %v", c.args, got, err)
		}
	}
	got, err := sourceOf(t, "--source-url", "http://127.0.0.1:1/", "--removal-policy", "hold", "--removal-delay", "1h")
	if err != nil || got.RemovalPolicy != drm.HoldRemovals || got.RemovalDelay != time.Hour {
		t.Errorf("%+v, %v", got, err)
	}
	const url = "--source-url=http://127.0.0.1:1/"
	for _, c := range []struct{ args, want []string }{
		{[]string{url, "--max-removals", "20"}, []string{"--max-removals", `"20"`, "20%/10"}},
		{[]string{url, "--max-removals", "0%"}, []string{"--max-removals", "0%"}},
		{[]string{url, "--max-removals", "101%"}, []string{"--max-removals", "101%"}},
		{[]string{url, "--max-removals", "NaN%"}, []string{"--max-removals", "NaN%"}},
		{[]string{url, "--max-removals", "20%/0"}, []string{"--max-removals", "20%/0"}},
		{[]string{url, "--max-removals", "20%/x"}, []string{"--max-removals", "20%/x"}},
		{[]string{url, "--max-removals", "20%/"}, []string{"--max-removals", "20%/"}},
		{[]string{url, "--removal-delay", "0s"}, []string{"--removal-delay", "0s", "1ms to 24h"}},
		{[]string{url, "--removal-policy", "never"}, []string{"--removal-policy", "never", "confirm or hold"}},
		{
			[]string{"--allocate-only", "--removal-policy", "hold"},
			[]string{"--removal-policy", "--source-url", "--source-file"},
		},
	} {
		got := drmctl(t.Context(), append([]string{"agent", "--app", "a", "--handler-log"}, c.args...)...)
		if got.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", c.args, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, c.want...)
	}
}

func TestStatusTellsWhenWhatIsHeldIsConfirmed(t *testing.T) {
	at := time.Date(2026, 2, 3, 14, 2, 10, 0, time.UTC)
	s := drm.Status{Source: drm.SourceStatus{Held: 7, HeldSince: at, HeldUntil: at.Add(time.Minute)}}
	table := shown(t, "table", func(c *cli.Context) error { return showStatus(c, drm.Overview{Status: s}) })
	want := "7, since 2026-02-03T14:02:10Z, confirmed by an answer after 2026-02-03T14:03:10Z"
	if !strings.Contains(table, want) {
		t.Errorf("status does not say %q:\n%s", want, table)
	}
}
