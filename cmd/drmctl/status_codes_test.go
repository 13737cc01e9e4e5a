package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// made is an app of made-up keys: the members a and b are there, a coordinates, and one resource is active.
type made struct {
	*lab
	etcd   *clientv3.Client
	layout keys.Layout
	lease  clientv3.LeaseID
}

const madeShards = 16

// makeApp makes such an app in an etcd that several apps share.
func makeApp(t *testing.T, etcd *clientv3.Client, endpoint, app string) *made {
	t.Helper()
	lease, err := etcd.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t, []string{"--endpoints", endpoint, "--app", app, "--command-timeout", "30s"}}
	m := &made{l, etcd, keys.New("/drm", app), lease.ID}
	m.put(m.layout.Config(), appconfig.Encode(madeShards), 0)
	m.put(m.layout.Schema(), `{"schema":2}`, 0)
	for slot, id := range []string{"a", "b"} {
		m.put(m.layout.Slot(slot), id, 0)
		m.member(id, "active", "")
		m.stats(id, "")
	}
	m.put(m.layout.Coordinator(), "a", m.lease)
	m.entry("r")
	m.claim("r", m.owner("r"), "active", "")
	return m
}

func (m *made) put(key, value string, lease clientv3.LeaseID) {
	m.t.Helper()
	if _, err := m.etcd.Put(m.t.Context(), key, value, clientv3.WithLease(lease)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *made) delete(prefix string) {
	m.t.Helper()
	if _, err := m.etcd.Delete(m.t.Context(), prefix, clientv3.WithPrefix()); err != nil {
		m.t.Fatal(err)
	}
}

// member puts a member's key, with further fields.
func (m *made) member(id, state, more string) {
	m.put(m.layout.Member(id), fmt.Sprintf(`{"state":%q,"weight":1,"slots":[%d],"started":"2026-01-02T03:04:05Z",`+
		`"schema":2%s}`, state, int(id[0]-'a'), more), m.lease)
}

// stats puts a member's figures, with further fields. They say that the member knows of everything.
func (m *made) stats(id, more string) {
	m.put(m.layout.Stats(id), fmt.Sprintf(`{"shards":8,"claims":1,"active":1,"failed":0,"calls":0,"stuck":0,`+
		`"waiting":0%s,"view":1000000,"view_at":"2026-01-02T03:04:05Z"}`, more), m.lease)
}

func (m *made) entry(id string) {
	m.put(m.layout.Resource(shard.Of(id, madeShards), id),
		`{"from_source":false,"allocated":true,"own_data":false,"suspended":false,"data":{"id":"`+id+`"}}`, 0)
}

func (m *made) claim(id, member, state, why string) {
	m.put(m.layout.Claim(shard.Of(id, madeShards), id),
		fmt.Sprintf(`{"member":%q,"state":%q,"since":"2026-01-02T03:04:05Z","error":%q}`, member, state, why), m.lease)
}

// owner returns the member that a resource belongs to.
func (m *made) owner(id string) string { return get[assignmentJSON](m.lab, "lookup", id).Expected }

// another returns the other one of a and b.
func another(id string) string { return string(rune('a' + 'b' - id[0])) }

func (m *made) source(fields string) {
	m.put(m.layout.Source(), `{"last_attempt":"2026-01-02T03:04:05Z","last_success":"2026-01-02T03:04:05Z",`+
		`"resources":1,"error":""`+fields+`}`, 0)
}

// provoked has, for each code, what brings an app into that state, and what the warning says then.
func provoked() map[string]struct {
	do   func(m *made)
	says string
} {
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	type how = struct {
		do   func(m *made)
		says string
	}
	return map[string]how{
		"DRM001": {func(m *made) { m.delete(m.layout.Members()) }, "no member is live"},
		"DRM002": {func(m *made) { m.delete(m.layout.Coordinator()) }, "no coordinator"},
		"DRM003": {func(m *made) {
			m.put(m.layout.Drain("a"), `{}`, 0)
			m.put(m.layout.Drain("b"), `{}`, 0)
		}, `the orders are ignored: "a", "b"`},
		"DRM004": {func(m *made) {
			m.put(m.layout.Drain("a"), `{"force":true}`, 0)
			m.put(m.layout.Drain("b"), `{}`, 0)
		}, `"a", "b"`},
		"DRM005": {func(m *made) {
			m.put(m.layout.Drain("gone"), `{"by":"ann","why":"disk","since":"2026-01-02T03:04:05Z"}`, 0)
		}, `"gone" by ann: disk (since 2026-01-02T03:04:05Z)`},
		"DRM006": {func(m *made) {
			m.put(m.layout.Cordon("gone"), `{"by":"ann"}`, 0)
			m.put(m.layout.Pin(3), `{"member":"lost"}`, 0)
		}, `"gone": cordoned by ann, "lost": shard 3 pinned`},
		"DRM007": {func(m *made) { m.member("b", "unready", `,"reason":"no way","min_ready":0.1`) }, `"b" (no way)`},
		"DRM008": {
			func(m *made) { m.member("b", "unready", `,"reason":"no route","min_ready":0.9`) },
			`too few members are ready, so those that are not go on as if they were: "b" (no route)`,
		},
		"DRM009": {func(m *made) { m.put(m.layout.Schema(), `{"schema":9}`, 0) }, "too far apart"},
		"DRM010": {func(m *made) {
			m.delete(m.layout.Member("b"))
			m.put(m.layout.Reservation("b"), `{"since":"2026-01-02T03:04:05Z","until":"2026-01-02T04:04:05Z"}`, m.lease)
		}, `"b" until 2026-01-02T04:04:05Z`},
		"DRM011": {func(m *made) {
			lease, err := m.etcd.Grant(m.t.Context(), 40) // not renewed, which shows in the second half of its time
			if err != nil {
				m.t.Fatal(err)
			}
			m.lease = lease.ID
			m.member("b", "active", "")
		}, `"b" (`},
		"DRM012": {func(m *made) {
			m.put(m.layout.Stats("b"), `{"view":2,"view_at":"2026-01-02T03:04:05Z"}`, m.lease)
		}, `"b" (`},
		"DRM013": {func(m *made) {
			m.stats("b", fmt.Sprintf(`,"stuck":2,"stuck_since":%q`, ago(time.Hour)))
		}, `"b" has 2 for 1h0m`},
		"DRM014": {func(m *made) {
			var loads []string
			for n := range madeShards {
				loads = append(loads, fmt.Sprintf(`"%d":1000`, n))
			}
			for _, id := range []string{"a", "b"} {
				m.put(m.layout.Load(id), `{"shards":{`+strings.Join(loads, ",")+`}}`, m.lease)
			}
			for n := range madeShards - 1 { // all but one are a's
				m.put(m.layout.Exception(n), `{"member":"a","why":"ring","since":"2026-01-02T03:04:05Z"}`, 0)
			}
		}, `"a" has `},
		"DRM020": {func(m *made) { m.entry("s") }, `"s" (`},
		"DRM021": {func(m *made) { m.claim("r", m.owner("r"), "failed", "boom") }, `1 resource failed: "r" (boom)`},
		"DRM022": {
			func(m *made) { m.claim("r", another(m.owner("r")), "active", "") },
			`1 resource is with another member than expected: "r" (it is with `,
		},
		"DRM023": {func(m *made) { m.claim("r", m.owner("r"), "quarantined", "a died") }, `1: "r"`},
		"DRM024": {func(m *made) {
			m.delete(m.layout.Claim(shard.Of("r", madeShards), "r"))
			for _, id := range []string{"a", "b"} {
				m.put(m.layout.Decline(id), `{"shards":"0-15"}`, m.lease)
			}
		}, `no member has room for 1 resource: "r"`},
		"DRM025": {func(m *made) {
			m.stats("b", fmt.Sprintf(`,"waiting_for_budget":3,"budget_since":%q`, ago(time.Hour)))
		}, "3 resources wait for a budget for 1h0m"},
		"DRM030": {func(m *made) { m.source(`,"error":"busy"`) }, "fails: busy; it last answered at 2026-01-02"},
		"DRM031": {func(m *made) { m.source(`,"poll_ms":60000`) }, "should be asked every 1m0s"},
		"DRM032": {
			func(m *made) {
				m.source(`,"held":2,"held_removals":{"digest":"x","ids":["q","s"],"since":"2026-01-02T03:04:05Z"}`)
			},
			`2 removals are held, since the source may be mistaken, until drmctl source accept: "q", "s"`,
		},
		"DRM033": {
			func(m *made) { m.source(`,"bad":1,"bad_items":[{"index":7,"id":"","error":"no id"}]`) },
			"item 7: no id",
		},
		"DRM034": {func(m *made) { m.source(`,"too_large":1,"rejected":["big"]`) }, `"big"`},
		"DRM040": {func(m *made) { m.put(m.layout.Root()+"foreign", "x", 0) }, "1 key is below"},
		"DRM041": {func(m *made) { m.delete(m.layout.Config()) }, "not its config"},
	}
}

func (m *made) codes(o statusJSON) (all []string) {
	for _, w := range o.Warnings {
		all = append(all, w.Code)
	}
	return all
}

// TestEachCodeIsProvoked brings an app into each state that status warns of. The codes of etcd have tests of their own.
func TestEachCodeIsProvoked(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, server.Endpoint())
	elsewhere := []string{"DRM042", "DRM043", "DRM050", "DRM051", "DRM052", "DRM053", "DRM054"}
	var all []string
	for code, how := range provoked() {
		all = append(all, code)
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			m := makeApp(t, etcd, server.Endpoint(), code)
			if s := get[statusJSON](m.lab, "status"); len(s.Warnings) != 0 {
				t.Fatalf("before: %+v", s.Warnings)
			}
			how.do(m)
			var found warningJSON
			eventually(t, func() error {
				s := get[statusJSON](m.lab, "status")
				at := slices.IndexFunc(s.Warnings, func(w warningJSON) bool { return w.Code == code })
				if at < 0 {
					return fmt.Errorf("the warnings are %+v", s.Warnings)
				}
				found = s.Warnings[at]
				return nil
			})
			if !strings.Contains(found.What, how.says) || found.Mend == "" || strings.ContainsAny(found.What, "\n%") {
				t.Errorf("%+v, want it to say %s", found, how.says)
			}
			table := drmctl(t.Context(), append(m.args(), "status")...)
			if !strings.Contains(table.stdout, code+" "+found.Severity) || table.code != exitFine {
				t.Errorf("the table: %+v", table)
			}
			checked := drmctl(t.Context(), append(m.args(), "status", "--check", "--settle", "0")...)
			if want := found.Severity == "error"; want && checked.code != exitFailed ||
				!want && strings.Contains(checked.stderr, "wrong: "+code) {
				t.Errorf("%s with --check: %+v", found.Severity, checked)
			}
			checked = drmctl(t.Context(), append(m.args(), "status", "--check", "--warn", "--settle", "0")...)
			if checked.code != exitFailed || !strings.Contains(checked.stderr, code) {
				t.Errorf("with --check --warn: %+v", checked)
			}
		})
	}
	all = append(all, elsewhere...)
	slices.Sort(all)
	var codes []string
	for _, w := range drm.WarningCodes() {
		codes = append(codes, w.Code)
	}
	if !slices.Equal(all, codes) {
		t.Errorf("provoked are %v, want %v", all, codes)
	}
}

func TestAnAppThatCannotBeOpenedHasACode(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, server.Endpoint())
	m := makeApp(t, etcd, server.Endpoint(), "app")
	for code, value := range map[string]string{
		"DRM042": appconfig.Barrier(16, 32), "DRM043": "what?",
	} {
		m.put(m.layout.Config(), value, 0)
		got := drmctl(t.Context(), append(m.args(), "status")...)
		if got.code != exitFailed {
			t.Errorf("%s: %+v", code, got)
		}
		checkOneLine(t, got.stderr, code+": ")
	}
}

func TestWarningsOfEtcd(t *testing.T) {
	t.Parallel()
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.Quota = 8 << 20 })
	etcd := embeddedtest.Client(t, server.Endpoint())
	m := makeApp(t, etcd, server.Endpoint(), "app")
	embeddedtest.FillUp(t, etcd)
	s := get[statusJSON](m.lab, "status")
	if got := m.codes(s); !slices.Equal(got, []string{"DRM052", "DRM053"}) {
		t.Errorf("of a full etcd: %+v", s.Warnings)
	}
	if e := s.Etcd; len(e.Alarms) != 1 || len(e.Members) != 1 || e.Members[0].Quota != 8<<20 ||
		!strings.Contains(m.ok("status"), "NOSPACE at drm") {
		t.Errorf("etcd: %+v", e)
	}
}

func TestASlowEtcdIsWarnedOf(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, server.Endpoint())
	proxy, err := faultproxy.New(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	makeApp(t, etcd, server.Endpoint(), "app")
	proxy.Delay(300 * time.Millisecond) // there, and as much back
	l := &lab{t, []string{
		"--endpoints", proxy.Endpoint(), "--app", "app", "--command-timeout", "60s", "--dial-timeout", "30s",
	}}
	s := get[statusJSON](l, "status")
	if !slices.ContainsFunc(s.Warnings, func(w warningJSON) bool { return w.Code == "DRM054" }) {
		t.Errorf("a read takes 600 ms: %+v", s.Warnings)
	}
}

func TestWarningsOfAnEtcdWithoutSomeMembers(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.Cluster(t, 3)
	etcd := embeddedtest.Client(t, cluster.Endpoints()...)
	m := makeApp(t, etcd, strings.Join(cluster.Endpoints(), ","), "app")
	if err := cluster.Stop(2); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if s := get[statusJSON](m.lab, "status"); !slices.Equal(m.codes(s), []string{"DRM051"}) {
			return fmt.Errorf("one is gone: %+v", s.Warnings)
		}
		return nil
	})
	client, err := drm.NewClient(t.Context(), drm.ClientConfig{
		App: "app", Etcd: drm.EtcdConfig{Endpoints: cluster.Endpoints(), CommandTimeout: 2 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := cluster.Kill(1); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		o, err := client.Overview(t.Context())
		if err == nil || !slices.ContainsFunc(o.Warnings, func(w drm.Warning) bool { return w.Code == "DRM050" }) {
			return fmt.Errorf("two are gone: %+v, %w", o.Warnings, err)
		}
		return nil
	})
}

// Every code has a section of its own, which says how bad it is.
func TestThePageOfCodesIsComplete(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "codes.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	section := regexp.MustCompile(`(?m)^### (DRM0\d\d)\n\n\*\*(warn|error)(, passing)?: `)
	for _, m := range section.FindAllSubmatch(page, -1) {
		got = append(got, fmt.Sprintf("%s %s%s", m[1], m[2], m[3]))
	}
	for _, w := range drm.WarningCodes() {
		text := w.Code + " " + string(w.Severity)
		if w.Passing {
			text += ", passing"
		}
		want = append(want, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := bytes.Count(page, []byte("\n### ")); n < len(want) {
		t.Errorf("the page has %d sections, and there are %d codes", n, len(want))
	}
}

// What passes by itself does not count with --check, and what status --watch prints follows changes.
func TestStatusChecksAndWatches(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, server.Endpoint())
	m := makeApp(t, etcd, server.Endpoint(), "app")
	if got := drmctl(t.Context(), append(m.args(), "status", "--check", "--warn")...); got.code != exitFine {
		t.Errorf("all is well: %+v", got)
	}
	m.entry("s")
	ended := make(chan outcome, 1)
	go func() { ended <- drmctl(t.Context(), append(m.args(), "status", "--check", "--settle", "1m")...) }()
	m.claim("s", m.owner("s"), "active", "")
	if got := <-ended; got.code != exitFine || strings.Contains(got.stdout, "DRM020") {
		t.Errorf("it has passed: %+v", got)
	}

	lines, stop := begin(t, append(m.args(), "status", "--watch", "--every", "100ms", "-o", "json")...)
	next := func() (s statusJSON) {
		t.Helper()
		select {
		case line := <-lines:
			conforms(t, "status", line)
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing is printed")
		}
		return s
	}
	if s := next(); len(s.Warnings) != 0 || s.Resources != 2 {
		t.Errorf("at first: %+v", s)
	}
	m.claim("s", m.owner("s"), "failed", "boom")
	if s := next(); !slices.Equal(m.codes(s), []string{"DRM021"}) {
		t.Errorf("after a change: %+v", s)
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

// A user who may only read the app can see all of it, and how etcd is.
func TestAReadOnlyUserSeesTheStatus(t *testing.T) {
	t.Parallel()
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) {
		c.BcryptCost = embeddedtest.UsersConfig().BcryptCost
	})
	m := makeApp(t, embeddedtest.Client(t, server.Endpoint()), server.Endpoint(), "app")
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	ctx, prefix := t.Context(), m.layout.Root()
	if _, err := root.RoleAdd(ctx, "reader"); err != nil {
		t.Fatal(err)
	}
	read := clientv3.PermissionType(clientv3.PermRead)
	if _, err := root.RoleGrantPermission(ctx, "reader", prefix, clientv3.GetPrefixRangeEnd(prefix), read); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserAdd(ctx, "reader", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserGrantRole(ctx, "reader", "reader"); err != nil {
		t.Fatal(err)
	}
	m.global = append(m.global, "--user", "reader:secret")
	s := get[statusJSON](m.lab, "status")
	if len(s.Warnings) != 0 || len(s.Etcd.Members) != 1 || s.Etcd.Members[0].State != "up" || s.Leases != "" ||
		len(s.MemberHealth) != 2 || s.MemberHealth[0].LeaseTTL == nil || len(s.Etcd.Unknown) != 0 {
		t.Errorf("%+v", s)
	}
}
