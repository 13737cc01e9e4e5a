package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestRetryFreesWhatIsQuarantined(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.fails(exitNotFound, "retry", "x") // there is no app
	l.fails(exitUsage, "retry")
	l.fails(exitUsage, "retry", "x", "--all-quarantined")
	l.fails(exitUsage, "retry", "x", "--all-failed")
	l.fails(exitUsage, "retry", "--all-failed", "--all-quarantined")
	l.fails(exitUsage, "retry", "x", "--wait-timeout", "5s")
	client, layout := embeddedtest.Client(t, l.global[1]), keys.New("/drm", "lab")
	ids := []string{"x", "y", "z"}
	for _, id := range ids {
		l.ok("allocate", "--id", id, "--create", "--shards", "16")
		record := claims.Quarantine{ // it stands for a member that has died
			Data: core.Digest([]byte(`{"id":"` + id + `"}`)), At: time.Now(),
			Deaths: []claims.Death{{Member: "ann", At: time.Now(), Exit: "signal: killed"}},
		}
		if _, err := client.Put(
			t.Context(),
			layout.Quarantine(shard.Of(id, 16), id),
			string(record.Encode()),
		); err != nil {
			t.Fatal(err)
		}
	}
	l.agent("m", "--allocate-only", "--handler-log")
	eventually(t, func() error {
		got := drmctl(t.Context(), append(l.args(), "-o", "json", "status")...)
		var s statusJSON
		if err := json.Unmarshal([]byte(got.stdout), &s); err != nil || s.Quarantined != 3 ||
			!strings.Contains(got.stderr, "drmctl retry --all-quarantined frees them") {
			return fmt.Errorf("status: %+v", got)
		}
		return nil
	})
	found := get[assignmentJSON](l, "lookup", "x")
	if found.State != "quarantined" || !strings.Contains(found.Error, "ann at ") ||
		!strings.Contains(found.Error, "(signal: killed)") {
		t.Errorf("lookup: %+v", found)
	}
	if got := drmctl(t.Context(), append(l.args(), "verify")...); got.code != exitFine ||
		!strings.Contains(got.stderr, "quarantined, since members died") {
		t.Errorf("verify: %+v", got)
	}
	l.prints(`{"retried":["y"]}`, "retry", "y", "--wait")
	l.prints(`{"retried":[],"note":"nothing to retry: y has neither failed nor is it quarantined"}`,
		"retry", "y", "--wait")
	l.fails(exitNotFound, "retry", "nope")
	l.prints(`{"retried":["x","z"]}`, "retry", "--all-quarantined", "--wait")
	if got := l.ok("retry", "--all-quarantined"); got != "nothing is quarantined\n" {
		t.Errorf("retry of nothing prints %q", got)
	}
	if s := get[statusJSON](l, "status"); s.Quarantined != 0 || s.Active != 3 {
		t.Errorf("status: %+v", s)
	}
}

func TestRetryHasWhatHasFailedTriedAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var mended atomic.Bool
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !mended.Load() {
			http.Error(w, "the database is gone", http.StatusConflict)
		}
	}))
	t.Cleanup(service.Close)
	l.agent("m1", "--allocate-only", "--handler-url", service.URL, "--log-level", "error")
	for _, id := range []string{"x", "y", "z"} {
		l.ok("allocate", "--id", id, "--create")
	}
	eventually(t, func() error {
		if failed := get[[]assignmentJSON](l, "assignments", "--failed"); len(failed) != 3 {
			return fmt.Errorf("failed: %+v", failed)
		}
		return nil
	})
	l.prints(`{"retried":["y"]}`, "retry", "y", "--as", "ann", "--reason", "the database is back")
	l.prints(`{"retried":["x","y","z"]}`, "retry", "--all-failed")
	mended.Store(true)
	l.ok("retry", "--all-failed", "--wait", "--timeout", "1m")
	eventually(t, func() error { // those that were tried meanwhile need no order
		if s := get[statusJSON](l, "status"); s.Active != 3 {
			return fmt.Errorf("status: %+v", s)
		}
		return nil
	})
	l.prints(`{"retried":[],"note":"nothing has failed"}`, "retry", "--all-failed")
}
