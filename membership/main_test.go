package membership_test

import (
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// All tests share one etcd; each has an app of its own.
var (
	client *clientv3.Client
	apps   atomic.Int64
)

func TestMain(m *testing.M) {
	os.Exit(embeddedtest.Run(m, func(c *clientv3.Client) { client = c }))
}

const shards = 64

// group is one app's members.
type group struct {
	*testing.T
	layout  keys.Layout
	members membership.Group
}

func newGroup(t *testing.T) *group {
	t.Helper()
	app := fmt.Sprintf("%s %d", t.Name(), apps.Add(1))
	members, err := membership.Open(t.Context(), client, "/drm", app, shards)
	if err != nil {
		t.Fatal(err)
	}
	return &group{t, keys.New("/drm", app), members}
}

func (g *group) registrar(id string) *membership.Registrar {
	return &membership.Registrar{Client: client, Group: g.members, ID: id, Timeout: time.Minute}
}

// grant makes a lease; the test ends it.
func (g *group) grant(ttl int64) clientv3.LeaseID {
	g.Helper()
	resp, err := client.Grant(g.Context(), ttl)
	if err != nil {
		g.Fatal(err)
	}
	return resp.ID
}

func (g *group) revoke(lease clientv3.LeaseID) {
	g.Helper()
	if _, err := client.Revoke(g.Context(), lease); err != nil {
		g.Fatal(err)
	}
}

func active(weight int) membership.Record {
	return membership.Record{
		State: membership.Active, Weight: weight,
		Started: time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC),
	}
}

// join registers an active member.
func (g *group) join(id string, weight int) membership.Registration {
	g.Helper()
	reg, err := g.registrar(id).Register(g.Context(), active(weight), g.grant(600))
	if err != nil {
		g.Fatal(err)
	}
	return reg
}

func (g *group) view() *membership.View {
	g.Helper()
	v, err := g.members.Read(g.Context(), client)
	if err != nil {
		g.Fatal(err)
	}
	return v
}

func (g *group) put(key, value string, opts ...clientv3.OpOption) int64 {
	g.Helper()
	resp, err := client.Put(g.Context(), key, value, opts...)
	if err != nil {
		g.Fatal(err)
	}
	return resp.Header.Revision
}

func (g *group) delete(key string) {
	g.Helper()
	if _, err := client.Delete(g.Context(), key); err != nil {
		g.Fatal(err)
	}
}

func decode(t *testing.T, value string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(value), into); err != nil {
		t.Fatal(err)
	}
}
