package scenario_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// startAndClient starts a member and makes a client, with a config that cannot work. It returns both errors.
func startAndClient(t *testing.T, etcd drm.EtcdConfig) []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, start := drm.Start(ctx, drm.Config{App: "app", Etcd: etcd, Handler: newRecorder(t), AllocateOnly: true})
	if start == nil {
		_ = m.Stop(ctx)
	}
	c, client := drm.NewClient(ctx, drm.ClientConfig{App: "app", Etcd: etcd})
	if client == nil {
		_ = c.Close()
	}
	return []error{start, client}
}

// A member must be back soon after etcd is back, however long etcd was away. With gRPC's own pauses, as many attempts
// would take more than a minute.
func TestAnEtcdThatIsAwayIsTriedOftenEnough(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 10 {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
		enough()
	}()
	etcd := drm.EtcdConfig{Endpoints: []string{listener.Addr().String()}, DialTimeout: 50 * time.Second}
	_, err = drm.NewClient(ctx, drm.ClientConfig{App: "app", Etcd: etcd})
	if ctx.Err() == nil {
		t.Errorf("etcd was tried fewer than 10 times in %v: %v", etcd.DialTimeout, err)
	}
	_ = listener.Close()
	<-ended
}

func TestAnEtcdThatCannotBeReachedIsExplained(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	certs.make("server", certs.ca)
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) {
		c.ClientTLS = &embedded.TLS{Cert: certs.path("server.pem"), Key: certs.path("server.key")}
	})
	strangers := newCertificates(t)
	proxy, err := faultproxy.New(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	proxy.Close() // nobody listens at this address any more
	for name, test := range map[string]struct {
		etcd drm.EtcdConfig
		want []string
	}{
		"refused": {
			drm.EtcdConfig{Endpoints: []string{proxy.Endpoint()}, DialTimeout: time.Second},
			[]string{"no answer within 1s", proxy.Endpoint() + ": connection refused"},
		},
		// A failure that cannot pass by itself is told at once. Otherwise a start would wait for ten minutes, which is
		// longer than the test waits.
		"a certificate that is not trusted": {
			drm.EtcdConfig{
				Endpoints: []string{server.Endpoint()}, TLS: strangers.client("a"), DialTimeout: 10 * time.Minute,
			},
			[]string{server.Endpoint() + ": its certificate is not trusted (x509: "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range startAndClient(t, test.etcd) {
				if !errors.Is(err, drm.ErrUnreachable) {
					t.Fatalf("got %v, want an ErrUnreachable", err)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error is %q, want it to say %q", err, want)
					}
				}
			}
		})
	}
}

func TestEndpointsAreCheckedBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"foo://etcd:2379", "::1:2379", "etcd", "etcd:0", "http://me:secret@etcd:2379"} {
		for _, err := range startAndClient(t, drm.EtcdConfig{Endpoints: []string{"127.0.0.1:2379", endpoint}}) {
			var input *drm.InputError
			if !errors.As(err, &input) || input.Field != "Etcd.Endpoints" || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: got %v, want an InputError about Etcd.Endpoints", endpoint, err)
			}
		}
	}
}

// The log of a member whose etcd is gone says why it cannot be reached.
func TestAMemberSaysWhyEtcdDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, err := faultproxy.New(w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	core, logs := observer.New(zapcore.WarnLevel)
	r := newRecorder(t)
	cfg := w.config("a", r)
	cfg.Etcd = drm.EtcdConfig{Endpoints: []string{proxy.Endpoint()}, CommandTimeout: time.Second}
	cfg.LeaseTTL, cfg.StopTimeout, cfg.Logger = 2*time.Second, time.Millisecond, zap.New(core)
	m := w.startOnly(cfg)
	t.Cleanup(func() { _ = m.Stop(context.Background()) }) // the member cannot give its lease back
	proxy.Close()
	r.until("the log says why", func() bool {
		for _, entry := range logs.All() {
			if text, ok := entry.ContextMap()["error"].(string); ok &&
				strings.Contains(text, proxy.Endpoint()+": connection refused") {
				return true
			}
		}
		return false
	})
	for _, entry := range logs.All() {
		t.Log(entry.Message, entry.ContextMap())
	}
}
