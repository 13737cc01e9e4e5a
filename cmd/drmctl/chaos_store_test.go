//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// These scenarios are faults of etcd's storage.

var storeScenarios = []scenario{
	{"etcd out of space when a member is killed, TTL 3 s, then cleared", true, 1, (*chaos).outOfSpace},
	{"etcd restored from an older snapshot under three members", true, 1, (*chaos).restored},
}

// outOfSpace lets a member die while etcd takes no writes: what the member had must wait, and nothing else may suffer.
func (c *chaos) outOfSpace() {
	c.ttl = faultTTL
	etcd := c.etcd[0]
	etcd.end()
	etcd.args = append(etcd.args, "--quota", "8MiB")
	etcd.begin()
	answers(c.t, etcd)
	before := c.begin(200, "a", "b")
	client := embeddedtest.Client(c.t, c.endpoints...)
	deletion := c.lastDeletion()

	full := c.now()
	embeddedtest.FillUp(c.t, client)
	got := drmctl(c.t.Context(), append(c.args(), "allocate", "--id", "late")...)
	if got.code != exitFailed || !strings.Contains(got.stderr, "database space exceeded") {
		c.t.Errorf("allocate in a full etcd: exit code %d: %s", got.code, got.stderr)
	}
	killed := c.kill("a")
	eventually(c.t, func() error {
		if deletion().IsZero() {
			return errors.New("nothing of the killed member has expired")
		}
		return nil
	})
	c.lasts(2 * time.Second) // time for the rest to expire, and to be taken over if it could
	expired := deletion().Sub(killed)
	if touched := c.touched(full, before); len(touched) > 0 {
		c.t.Errorf("%d resources were touched in a full etcd", len(touched))
	}

	room := c.now()
	embeddedtest.MakeRoom(c.t, client)
	c.all("b")
	c.takeover = c.took(room)
	c.onlyTouched(full, before, "a")
	c.allocate("afterwards")
	c.all("b")
	c.note("its claims had expired %s after the kill; the time is from when room was made", seconds(expired))
}

// restored takes etcd back to an older state, with its leases, while members run. They cannot know any more who handles
// what: each has to end everything, and then itself.
func (c *chaos) restored() {
	members := []string{"a", "b", "c"}
	c.begin(200, members...)
	etcd := c.etcd[0]
	data, saved := etcd.dataDir(), filepath.Join(c.t.TempDir(), "saved")
	etcd.end()
	if err := os.CopyFS(saved, os.DirFS(data)); err != nil {
		c.t.Fatal(err)
	}
	etcd.begin()
	answers(c.t, etcd)
	for _, id := range numbered("later", 5) { // etcd goes on
		c.allocate(id)
	}
	c.all(members...)
	c.lasts(c.ttl / 2) // time for each member to hear of it, at the latest by a keepalive

	etcd.end()
	if err := os.RemoveAll(data); err != nil {
		c.t.Fatal(err)
	}
	if err := os.CopyFS(data, os.DirFS(saved)); err != nil {
		c.t.Fatal(err)
	}
	back := c.now()
	etcd.begin()
	answers(c.t, etcd)
	answered := time.Now()
	var slowest time.Duration
	for _, id := range members {
		took, code := c.ends(id, answered)
		slowest = max(slowest, took)
		if log := c.agents[id].log.last(); code != exitFailed || !strings.Contains(log, drm.ErrStoreRewound.Error()) {
			c.t.Errorf("%s: exit code %d: %s", id, code, log)
		}
	}
	if n := c.took(back); n != 0 {
		c.t.Errorf("something was handled %v after etcd went back", n)
	}
	c.wanted = []string{} // nobody handles anything any more; the journal shows what is left
	c.note("everything had ended %s after its start, and all members %s after it answered, "+
		"each with an error that says so",
		seconds(c.ended(back)), seconds(slowest))
}
