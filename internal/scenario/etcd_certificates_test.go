package scenario_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

// In TestRotatedCertificatesCountForTheNextConnection, the certificates of the authority, the server and the client are
// all replaced, and etcd is started anew with them. The member goes on with the leases and claims that it had.
func TestRotatedCertificatesCountForTheNextConnection(t *testing.T) {
	t.Parallel()
	dir, first, second := t.TempDir(), tlstest.New(t), tlstest.New(t)
	paths := first.Write(dir, "member")
	files, err := tlsfiles.Open(paths, "etcd", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	cfg := embeddedtest.Config()
	cfg.DataDir, cfg.ListenClient = t.TempDir(), embeddedtest.Address(t)
	serve := func(a *tlstest.Authority) *embedded.Server {
		t.Helper()
		server := a.Write(dir, "server")
		cfg.ClientTLS = &embedded.TLS{Cert: server.Cert, Key: server.Key, ClientCA: server.CA}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := embedded.Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	server := serve(first)
	w, r := &world{tb: t, endpoint: server.Endpoint(), app: "app"}, newRecorder(t)
	member := w.config("a", r)
	member.LeaseTTL = 2 * time.Minute // no lease ends meanwhile, however slow the machine is
	member.Etcd = drm.EtcdConfig{Endpoints: []string{w.endpoint}, GetTLS: files.TLS}
	m := w.startOnly(member)
	if err := m.Allocate(t.Context(), resources("before")[0]); err != nil {
		t.Fatal(err)
	}
	r.until("the first is handled", func() bool { return len(m.Held()) == 1 })

	if err := server.Close(); err != nil {
		t.Error(err)
	}
	second.Write(dir, "member")
	server = serve(second)
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(patience); ; { // the client tries to connect again at intervals
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := m.Allocate(ctx, resources("after")[0])
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the rotation: %v", err)
		}
	}
	r.until("the second is handled", func() bool { return len(m.Held()) == 2 })
	if n := r.count("terminate", "before"); n != 0 {
		t.Errorf("what was handled through the rotation was terminated %d times", n)
	}
	w.stop(m)

	// Neither side accepts any more what the old authority has signed.
	first.Write(dir, "member")
	member.Etcd.GetTLS, member.Etcd.DialTimeout = files.TLS, time.Second
	if _, err := w.tryStart(t.Context(), member); !errors.Is(err, drm.ErrUnreachable) {
		t.Errorf("with what was rotated out: %v", err)
	}
}
