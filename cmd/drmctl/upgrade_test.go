//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/journal"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// olderCommit is the last commit whose members write schema 1.
const olderCommit = "66749aec99916deeb1daae31281d52a0d82bb4ba"

// asOlder is another drmctl than this one: the first argument is its path.
const asOlder = "__older"

func init() { helpers[asOlder] = runOlder }

func runOlder(args []string) int {
	err := syscall.Exec(args[0], args, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	return exitFailed
}

// older returns the path of drmctl as it was at olderCommit. It builds it if that has not been done before, and skips
// the test where the commit is not there.
func older(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("there is no place to keep the older drmctl: %v", err)
	}
	path := filepath.Join(cache, "drm-test", "drmctl-"+olderCommit[:12])
	if _, err := os.Stat(path); err == nil {
		return path
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "older.tar")
	if out, err := exec.CommandContext(t.Context(), "git", "-C", "../..", "archive", "-o", archive, olderCommit).
		CombinedOutput(); err != nil {
		t.Skipf("commit %s is not here (a shallow clone?), so there is no older member: %v: %s",
			olderCommit[:12], err, out)
	}
	source := filepath.Join(dir, "source")
	if err := errors.Join(os.Mkdir(source, 0o700), os.MkdirAll(filepath.Dir(path), 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", source).CombinedOutput(); err != nil {
		t.Fatalf("unpack the older commit: %v: %s", err, out)
	}
	built := filepath.Join(dir, "drmctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", built, "./cmd/drmctl")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the older drmctl: %v: %s", err, out)
	}
	if b, err := os.ReadFile(built); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(os.WriteFile(path+".new", b, 0o700), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	return path
}

// mixture is a theatre with members of both schemas.
type mixture struct {
	*theatre
	older  string // the path of the older drmctl
	etcd   *clientv3.Client
	layout keys.Layout
	group  membership.Group
	wanted []string
	isOld  map[string]bool
	orders bool // there are orders of schema 2
}

func newMixture(t *testing.T, resources int) *mixture {
	t.Helper()
	path := older(t)
	m := &mixture{
		theatre: newTheatre(t), older: path, layout: keys.New("/drm", "e2e"), wanted: numbered("r", resources),
		isOld: map[string]bool{},
	}
	m.ttl = 3 * time.Second
	m.flags = append(m.flags, "--quarantine-after", "0") // what was begun just before a kill would be begun one by one
	m.etcd = embeddedtest.Client(t, m.endpoints...)
	m.source.fill(m.wanted)
	return m
}

// begin starts a member of one of the two versions.
func (m *mixture) begin(old bool, ids ...string) {
	m.t.Helper()
	for _, id := range ids {
		var helper []string
		if old {
			helper = []string{asOlder, m.older}
		}
		m.startAs(helper, id)
		m.isOld[id] = old
	}
}

// end ends members with SIGTERM.
func (m *mixture) end(ids ...string) {
	m.t.Helper()
	for _, id := range ids {
		m.terminate(id)
		delete(m.isOld, id)
	}
}

func (m *mixture) put(key, value string) {
	m.t.Helper()
	if _, err := m.etcd.Put(m.t.Context(), key, value); err != nil {
		m.t.Fatal(err)
	}
}

// agree waits until everything is handled by the member that it belongs to, and then checks what the tools of both
// versions show.
func (m *mixture) agree(what string) {
	m.t.Helper()
	began := time.Now()
	eventually(m.t, func() error {
		if m.group.Root == "" {
			group, err := membership.Find(m.t.Context(), m.etcd, "/drm", "e2e")
			if err != nil {
				return err
			}
			m.group = group
		}
		v, err := m.group.Read(m.t.Context(), m.etcd)
		if err != nil {
			return err
		}
		if live := slices.Sorted(maps.Keys(v.Members)); !slices.Equal(live, slices.Sorted(maps.Keys(m.isOld))) {
			return fmt.Errorf("%s: the members are %v", what, live)
		}
		held := m.follower.Holders()
		for _, r := range m.wanted {
			if _, owner := v.OwnerOf(r); len(held[r]) != 1 || held[r][0] != owner {
				return fmt.Errorf("%s: %s is with %v, and belongs to %q", what, r, held[r], owner)
			}
		}
		return m.tools()
	})
	m.t.Logf("%s: after %v", what, time.Since(began).Round(10*time.Millisecond))
}

// tools checks what both versions of drmctl show: the same numbers, and nothing that is not so. The older one does not
// know the keys of schema 2, and says so; by its rules, what these place elsewhere is misplaced.
func (m *mixture) tools() error {
	for _, old := range []bool{false, true} {
		var s statusJSON
		var list []memberJSON
		var found []violationJSON
		for command, v := range map[string]any{"status": &s, "members": &list, "verify": &found} {
			got, err := m.run(old, "-o", "json", command, "--command-timeout", "20s")
			if err != nil || json.Unmarshal([]byte(got), v) != nil {
				return fmt.Errorf("%s (older: %v): %w: %s", command, old, err, got)
			}
		}
		if s.Members != len(m.isOld) || s.Active != len(m.wanted) || s.Resources != len(m.wanted) || s.Failed > 0 ||
			s.Unassigned > 0 || s.Misplaced > 0 && !(old && m.orders) || len(live(list)) != len(m.isOld) {
			return fmt.Errorf("status (older: %v): %+v", old, s)
		}
		for _, v := range found {
			unknown := v.Kind == "corrupt" && slices.ContainsFunc([]string{"/group/", "/loads/", "/lives/"},
				func(place string) bool { return strings.Contains(v.Detail, place) })
			if !old || !unknown && !(v.Kind == "misplaced" && m.orders) {
				return fmt.Errorf("verify (older: %v): %+v", old, v)
			}
		}
	}
	return nil
}

// live leaves out the members that are listed for the orders about them only.
func live(list []memberJSON) []memberJSON {
	return slices.DeleteFunc(list, func(m memberJSON) bool { return m.State == "absent" })
}

// run runs a command of one of the two versions. Violations are no error.
func (m *mixture) run(old bool, args ...string) (stdout string, err error) {
	all := append(m.args(), args...)
	if slices.Contains(args, "verify") {
		all = append(all, "--settle", "0s")
	}
	if !old {
		got := drmctl(m.t.Context(), all...)
		if got.code != exitFine && !slices.Contains(args, "verify") {
			return "", fmt.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		return got.stdout, nil
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, m.older, all...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(args, "verify") && exit.ExitCode() == exitFailed {
		err = nil
	}
	return string(out), err
}

// order gives an order with one of the two versions.
func (m *mixture) order(old bool, args ...string) {
	m.t.Helper()
	if out, err := m.run(old, args...); err != nil {
		m.t.Fatalf("%v (older: %v): %v: %s", args, old, err, out)
	}
}

// give writes orders of schema 2, as the coordinator and operators do, to and about members of both schemas.
func (m *mixture) give(ids ...string) {
	m.t.Helper()
	v, err := m.group.Read(m.t.Context(), m.etcd)
	if err != nil {
		m.t.Fatal(err)
	}
	m.orders = true
	for n := range 200 {
		e := membership.Exception{Member: ids[n%len(ids)], Then: ids[(n+1)%len(ids)], Why: membership.WhyBound}
		m.put(m.layout.Exception(n), e.Encode())
	}
	m.put(m.layout.Pin(300), membership.Pin{Member: ids[0]}.Encode())
	m.put(m.layout.Pin(301), ids[1])
	m.put(m.layout.Weight(ids[0]), membership.WeightOrder{Weight: 500}.Encode()) // it reserves a block
	m.put(m.layout.Cordon(ids[1]), membership.Restriction{Keeps: v.Owned(ids[1])}.Encode())
	m.put(m.layout.Move(m.wanted[0]), membership.Move{Member: ids[2], From: ids[0]}.Encode())
}

// upgradeTests, in the environment, makes the tests run that need the older drmctl: to build it takes a while.
const upgradeTests = "DRM_UPGRADE"

// TestOlderMembersBesideNewerOnes rolls a group of processes from the older version to this one and back, with both
// beside each other for a while in which members come, are drained and are killed.
func TestOlderMembersBesideNewerOnes(t *testing.T) {
	const oldOnes, newOnes = true, false
	if os.Getenv(upgradeTests) == "" {
		t.Skip("it builds an older version: make upgrade")
	}
	m := newMixture(t, 300)
	m.begin(oldOnes, "a", "b", "c")
	m.agree("three older members")

	for _, id := range []string{"a", "b", "c"} { // forward
		m.end(id)
		m.begin(newOnes, id)
		m.agree("upgraded: " + id)
	}
	eventually(t, func() error {
		if v, err := m.group.Read(t.Context(), m.etcd); err != nil || v.Schema != membership.Schema {
			return fmt.Errorf("the schema that is remembered is %+v, %w", v, err)
		}
		return nil
	})
	m.give("a", "b", "c")
	m.agree("orders of schema 2")

	m.begin(oldOnes, "d", "e")
	m.agree("two older members have joined")
	m.give("a", "d", "e")
	m.agree("orders that concern both")
	m.order(oldOnes, "drain", "a", "--wait")
	m.agree("a newer member is drained by the older drmctl")
	m.order(newOnes, "drain", "d", "--wait")
	m.agree("an older member is drained by this drmctl")
	m.kill("b")
	delete(m.isOld, "b")
	m.agree("a newer member is killed")
	m.order(newOnes, "undrain", "a")
	m.order(oldOnes, "undrain", "d")
	m.agree("nobody is drained")
	m.kill("e")
	delete(m.isOld, "e")
	m.agree("an older member is killed")

	for _, id := range []string{"a", "c"} { // back
		m.end(id)
		m.begin(oldOnes, id)
		m.agree("taken back: " + id)
	}
	m.begin(newOnes, "f")
	m.agree("a newer one joins after all")
	for _, f := range journal.Check(m.journal.Events(), journal.Expect{Resources: m.wanted}) {
		t.Error(f)
	}
	for id, log := range m.logs {
		if text := log.all(); strings.Contains(text, "panic") || strings.Contains(text, "ERROR") {
			t.Errorf("%s logged:\n%s", id, log.warnings(10))
		}
	}
	m.end(slices.Sorted(maps.Keys(m.isOld))...)

	// No older member starts while the number of shards is being changed, and all do afterwards.
	m.put(m.layout.Reshard(), `{"from":1024,"to":512,"stage":"counting"}`)
	m.put(m.layout.Config(), appconfig.Barrier(1024, 512))
	m.startAs([]string{asOlder, m.older}, "early")
	select {
	case <-m.agents["early"].done:
	case <-time.After(e2ePatience):
		t.Fatal("an older member starts while the number of shards is being changed")
	}
	if log := m.logs["early"].all(); !strings.Contains(log, "config has schema 2") {
		t.Errorf("an older member said: %s", log)
	}
	m.orders = false
	m.group = membership.Group{}
	if out := m.ok("reshard", "512", "--wait"); !strings.Contains(out, "512, were 1024") {
		t.Errorf("reshard: %s", out)
	}
	m.begin(oldOnes, "a", "b")
	m.begin(newOnes, "c")
	m.agree("another number of shards")
	for _, f := range journal.Check(m.journal.Events(), journal.Expect{Resources: m.wanted}) {
		t.Error(f)
	}
	m.end("a", "b", "c")
}
