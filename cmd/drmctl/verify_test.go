package main

import (
	"encoding/json"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

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
