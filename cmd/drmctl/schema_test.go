//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// updateSchemas makes TestStateOfEachSchema write testdata/schema anew. A schema that was released must not change: add
// a folder for the next one.
var updateSchemas = flag.Bool("update-schemas", false, "write testdata/schema anew")

// dumped is a line of a dump: one key of an app, as a program of some schema has written it.
type dumped struct {
	Key   string `json:"key"` // without the app's root
	Value string `json:"value"`
	Lease int64  `json:"lease,omitempty"`
}

func schemaFile(schema int) string {
	return filepath.Join("..", "..", "testdata", "schema", fmt.Sprint(schema), "app.jsonl")
}

// TestStateOfEachSchema loads what the programs of each schema have left in etcd. Every command that only looks must
// understand all of it, and a member must take it over without changing what it should not.
func TestStateOfEachSchema(t *testing.T) {
	for schema := 1; schema <= membership.Schema; schema++ {
		t.Run(fmt.Sprint(schema), func(t *testing.T) {
			if *updateSchemas {
				dumpSchema(t, schema)
			}
			l := newLab(t)
			app := loadSchema(t, l.global[1], schema)
			checkShown(t, l, app)
			checkTakenOver(t, l, app)
		})
	}
}

// loaded is an app whose keys were loaded.
type loaded struct {
	etcd   *clientv3.Client
	layout keys.Layout
	keys   []dumped
	wanted []string // resources that are not quarantined
	bad    []string // resources that are quarantined
}

// loadSchema puts a dump into etcd. Keys are on leases with the ids that they had.
func loadSchema(t *testing.T, endpoint string, schema int) *loaded {
	t.Helper()
	file, err := os.Open(schemaFile(schema))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	app := &loaded{etcd: embeddedtest.Client(t, endpoint), layout: keys.New("/drm", "lab")}
	leases := pb.NewLeaseClient(app.etcd.ActiveConnection())
	granted := map[int64]bool{0: true}
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var d dumped
		if err := json.Unmarshal(in.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if !granted[d.Lease] {
			granted[d.Lease] = true
			if _, err := leases.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: d.Lease, TTL: 600}); err != nil {
				t.Fatal(err)
			}
		}
		key := app.layout.Root() + d.Key
		lease := clientv3.WithLease(clientv3.LeaseID(d.Lease))
		if _, err := app.etcd.Put(t.Context(), key, d.Value, lease); err != nil {
			t.Fatal(err)
		}
		app.keys = append(app.keys, d)
		switch parsed := app.layout.Parse(key); parsed.Kind {
		case keys.Resource:
			app.wanted = append(app.wanted, parsed.ID)
		case keys.Quarantine:
			app.bad = append(app.bad, parsed.ID)
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	app.wanted = slices.DeleteFunc(app.wanted, func(id string) bool { return slices.Contains(app.bad, id) })
	if len(app.wanted) == 0 || len(app.bad) == 0 {
		t.Fatalf("the dump has %d resources, and %d in quarantine", len(app.wanted), len(app.bad))
	}
	return app
}

// checkShown checks what the commands that only look show while the members of the dump seem to live.
func checkShown(t *testing.T, l *lab, app *loaded) {
	t.Helper()
	s := get[statusJSON](l, "status")
	if s.Members != 2 || s.Resources != len(app.wanted)+len(app.bad) || s.Active != len(app.wanted) ||
		s.Quarantined != len(app.bad) || s.Misplaced+s.Unassigned+s.Failed > 0 || len(s.Drains) != 1 {
		t.Errorf("status: %+v", s)
	}
	if table := l.ok("status"); strings.Contains(table, "corrupt") {
		t.Errorf("status: %s", table)
	}
	if found := get[[]violationJSON](l, "verify", "--settle", "0s"); len(found) > 0 {
		t.Errorf("verify: %+v", found)
	}
	if list := live(get[[]memberJSON](l, "members")); len(list) != 2 || list[0].ID != "a" || list[1].ID != "b" {
		t.Errorf("members: %+v", list)
	}
	for _, id := range app.wanted {
		l.ok("lookup", id)
	}
	for _, command := range [][]string{{"resources"}, {"assignments"}, {"source"}} {
		l.ok(command...)
	}
}

// checkTakenOver lets the members of the dump end, and has a member of this version take over.
func checkTakenOver(t *testing.T, l *lab, app *loaded) {
	t.Helper()
	revoked := map[int64]bool{0: true}
	for _, d := range app.keys {
		if !revoked[d.Lease] {
			revoked[d.Lease] = true
			if _, err := app.etcd.Revoke(t.Context(), clientv3.LeaseID(d.Lease)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, stop := l.agent("a", "--allocate-only", "--handler-log", "--shards", "16")
	eventually(t, func() error {
		s := get[statusJSON](l, "status")
		if s.Active != len(app.wanted) || s.Quarantined != len(app.bad) || s.Misplaced > 0 {
			return fmt.Errorf("status: %+v", s)
		}
		return nil
	})
	if found := get[[]violationJSON](l, "verify"); len(found) > 0 {
		t.Errorf("verify with a member of this version: %+v", found)
	}
	if code := stop(); code != exitFine {
		t.Errorf("the agent ended with %d", code)
	}
	for _, d := range app.keys {
		key := app.layout.Root() + d.Key
		switch app.layout.Parse(key).Kind {
		case keys.Trail, keys.Source: // members write these
			continue
		}
		if d.Lease != 0 {
			continue
		}
		resp, err := app.etcd.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != d.Value {
			t.Errorf("%s was %s, and is %v", d.Key, d.Value, resp.Kvs)
		}
	}
}

// dumpSchema writes a dump: two members that share resources, some of which are quarantined since a member has died,
// with orders of every kind that the schema has.
func dumpSchema(t *testing.T, schema int) {
	t.Helper()
	m := &mixture{theatre: newTheatre(t), isOld: map[string]bool{}, layout: keys.New("/drm", "e2e")}
	m.ttl = 3 * time.Second
	m.flags = append(m.flags, "--quarantine-after", "1", "--shards", "16")
	m.etcd = embeddedtest.Client(t, m.endpoints...)
	old := schema == 1
	if old {
		m.older = older(t)
	}
	m.wanted = numbered("r", 12)
	m.source.fill(m.wanted)
	m.begin(old, "a")
	m.settled(len(m.wanted), "a")
	m.kill("a")
	m.begin(old, "a", "b")
	eventually(t, func() error {
		if s, ok := m.status(); !ok || s.Quarantined < 2 || s.Quarantined+s.Active < len(m.wanted) {
			return fmt.Errorf("status: %+v", s)
		}
		return nil
	})
	left := 2 // stay in quarantine
	for _, a := range get[[]assignmentJSON](m.lab, "assignments") {
		if a.State != "quarantined" {
			continue
		}
		if left--; left < 0 {
			m.order(old, "retry", a.Resource)
		}
	}
	m.order(old, "allocate", "--id", "own", "--data", `{"n":1}`)
	m.order(old, "drain", "c", "--absent")
	m.put(m.layout.Pin(3), "b")
	m.put(m.layout.Placement(), `{"5":"a"}`)
	m.put(m.layout.Move("r-005"), membership.Move{Member: "b", From: "a", Why: "it failed"}.Encode())
	if schema >= 2 {
		by := membership.Order{By: "me", Why: "test", Since: time.Unix(1e9, 0).UTC()}
		for n := range 4 {
			e := membership.Exception{Member: "b", Then: "a", Why: membership.WhyBound}
			m.put(m.layout.Exception(n), e.Encode())
		}
		m.put(m.layout.Pin(6), membership.Pin{Order: by, Member: "a"}.Encode())
		m.put(m.layout.Weight("a"), membership.WeightOrder{Order: by, Weight: 2}.Encode())
		m.put(m.layout.Weight("b"), membership.WeightOrder{Order: by, Weight: 80}.Encode())
		m.put(m.layout.Weight("d"), membership.WeightOrder{Order: by, Keeps: []bool{true}}.Encode())
		m.put(m.layout.Cordon("d"), membership.Restriction{Order: by, Keeps: []bool{true, true}}.Encode())
	}
	eventually(t, func() error {
		s, ok := m.status()
		raised, err := m.etcd.Get(t.Context(), m.layout.Schema())
		if !ok || err != nil || s.Active != len(m.wanted)-1 || s.Misplaced > 0 || len(raised.Kvs) != schema-1 {
			return errors.Join(fmt.Errorf("status: %+v", s), err)
		}
		group, err := m.etcd.Get(t.Context(), m.layout.Group(), clientv3.WithPrefix())
		if err != nil {
			return err
		}
		v := membership.NewView(m.layout.Root(), 16, group.Kvs, group.Header.Revision)
		if schema >= 2 && !(v.HoldsItsWeight("a") && v.HoldsItsWeight("b")) {
			return fmt.Errorf("the slots are %q, and the blocks %+v", v.Slots, v.Blocks)
		}
		return nil
	})
	resp, err := m.etcd.Get(t.Context(), m.layout.Root(), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, kv := range resp.Kvs {
		key := strings.TrimPrefix(string(kv.Key), m.layout.Root())
		value := strings.ReplaceAll(string(kv.Value), fmt.Sprintf(`"address":%q`, host), `"address":"host"`)
		line, err := json.Marshal(dumped{key, value, kv.Lease})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	path := schemaFile(schema)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	m.end(slices.Sorted(maps.Keys(m.isOld))...)
}
