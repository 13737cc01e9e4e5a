package doctor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/doctor"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

const (
	root = "/drm/a/"
	// patience is the timeout of checks that end before, on a busy machine too.
	patience = 30 * time.Second
)

// config is for the app "a" at some endpoints. The doctor does not look at the clock, which takes two seconds.
func config(endpoints ...string) doctor.Config {
	return doctor.Config{
		Etcd:   etcd.Config{Endpoints: endpoints, DialTimeout: patience},
		Prefix: "/drm", App: "a", As: doctor.Reader, Skip: []string{"clock"}, Timeout: patience,
	}
}

// outcome is what the doctor has found.
type outcome struct {
	t   *testing.T
	all []doctor.Check
}

func run(t *testing.T, cfg doctor.Config) outcome {
	t.Helper()
	o := outcome{t: t}
	for c := range doctor.Run(t.Context(), cfg) {
		o.all = append(o.all, c)
		if c.Summary == "" || (c.Result == doctor.Warn || c.Result == doctor.Fail) != (c.Action != "") {
			t.Errorf("want a summary, and an action where something is wrong: %+v", c)
		}
	}
	return o
}

// is checks that a check has that result, and that its summary and action have some words.
func (o outcome) is(code string, want doctor.Result, words ...string) {
	o.t.Helper()
	found := false
	for _, c := range o.all {
		if c.Code != code || c.Result != want {
			continue
		}
		found = true
		for _, w := range words {
			if !strings.Contains(c.Summary+"\n"+c.Action, w) {
				o.t.Errorf("%s: %q; %q, want %q in it", code, c.Summary, c.Action, w)
			}
		}
	}
	if !found {
		o.t.Errorf("%s: want %s among %+v", code, want, o.of(code))
	}
}

func (o outcome) of(code string) (some []doctor.Check) {
	for _, c := range o.all {
		if c.Code == code {
			some = append(some, c)
		}
	}
	return some
}

// only checks that no check but those has failed or warned. A machine that is busy may have slow reads.
func (o outcome) only(codes ...string) {
	o.t.Helper()
	for _, c := range o.all {
		if c.Result.Worse(doctor.Warn) && !slices.Contains(codes, c.Code) && c.Category != "latency" {
			o.t.Errorf("%+v", c)
		}
	}
}

// makeApp creates the app "a".
func makeApp(t *testing.T, c *clientv3.Client) {
	t.Helper()
	put(t, c, root+"config", `{"schema":1,"shards":4}`)
}

func put(t *testing.T, c *clientv3.Client, key, value string, opts ...clientv3.OpOption) {
	t.Helper()
	if _, err := c.Put(t.Context(), key, value, opts...); err != nil {
		t.Fatal(err)
	}
}

func TestEveryCheckHasACodeOfItsOwnThatIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range doctor.Definitions() {
		if seen[d.Code] || d.Code < "DRM101" || d.Code > "DRM199" || seen[d.Category+"/"+d.Name] {
			t.Errorf("%+v: want a code of its own from DRM101 to DRM199, and a name of its own in its category", d)
		}
		seen[d.Code], seen[d.Category+"/"+d.Name] = true, true
		if !slices.Contains(doctor.Categories(), d.Category) {
			t.Errorf("%+v: there is no such category", d)
		}
		if !strings.Contains(string(page), "| `"+d.Code+"` | `"+d.Category+"` | `"+d.Name+"` |") {
			t.Errorf("docs/doctor.md has no row of %+v", d)
		}
	}
}

func TestNothingIsWrongWithAHealthyEtcd(t *testing.T) {
	t.Parallel()
	client := embeddedtest.Client(t)
	makeApp(t, client)
	before, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(client.Endpoints()...)
	cfg.As = doctor.Member
	o := run(t, cfg)
	o.only()
	for _, code := range []string{
		"DRM101", "DRM102", "DRM103", "DRM111", "DRM121", "DRM131", "DRM141", "DRM142", "DRM151", "DRM152", "DRM161",
		"DRM162", "DRM163", "DRM164", "DRM165", "DRM166", "DRM167", "DRM171", "DRM181", "DRM182", "DRM186", "DRM187",
		"DRM191", "DRM192", "DRM193",
	} {
		o.is(code, doctor.OK)
	}
	o.is("DRM196", doctor.Skip, "live member")
	after, err := client.Get(t.Context(), "x")
	if err != nil || after.Header.Revision != before.Header.Revision {
		t.Errorf("etcd went from revision %d to %d (%v): the doctor must change nothing",
			before.Header.Revision, after.Header.Revision, err)
	}
}

func TestEndpointsThatCannotBeReached(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	closed := closedPort(t)
	silent := listen(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	for _, test := range []struct {
		name      string
		endpoints []string
		timeout   time.Duration
		code      string
		want      doctor.Result
		words     []string
	}{
		{"no port", []string{"etcd"}, patience, "DRM101", doctor.Fail, []string{`"etcd"`, "HOST:PORT"}},
		{"none", nil, patience, "DRM101", doctor.Fail, []string{"no endpoint"}},
		{"no such name", []string{"no-such-name.invalid:1"}, patience, "DRM102", doctor.Fail, []string{"no-such-name"}},
		{
			"refused",
			[]string{closed},
			patience, "DRM103", doctor.Fail,
			[]string{"connection refused", "does etcd run there"},
		},
		{
			"one of two refused",
			[]string{closed, server.Endpoint()},
			patience, "DRM103", doctor.Warn,
			[]string{"connection refused", "other endpoints"},
		},
		{"silence", []string{silent}, 300 * time.Millisecond, "DRM121", doctor.Fail, []string{"says nothing", "2379"}},
		{"a web server", []string{web.Listener.Addr().String()}, patience, "DRM121", doctor.Fail, []string{"not etcd"}},
		{"a socket", []string{"unix:///no/such.sock"}, patience, "DRM103", doctor.Fail, []string{"no such socket"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(test.endpoints...)
			cfg.App, cfg.Timeout = "", test.timeout
			o := run(t, cfg)
			o.is(test.code, test.want, test.words...)
			o.only(test.code)
			if test.want == doctor.Fail {
				o.is("DRM131", doctor.Skip, test.code)
				o.is("DRM187", doctor.Skip, test.code)
			}
		})
	}
}

func TestWhatIsWrongWithTLS(t *testing.T) {
	t.Parallel()
	dir, ca, other := t.TempDir(), tlstest.New(t), tlstest.New(t)
	paths := ca.Write(dir, "client")
	serve := func(name string, clients bool, change func(*x509.Certificate)) string {
		cert, key := ca.Sign(name, change)
		files := embedded.TLS{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
		tlstest.Put(t, files.Cert, cert)
		tlstest.Put(t, files.Key, key)
		if clients {
			files.ClientCA = paths.CA
		}
		return embeddedtest.ServerOf(t, func(c *embedded.Config) { c.ClientTLS = &files }).Endpoint()
	}
	expires := func(in time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(in) }
	}
	plain := embeddedtest.Server(t).Endpoint()
	good, mutual := serve("good", false, nil), serve("mutual", true, nil)
	expired, soon := serve("expired", false, expires(-time.Hour)), serve("soon", false, expires(3*time.Hour))
	elsewhere := serve("elsewhere", false, func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{"etcd.example.org"}
	})
	trusts := func(a *tlstest.Authority, pairs ...tls.Certificate) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.Pool(), Certificates: pairs}
	}
	for _, test := range []struct {
		name  string
		at    string
		tls   *tls.Config
		code  string
		want  doctor.Result
		words []string
	}{
		{"well", good, trusts(ca), "DRM112", doctor.OK, []string{"authority"}},
		{
			"well with a certificate", mutual, trusts(ca, ca.Pair("client", nil)), "DRM115", doctor.OK,
			[]string{"client"},
		},
		{"TLS to plain text", plain, trusts(ca), "DRM111", doctor.Fail, []string{"does not speak TLS", "--cacert"}},
		{"plain text to TLS", good, nil, "DRM111", doctor.Fail, []string{"TLS", "https://"}},
		{"another authority", good, trusts(other), "DRM112", doctor.Fail, []string{"not trusted", "--cacert"}},
		{
			"the system's authorities", "https://" + good, nil, "DRM112", doctor.Fail,
			[]string{"not trusted", "--cacert"},
		},
		{"another name", elsewhere, trusts(ca), "DRM113", doctor.Fail, []string{"127.0.0.1", "--endpoints"}},
		{"expired", expired, trusts(ca), "DRM114", doctor.Fail, []string{"expired", "clock"}},
		{"expires soon", soon, trusts(ca), "DRM114", doctor.Warn, []string{"expires at", "renew"}},
		{"no certificate", mutual, trusts(ca), "DRM115", doctor.Fail, []string{"client certificate", "--cert"}},
		{
			"a foreign certificate", mutual, trusts(ca, other.Pair("client", nil)), "DRM115", doctor.Fail,
			[]string{"client", "--cert"},
		},
		{
			"an expired certificate", good, trusts(ca, ca.Pair("client", expires(-time.Hour))), "DRM116", doctor.Fail,
			[]string{"client", "--cert"},
		},
		{
			"a certificate that expires soon", mutual, trusts(ca, ca.Pair("client", expires(3*time.Hour))), "DRM116",
			doctor.Warn,
			[]string{"client", "renew"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(test.at)
			cfg.App, cfg.Etcd.TLS = "", test.tls
			o := run(t, cfg)
			o.is(test.code, test.want, test.words...)
			o.only(test.code)
		})
	}
	t.Run("several at once", func(t *testing.T) {
		t.Parallel()
		cfg := config(elsewhere)
		cfg.Etcd.TLS = trusts(other)
		o := run(t, cfg)
		o.is("DRM112", doctor.Fail)
		o.is("DRM113", doctor.Fail)
		o.is("DRM114", doctor.OK)
	})
}

// A check of a category that was not chosen is shown only where it fails, and others need it.
func TestTheCategoriesThatAreShown(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	cfg := config(server.Endpoint())
	cfg.Only, cfg.Skip = []string{"latency", "tls"}, []string{"tls"}
	if o := run(t, cfg); len(o.all) != 1 || o.all[0].Category != "latency" {
		t.Errorf("%+v, want latency only", o.all)
	}
	cfg.Etcd.Endpoints = []string{closedPort(t)}
	o := run(t, cfg)
	if len(o.all) != 2 {
		t.Errorf("%+v, want what fails, and latency", o.all)
	}
	o.is("DRM103", doctor.Fail)
	o.is("DRM176", doctor.Skip, "DRM103")
}

// When the time is up, or nobody wants to hear more, the doctor ends.
func TestTheDoctorEnds(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for c := range doctor.Run(ctx, config(server.Endpoint())) {
		late := strings.Contains(c.Summary, "time was up") || strings.Contains(c.Summary, "DRM")
		if c.Result != doctor.Skip || !late {
			t.Errorf("%+v, want it skipped, since the time is up", c)
		}
	}
	n := 0
	for range doctor.Run(t.Context(), config(server.Endpoint())) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d checks for somebody who wants one", n)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listen returns an address at which connections are accepted, and nothing is said.
func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
