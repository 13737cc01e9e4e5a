package main

import (
	"crypto/tls"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles/tlstest"
)

// examined runs doctor -o json, and returns what it prints.
func examined(t *testing.T, code int, args ...string) []checkJSON {
	t.Helper()
	got := drmctl(t.Context(), append([]string{"doctor", "-o", "json", "--command-timeout", "30s"}, args...)...)
	var checks []checkJSON
	if err := json.Unmarshal([]byte(got.stdout), &checks); err != nil || got.code != code {
		t.Fatalf("exit code %d, want %d; %v: %s%s", got.code, code, err, got.stdout, got.stderr)
	}
	return checks
}

// found returns the checks with a result.
func found(checks []checkJSON, result drm.CheckResult) (codes []string) {
	for _, k := range checks {
		if k.Result == string(result) && k.Category != "latency" { // a busy machine may be slow
			codes = append(codes, k.Code)
		}
	}
	return codes
}

// The doctor of a live group finds nothing wrong, and skips only what it was not given.
func TestTheDoctorOfAHealthyGroup(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-log")
	l.members(1)
	checks := examined(t, exitFine, append(l.args(), "--as", "member", "--skip", "clock")...)
	if bad := slices.Concat(found(checks, drm.CheckFail), found(checks, drm.CheckWarn)); len(bad) > 0 {
		t.Errorf("wrong: %v: %+v", bad, checks)
	}
	if skipped := found(checks, drm.CheckSkip); !slices.Equal(skipped, []string{"DRM116", "DRM117"}) {
		t.Errorf("skipped: %v", skipped)
	}
	for _, k := range checks {
		if k.Code == "DRM196" && !strings.Contains(k.Summary, "leases of members live") {
			t.Errorf("%+v", k)
		}
	}
}

func TestTheDoctorsFormats(t *testing.T) {
	t.Parallel()
	closed := closedPort(t)
	run := func(args ...string) outcome {
		t.Helper()
		return drmctl(t.Context(), append([]string{"doctor", "--endpoints", closed}, args...)...)
	}
	got := run()
	if got.code != exitFailed || !strings.Contains(got.stdout, "DRM103") || strings.Contains(got.stdout, "ACTION") ||
		!strings.Contains(got.stderr, "drmctl: DRM103: "+closed+": connection refused; does etcd run there") ||
		!strings.Contains(got.stderr, "drmctl: not as it should be: DRM103;") {
		t.Errorf("a table: %+v", got)
	}
	got = run("-o", "wide")
	if !strings.Contains(got.stdout, "ACTION") || !strings.Contains(got.stdout, "does etcd run there") ||
		strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("a wide table: %+v", got)
	}
	got = run("-o", "name", "--only", "endpoints")
	if got.stdout != "DRM101\nDRM102\nDRM103\n" {
		t.Errorf("names: %+v", got)
	}
	got = run("-o", "yaml", "--only", "tls")
	if !strings.Contains(got.stdout, "code: DRM103") || !strings.Contains(got.stdout, "result: skip") {
		t.Errorf("YAML: %+v", got)
	}
}

func TestWhatTheDoctorIsNotTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--only", "tsl"}, []string{"--only", `"tsl"`, "endpoints, tls"}},
		{[]string{"--skip", "tls,all"}, []string{"--skip", `"all"`, "endpoints, tls"}},
		{[]string{"--only", "tls,etcd", "--skip", "etcd,tls"}, []string{"--skip", "nothing"}},
		{[]string{"--fail-on", "ok"}, []string{"--fail-on", "warn or fail"}},
		{[]string{"--as", "root"}, []string{"--as", "reader, operator or member"}},
		{[]string{"--timeout", "0s"}, []string{"--timeout", "1ms"}},
		{[]string{"--app", "\a"}, []string{"--app"}},
		{[]string{"--cacert", "/no/such.pem"}, []string{"--cacert", "/no/such.pem"}},
		{[]string{"now"}, []string{`"now"`}},
	} {
		got := drmctl(t.Context(), append([]string{"doctor", "--endpoints", "127.0.0.1:1"}, test.args...)...)
		if got.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", test.args, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, test.want...)
	}
}

// What is no endpoint is a finding of the doctor, and with --fail-on warn a warning is one too.
func TestTheDoctorsExitCodes(t *testing.T) {
	t.Parallel()
	got := found(examined(t, exitFailed, "--endpoints", "foo://x"), drm.CheckFail)
	if !slices.Equal(got, []string{"DRM101"}) {
		t.Errorf("of no endpoint: %v", got)
	}
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = 77 })
	args := []string{"--endpoints", server.Endpoint(), "--only", "limits"}
	if got := found(examined(t, exitFine, args...), drm.CheckWarn); !slices.Equal(got, []string{"DRM181"}) {
		t.Errorf("of a low limit: %v", got)
	}
	examined(t, exitFailed, append(args, "--fail-on", "warn")...)
	if got := examined(t, exitFine, "--endpoints", server.Endpoint(), "--only", "version, etcd"); len(got) != 3 {
		t.Errorf("of two categories: %+v", got)
	}
}

// A user who may only read is enough for the doctor, also over TLS.
func TestTheDoctorOfAReader(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), tlstest.New(t)
	paths := ca.Write(dir, "server")
	cfg := embeddedtest.UsersConfig()
	cfg.ClientTLS = &embedded.TLS{Cert: paths.Cert, Key: paths.Key, ClientCA: paths.CA}
	server, _ := embeddedtest.Start(t, cfg)
	client := ca.Write(dir, "reader")
	l := &lab{t, []string{
		"--endpoints", server.Endpoint(), "--app", "a", "--command-timeout", "30s",
		"--cacert", client.CA, "--cert", client.Cert, "--key", client.Key,
	}}
	l.ok("allocate", "--create", "--id", "x")
	admin, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop(),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Pair("root", nil)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() }) // its error says only that it was closed
	steps := []func() error{
		func() error { _, err := admin.RoleAdd(t.Context(), "r"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(t.Context(), "r", "/drm/a/", "/drm/a0",
				clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := admin.UserAdd(t.Context(), "reader", "pw"); return err },
		func() error { _, err := admin.UserGrantRole(t.Context(), "reader", "r"); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := embeddedtest.AddUsers(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	checks := examined(t, exitFine, append(l.args(), "--fail-on", "warn", "--skip", "clock,latency")...)
	for _, k := range checks {
		if k.Code == "DRM131" && !strings.Contains(k.Summary, `"reader"`) || k.Code == "DRM115" && k.Result != "ok" {
			t.Errorf("%+v", k)
		}
	}
	if skipped := found(checks, drm.CheckSkip); !slices.Equal(skipped, []string{"DRM117", "DRM142", "DRM196"}) {
		t.Errorf("skipped: %v", skipped)
	}
	operators := examined(t, exitFailed, append(l.args(), "--only", "permissions", "--as", "operator")...)
	if k := operators[1]; k.Result != "fail" ||
		!strings.Contains(k.Action, "etcdctl role grant-permission r readwrite --prefix=true /drm/a/") {
		t.Errorf("%+v", k)
	}
}
