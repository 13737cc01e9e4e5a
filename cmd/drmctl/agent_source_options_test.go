package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

// sourceOf returns the config that agent makes of these flags about its source.
func sourceOf(t *testing.T, args ...string) (cfg drm.Config, err error) {
	t.Helper()
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	app.Commands = []*cli.Command{{
		Name: "x", Flags: sourceFlags(),
		Action: func(c *cli.Context) error { return sourceConfig(c, &cfg) },
	}}
	err = app.RunContext(t.Context(), append([]string{"drmctl", "x"}, args...))
	return cfg, err
}

func TestAgentsSourceOptions(t *testing.T) {
	for _, c := range []struct {
		args   []string
		cache  bool
		retry  time.Duration
		policy drm.SourcePolicy
	}{
		{nil, false, time.Minute, drm.KeepCatalogue},
		{
			[]string{"--source-cache", "--source-retry", "forever", "--source-policy", "exit"},
			true, drm.Forever, drm.ExitOnSourceError,
		},
		{[]string{"--source-retry", "90s", "--source-policy", "keep"}, false, 90 * time.Second, drm.KeepCatalogue},
	} {
		got, err := sourceOf(t, append([]string{"--source-url", "http://127.0.0.1:1/"}, c.args...)...)
		if err != nil || got.CacheResources != c.cache || got.FetchRetryBudget != c.retry ||
			got.SourcePolicy != c.policy {
			t.Errorf("%v: %v, %v, %v, %v", c.args, got.CacheResources, got.FetchRetryBudget, got.SourcePolicy, err)
		}
	}
	if got, err := sourceOf(t, "--source-file", "list.json", "--source-strict"); err != nil || !got.SourceStrict {
		t.Errorf("--source-strict: %+v, %v", got, err)
	}
	t.Setenv("DRM_SOURCE_STRICT", "true")
	t.Setenv("DRM_SOURCE_CACHE", "true")
	t.Setenv("DRM_SOURCE_RETRY", "2m")
	t.Setenv("DRM_SOURCE_POLICY", "exit")
	got, err := sourceOf(t, "--source-file", "list.json")
	if err != nil || !got.CacheResources || !got.SourceStrict || got.FetchRetryBudget != 2*time.Minute ||
		got.SourcePolicy != drm.ExitOnSourceError {
		t.Errorf("from the environment: %+v, %v", got, err)
	}
}

func TestBadSourceOptionsAreUsageErrors(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	const url, file = "--source-url=http://127.0.0.1:1/", "--source-file=list.json"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{url, "--source-retry", "0s"}, []string{"--source-retry", "0s", "1ms to 24h, or forever"}},
		{[]string{url, "--source-retry", "25h"}, []string{"--source-retry", "25h"}},
		{[]string{url, "--source-retry", "always"}, []string{"--source-retry", "always"}},
		{[]string{url, "--source-policy", "stop"}, []string{"--source-policy", "stop", "keep or exit"}},
		{[]string{url, "--source-method", "get"}, []string{"--source-method", "get"}},
		{[]string{url, "--source-body", "@/no/such/file"}, []string{"--source-body", "/no/such/file"}},
		{[]string{url, "--source-cacert", "/no/such/file"}, []string{"--source-cacert", "/no/such/file"}},
		{[]string{url, "--source-cacert", junk}, []string{"--source-cacert", "PEM"}},
		{[]string{file, "--source-method", "PUT"}, []string{"--source-method", "--source-url"}},
		{[]string{file, "--source-body", "x"}, []string{"--source-body", "--source-url"}},
		{[]string{file, "--source-cacert", junk}, []string{"--source-cacert", "--source-url"}},
		{[]string{"--allocate-only", "--source-cache"}, []string{"--source-cache", "--source-url", "--source-file"}},
		{[]string{"--allocate-only", "--source-strict"}, []string{"--source-strict", "--source-url", "--source-file"}},
		{
			[]string{"--allocate-only", "--source-retry", "1m"},
			[]string{"--source-retry", "--source-url", "--source-file"},
		},
		{
			[]string{"--allocate-only", "--source-policy", "keep"},
			[]string{"--source-policy", "--source-url", "--source-file"},
		},
	} {
		got := drmctl(t.Context(), append([]string{"agent", "--app", "a", "--handler-log"}, c.args...)...)
		if got.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", c.args, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, c.want...)
	}
}

func TestAgentAsksItsSourceAsItIsToldTo(t *testing.T) {
	t.Parallel()
	var asked atomic.Value
	source := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		asked.Store(fmt.Sprintf("%s %s %v", req.Method, body, err))
		_, _ = fmt.Fprint(w, `{"data":[{"id":"1"}]}`)
	}))
	t.Cleanup(source.Close)
	dir := t.TempDir()
	authority, body := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "body.json")
	for path, data := range map[string][]byte{
		authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: source.Certificate().Raw}),
		body:      []byte(`{"kind":"feed"}`),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, given := range []string{"@" + body, `{"kind":"feed"}`} {
		l := newLab(t)
		_, stop := l.agent("m1", "--source-url", source.URL, "--source-method", "PUT", "--source-body", given,
			"--source-cacert", authority, "--handler-log")
		l.active("1")
		if got := asked.Swap("nothing"); got != `PUT {"kind":"feed"} <nil>` {
			t.Errorf("the source was asked with %v", got)
		}
		if code := stop(); code != exitFine {
			t.Errorf("exit code %d", code)
		}
	}
}

func TestAgentEndsWithItsSourceIfToldTo(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fails.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprint(w, `{"data":[{"id":"1"}]}`)
	}))
	t.Cleanup(source.Close)
	l := newLab(t)
	lines, stop := l.agent("m1", "--source-url", source.URL, "--poll", "100ms", "--source-retry", "1ms",
		"--source-policy", "exit", "--handler-log")
	l.active("1")
	fails.Store(true)
	ended := time.After(time.Minute)
	for {
		select {
		case _, printing := <-lines:
			if printing {
				continue
			}
		case <-ended:
			t.Fatal("the agent does not end")
		}
		break
	}
	if code := stop(); code != exitFailed { // it has ended by itself
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
}
