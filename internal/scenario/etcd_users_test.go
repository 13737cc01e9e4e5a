package scenario_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// usersWorld is a world whose etcd has users on.
type usersWorld struct {
	*world
	root    *clientv3.Client
	calls   *embeddedtest.Calls
	restart func()
}

func newUsersWorld(t *testing.T, change func(*embedded.Config)) *usersWorld {
	t.Helper()
	calls := new(embeddedtest.Calls)
	cfg := embeddedtest.UsersConfig()
	cfg.OnCall = calls.Count
	if change != nil {
		change(&cfg)
	}
	server, restart := embeddedtest.Start(t, cfg)
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	return &usersWorld{&world{tb: t, endpoint: server.Endpoint(), etcd: root, app: "app"}, root, calls, restart}
}

// member starts a member that logs in.
func (w *usersWorld) member(id string, r *recorder, change func(*drm.Config)) *drm.Manager {
	cfg := w.config(id, r)
	cfg.Etcd = drm.EtcdConfig{
		Endpoints: []string{w.endpoint}, Username: embeddedtest.User, Password: embeddedtest.Password,
	}
	if change != nil {
		change(&cfg)
	}
	return w.start(cfg)
}

// renewed waits until a lease of the app has been renewed so many times more. It is for leases of 10 s, which are
// renewed every 2 s: in between, their remaining time in whole seconds falls.
func (w *usersWorld) renewed(r *recorder, times int) {
	w.tb.Helper()
	key := w.keysWith("/claims/")[0]
	last := int64(0)
	r.until("its lease is renewed", func() bool {
		left, err := w.root.TimeToLive(context.Background(), clientv3.LeaseID(key.Lease))
		if err != nil {
			w.tb.Fatal(err)
		}
		if left.TTL > last {
			times--
		}
		last = left.TTL
		return times <= 0
	})
}

func TestAnIdleMemberAuthenticatesOnce(t *testing.T) {
	for name, test := range map[string]struct {
		client func(w *usersWorld) *clientv3.Client
		logins int // how often it logs in while it is idle
	}{
		"endpoints": {client: func(*usersWorld) *clientv3.Client { return nil }},
		"the caller's client": {client: func(w *usersWorld) *clientv3.Client {
			c, err := clientv3.New(clientv3.Config{
				Endpoints: []string{w.endpoint}, Username: embeddedtest.User, Password: embeddedtest.Password,
				Logger: zap.NewNop(), DialTimeout: patience,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newUsersWorld(t, nil), newRecorder(t)
			client := test.client(w)
			m := w.member("a", r, func(cfg *drm.Config) {
				if client != nil {
					cfg.Etcd = drm.EtcdConfig{Client: client}
				}
			})
			if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
				t.Fatal(err)
			}
			r.until("it is handled", func() bool { return r.holders()["x"] == "a" })
			w.renewed(r, 2)
			logins, streams := w.calls.Logins(), w.calls.Of(pb.Lease_LeaseKeepAlive_FullMethodName)
			if client == nil && logins > 2 { // root makes the other one
				t.Errorf("it began with %d requests for a token", logins-1)
			}
			w.renewed(r, 5)
			// Where a stream is slow, the member opens another one.
			if n := w.calls.Of(pb.Lease_LeaseKeepAlive_FullMethodName) - streams; n > 2 {
				t.Errorf("it renewed its leases over %d more streams", n)
			}
			if n := w.calls.Logins() - logins; n > 2 || client == nil && n > 0 {
				t.Errorf("it asked for %d more tokens", n)
			}
		})
	}
}

// Tokens end for several reasons. A member goes on in each case.
func TestMembersOutliveTheirTokens(t *testing.T) {
	for name, end := range map[string]func(w *usersWorld){
		"the password was set": func(w *usersWorld) { embeddedtest.SetPassword(w.tb, w.root, embeddedtest.Password) },
		"a user was added": func(w *usersWorld) {
			if _, err := w.root.UserAdd(context.Background(), "other", "other"); err != nil {
				w.tb.Fatal(err)
			}
		},
		"etcd was restarted": func(w *usersWorld) { w.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newUsersWorld(t, nil), newRecorder(t)
			a := w.member("a", r, nil)
			b := w.member("b", r, nil)
			allocate(t, a, ids(20)...)
			r.until("both have some", func() bool {
				return len(a.Held())+len(b.Held()) == 20 && len(a.Held()) > 0 && len(b.Held()) > 0
			})
			end(w)
			w.stop(b) // a has to follow its shards from now on
			r.until("the other has them all", func() bool { return len(a.Held()) == 20 })
			allocate(t, a, "new")
			r.until("it hears of new ones", func() bool { return r.holders()["new"] == "a" })
			w.renewed(r, 2)
			if n := r.count("terminate", ""); n > 20 {
				t.Errorf("%d were terminated, of 20 that one member had", n)
			}
		})
	}
}

func allocate(t *testing.T, m *drm.Manager, ids ...string) {
	t.Helper()
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := m.Allocate(ctx, drm.Resource{ID: id})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPasswordThatWasChangedIsToldAndRecoveredFrom(t *testing.T) {
	t.Parallel()
	w, r := newUsersWorld(t, nil), newRecorder(t)
	core, logs := observer.New(zapcore.WarnLevel)
	a := w.member("a", r, func(cfg *drm.Config) {
		cfg.LeaseTTL, cfg.Logger = 2*time.Second, zap.New(core)
	})
	allocate(t, a, "x")
	r.until("it is handled", func() bool { return r.holders()["x"] == "a" })
	before := w.calls.Logins()
	embeddedtest.SetPassword(t, w.root, "another one")
	told := func() bool {
		for _, entry := range logs.All() {
			if text, ok := entry.ContextMap()["error"].(string); ok &&
				strings.Contains(text, `authentication failed: etcd refuses the user "drm"`) {
				return true
			}
		}
		return false
	}
	r.until("it is told", told)
	r.until("it is ended", func() bool { return r.holders()["x"] == "" })
	began := time.Now()
	cfg := w.config("b", r)
	cfg.Etcd = drm.EtcdConfig{
		Endpoints: []string{w.endpoint}, Username: embeddedtest.User, Password: embeddedtest.Password,
	}
	if _, err := w.tryStart(t.Context(), cfg); !errors.Is(err, rpctypes.ErrAuthFailed) ||
		!strings.Contains(err.Error(), `etcd refuses the user "drm"`) {
		t.Errorf("start with a wrong password: %v", err)
	}
	if n, most := w.calls.Logins()-before, 12+int(time.Since(began)/(3*time.Second)); n > most {
		t.Errorf("%d requests for a token, want at most %d", n, most)
	}
	embeddedtest.SetPassword(t, w.root, embeddedtest.Password)
	r.until("it is handled again", func() bool { return r.holders()["x"] == "a" })
	for _, entry := range logs.All() {
		for name, value := range entry.ContextMap() {
			if text, ok := value.(string); ok && strings.Contains(text, embeddedtest.Password) {
				t.Errorf("the log tells the password: %s %s: %s", entry.Message, name, text)
			}
		}
	}
}

// etcd may know a user by the common name of its certificate. Such a user needs no tokens.
func TestUsersByCertificate(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	calls := new(embeddedtest.Calls)
	cfg := embeddedtest.UsersConfig()
	cfg.OnCall, cfg.ClientTLS = calls.Count, &embedded.TLS{
		Cert: certs.path("server.pem"), Key: certs.path("server.key"), ClientCA: certs.path("ca.pem"),
	}
	server, _ := embeddedtest.Start(t, cfg)
	endpoint := "https://" + server.Endpoint()
	dial := func(user string) *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{endpoint}, TLS: certs.client(user), Logger: zap.NewNop(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	root := dial("root")
	if err := embeddedtest.AddUsers(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	w, r := &usersWorld{&world{tb: t, endpoint: endpoint, etcd: root, app: "app"}, root, calls, nil}, newRecorder(t)
	byCertificate := func(cfg *drm.Config) {
		cfg.Etcd = drm.EtcdConfig{Endpoints: []string{endpoint}, TLS: certs.client(embeddedtest.User)}
	}
	a, b := w.member("a", r, byCertificate), w.member("b", r, byCertificate)
	allocate(t, a, ids(20)...)
	r.until("both have some", func() bool {
		return len(a.Held())+len(b.Held()) == 20 && len(a.Held()) > 0 && len(b.Held()) > 0
	})
	if _, err := root.UserAdd(t.Context(), "other", "other"); err != nil {
		t.Fatal(err)
	}
	w.stop(b)
	r.until("the other has them all", func() bool { return len(a.Held()) == 20 })
	w.renewed(r, 2)
	if calls.Logins() != 0 {
		t.Errorf("%d requests for a token", calls.Logins())
	}
	cfgC := w.config("c", r)
	cfgC.Etcd = drm.EtcdConfig{Endpoints: []string{endpoint}, TLS: certs.client("nobody")}
	if _, err := w.tryStart(t.Context(), cfgC); err == nil {
		t.Error("a certificate of nobody's was let in")
	}
}

// certificates are the certificates of an authority that belongs to the test.
type certificates struct {
	t      *testing.T
	dir    string
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	pool   *x509.CertPool
	serial int64
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	c.key, c.ca = c.make("ca", nil)
	c.pool.AddCert(c.ca)
	c.make("server", c.ca)
	return c
}

func (c *certificates) path(name string) string { return filepath.Join(c.dir, name) }

// make makes a certificate that the authority has signed, and writes it to a file.
func (c *certificates) make(name string, parent *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	c.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(c.serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        parent == nil,
	}
	signer := c.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		c.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(c.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return key, cert
}

// client returns the TLS configuration of a client with a user's certificate.
func (c *certificates) client(user string) *tls.Config {
	c.t.Helper()
	c.make(user, c.ca)
	pair, err := tls.LoadX509KeyPair(c.path(user+".pem"), c.path(user+".key"))
	if err != nil {
		c.t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.pool, Certificates: []tls.Certificate{pair}}
}
