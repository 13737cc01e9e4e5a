package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// failer is what an authority needs of a test, or of a script.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// authority signs certificates. They are files in a folder: NAME.pem and NAME.key.
type authority struct {
	t    failer
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t failer, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir, name: name}
	a.sign(name, func(c *x509.Certificate) { c.IsCA = true })
	return a
}

// sign makes a certificate for 127.0.0.1, with some changes.
func (a *authority) sign(name string, change func(*x509.Certificate)) {
	a.t.Helper()
	must := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(err)
	private, err := x509.MarshalECPrivateKey(key)
	must(err)
	for ending, block := range map[string]*pem.Block{
		".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		must(os.WriteFile(filepath.Join(a.dir, name+ending), pem.EncodeToMemory(block), 0o600))
	}
	if a.cert == nil {
		a.key = key
		a.cert, err = x509.ParseCertificate(der)
		must(err)
	}
}

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// Whatever prevents a connection, the command says what it is, and what to do about it.
func TestWhatHindersAConnectionIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, other := newAuthority(t, dir, "ca"), newAuthority(t, dir, "other")
	ca.sign("server", func(*x509.Certificate) {})
	ca.sign("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	ca.sign("elsewhere", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"etcd.example.org"} })
	ca.sign("client", func(*x509.Certificate) {})
	other.sign("foreigner", func(*x509.Certificate) {})
	etcd := func(cert, clientCA string) string {
		return embeddedtest.ServerOf(t, func(c *embedded.Config) {
			if cert != "" {
				c.ClientTLS = &embedded.TLS{Cert: file(cert + ".pem"), Key: file(cert + ".key")}
			}
			if clientCA != "" {
				c.ClientTLS.ClientCA = file(clientCA)
			}
		}).Endpoint()
	}
	plain, secure, mutual := etcd("", ""), etcd("server", ""), etcd("server", "ca.pem")
	expired, elsewhere := etcd("expired", ""), etcd("elsewhere", "")
	closed, closedToo := closedPort(t), closedPort(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	cacert := []string{"--cacert", file("ca.pem")}
	with := func(cert string) []string {
		return append(cacert[:2:2], "--cert", file(cert+".pem"), "--key", file(cert+".key"))
	}
	for _, test := range []struct {
		name      string
		endpoints string
		args      []string
		code      int
		want      []string
		not       []string
	}{
		{"well, in plain text", plain, nil, exitNotFound, nil, nil},
		{"well, over TLS", secure, cacert, exitNotFound, nil, nil},
		{"well, with https", "https://" + secure, cacert, exitNotFound, nil, nil},
		{"well, with a client certificate", mutual, with("client"), exitNotFound, nil, nil},
		{"well, one of two", closed + "," + plain, nil, exitNotFound, nil, nil},
		{
			"wrong authority", secure,
			[]string{"--cacert", file("other.pem")},
			exitUnreachable,
			[]string{secure + ": its certificate is not trusted (x509: ", "--cacert"},
			[]string{"within", "--cert "},
		},
		{
			"no authority", "https://" + secure, nil, exitUnreachable,
			[]string{secure, "not trusted (x509: ", "--cacert"},
			[]string{"within"},
		},
		{
			"expired", expired, cacert, exitUnreachable,
			[]string{expired, "out of date (x509: certificate has expired", "clock"},
			[]string{"--cacert"},
		},
		{
			"wrong name", elsewhere, cacert, exitUnreachable,
			[]string{elsewhere, "for another name (x509: ", "127.0.0.1", "--endpoints"},
			[]string{"within"},
		},
		{
			"no client certificate", mutual, cacert, exitUnreachable,
			[]string{mutual, "client certificate", "--cert and --key"},
			[]string{"x509"},
		},
		{
			"foreign client certificate", mutual, with("foreigner"), exitUnreachable,
			[]string{mutual, "client", "certificate", "--cert and --key"},
			[]string{"x509"},
		},
		{
			"TLS to plain text", plain, cacert, exitUnreachable,
			[]string{plain, "does not speak TLS", "leave out --cacert"},
			nil,
		},
		{
			"https to plain text", "https://" + plain, nil, exitUnreachable,
			[]string{plain, "does not speak TLS", "https://"},
			nil,
		},
		{"plain text to TLS", secure, nil, exitUnreachable, []string{secure, "wants TLS", "https://"}, nil},
		{
			"refused", closed, nil, exitUnreachable,
			[]string{closed + ": connection refused", "does etcd run there", "within 10s"},
			[]string{"dial", "desc"},
		},
		{
			"refused twice", closed + "," + closedToo, nil, exitUnreachable,
			[]string{closed + ", " + closedToo + ": connection refused"},
			nil,
		},
		{
			"two reasons", closed + ",no-such-name.invalid:2379", nil, exitUnreachable,
			[]string{closed + ": connection refused; no-such-name.invalid:2379: ", "host name"},
			nil,
		},
		{
			"unknown name", "no-such-name.invalid:2379", nil, exitUnreachable,
			[]string{"no-such-name.invalid:2379: ", "host name"},
			nil,
		},
		{
			"silence", silent.Addr().String(), nil, exitUnreachable,
			[]string{silent.Addr().String(), "says nothing", "2379"},
			nil,
		},
		{
			"something else", web.Listener.Addr().String(), nil, exitUnreachable,
			[]string{web.Listener.Addr().String(), "not etcd"},
			nil,
		},
		{"no socket", "unix://" + file("no.sock"), nil, exitUnreachable, []string{"no.sock: no such socket"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			limit := "10s"
			if test.code == exitNotFound { // it was reached, and there is no app
				limit = "1m"
			}
			args := []string{
				"status", "--app", "a", "-o", "json", "--endpoints", test.endpoints,
				"--dial-timeout", limit, "--command-timeout", "1m",
			}
			got := drmctl(t.Context(), append(args, test.args...)...)
			if got.code != test.code {
				t.Fatalf("exit code %d, want %d: %s", got.code, test.code, got.stderr)
			}
			if test.code == exitNotFound {
				return
			}
			checkOneLine(t, got.stderr, append(test.want, "etcd unreachable")...)
			for _, n := range append(test.not, "context deadline", "rpc error") {
				if strings.Contains(got.stderr, n) {
					t.Errorf("stderr is %q, and says %q", got.stderr, n)
				}
			}
			t.Log(got.stderr)
		})
	}
}

func TestEndpointsThatCannotBeAreRefused(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t, dir, "ca")
	cacert := []string{"--cacert", filepath.Join(dir, "ca.pem")}
	for _, test := range []struct {
		endpoints string
		args      []string
		want      []string
	}{
		{"foo://127.0.0.1:2379", nil, []string{`"foo://127.0.0.1:2379"`, "http://HOST:PORT"}},
		{"::1:2379", nil, []string{`"::1:2379"`, "[::1]:2379"}},
		{"http://::1:2379", nil, []string{`"http://::1:2379"`, "[::1]:2379"}},
		{"[::1]", nil, []string{`"[::1]"`, "[IPv6]:PORT"}},
		{"127.0.0.1", nil, []string{`"127.0.0.1"`, "HOST:PORT"}},
		{"http://etcd", nil, []string{`"http://etcd"`, "HOST:PORT"}},
		{"127.0.0.1:0", nil, []string{`"127.0.0.1:0"`, "1 to 65535"}},
		{"127.0.0.1:65536", nil, []string{"65536", "1 to 65535"}},
		{"127.0.0.1:2379x", nil, []string{"2379x", "1 to 65535"}},
		{"etcd:2379,127.0.0.1:port", nil, []string{`"127.0.0.1:port"`}},
		{"127.0.0.1:2379 127.0.0.1:2380", nil, []string{"white space"}},
		{"http://127.0.0.1:2379/v3", nil, []string{"nothing after it"}},
		{"http://a:1,https://b:1", nil, []string{`"http://a:1"`, "https://"}},
		{"http://a:1", cacert, []string{`"http://a:1"`, "https://", "TLS"}},
		{"unix://", nil, []string{"unix://PATH"}},
		{"http://me:s3cret@a:1", nil, []string{"…@a:1", "without a user"}},
	} {
		for _, command := range [][]string{
			{"members"}, {"agent", "--allocate-only", "--handler-log"}, {"bench", "claim"},
		} {
			args := append(append(command, "--app", "a", "--endpoints", test.endpoints), test.args...)
			got := drmctl(t.Context(), args...)
			if got.code != exitUsage || strings.Contains(got.stderr, "s3cret") {
				t.Errorf("%s: exit code %d, want %d: %s", test.endpoints, got.code, exitUsage, got.stderr)
			}
			checkOneLine(t, got.stderr, append(test.want, "--endpoints: got ")...)
		}
	}
}

// Where etcd does not let a user do something, the command says who may not do what, and what to do about it.
func TestWhatEtcdRefusesIsTold(t *testing.T) {
	t.Parallel()
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	for user, permission := range map[string]clientv3.PermissionType{
		"guest": -1, "reader": clientv3.PermissionType(clientv3.PermRead),
	} {
		_, err := root.UserAdd(t.Context(), user, "s3cret")
		if err == nil && permission >= 0 {
			_, err = root.RoleAdd(t.Context(), user)
			if err == nil {
				_, err = root.RoleGrantPermission(t.Context(), user, "/", clientv3.GetPrefixRangeEnd("/"), permission)
			}
			if err == nil {
				_, err = root.UserGrantRole(t.Context(), user, user)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.UserAdd(t.Context(), "keeper", "s3cret"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.RoleAdd(t.Context(), "keeper"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.RoleGrantPermission(t.Context(), "keeper", "/drm/a/config", "",
		clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserGrantRole(t.Context(), "keeper", "keeper"); err != nil {
		t.Fatal(err)
	}
	if got := drmctl(t.Context(), "allocate", "--id", "x", "--create", "--app", "a", "--endpoints", server.Endpoint(),
		"--user", embeddedtest.User+":"+embeddedtest.Password); got.code != exitFine {
		t.Fatalf("%+v", got)
	}
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{
			"no user",
			[]string{"members"},
			[]string{
				"wants to know the user", "a client without a user", `read "/drm/a/config"`, "--user NAME",
				"DRM_PASSWORD",
			},
		},
		{
			"wrong password",
			[]string{"members", "--user", embeddedtest.User + ":s3cret"},
			[]string{`refuses the user "drm"`, "check --user", "--password"},
		},
		{
			"unknown user",
			[]string{"members", "--user", "nobody:s3cret"},
			[]string{`refuses the user "nobody"`, "check --user"},
		},
		{
			"no permission",
			[]string{"members", "--user", "guest:s3cret"},
			[]string{
				`does not let the user "guest" read "/drm/a/config"`, "permission denied", `read below "/drm/a/"`,
				"grant-permission ROLE read --prefix=true /drm/a/", "drmctl doctor --as reader",
			},
		},
		{
			"no permission to list the apps",
			[]string{"apps", "--user", "guest:s3cret"},
			[]string{`read below "/drm/"`, "grant-permission ROLE read --prefix=true /drm/;"},
		},
		{
			"no permission for a range",
			[]string{"members", "--user", "keeper:s3cret"},
			[]string{`does not let the user "keeper" read all keys below "/drm/a/`, "grant-permission ROLE read "},
		},
		{
			"only to read",
			[]string{"allocate", "--id", "y", "--user", "reader:s3cret"},
			[]string{
				`does not let the user "reader" write "/drm/a/`, "drmctl doctor --as operator",
				"grant-permission ROLE readwrite --prefix=true /drm/a/",
			},
		},
		{
			"only to read, a member",
			[]string{"agent", "--allocate-only", "--handler-log", "--log-level", "error", "--user", "reader:s3cret"},
			[]string{
				`does not let the user "reader" write "/drm/a/`, "drmctl doctor --as member",
				"grant-permission ROLE readwrite --prefix=true /drm/a/",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := drmctl(t.Context(), append(test.args, "--app", "a", "--command-timeout", "1m",
				"--dial-timeout", "1m", "--endpoints", server.Endpoint())...)
			if got.code != exitFailed || strings.Contains(got.stderr, "s3cret") {
				t.Errorf("exit code %d, want %d", got.code, exitFailed)
			}
			checkOneLine(t, got.stderr, test.want...)
			t.Log(got.stderr)
		})
	}
}

// A command whose time is up says whether etcd was slow or gone.
func TestACommandThatIsSlowIsToldFromAnEtcdThatIsGone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		gone bool
		code int
		want []string
		not  string
	}{
		{
			"slow", false, exitFailed,
			[]string{"took longer than --command-timeout (1.5s)", "etcd answers", "raise --command-timeout"},
			"unreachable",
		},
		{"gone", true, exitUnreachable, []string{"etcd unreachable", "connection refused"}, "took longer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var reads atomic.Int64
			asked, ended := make(chan struct{}), make(chan struct{})
			server := embeddedtest.ServerOf(t, func(c *embedded.Config) {
				c.OnCall = func(method string) {
					if method != pb.KV_Range_FullMethodName && method != pb.KV_RangeStream_FullMethodName {
						return
					}
					switch reads.Add(1) {
					case 1: // the request that connecting makes
						return
					case 2:
						close(asked)
					}
					<-ended
				}
			})
			t.Cleanup(func() { close(ended) }) // this runs before the server is closed
			proxy, err := faultproxy.New(server.Endpoint())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(proxy.Close)
			if test.gone {
				go func() {
					<-asked
					proxy.Close()
				}()
			}
			got := drmctl(t.Context(), "resources", "--app", "a", "--command-timeout", "1500ms",
				"--endpoints", proxy.Endpoint())
			if got.code != test.code || strings.Contains(got.stderr, test.not) {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			checkOneLine(t, got.stderr, test.want...)
			t.Log(got.stderr)
		})
	}
}

// bench has a client of its own.
func TestBenchSaysWhyEtcdCannotBeReached(t *testing.T) {
	t.Parallel()
	endpoint := closedPort(t)
	got := drmctl(t.Context(), "bench", "claim", "--endpoints", endpoint, "--dial-timeout", "1s")
	if got.code != exitUnreachable || !strings.Contains(got.stderr, endpoint+": connection refused") ||
		strings.Contains(got.stderr, "context deadline") {
		t.Errorf("%+v", got)
	}
}
