package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// onTerminal runs a command on a terminal, and returns what the terminal gets and the exit code.
func onTerminal(t *testing.T, args ...string) (shown string, code int) {
	t.Helper()
	keys, tty := terminal(t)
	seen := make(chan string, 1)
	go func() { // the terminal holds a few lines only
		var all strings.Builder
		b := make([]byte, 4096)
		for {
			n, err := keys.Read(b)
			all.Write(b[:n])
			if err != nil {
				seen <- all.String()
				return
			}
		}
	}()
	code = run(t.Context(), args, strings.NewReader(""), tty, io.Discard)
	_ = tty.Close() // then the other end reads an error, after all that was written
	select {
	case shown = <-seen:
	case <-time.After(time.Minute):
		t.Fatal("the terminal does not end")
	}
	return shown, code
}

// Colours are for terminals, and there only for who wants them.
func TestTerminalsHaveColours(t *testing.T) {
	l := newLab(t)
	l.ok("allocate", "--create", "--shards", "8", "--id", "r")
	l.ok("drain", "gone", "--absent")
	const green, red = "\x1b[32musable\x1b[0m", "\x1b[31munassigned\x1b[0m"
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want string // "": no colour
	}{
		{nil, []string{"apps"}, green},
		{nil, []string{"assignments"}, red},
		{nil, []string{"apps", "--width", "10"}, "\x1b[32musable\x1b[0m"},
		{nil, []string{"apps", "--color", "never"}, ""},
		{nil, []string{"apps", "-o", "json"}, ""},
		{nil, []string{"apps", "-o", "yaml"}, ""},
		{nil, []string{"apps", "-o", "name", "--color", "always"}, ""},
		{nil, []string{"members"}, "\x1b[33mabsent\x1b[0m"},
		{nil, []string{"status"}, "\x1b[31mDRM001 error\x1b[0m"},
		{map[string]string{"NO_COLOR": "1"}, []string{"apps"}, ""},
		{map[string]string{"NO_COLOR": "0"}, []string{"apps"}, ""}, // it is not empty
		{map[string]string{"NO_COLOR": ""}, []string{"apps"}, green},
		{map[string]string{"NO_COLOR": "1"}, []string{"apps", "--color", "always"}, green},
		{map[string]string{"TERM": "dumb"}, []string{"apps"}, ""},
		{map[string]string{"DRM_COLOR": "never"}, []string{"apps"}, ""},
		{map[string]string{"DRM_COLOR": "never"}, []string{"apps", "--color", "always"}, green},
		{map[string]string{"DRM_COLOR": "always"}, []string{"apps", "--color", "never"}, ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Setenv("NO_COLOR", "")
			t.Setenv("TERM", "xterm")
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			got, code := onTerminal(t, append(l.args(), tt.args...)...)
			if code != exitFine {
				t.Errorf("exit code %d", code)
			}
			if tt.want == "" && strings.Contains(got, "\x1b") || !strings.Contains(got, tt.want) {
				t.Errorf("%v: the terminal gets %q, want %q", tt.env, got, tt.want)
			}
		})
	}
	if got := l.ok("apps"); strings.Contains(got, "\x1b") {
		t.Errorf("what is no terminal gets %q", got)
	}
	if got := l.ok("apps", "--color", "always"); !strings.Contains(got, green) {
		t.Errorf("--color always prints %q", got)
	}
	l.fails(exitUsage, "apps", "--color", "sometimes")
}

// A text of an operator or of a handler does nothing to a terminal, wherever it is shown.
func TestTextsFromElsewhereDoNothingToATerminal(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	l := &lab{t, []string{"--endpoints", server.Endpoint(), "--app", "lab", "--command-timeout", "30s"}}
	l.ok("allocate", "--create", "--shards", "8", "--id", "r")
	l.ok("allocate", "--id", "s", "--data", `{"x":"`+`\u001b[31m`+`"}`)
	// drmctl gives no such orders, but others may.
	evil, err := json.Marshal(map[string]string{
		"why": "\x1b[31mred\x07\u009b2J\u202e", "by": "\x1b[2J", "member": "m1",
	})
	if err != nil {
		t.Fatal(err)
	}
	etcd, layout := embeddedtest.Client(t, server.Endpoint()), keys.New("/drm", "lab")
	for _, key := range []string{layout.Drain("m1"), layout.Cordon("m1"), layout.Pin(3)} {
		if _, err := etcd.Put(t.Context(), key, string(evil)); err != nil {
			t.Fatal(err)
		}
	}
	l.fails(exitUsage, "suspend", "s", "--reason", "\x1b[31m")
	_, stop := l.agent("m2", "--allocate-only", "--log-level", "error", "--handle-attempts", "1",
		"--handler-exec", `sh -c 'printf "\033[31mbroken\033[2J" >&2; exit 3'`)
	l.members(1)
	for _, args := range [][]string{
		{"members"},
		{"pins"},
		{"status"},
		{"assignments"},
		{"lookup", "r"},
		{"explain", "r"},
		{"explain", "s"},
		{"describe", "member", "m1"},
		{"describe", "resource", "s", "--with-data"},
		{"describe", "shard", "3"},
		{"resources"},
		{"events", "--since", "1"},
		{"plan", "--undrain", "m1"},
		{"verify"},
	} {
		for _, format := range []string{"table", "wide"} {
			got := drmctl(t.Context(), append(append(l.args(), "-o", format), args...)...)
			for _, out := range []string{got.stdout, got.stderr} {
				if i := strings.IndexAny(out, "\x1b\x07\u009b\u202e"); i >= 0 {
					t.Errorf("%s -o %s prints %q", args, format, out[max(0, i-60):min(len(out), i+60)])
				}
			}
		}
		got := drmctl(t.Context(), append(append(l.args(), "-o", "json"), args...)...)
		if strings.ContainsAny(got.stdout+got.stderr, "\x1b\x07") {
			t.Errorf("%s -o json prints %q, %q", args, got.stdout, got.stderr)
		}
	}
	if got := l.ok("members"); !strings.Contains(got, `\x1b[31mred\a\u009b2J\u202e`) {
		t.Errorf("members does not tell what the reason says: %q", got)
	}
	if code := stop(); code != exitFine {
		t.Errorf("the agent: exit code %d", code)
	}
}
