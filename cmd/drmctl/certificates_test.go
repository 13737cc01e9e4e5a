package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

// In TestAnAgentOutlivesARotationOfAllCertificates, etcd, source and handler all ask for client certificates, and get
// other authorities while the agent runs.
func TestAnAgentOutlivesARotationOfAllCertificates(t *testing.T) {
	t.Parallel()
	dir, first, second := t.TempDir(), tlstest.New(t), tlstest.New(t)
	agent := first.Write(dir, "agent")
	cfg := embeddedtest.Config()
	cfg.DataDir, cfg.ListenClient = t.TempDir(), embeddedtest.Address(t)
	serve := func(a *tlstest.Authority) *embedded.Server {
		t.Helper()
		paths := a.Write(dir, "server")
		cfg.ClientTLS = &embedded.TLS{Cert: paths.Cert, Key: paths.Key, ClientCA: paths.CA}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		server, err := embedded.Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	etcd := serve(first)
	var body atomic.Value
	body.Store(`{"data":[{"id":"1"}]}`)
	source := tlstest.Serve(t, first,
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body.Load()) }))
	var handled atomic.Int32
	receiver := tlstest.Serve(t, first, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.Contains(readAll(r), `"action":"handle"`) {
			handled.Add(1)
		}
	}))
	l := &lab{t, []string{
		"--endpoints", etcd.Endpoint(), "--app", "lab", "--command-timeout", "30s", "--dial-timeout", "30s",
		"--cacert", agent.CA, "--cert", agent.Cert, "--key", agent.Key,
	}}
	// The app has few shards, since etcd answers slowly over TLS, and more slowly still with the race detector.
	_, stop := l.agent("m", "--shards", "8", "--poll", "100ms",
		"--source-url", source.URL, "--handler-url", receiver.URL,
		"--source-cacert", agent.CA, "--source-cert", agent.Cert, "--source-key", agent.Key,
		"--handler-cacert", agent.CA, "--handler-cert", agent.Cert, "--handler-key", agent.Key)
	l.active("1")

	if err := etcd.Close(); err != nil {
		t.Error(err)
	}
	second.Write(dir, "agent")
	source.Rotate(second.Server())
	receiver.Rotate(second.Server())
	body.Store(`{"data":[{"id":"1"},{"id":"2"}]}`)
	source.CloseClientConnections()
	receiver.CloseClientConnections()
	etcd = serve(second)
	defer func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	}()
	l.active("1", "2")
	if handled.Load() < 2 {
		t.Errorf("the receiver was told %d times", handled.Load())
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

func TestCertificatesOfSourceAndHandlerAreChecked(t *testing.T) {
	paths := tlstest.New(t).Write(t.TempDir(), "agent")
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		source   = "--source-url=https://127.0.0.1:1/"
		receiver = "--handler-url=https://127.0.0.1:1/"
		file     = "--source-file=x"
	)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{
			[]string{source, "--handler-log", "--source-cert", paths.Cert},
			[]string{"--source-cert", "--source-key", "need each other"},
		},
		{
			[]string{source, "--handler-log", "--source-key", paths.Key},
			[]string{"--source-cert", "--source-key", "need each other"},
		},
		{
			[]string{source, "--handler-log", "--source-cert", "/no/such", "--source-key", paths.Key},
			[]string{"--source-cert", "/no/such"},
		},
		{
			[]string{source, "--handler-log", "--source-cert", paths.Cert, "--source-key", junk},
			[]string{"--source-key", junk},
		},
		{
			[]string{source, "--handler-log", "--source-cert", paths.CA, "--source-key", paths.Key},
			[]string{"--source-cert, --source-key", "private key"},
		},
		{
			[]string{file, "--handler-log", "--source-cert", paths.Cert, "--source-key", paths.Key},
			[]string{"--source-cert", "--source-url"},
		},
		{
			[]string{file, receiver, "--handler-cert", paths.Cert},
			[]string{"--handler-cert", "--handler-key", "need each other"},
		},
		{[]string{file, receiver, "--handler-cacert", junk}, []string{"--handler-cacert", junk, "PEM"}},
		{[]string{file, "--handler-log", "--handler-cacert", paths.CA}, []string{"--handler-cacert", "--handler-url"}},
	} {
		got := drmctl(t.Context(), append([]string{"agent", "--app", "a"}, c.args...)...)
		if got.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", c.args, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, c.want...)
	}
}
