package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestVerifyReportsViolationsWithExitCode1(t *testing.T) {
	t.Parallel()
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
	l.agent("a", "--allocate-only", "--handler-log")
	l.members(1)
	etcd := embeddedtest.Client(t, l.global[1])
	dead, err := etcd.Grant(t.Context(), 5) // the lease of a member's former life, with a claim
	if err != nil {
		t.Fatal(err)
	}
	claim := keys.New("/drm", "lab").Claim(shard.Of("x", drm.DefaultShards), "x")
	value, onLease := `{"member":"a","state":"active"}`, clientv3.WithLease(dead.ID)
	if _, err := etcd.Put(t.Context(), claim, value, onLease); err != nil {
		t.Fatal(err)
	}
	l.fails(exitFailed, "verify", "--settle", "0")
	l.fails(exitUsage, "verify", "--settle", "-1s")
	verified := make(chan outcome, 1)
	go func() { verified <- drmctl(t.Context(), append(l.args(), "verify", "--settle", "1m")...) }()
	if got := <-verified; got.code != exitFine || !strings.Contains(got.stdout, "no violations") {
		t.Errorf("%+v", got)
	}
}

func TestVerifyWatchPrintsEachChangeOfOwnership(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	lines, stopWatch := begin(t, append(l.args(), "verify", "--watch", "-o", "json")...)
	_, stop := l.agent("a", "--allocate-only", "--handler-log")
	l.members(1)
	etcd := embeddedtest.Client(t, l.global[1])
	l.ok("allocate", "--id", "x", "--wait")
	before := get[assignmentJSON](l, "lookup", "x")
	var first ownerJSON
	seen := false
	for !seen { // where the watch began after the claim, this makes a new one
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
	t.Parallel()
	l := newLab(t)
	l.fails(exitUsage, "verify", "--watch", "--every", "0")
	etcd := embeddedtest.Client(t, l.global[1])
	put := func(key string) {
		t.Helper()
		if _, err := etcd.Put(t.Context(), "/drm/lab/"+key, "?"); err != nil {
			t.Fatal(err)
		}
	}
	l.ok("allocate", "--id", "x", "--create")
	put("first")
	lines, stop := begin(t, append(l.args(), "verify", "--watch", "--settle", "0", "--every", "1s", "-o", "json")...)
	var found []violationJSON
	if line := next(t, lines); json.Unmarshal([]byte(line), &found) != nil || len(found) != 3 ||
		!strings.Contains(found[0].Detail, "/drm/lab/first") || found[1].Kind != "no-members" {
		t.Fatalf("at first it printed %q", line)
	}
	want := func(key string) {
		t.Helper()
		var v violationJSON
		if line := next(t, lines); json.Unmarshal([]byte(line), &v) != nil || v.Kind != "corrupt" ||
			!strings.Contains(v.Detail, "/drm/lab/"+key) {
			t.Errorf("it printed %q, want what is wrong with %q", line, key)
		}
	}
	put("second")
	want("second")
	put("third")
	want("third")
	if _, err := etcd.Delete(t.Context(), "/drm/lab/", clientv3.WithPrefix()); err != nil { // from here on all is well
		t.Fatal(err)
	}
	if code := stop(); code != exitFailed {
		t.Errorf("exit code %d after 5 violations", code)
	}
}

func TestVerifyWatchTellsOnStderrWhenEtcdIsLostAndWhenItIsBack(t *testing.T) {
	t.Parallel()
	cfg := embeddedtest.Config()
	cfg.DataDir, cfg.ListenClient = t.TempDir(), embeddedtest.Address(t)
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
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
			"verify", "--watch", "--every", "1s", "--endpoints", server.Endpoint(), "--app", "lab",
			"--command-timeout", "20s",
		}, strings.NewReader(""), in, errIn)
		_, _ = in.Close(), errIn.Close()
	}()
	out, notes := linesOf(stdout), linesOf(stderr)
	for !strings.Contains(next(t, out), "no-config") { // after this line it watches
	}
	until := func(prefix string) {
		t.Helper()
		for !strings.HasPrefix(next(t, notes), prefix) { // on a slow machine it may also report that etcd is lost
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

// A user must see that a name may be mistyped.
func TestWhoeverReadsIsToldThatThereIsNoSuchApp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	reading := [][]string{{"members"}, {"resources"}, {"assignments"}, {"status"}, {"pins"}, {"verify"}}
	for _, command := range append(reading, [][]string{
		{"lookup", "x"},
		{"allocate", "--id", "x"},
		{"deallocate", "x"},
		{"drain", "x"},
		{"drain", "x", "--absent"},
		{"undrain", "x"},
		{"cordon", "x"},
		{"cordon", "x", "--absent"},
		{"uncordon", "x"},
		{"pin", "x", "y"},
		{"pin", "--shard", "1", "y", "--absent", "--yes"},
		{"unpin", "x"},
		{"move", "x", "y"},
		{"rebalance"},
		{"source", "accept"},
		{"source", "accept", "--dry-run"},
		{"source", "fetch"},
		{"source", "drop"},
		{"source", "drop", "--dry-run"},
	}...) {
		got := drmctl(t.Context(), append(l.args(), command...)...)
		if got.code != exitNotFound || got.stdout != "" {
			t.Errorf("%s: %+v, want exit code %d", command, got, exitNotFound)
		}
		checkOneLine(t, got.stderr, `no such app "lab" at prefix "/drm"`)
		if hint := "--create (with --shards N)"; strings.Contains(got.stderr, hint) != (command[0] == "allocate") {
			t.Errorf("%s says %q", command, got.stderr)
		}
	}
	l.ok("allocate", "--id", "x", "--create", "--shards", "7")
	l.ok("allocate", "--id", "y")
	l.fails(exitUsage, "allocate", "--id", "y", "--create", "--shards", "8")
	for _, args := range reading {
		if got := drmctl(t.Context(), append(l.args(), args...)...); strings.Contains(got.stderr, "no such app") {
			t.Errorf("%s: %+v, though there is", args[0], got)
		}
	}
	near := append(l.args(), "--app", "labs")
	for command, code := range map[string]int{
		"members": exitNotFound, "allocate --id x": exitNotFound, "lookup x": exitNotFound,
	} {
		got := drmctl(t.Context(), append(near, strings.Fields(command)...)...)
		if got.code != code {
			t.Errorf("%s: %+v", command, got)
		}
		checkOneLine(t, got.stderr, `no such app "labs"`, "did you mean lab?")
	}
	far := append(l.args(), "--app", "something-else")
	if got := drmctl(t.Context(), append(far, "members")...); strings.Contains(got.stderr, "did you mean") {
		t.Errorf("%+v", got)
	}
}

func TestThatNobodyIsThereIsSaid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "x", "--create")
	status := drmctl(t.Context(), append(l.args(), "status")...)
	if !strings.Contains(status.stdout, "0 (nobody: nothing is handled)") {
		t.Errorf("status: %+v", status)
	}
	checkOneLine(t, status.stderr, "no member is live")
	if s := get[statusJSON](l, "status"); s.Members != 0 || s.Resources != 1 {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := drmctl(ctx, append(l.args(), "verify", "--settle", "24h", "-o", "json")...)
	var found []violationJSON
	if err := json.Unmarshal([]byte(got.stdout), &found); err != nil || got.code != exitFailed || len(found) != 2 ||
		found[0].Kind != "no-members" {
		t.Errorf("verify: %+v, %v", got, err)
	}
}

func TestOrdersThatNothingShowsAreTold(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("a", "--allocate-only", "--handler-log")
	_, stop := l.agent("b", "--allocate-only", "--handler-log")
	l.members(2)
	got := drmctl(t.Context(), append(l.args(), "drain", "nobody")...)
	if got.code != exitNotFound {
		t.Errorf("%+v", got)
	}
	checkOneLine(t, got.stderr, `"nobody"`, "--absent")
	if code := stop(); code != exitFine {
		t.Errorf("agent: exit code %d", code)
	}
	got = drmctl(t.Context(), append(l.args(), "drain", "a")...)
	if got.code != exitFailed {
		t.Errorf("to drain the last one: %+v", got)
	}
	checkOneLine(t, got.stderr, "start another member first")
	got = drmctl(t.Context(), append(l.args(), "drain", "b", "--wait")...)
	if got.code != exitFine {
		t.Errorf("to drain one that is dead: %+v", got)
	}
	// Where the drain takes long, it also says how it goes on.
	said := strings.ReplaceAll(got.stderr, "drmctl: drain b: nothing is known yet\n", "")
	checkOneLine(t, said, `no member "b" is live now`)
	for _, command := range []string{"members", "status", "verify"} {
		for _, output := range []string{"table", "json"} {
			got := drmctl(t.Context(), append(l.args(), command, "-o", output)...)
			if got.code != exitFine {
				t.Errorf("%s: %+v", command, got)
			}
			checkOneLine(t, got.stderr, "drained by order", "b", "not there", "since")
		}
	}
	if s := get[statusJSON](l, "status"); len(s.Drains) != 1 || s.Drains[0].Member != "b" || s.Drains[0].Live ||
		s.Drains[0].Since == nil {
		t.Errorf("%+v", s.Drains)
	}
	if table := l.ok("status"); !strings.Contains(table, "drained") || !strings.Contains(table, "not there") {
		t.Errorf("status: %s", table)
	}
	l.prints(`{"member":"b","drained":false,"done":true}`, "undrain", "b", "--wait", "--wait-timeout", "1m")
	etcd := embeddedtest.Client(t, l.global[1])
	// This is as if both members had been ordered to drain at the same moment.
	if _, err := etcd.Put(t.Context(), "/drm/lab/group/drains/a", ""); err != nil {
		t.Fatal(err)
	}
	if m := get[[]memberJSON](l, "members"); len(m) != 1 || m[0].State != "active" || m[0].Drain != "ignored" {
		t.Errorf("%+v", m)
	}
	checkOneLine(t, drmctl(t.Context(), append(l.args(), "members")...).stderr, "the orders are ignored")
}
