package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestVerifyReportsViolationsWithExitCode1(t *testing.T) {
	l := newLab(t)
	_, stop := l.agent("a", "--allocate-only", "--handler-log")
	l.members(1)
	l.ok("allocate", "--id", "x", "--wait")
	if got := get[[]violationJSON](l, "verify"); len(got) != 0 {
		t.Fatalf("violations in a settled app: %+v", got)
	}
	etcd := embeddedtest.Client(t, l.global[1])
	if _, err := etcd.Put(t.Context(), "/drm/lab/shards/what", "?"); err != nil {
		t.Fatal(err)
	}
	l.fails(exitFailed, "verify")
	got := drmctl(t.Context(), append(l.args(), "verify", "-o", "json")...)
	var found []violationJSON
	if err := json.Unmarshal([]byte(got.stdout), &found); err != nil || len(found) != 1 || found[0].Kind != "corrupt" {
		t.Errorf("%+v, %v: %s", found, err, got.stdout)
	}
	stop()
}

func TestVerifyWaitsForWhatPassesByItself(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "x")
	l.fails(exitFailed, "verify", "--settle", "0")
	l.fails(exitUsage, "verify", "--settle", "-1s")
	verified := make(chan outcome, 1)
	go func() { verified <- drmctl(t.Context(), append(l.args(), "verify", "--settle", "1m")...) }()
	l.agent("a", "--allocate-only", "--handler-log")
	if got := <-verified; got.code != exitFine || !strings.Contains(got.stdout, "no violations") {
		t.Errorf("%+v", got)
	}
}

func TestVerifyWatchPrintsEachChangeOfOwnership(t *testing.T) {
	l := newLab(t)
	lines, stopWatch := begin(t, append(l.args(), "verify", "--watch", "-o", "json")...)
	_, stop := l.agent("a", "--allocate-only", "--handler-log")
	l.members(1)
	etcd := embeddedtest.Client(t, l.global[1])
	l.ok("allocate", "--id", "x", "--wait")
	before := get[assignmentJSON](l, "lookup", "x")
	var first ownerJSON
	seen := false
	for !seen { // the watch may have begun after the claim; then a new one is made
		select {
		case line := <-lines:
			if err := json.Unmarshal([]byte(line), &first); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			seen = first.Member == "a"
		default:
			if _, err := etcd.Delete(t.Context(), "/drm/lab/shards/", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			l.ok("allocate", "--id", "x", "--wait")
		}
	}
	if first.Resource != "x" || first.Token < before.Token || first.Fell {
		t.Errorf("%+v, after %+v", first, before)
	}
	stop()
	if code := stopWatch(); code != exitFine {
		t.Errorf("exit code %d when interrupted", code)
	}
}

func TestVerifyWatchPrintsNewViolationsOnceAndEndsWithExitCode1(t *testing.T) {
	l := newLab(t)
	l.fails(exitUsage, "verify", "--watch", "--every", "0")
	etcd := embeddedtest.Client(t, l.global[1])
	put := func(key string) {
		t.Helper()
		if _, err := etcd.Put(t.Context(), "/drm/lab/"+key, "?"); err != nil {
			t.Fatal(err)
		}
	}
	l.ok("allocate", "--id", "x")
	put("first")
	lines, stop := begin(t, append(l.args(), "verify", "--watch", "--settle", "0", "--every", "1s", "-o", "json")...)
	var found []violationJSON
	if line := next(t, lines); json.Unmarshal([]byte(line), &found) != nil || len(found) != 2 || !strings.Contains(found[0].Detail, "/drm/lab/first") {
		t.Fatalf("at first it printed %q", line)
	}
	want := func(key string) {
		t.Helper()
		var v violationJSON
		if line := next(t, lines); json.Unmarshal([]byte(line), &v) != nil || v.Kind != "corrupt" || !strings.Contains(v.Detail, "/drm/lab/"+key) {
			t.Errorf("it printed %q, want what is wrong with %q", line, key)
		}
	}
	put("second")
	want("second")
	put("third")
	want("third")
	if _, err := etcd.Delete(t.Context(), "/drm/lab/", clientv3.WithPrefix()); err != nil { // all is well in the end
		t.Fatal(err)
	}
	if code := stop(); code != exitFailed {
		t.Errorf("exit code %d after 4 violations", code)
	}
}

func TestVerifyWatchTellsOnStderrWhenEtcdIsLostAndWhenItIsBack(t *testing.T) {
	t.Parallel()
	cfg := embeddedtest.Config()
	cfg.DataDir = t.TempDir()
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cfg.ListenClient = server.Endpoint()
	etcd := embeddedtest.Client(t, server.Endpoint())
	if _, err := etcd.Put(t.Context(), "/drm/lab/what", "?"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, in := io.Pipe()
	stderr, errIn := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{
			"verify", "--watch", "--every", "1s", "--endpoints", server.Endpoint(), "--app", "lab", "--command-timeout", "20s",
		}, strings.NewReader(""), in, errIn)
		_, _ = in.Close(), errIn.Close()
	}()
	out, notes := linesOf(stdout), linesOf(stderr)
	for !strings.Contains(next(t, out), "no-config") { // from then on it watches
	}
	until := func(prefix string) {
		t.Helper()
		for !strings.HasPrefix(next(t, notes), prefix) { // a slow machine may make it take etcd for lost besides
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	until("drmctl: etcd is lost: etcd unreachable")
	if server, err = embedded.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	until("drmctl: etcd is back")
	cancel()
	until("drmctl: 1 violations")
	if code := <-ended; code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

// linesOf reads lines as they come.
func linesOf(r io.Reader) <-chan string {
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

// An app that nobody has made yet is no error; but neither may one that was mistyped pass for one that is fine.
func TestVerifyAndStatusSayThatThereIsNoSuchApp(t *testing.T) {
	l := newLab(t)
	for _, command := range []string{"verify", "status"} {
		got := drmctl(t.Context(), append(l.args(), command)...)
		if want := "drmctl: no such app \"lab\" at prefix \"/drm\", yet\n"; got.code != exitFine || got.stderr != want {
			t.Errorf("%s: %+v, want %q", command, got, want)
		}
		if got := drmctl(t.Context(), append(l.args(), command, "-o", "json")...); got.code != exitFine || got.stderr != "" {
			t.Errorf("%s as JSON: %+v", command, got)
		}
	}
	l.ok("allocate", "--id", "x")
	for _, args := range [][]string{{"verify", "--settle", "0"}, {"status"}} {
		if got := drmctl(t.Context(), append(l.args(), args...)...); strings.Contains(got.stderr, "no such app") {
			t.Errorf("%s: %+v, though there is", args[0], got)
		}
	}
}
