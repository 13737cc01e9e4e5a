package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// connection makes a connection that is closed at the end of the test, after the members that are started later.
func (w *world) connection(cfg drm.EtcdConfig) *drm.Connection {
	w.tb.Helper()
	c, err := drm.NewConnection(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			w.tb.Error(err)
		}
	})
	return c
}

// appsOn starts apps whose members share a connection, and allocates resources in each. It returns the recorder of each
// app, and all managers, those of one app after those of the one before.
func (w *world) appsOn(
	t *testing.T, c *drm.Connection, apps, members, resources int,
) (all []*recorder, managers []*drm.Manager) {
	t.Helper()
	for a := range apps {
		w.app = fmt.Sprint("app-", a)
		r := newRecorder(t)
		all = append(all, r)
		for i := range members {
			cfg := w.config(fmt.Sprint("m", i), r)
			cfg.Etcd, cfg.Shards = drm.EtcdConfig{Connection: c}, 16
			managers = append(managers, w.start(cfg))
		}
		allocate(t, managers[len(managers)-1], ids(resources)...)
	}
	return all, managers
}

func TestAConnectionIsNotClosedWhileItIsUsed(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := w.connection(drm.EtcdConfig{Endpoints: []string{w.endpoint}})
	cfg := w.config("a", r)
	cfg.Etcd = drm.EtcdConfig{Connection: c}
	m := w.startOnly(cfg)
	looker, err := drm.NewClient(t.Context(), drm.ClientConfig{App: w.app, Etcd: drm.EtcdConfig{Connection: c}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); !errors.Is(err, drm.ErrConnectionInUse) {
		t.Errorf("closed while a member and a client use it: %v", err)
	}
	allocate(t, m, "x")
	r.until("it is handled after that", func() bool { return r.holders()["x"] == "a" })
	w.stop(m)
	if err := c.Close(); !errors.Is(err, drm.ErrConnectionInUse) {
		t.Errorf("closed while a client uses it: %v", err)
	}
	if err := errors.Join(looker.Close(), looker.Close(), c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := w.tryStart(t.Context(), cfg); !errors.Is(err, drm.ErrConnectionClosed) {
		t.Errorf("a start on a connection that is closed: %v", err)
	}
}

func TestAStartThatFailsDoesNotKeepTheConnection(t *testing.T) {
	t.Parallel()
	// What listens here has a certificate that nobody trusts, which no patience helps against.
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	defer untrusted.Close()
	untrusted.EnableHTTP2 = true
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	w := &world{tb: t, app: "app"}
	c, err := drm.NewConnection(drm.EtcdConfig{Endpoints: []string{untrusted.URL}})
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	const starts = 5
	for i := range starts { // each of them is told at once that there is no hope
		go func() {
			cfg := w.config(fmt.Sprint(i), newRecorder(t))
			cfg.Etcd = drm.EtcdConfig{Connection: c, DialTimeout: patience}
			_, err := drm.Start(t.Context(), cfg)
			failed <- err
		}()
	}
	for range starts {
		if err := <-failed; !errors.Is(err, drm.ErrUnreachable) {
			t.Errorf("a start where the certificate is not trusted: %v", err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestAConnectionSaysHowToConnect(t *testing.T) {
	t.Parallel()
	c, err := drm.NewConnection(drm.EtcdConfig{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for field, cfg := range map[string]drm.EtcdConfig{
		"Etcd.Endpoints": {Connection: c, Endpoints: []string{"127.0.0.1:1"}},
		"Etcd.Username":  {Connection: c, Username: "u"},
		"Etcd.Password":  {Connection: c, Password: "p"},
	} {
		var input *drm.InputError
		_, err := drm.NewClient(t.Context(), drm.ClientConfig{App: "app", Etcd: cfg})
		if !errors.As(err, &input) || input.Field != field {
			t.Errorf("a connection and %s: %v", field, err)
		}
	}
	var input *drm.InputError
	if _, err := drm.NewConnection(drm.EtcdConfig{Connection: c}); !errors.As(err, &input) {
		t.Errorf("a connection that is made of a connection: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestMembersOfAConnectionShareALogin(t *testing.T) {
	t.Parallel()
	w, r := newUsersWorld(t, nil), newRecorder(t)
	before := w.calls.Logins()
	c := w.connection(drm.EtcdConfig{
		Endpoints: []string{w.endpoint}, Username: embeddedtest.User, Password: embeddedtest.Password,
	})
	const members = 5
	for i := range members {
		m := w.member(fmt.Sprint(i), r, func(cfg *drm.Config) { cfg.Etcd = drm.EtcdConfig{Connection: c} })
		allocate(t, m, fmt.Sprint(i))
	}
	r.until("all are handled", func() bool { return len(r.holders()) == members })
	if n := w.calls.Logins() - before; n != 1 {
		t.Errorf("%d members have asked for %d tokens, want 1", members, n)
	}
}

// TestManyAppsShareAConnection runs many apps in one process. One of its members loses its lease, and no other member
// notices.
func TestManyAppsShareAConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.connection(drm.EtcdConfig{Endpoints: []string{w.endpoint}})
	const apps, members, resources = 20, 3, 6
	recorders, managers := w.appsOn(t, c, apps, members, resources)
	for a, r := range recorders {
		r.until(fmt.Sprintf("app %d handles its resources", a), func() bool { return len(r.holders()) == resources })
	}
	m, r := managers[0], recorders[0]
	var before []int
	for _, r := range recorders {
		before = append(before, r.count("terminate", ""))
	}
	resp, err := w.etcd.Get(t.Context(), "/drm/app-0/group/members/"+m.ID())
	if err != nil || len(resp.Kvs) == 0 {
		t.Fatalf("the member's key: %v", err)
	}
	for _, kv := range w.claimsOf("app-0", m.ID()) {
		if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(kv.Lease)); err != nil &&
			!errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Fatal(err)
		}
	}
	r.until("the member has ended what was on the lease", func() bool { return r.count("terminate", "") > before[0] })
	r.until("all is handled again", func() bool { return len(r.holders()) == resources })
	for a, r := range recorders[1:] {
		if n := r.count("terminate", "") - before[a+1]; n != 0 {
			t.Errorf("app %d has terminated %d, though nothing happened to it", a+1, n)
		}
	}
	w.stop(managers[4]) // and one that stops takes nothing from the others
	allocate(t, managers[3], "later")
	recorders[1].until("the rest of its app goes on", func() bool { return len(recorders[1].holders()) == resources+1 })
}

// claimsOf returns the claims of a member.
func (w *world) claimsOf(app, id string) (claims []*mvccpb.KeyValue) {
	w.tb.Helper()
	resp, err := w.etcd.Get(context.Background(), "/drm/"+app+"/shards/", clientv3.WithPrefix())
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if strings.Contains(string(kv.Key), "/claims/") && strings.Contains(string(kv.Value), `"member":"`+id+`"`) {
			claims = append(claims, kv)
		}
	}
	return claims
}

// TestAConnectionOutlivesAServerAndItsSockets stops one of three etcd servers and breaks all connections, one after the
// other. No member of the connection loses anything by it.
func TestAConnectionOutlivesAServerAndItsSockets(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.Cluster(t, 3)
	var endpoints []string
	var proxies []*faultproxy.Proxy
	for _, e := range cluster.Endpoints() {
		p, err := faultproxy.New(e)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		proxies, endpoints = append(proxies, p), append(endpoints, p.Endpoint())
	}
	w := worldAt(t, cluster.Endpoints()[cluster.Leader()])
	c := w.connection(drm.EtcdConfig{Endpoints: endpoints})
	const apps, members = 4, 2
	recorders, managers := w.appsOn(t, c, apps, members, 10)
	goOn := func(after string) {
		t.Helper()
		for a, r := range recorders {
			r.until("after "+after+" something is allocated in app "+fmt.Sprint(a), func() bool {
				return managers[a*members].Allocate(t.Context(), drm.Resource{ID: after}) == nil
			})
			r.until("after "+after+" app "+fmt.Sprint(a)+" goes on", func() bool { return r.holders()[after] != "" })
			if n := r.count("terminate", ""); n != 0 {
				t.Errorf("after %s app %d has terminated %d", after, a, n)
			}
		}
	}
	goOn("the start")
	if err := cluster.Stop((cluster.Leader() + 1) % 3); err != nil {
		t.Fatal(err)
	}
	goOn("the end of a server")
	for _, p := range proxies {
		p.Reset()
	}
	goOn("the end of all connections")
}
