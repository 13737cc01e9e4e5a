//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// feedProgram is what handles the resources in the sessions of docs/operations.md.
const feedProgram = `#!/bin/sh
if [ "$DRM_RESOURCE_ID" = feed-7 ] && [ ! -e fixed ]; then exit 3; fi
echo ready
exec sleep 100000
`

// typedCommand is a command in a session of a document, and what it prints.
type typedCommand struct {
	line   int
	text   string
	output string
}

// sessionsOf returns the commands of all blocks that are declared as console.
func sessionsOf(t *testing.T, file string) []typedCommand {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []typedCommand
	inside := false
	for i, line := range strings.Split(string(text), "\n") {
		command, typed := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case typed:
			all = append(all, typedCommand{line: i + 1, text: command})
		default:
			all[len(all)-1].output += line + "\n"
		}
	}
	return all
}

// varying is what differs from one run to the next: times, ids of leases, and numbers that are no part of a name.
var varying = regexp.MustCompile(
	`[a-z]+-[0-9]+|DRM[0-9]+|[0-9-]{10}T[0-9:]{8}Z|[0-9.]+:[0-9]{4,5}|[0-9a-f]{12,}|[0-9]+(\.[0-9]+)?`)

// likeOutput makes a regular expression of what a document shows. A line … stands for any lines, and … at the end of a
// line for its rest.
func likeOutput(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "…" {
			b.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		line, more := strings.CutSuffix(line, "…")
		for i, word := range strings.Fields(line) {
			if i > 0 {
				b.WriteString(`[ \t]+`)
			}
			at := 0
			for _, m := range varying.FindAllStringIndex(word, -1) {
				b.WriteString(regexp.QuoteMeta(word[at:m[0]]))
				switch found := word[m[0]:m[1]]; {
				case strings.HasPrefix(found, "DRM"), regexp.MustCompile(`^[a-z]+-`).MatchString(found):
					b.WriteString(regexp.QuoteMeta(found))
				default:
					b.WriteString(`[0-9a-f.:TZ-]+`)
				}
				at = m[1]
			}
			b.WriteString(regexp.QuoteMeta(word[at:]))
		}
		if more {
			b.WriteString(`[^\n]*`)
		}
		b.WriteString("[ \t]*\n")
	}
	return `\A` + b.String() + `\z`
}

// TestTheSessionsOfOperationsMD types what docs/operations.md shows, and compares what is printed. A command is
// repeated while it prints something else, since members need a moment.
func TestTheSessionsOfOperationsMD(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.global[3] = "feeds"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "feed.sh"), []byte(feedProgram), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "drmctl")); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(),
		"PATH="+dir+":"+os.Getenv("PATH"), "DRM_ENDPOINTS="+l.global[1], "DRM_APP=feeds", "DRM_COMMAND_TIMEOUT=30s",
	)
	l.ok("app", "create", "--shards", "16")
	for i, zone := range []string{"a", "b", "c"} {
		agent := exec.CommandContext(t.Context(), self, "agent", "--id", fmt.Sprintf("host-%d", i+1),
			"--allocate-only", "--handler-exec", "./feed.sh", "--exec-ready-line", "ready", "--label", "zone="+zone,
			"--handle-attempts", "2", "--lease-ttl", "20s", "--stop-timeout", "5s")
		agent.Dir, agent.Env = dir, env
		agent.Cancel = func() error { return agent.Process.Signal(os.Interrupt) }
		agent.WaitDelay = time.Minute
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = agent.Wait() })
		l.members(i + 1)
	}
	for i := range 12 {
		l.ok("allocate", "--id", fmt.Sprintf("feed-%d", i+1))
	}
	commands := sessionsOf(t, filepath.Join("..", "..", "docs", "operations.md"))
	if len(commands) < 10 {
		t.Fatalf("%d commands were found", len(commands))
	}
	for _, c := range commands {
		want := regexp.MustCompile(likeOutput(c.output))
		eventually(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			typed := exec.CommandContext(ctx, "sh", "-c", c.text)
			typed.Dir, typed.Env = dir, env
			_ = os.Remove(filepath.Join(dir, "report.tar.gz")) // of an attempt before
			got, _ := typed.CombinedOutput()                   // some end with another exit code than 0, as they should
			if !want.Match(got) {
				return fmt.Errorf("line %d: %s\nprints\n%swant\n%s", c.line, c.text, got, c.output)
			}
			return nil
		})
	}
}

func TestLikeOutput(t *testing.T) {
	for _, test := range []struct {
		shown, got string
		like       bool
	}{
		{"host-1  5  2026-11-30T19:51:25Z\n", "host-1 17 2027-01-01T00:00:00Z\n", true},
		{"host-1  5\n", "host-2 5\n", false},
		{"a\n…\nb\n", "a\nx\ny\nb\n", true},
		{"a\n…\nb\n", "a\nx\ny\n", false},
		{"a  …\n", "a b c\n", true},
		{"DRM021 error\n", "DRM022 error\n", false},
		{"127.0.0.1:2379\n", "127.0.0.1:43211\n", true},
	} {
		if like := regexp.MustCompile(likeOutput(test.shown)).MatchString(test.got); like != test.like {
			t.Errorf("%q and %q: %t", test.shown, test.got, like)
		}
	}
}
