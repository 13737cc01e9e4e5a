package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// readyOf returns the config that agent makes of these flags about its handler and whether it can work.
func readyOf(t *testing.T, args ...string) (cfg drm.Config, err error) {
	t.Helper()
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	app.Commands = []*cli.Command{{
		Name: "x", Flags: append(handlerFlags(), readyFlags()...),
		Action: func(c *cli.Context) error {
			closeHandler, err := handlerConfig(c, &cfg, "")
			if err != nil {
				return err
			}
			t.Cleanup(closeHandler)
			closeReady, err := readyConfig(c, &cfg)
			t.Cleanup(closeReady)
			return err
		},
	}}
	err = app.RunContext(t.Context(), append([]string{"drmctl", "x"}, args...))
	return cfg, err
}

func TestAgentsReadyOptions(t *testing.T) {
	got, err := readyOf(t, "--handler-log")
	if err != nil || got.Ready != nil || got.ReadyInterval != 5*time.Second || got.UnreadyAfter != 3 ||
		got.ReadyAfter != 2 || got.MinReady != 0.5 || got.FailedShare != 0.9 {
		t.Errorf("without any: %+v, %v", got, err)
	}
	got, err = readyOf(t, "--handler-log", "--ready-exec", "true", "--ready-interval", "1s", "--unready-after", "7",
		"--ready-after", "8", "--min-ready", "0.25", "--failed-share", "0")
	if err != nil || got.Ready == nil || got.ReadyInterval != time.Second || got.UnreadyAfter != 7 ||
		got.ReadyAfter != 8 || got.MinReady != 0.25 || got.FailedShare != drm.Never {
		t.Errorf("with all: %+v, %v", got, err)
	}
	if err := got.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	got, err = readyOf(t, "--handler-exec", "sleep 60", "--ready-exec", "sh -c 'echo no database; exit 3'")
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Ready(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "exit status 3: no database") {
		t.Error(err)
	}
}

// The headers for the handler may be secrets of its host, and go to no other one.
func TestTheReadyURLGetsTheHandlersHeadersOnItsHostOnly(t *testing.T) {
	var header atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		header.Store(r.Header.Get("Authorization"))
	}))
	defer server.Close()
	for handlerURL, want := range map[string]string{
		server.URL + "/hook": "Bearer s3cret",
		strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/": "",
	} {
		got, err := readyOf(t, "--handler-url", handlerURL, "--handler-header", "Authorization: Bearer s3cret",
			"--ready-url", server.URL+"/healthz")
		if err == nil {
			err = got.Ready(t.Context())
		}
		if err != nil || header.Load() != want {
			t.Errorf("beside %s: the header is %q, want %q; %v", handlerURL, header.Load(), want, err)
		}
	}
}

// Only a service that does the handler's work has something that a restart of it takes away.
func TestTheReadyURLTellsOfARestartOfTheHandlersServiceOnly(t *testing.T) {
	var lives atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(handler.InstanceHeader, fmt.Sprint(lives.Add(1)))
	}))
	defer server.Close()
	for _, tt := range []struct {
		args []string
		want error
	}{
		{[]string{"--handler-url", server.URL}, drm.ErrServiceRestarted},
		{[]string{"--handler-exec", "sleep 60"}, nil},
		{[]string{"--handler-log"}, nil},
	} {
		got, err := readyOf(t, append(tt.args, "--ready-url", server.URL)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Ready(t.Context()); err != nil {
			t.Errorf("%s: at first: %v", tt.args, err)
		}
		if err := got.Ready(t.Context()); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: after a restart: %v, want %v", tt.args, err, tt.want)
		}
	}
}

func TestAnAgentWhoseReadyURLSaysNoIsUnready(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var sick atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "no database", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	l.agent("m1", "--allocate-only", "--handler-log")
	l.agent("m2", "--allocate-only", "--handler-log", "--ready-url", server.URL+"/healthz",
		"--ready-interval", "100ms", "--unready-after", "2")
	l.members(2)
	state := func(want, reason string) {
		t.Helper()
		eventually(t, func() error {
			all := get[[]memberJSON](l, "members")
			if m := all[1]; m.State != want || !strings.Contains(m.Reason, reason) ||
				(m.Shards > 0) != (want == "active") {
				return fmt.Errorf("%+v, want it to be %s", m, want)
			}
			return nil
		})
	}
	sick.Store(true)
	state("unready", `/healthz: status 503 Service Unavailable: "no database"`)
	s := get[statusJSON](l, "status")
	if len(s.Unready) != 1 || s.Unready[0].Member != "m2" || s.Unready[0].Ignored {
		t.Errorf("status %+v", s)
	}
	if table := l.ok("status"); !strings.Contains(table, "unready") || !strings.Contains(table, "m2: GET http://") {
		t.Errorf("the table:\n%s", table)
	}
	if table := l.ok("members"); !strings.Contains(table, "REASON") || !strings.Contains(table, "no database") {
		t.Errorf("the table:\n%s", table)
	}
	l.fails(exitFailed, "drain", "m1")
	sick.Store(false)
	state("active", "")
}

func TestThatUnreadinessIsIgnoredIsNoted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-log", "--ready-exec", "false", "--ready-interval", "100ms")
	const want = `too few members are ready, so those that are not go on as if they were: "m1" (false: exit status 1)`
	eventually(t, func() error {
		for _, command := range []string{"members", "status"} {
			got := drmctl(t.Context(), append(l.args(), command)...)
			if !strings.Contains(got.stderr, want) {
				return fmt.Errorf("%s says %q, want %q", command, got.stderr, want)
			}
		}
		return nil
	})
}
