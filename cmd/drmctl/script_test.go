//go:build unix

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// TestScripts runs testdata/script: sessions of an operator, with processes of drmctl and an etcd of their own. Beside
// what testscript knows, a script may say:
//
//	etcd                    starts an etcd, which DRM_ENDPOINTS names; DRM_APP is feeds
//	certificates            makes the authorities ca.pem and other.pem, and of ca the certificates server and expired,
//	                        for 127.0.0.1
//	etcd NAME               starts another etcd, with that certificate, at the address that the variable NAME has then
//	users                   turns etcd's authentication on, with the users root, and reader, who may read below /drm/
//	                        only; the password of each is secret
//	code N PROGRAM ARGS     runs a program, which must end with the exit code N
//	await RE PROGRAM ARGS   runs a program again and again until it succeeds and its stdout matches
//	like FILE               compares stdout with a file, in which <word> stands for any word, <...> for any words of a
//	                        line, and white space for any white space but newlines
//	lines N                 stdout has so many lines
func TestScripts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "script"),
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, ".bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			env.Setenv(asDrmctl, "1")
			env.Setenv(raceOptions, os.Getenv(raceOptions))
			env.Setenv("USER", "ops")
			return os.Symlink(self, filepath.Join(bin, "drmctl"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"etcd": scriptEtcd, "certificates": scriptCertificates, "users": scriptUsers, "code": scriptCode,
			"await": scriptAwait, "like": scriptLike,
			"lines": scriptLines,
		},
	})
}

func scriptEtcd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) > 1 {
		ts.Fatalf("usage: etcd [NAME]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := embeddedtest.Config()
	cfg.DataDir = filepath.Join(ts.Getenv("WORK"), strings.Join(append([]string{".etcd"}, args...), "-"))
	if len(args) > 0 {
		file := filepath.Join(ts.Getenv("WORK"), args[0])
		cfg.ClientTLS = &embedded.TLS{Cert: file + ".pem", Key: file + ".key"}
	}
	server, err := embedded.Start(ctx, cfg)
	ts.Check(err)
	ts.Defer(func() { _ = server.Close() })
	if len(args) > 0 {
		ts.Setenv(strings.ToUpper(args[0]), server.Endpoint())
		return
	}
	ts.Setenv("DRM_ENDPOINTS", server.Endpoint())
	ts.Setenv("DRM_APP", "feeds")
	ts.Setenv("DRM_DIAL_TIMEOUT", "30s") // a busy machine starts a process and an etcd at once
	ts.Setenv("DRM_COMMAND_TIMEOUT", "30s")
}

// scriptFailer is a script as an authority sees it.
type scriptFailer struct{ ts *testscript.TestScript }

// Helper implements failer.
func (scriptFailer) Helper() {}

// Fatal implements failer.
func (f scriptFailer) Fatal(args ...any) { f.ts.Fatalf("%s", fmt.Sprint(args...)) }

func scriptCertificates(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.Getenv("WORK")
	newAuthority(scriptFailer{ts}, dir, "other")
	ca := newAuthority(scriptFailer{ts}, dir, "ca")
	ca.sign("server", func(*x509.Certificate) {})
	ca.sign("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
}

func scriptUsers(ts *testscript.TestScript, _ bool, _ []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{ts.Getenv("DRM_ENDPOINTS")}})
	ts.Check(err)
	defer func() { _ = etcd.Close() }()
	read := clientv3.PermissionType(clientv3.PermRead)
	steps := []func() error{
		func() error { _, err := etcd.RoleAdd(ctx, "root"); return err },
		func() error { _, err := etcd.RoleAdd(ctx, "reads"); return err },
		func() error {
			_, err := etcd.RoleGrantPermission(ctx, "reads", "/drm/", clientv3.GetPrefixRangeEnd("/drm/"), read)
			return err
		},
		func() error { _, err := etcd.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := etcd.UserAdd(ctx, "reader", "secret"); return err },
		func() error { _, err := etcd.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := etcd.UserGrantRole(ctx, "reader", "reads"); return err },
		func() error { _, err := etcd.AuthEnable(ctx); return err },
	}
	for _, step := range steps {
		ts.Check(step())
	}
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARGS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await RE PROGRAM ARGS")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && re.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-deadline.C:
			ts.Fatalf("%q never matched; the last error: %v", args[0], err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pattern makes a regular expression of what a script, or a document, says of an output.
func pattern(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(`(?m:^[ \t]*`)
		for i, word := range strings.Fields(line) {
			if i > 0 {
				b.WriteString(`[ \t]+`)
			}
			quoted := regexp.QuoteMeta(word)
			quoted = strings.ReplaceAll(quoted, `<\.\.\.>`, `[^\n]*`)
			b.WriteString(regexp.MustCompile(`<[^<>]+>`).ReplaceAllString(quoted, `[^\s]+`))
		}
		b.WriteString("[ \t]*$)\n")
	}
	return `\A` + b.String() + `\z`
}

func scriptLike(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: like FILE")
	}
	want, got := ts.ReadFile(args[0]), ts.ReadFile("stdout")
	if matched := regexp.MustCompile(pattern(want)).MatchString(got); matched == neg {
		ts.Fatalf("stdout is\n%swant what is like\n%s", got, want)
	}
}

func scriptLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lines N")
	}
	got := strings.Count(ts.ReadFile("stdout"), "\n")
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("stdout has %d lines, want %s", got, args[0])
	}
}

// TestEveryCommandIsInAScript makes sure that each command is tried as a user would.
func TestEveryCommandIsInAScript(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	// These have tests of their own, since they go on, or take long.
	elsewhere := []string{"bench", "demo", "etcd", "run"}
	for _, path := range commandPaths(testApp()) {
		words := strings.Join(namesOf(path), " ")
		c := path[len(path)-1]
		if c.Hidden || len(c.Subcommands) > 0 || slices.Contains(elsewhere, words) {
			continue
		}
		if !regexp.MustCompile(`(?m)drmctl( --?[a-z]+ \S+)* ` + words + `( |$)`).MatchString(all.String()) {
			t.Errorf("no script in testdata/script has drmctl %s", words)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, test := range []struct {
		want, got string
		like      bool
	}{
		{"a  <n> c\n", "a 12  c\n", true},
		{"a <n> c\n", "a 1 2 c\n", false},
		{"a <...>\n", "a 1 2 c\n", true},
		{"a (<n>)\n", "a (12)\n", true},
		{"a\nb\n", "a\nb\nc\n", false},
		{"a.b\n", "axb\n", false},
		{"a\n", "b a\n", false},
	} {
		if like := regexp.MustCompile(pattern(test.want)).MatchString(test.got); like != test.like {
			t.Errorf("%q and %q: %t", test.want, test.got, like)
		}
	}
}
