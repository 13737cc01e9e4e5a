package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

// outcome is what a run of drmctl printed, and its exit code.
type outcome struct {
	code           int
	stdout, stderr string
}

// drmctl runs in this process, with nothing on stdin.
func drmctl(ctx context.Context, args ...string) outcome { return drmctlWith(ctx, "", args...) }

func drmctlWith(ctx context.Context, stdin string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

func TestWrongUsageIsOneLineAndExitCode2(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "not.pem")
	if err := os.WriteFile(notPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := []string{"agent", "--app", "a", "--allocate-only", "--handler-log"}
	execAgent := []string{"agent", "--app", "a", "--allocate-only", "--handler-exec", "prog"}
	for _, test := range []struct {
		args []string
		want []string // in the line
	}{
		{[]string{"lookpu", "x"}, []string{"lookpu", "lookup"}},
		{[]string{"members", "--ap", "x"}, []string{"--ap", "--app"}},
		{[]string{"members", "--wait"}, []string{"--wait", "members"}},
		{[]string{"drain", "m", "--wiat", "--app", "x"}, []string{"--wiat", "--wait"}},
		{[]string{"members", "--app"}, []string{"--app", "value"}},
		{[]string{"members"}, []string{"--app", "DRM_APP"}},
		{[]string{"members", "--app", "a\nb"}, []string{"--app", "control"}},
		{[]string{"members", "--app", "a", "x"}, []string{"members", `"x"`}},
		{[]string{"members", "--app", "a", "-o", "csv"}, []string{"--output", "csv", "json"}},
		{[]string{"members", "--app", "a", "--dial-timeout", "5"}, []string{"dial-timeout", `"5"`}},
		{[]string{"members", "--app", "a", "--dial-timeout", "-5s"}, []string{"--dial-timeout", "-5s"}},
		{[]string{"members", "--app", "a", "--command-timeout", "0"}, []string{"--command-timeout", "0s"}},
		{[]string{"members", "--app", "a", "--endpoints", ","}, []string{"--endpoints"}},
		{[]string{"members", "--app", "a", "--cert", "x"}, []string{"--cert", "--key"}},
		{[]string{"members", "--app", "a", "--cacert", "no-such-file"}, []string{"--cacert", "no-such-file"}},
		{[]string{"members", "--app", "a", "--cacert", notPEM}, []string{"--cacert", "PEM"}},
		{[]string{"members", "--app", "a", "--user", "me"}, []string{"--user", "DRM_PASSWORD"}},
		{[]string{"lookup", "--app", "a"}, []string{"resource id", "lookup ID"}},
		{[]string{"lookup", "--app", "a", ""}, []string{"resource id", "not empty"}},
		{[]string{"lookup", "--app", "a", "x", "y"}, []string{"one resource id"}},
		{[]string{"drain", "--app", "a"}, []string{"member id", "drain MEMBER"}},
		{[]string{"drain", "--app", "a", "m", "--wait", "--wait-timeout", "-1s"}, []string{"--wait-timeout", "-1s"}},
		{[]string{"drain", "--app", "a", "m", "--wait=maybe"}, []string{"--wait", "maybe"}},
		{
			[]string{"drain", "--app", "a", "m", "--wait-timeout", "1s"},
			[]string{"--wait-timeout goes with --wait only"},
		},
		{[]string{"drain", "--app", "a", "m", "--for", "999ms"}, []string{"--for", "999ms", "1s to 8784h"}},
		{[]string{"drain", "--app", "a", "m", "--for", "-1h"}, []string{"--for", "-1h"}},
		{[]string{"drain", "--app", "a", "m", "--reason", "a\nb"}, []string{"--reason", "control"}},
		{[]string{"cordon", "--app", "a", "m", "--by", strings.Repeat("x", 501)}, []string{"--by", "500 bytes"}},
		{[]string{"cordon", "--app", "a", "m", "--wait"}, []string{"--wait", "cordon"}},
		{[]string{"weight", "--app", "a", "m"}, []string{"weight MEMBER NUMBER|--reset"}},
		{[]string{"weight", "--app", "a", "m", "1001"}, []string{"1001", "0 to 1000"}},
		{[]string{"weight", "--app", "a", "m", "x"}, []string{`"x"`, "0 to 1000"}},
		{[]string{"weight", "--app", "a", "m", "03"}, []string{`"03"`, "leading zeros"}},
		{[]string{"weight", "--app", "a", "m", "+3"}, []string{`"+3"`, "without sign"}},
		{[]string{"weight", "--app", "a", "--", "m", "-0"}, []string{`"-0"`, "without sign"}},
		{[]string{"reshard", "--app", "a", "+8"}, []string{`"+8"`, "without sign"}},
		{[]string{"reshard", "--app", "a", "008"}, []string{`"008"`, "leading zeros"}},
		{[]string{"weight", "--app", "a", "m", "3", "--reset"}, []string{"--reset", `"3"`}},
		{[]string{"weight", "--app", "a", "m", "3", "--at-once"}, []string{"--at-once goes with weight 0"}},
		{[]string{"weight", "--app", "a", "m", "3", "--force"}, []string{"--force goes with weight 0"}},
		{[]string{"uncordon", "--app", "a"}, []string{"member id", "uncordon MEMBER"}},
		{[]string{"pin", "--app", "a", "r"}, []string{"a resource id or --shard, and a member id"}},
		{[]string{"move", "--app", "a", "r", "m", "--shard", "4096"}, []string{"--shard"}},
		{[]string{"move", "--app", "a", "--shard", "4096", "m"}, []string{"--shard", "0 to 4095"}},
		{[]string{"unpin", "--app", "a"}, []string{"a resource id or --shard"}},
		{[]string{"pins", "--app", "a", "x"}, []string{"pins takes no argument"}},
		{[]string{"rebalance", "--app", "a", "x"}, []string{"rebalance takes no argument"}},
		{
			[]string{"undrain", "--app", "a", "m", "--wait-timeout", "1s"},
			[]string{"--wait-timeout goes with --wait only"},
		},
		{
			[]string{"allocate", "--app", "a", "--id", "r", "--wait=false", "--wait-timeout", "1s"},
			[]string{"--wait-timeout goes with --wait only"},
		},
		{
			[]string{"deallocate", "--app", "a", "r", "--wait-timeout", "1s"},
			[]string{"--wait-timeout goes with --wait only"},
		},
		{[]string{"verify", "--app", "a", "--every", "1m"}, []string{"--every goes with --watch only"}},
		{[]string{"bench", "claim", "--cacert", "x"}, []string{"--cacert goes with --endpoints only"}},
		{[]string{"members", "--app", "a", "--user", "me:one", "--password", "two"}, []string{"--user and --password"}},
		{[]string{"members", "--app", "a", "--password", "two"}, []string{"--user"}},
		{[]string{"assignments", "--app", "a", "--failed", "--unassigned"}, []string{"--failed", "--unassigned"}},
		{[]string{"assignments", "--app", "a", "--member", ""}, []string{"--member", "not empty"}},
		{[]string{"allocate", "--app", "a"}, []string{"--id", "--data"}},
		{[]string{"allocate", "--app", "a", "--id", ""}, []string{"--id", "not empty"}},
		{[]string{"allocate", "--app", "a", "--data", "[1]"}, []string{"--data", "an array"}},
		{[]string{"allocate", "--app", "a", "--data", `{"id":1}`}, []string{"--data", "number 1"}},
		{[]string{"allocate", "--app", "a", "--data", `{"x":1}`}, []string{"--id", "string"}},
		{[]string{"allocate", "--app", "a", "--data", "@no-such-file"}, []string{"--data", "no-such-file"}},
		{[]string{"allocate", "--app", "a", "--id", "x", "--data", `{"id":"y"}`}, []string{"--data", `"x"`, `"y"`}},
		{[]string{"allocate", "--app", "a", "--id", "x", "--data", "-"}, []string{"--data", "nothing"}},
		{[]string{"allocate", "--app", "a", "--id", "x", "--shards", "7"}, []string{"--shards", "--create"}},
		{[]string{"allocate", "--app", "a", "--id", "x", "--create", "--shards", "4097"}, []string{"--shards", "4096"}},
		{[]string{"agent"}, []string{"--app"}},
		{
			[]string{"agent", "--app", "a", "--handler-log"},
			[]string{"--source-url", "--source-file", "--allocate-only"},
		},
		{
			[]string{"agent", "--app", "a", "--allocate-only"},
			[]string{"--handler-url", "--handler-exec", "--handler-log"},
		},
		{append(agent, "--handler-url", "http://x"), []string{"--handler-url", "--handler-log"}},
		{append(agent, "--source-file", "x"), []string{"--allocate-only", "--source-file"}},
		{append(agent, "--source-header", "a: b"), []string{"--source-header", "--source-url"}},
		{
			[]string{"agent", "--app", "a", "--handler-log", "--source-url", "http://x", "--poll", "25h"},
			[]string{"--poll", "25h", "24h"},
		},
		{append(agent, "--poll", "1m"), []string{"--poll", "--source-url", "--source-file"}},
		{append(agent, "--source-timeout", "1m"), []string{"--source-timeout", "--source-url", "--source-file"}},
		{append(agent, "-o", "csv"), []string{"--output", "csv", "json"}},
		{[]string{"demo", "-o", "csv"}, []string{"--output", "csv", "json"}},
		{[]string{"etcd", "-o", "csv"}, []string{"--output", "csv", "json"}},
		{[]string{"simulate", "-o", "csv"}, []string{"--output", "csv", "json"}},
		{[]string{"version", "-o", "csv"}, []string{"--output", "csv", "json"}},
		{append(agent, "--handler-grace", "1s"), []string{"--handler-grace", "--handler-exec"}},
		{append(agent, "--ready-after", "1"), []string{"--ready-after", "--ready-url", "--ready-exec"}},
		{append(agent, "--ready-url", "http://x", "--ready-exec", "y"), []string{"--ready-url", "--ready-exec"}},
		{append(agent, "--ready-url", "localhost:80"), []string{"--ready-url", "http://localhost:80"}},
		{append(agent, "--ready-exec", "a | b"), []string{"--ready-exec", "a program and its arguments"}},
		{append(agent, "--ready-interval", "99ms"), []string{"--ready-interval", "99ms"}},
		{append(agent, "--unready-after", "0"), []string{"--unready-after", "1 to 1000"}},
		{append(agent, "--min-ready", "0"), []string{"--min-ready", "0.0001 to 1"}},
		{append(agent, "--min-ready", "NaN"), []string{"--min-ready", "0.0001 to 1"}},
		{append(agent, "--rejoin", "0"), []string{"--rejoin", "1s to 1h"}},
		{append(agent, "--rejoin", "2h"), []string{"--rejoin", "1s to 1h"}},
		{append(agent, "--min-members", "0"), []string{"--min-members", "1 to 1000"}},
		{append(agent, "--min-members-wait", "0"), []string{"--min-members-wait", "1ms to 1h"}},
		{append(agent, "--failed-share", "90"), []string{"--failed-share", "0.01 to 1, or 0"}},
		{append(agent, "--exec-output", "raw"), []string{"--exec-output", "--handler-exec"}},
		{append(agent, "--exec-ready-line", "up"), []string{"--exec-ready-line", "--handler-exec"}},
		{append(agent, "--exec-notify"), []string{"--exec-notify", "--handler-exec"}},
		{append(agent, "--exec-stopped-timeout", "1s"), []string{"--exec-stopped-timeout", "--handler-exec"}},
		{append(agent, "--check-exec", "x"), []string{"--check-exec", "--handler-exec"}},
		{append(agent, "--handler-check"), []string{"--handler-check", "--handler-url"}},
		{append(agent, "--check-interval", "1s"), []string{"--check-interval", "--handler-check", "--check-exec"}},
		{append(agent, "--check-failures", "1"), []string{"--check-failures", "--handler-check", "--check-exec"}},
		{append(execAgent, "--exec-ready-line", "("), []string{"--exec-ready-line", "regular expression", "missing"}},
		{
			append(execAgent, "--exec-ready-line", "x", "--exec-notify"),
			[]string{"--exec-notify", "--exec-ready-line", "one of"},
		},
		{append(execAgent, "--exec-stopped-timeout", "never"), []string{"--exec-stopped-timeout", "never", "forever"}},
		{append(execAgent, "--check-exec", "a | b"), []string{"--check-exec"}},
		{append(execAgent, "--check-exec", "x", "--check-interval", "1ms"), []string{"--check-interval", "100ms"}},
		{append(execAgent, "--check-exec", "x", "--check-timeout", "0s"), []string{"--check-timeout", "0s"}},
		{append(execAgent, "--check-exec", "x", "--check-failures", "0"), []string{"--check-failures", "1 to 1000"}},
		{append(execAgent, "--check-exec", "x", "--check-concurrency", "0"), []string{"--check-concurrency"}},
		{
			[]string{"agent", "--app", "a", "--allocate-only", "--handler-exec", "prog", "--exec-output", "plain"},
			[]string{"--exec-output", "prefix, raw or none"},
		},
		{
			[]string{"agent", "--app", "a", "--allocate-only", "--handler-exec", "A=1 prog"},
			[]string{"--handler-exec", "env NAME=VALUE"},
		},
		{
			[]string{"agent", "--app", "a", "--allocate-only", "--handler-exec", "~/prog"},
			[]string{"--handler-exec", "whole path"},
		},
		{append(agent, "--lease-ttl", "-5s"), []string{"--lease-ttl", "-5s"}},
		{append(agent, "--lease-ttl", "0"), []string{"--lease-ttl", "0s"}},
		{append(agent, "--weight", "0"), []string{"--weight", "1 to 1000"}},
		{append(agent, "--shards", "5000"), []string{"--shards", "4096"}},
		{append(agent, "--handle-attempts", "-1"), []string{"--handle-attempts", "-1"}},
		{append(agent, "--terminate-policy", "never"), []string{"--terminate-policy", "never"}},
		{append(agent, "--outage-policy", "panic"), []string{"--outage-policy", "panic"}},
		{append(agent, "--id", ""), []string{"--id", "not empty"}},
		{append(agent, "--log-level", "loud"), []string{"--log-level", "loud"}},
		{
			[]string{"agent", "--app", "a", "--handler-log", "--source-url", "http://x", "--poll", "-1s"},
			[]string{"--poll", "-1s"},
		},
		{[]string{"agent", "--app", "a", "--handler-log", "--source-url", "x"}, []string{"--source-url"}},
		{
			[]string{"agent", "--app", "a", "--allocate-only", "--handler-url", "ftp://x"},
			[]string{"--handler-url", "ftp"},
		},
		{append(agent, "--supervisor", "tcp:x"), []string{"--supervisor", "tcp:x", "unix:PATH"}},
		{[]string{"run"}, []string{"drmctl run [flags] -- COMMAND"}},
		{[]string{"run", "sleep", "1"}, []string{"-- sleep"}},
		{[]string{"run", "sleep", "--", "1"}, []string{"-- sleep"}},
		{[]string{"run", "--backoff", "0", "--", "x"}, []string{"--backoff", "0s"}},
		{[]string{"run", "--backoff", "2m", "--backoff-max", "1m", "--", "x"}, []string{"--backoff-max", "2m"}},
		{[]string{"run", "--endpoints", ",", "--", "x"}, []string{"--endpoints"}},
		{[]string{"run", "--app", "a\nb", "--", "x"}, []string{"--app", "control"}},
		{[]string{"run", "--prefix", "x", "--", "x"}, []string{"--prefix"}},
		{[]string{"etcd", "--quota", "lots"}, []string{"--quota", "lots"}},
		{[]string{"etcd", "--auto-compaction", "-5m"}, []string{"--auto-compaction", "-5m"}},
		{[]string{"bench"}, []string{"claim", "million", "all"}},
		{[]string{"bench", "cliam"}, []string{`"cliam"`, "claim", "million", "all"}},
		{[]string{"bench", "claim", "--scale", "0"}, []string{"--scale", "0.0001 to 10"}},
		{[]string{"bench", "claim", "--scale", "NaN"}, []string{"--scale", "NaN"}},
		{[]string{"bench", "claim", "--runs", "3"}, []string{"--runs", "takeover"}},
		{[]string{"bench", "claim", "-o", "csv"}, []string{"--output", "csv"}},
		{[]string{"bench", "claim", "--endpoints", ","}, []string{"--endpoints"}},
		{[]string{"bench", "claim", "--cpuprofile", "no/such/folder"}, []string{"--cpuprofile", "no/such/folder"}},
		{[]string{"simulate", "x"}, []string{"simulate", `"x"`}},
		{[]string{"simulate", "--members", "0"}, []string{"--members", "1 to 1000"}},
		{[]string{"simulate", "--resources", "-1"}, []string{"--resources", "-1"}},
		{[]string{"simulate", "--shards", "4097"}, []string{"--shards", "4096"}},
		{[]string{"simulate", "--events", "-1"}, []string{"--events", "-1"}},
		{[]string{"simulate", "--weights", "1,,2"}, []string{"--weights", "1,,2", "1 to 1000"}},
		{[]string{"simulate", "--weights", "1001"}, []string{"--weights", "1001"}},
		{[]string{"simulate", "--weights", ""}, []string{"--weights", "1 to 1000"}},
		{[]string{"simulate", "--skew", "2.1"}, []string{"--skew", "2.1"}},
		{[]string{"simulate", "--bound", "1.1"}, []string{"bound"}},
		{[]string{"simulate", "--seed", "x"}, []string{"seed", `"x"`}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			got := drmctl(t.Context(), test.args...)
			if got.code != exitUsage || got.stdout != "" {
				t.Errorf("exit code %d, stdout %q, want %d and nothing", got.code, got.stdout, exitUsage)
			}
			checkOneLine(t, got.stderr, test.want...)
		})
	}
}

// checkOneLine checks that an error is one line, and says certain things.
func checkOneLine(t *testing.T, stderr string, want ...string) {
	t.Helper()
	if !strings.HasPrefix(stderr, "drmctl: ") || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
		t.Errorf("stderr is %q, want one line that begins with drmctl", stderr)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("stderr is %q, want it to say %q", stderr, w)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	const secret = "s3cret"
	t.Setenv("DRM_SOURCE_HEADER", "Authorization "+secret)
	t.Setenv("DRM_SOURCE_BODY", secret)
	for _, args := range [][]string{
		{"members", "--app", "a", "--user", ":" + secret},
		{"members", "--app", "a", "--password", secret},
		{"agent", "--app", "a", "--handler-log", "--source-url", "http://x"},
		{"agent", "--app", "a", "--handler-log", "--source-url", "http://x", "--source-header", secret},
		{"agent", "--app", "a", "--allocate-only", "--handler-url", "http://u:" + secret + "@x:y/"},
		{"agent", "--help"},
		{"--help", "--password", secret},
	} {
		if got := drmctl(t.Context(), args...); strings.Contains(got.stderr+got.stdout, secret) {
			t.Errorf("%q: the secret is in %q", args, got.stderr+got.stdout)
		}
	}
}

func TestFlagsComeFromTheEnvironment(t *testing.T) {
	t.Setenv("DRM_APP", "a\x01b")
	checkOneLine(t, drmctl(t.Context(), "members").stderr, "--app", "control")
	t.Setenv("DRM_OUTPUT", "json")
	if got := drmctl(t.Context(), "version"); !json.Valid([]byte(got.stdout)) {
		t.Errorf("version is %q, want JSON", got.stdout)
	}
	if got := drmctl(t.Context(), "version", "-o", "table"); json.Valid([]byte(got.stdout)) {
		t.Errorf("version is %q: the environment won over the flag", got.stdout)
	}
	t.Setenv("DRM_DRAIN_WAIT_TIMEOUT", "-3s")
	checkOneLine(t, drmctl(t.Context(), "drain", "m").stderr, "--wait-timeout", "-3s")
}

// The environment is for all commands that a deployment runs. A variable need not concern each of them.
func TestFlagsOfTheEnvironmentNeedNotGoTogether(t *testing.T) {
	for _, pair := range []string{
		"DRM_HANDLER_GRACE=3s", "DRM_HANDLER_HEADER=a: b", "DRM_SOURCE_HEADER=a: b", "DRM_SOURCE_NUMBER_IDS=true",
		"DRM_POLL=5s", "DRM_SOURCE_TIMEOUT=5s",
	} {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	agent := []string{
		"agent", "--app", "a", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms", "--log-level", "error",
	}
	if got := drmctl(t.Context(), append(agent, "--allocate-only", "--handler-log")...); got.code != exitUnreachable {
		t.Errorf("exit code %d, want %d: %s", got.code, exitUnreachable, got.stderr)
	}
	t.Setenv("DRM_POLL", "-1s") // this is wrong, whether it is used or not
	got := drmctl(t.Context(), append(agent, "--allocate-only", "--handler-log")...)
	if got.code != exitUsage {
		t.Errorf("exit code %d, want %d", got.code, exitUsage)
	}
	checkOneLine(t, got.stderr, "--poll", "-1s")
}

func TestAnEmptyVariableIsAsGoodAsNone(t *testing.T) {
	for _, f := range allFlags(testApp()) {
		if f.Names()[0] == flagHelp {
			continue
		}
		if names := envVars(f); names == nil || len(*names) != 1 {
			t.Errorf("--%s: variables %v, want one", f.Names()[0], names)
		} else if (*names)[0] != "DRM_APP" {
			t.Setenv((*names)[0], "")
		}
	}
	t.Setenv("DRM_APP", "a")
	agent := []string{
		"agent", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms", "--log-level", "error", "--allocate-only",
		"--handler-log",
	}
	for _, args := range [][]string{
		agent,
		{"assignments", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms"},
		{"allocate", "--id", "x", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms"},
	} {
		if got := drmctl(t.Context(), args...); got.code != exitUnreachable {
			t.Errorf("%s: exit code %d, want %d: %s", args[0], got.code, exitUnreachable, got.stderr)
		}
	}
	// The error names a flag that is empty on the command line.
	if got := drmctl(t.Context(), append(agent, "--id", "")...); got.code != exitUsage {
		t.Errorf("--id '': exit code %d, want %d", got.code, exitUsage)
	}
	if help := drmctl(t.Context(), "agent", "--help"); !strings.Contains(help.stdout, "DRM_ID") {
		t.Error("--help does not name a variable that is empty")
	}
}

func TestHelpTellsTheContract(t *testing.T) {
	app := drmctl(t.Context(), "--help")
	if app.code != exitFine {
		t.Errorf("exit code %d", app.code)
	}
	for _, want := range []string{
		"EXIT CODES", "3  no such", "4  etcd unreachable", "DRM_ENDPOINTS", "127.0.0.1:2379", "DRM_PASSWORD",
	} {
		if !strings.Contains(app.stdout, want) {
			t.Errorf("--help does not say %q", want)
		}
	}
	for _, path := range commandPaths(testApp()) {
		c, words := path[len(path)-1], namesOf(path)
		if c.Hidden {
			continue
		}
		name := strings.Join(words, " ")
		help := drmctl(t.Context(), append(words, "--help")...)
		for _, want := range []string{"Example", "drmctl " + name, c.Usage} {
			if c.Name != "demo" && want == "Example" || want != "Example" {
				if !strings.Contains(help.stdout, want) {
					t.Errorf("%s --help does not say %q:\n%s", name, want, help.stdout)
				}
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, exitFine},
		{errors.New("x"), exitFailed},
		{&drm.IDInUseError{ID: "a"}, exitFailed},
		{fmt.Errorf("source: %w", &drm.InputError{Field: "data[3].id"}), exitFailed},
		{usagef("x"), exitUsage},
		{fmt.Errorf("lookup x: %w", drm.ErrNotFound), exitNotFound},
		{fmt.Errorf("dial: %w", drm.ErrUnreachable), exitUnreachable},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%v: exit code %d, want %d", test.err, got, test.want)
		}
	}
}

func TestManyLinesBecomeOne(t *testing.T) {
	var b bytes.Buffer
	report(t.Context(), &b, errors.Join(errors.New("one:\n  detail"), errors.New("two")))
	if got, want := b.String(), "drmctl: one:; detail; two\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnreachableEtcdIsExitCode4InTime(t *testing.T) {
	t.Parallel()
	// A listener that never answers, and a port where nobody listens.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, endpoint := range []string{silent.Addr().String(), closed.Addr().String()} {
		for _, limit := range []string{"--dial-timeout", "--command-timeout"} {
			begin := time.Now()
			got := drmctl(t.Context(), "members", "--app", "a", "--endpoints", endpoint, limit, "300ms")
			if got.code != exitUnreachable {
				t.Errorf("%s %s: exit code %d, want %d", endpoint, limit, got.code, exitUnreachable)
			}
			checkOneLine(t, got.stderr, endpoint)
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("%s %s: took %s, want about 300ms", endpoint, limit, took)
			}
		}
	}
}

// shown returns what a function prints, which needs no etcd.
func shown(t *testing.T, output string, command func(c *cli.Context) error) string {
	t.Helper()
	var b bytes.Buffer
	app := newApp(strings.NewReader(""), &b, &b)
	app.Commands = []*cli.Command{{Name: "x", Action: command}}
	if err := app.RunContext(t.Context(), []string{"drmctl", "-o", output, "x"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What the JSON of a status has besides, where nobody has looked.
const (
	sourceRest = `"too_large":0,"held_until":null,"last_change":null,"poll_seconds":null,"age_seconds":null,` +
		`"overdue":false`
	statusRest = `"corrupt":0,"schemas":"","member_health":[],"leases":"",` +
		`"etcd":{"leader":"","members":[],"alarms":[],"latency_ms":null,"silent":[],"unknown":[]},"warnings":[]}`
)

func TestJSONIsTheContract(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	for _, test := range []struct {
		name  string
		print func(c *cli.Context) error
		want  string
	}{
		{
			"no members", func(c *cli.Context) error { return showMembers(c, nil, nil) }, `[]`,
		},
		{
			"members",
			func(c *cli.Context) error {
				return showMembers(c, []drm.MemberInfo{
					{ID: "b"},
					{
						ID: "a", State: "active", Weight: 2, Slots: []int{0, 3}, Address: "h:1", Version: "v1",
						Blocks: []drm.SlotRange{{First: 7, Last: 9}}, Started: at, Shards: 512, Resources: 7,
						Drain:  drm.DrainOrdered,
						Reason: "no",
					},
				}, []drm.OrderInfo{
					{Kind: drm.OrderCordon, Member: "gone", By: "ann", Why: "old", Since: at, Until: at, Ignored: true},
					{Kind: drm.OrderDrain, Member: "a", Live: true},
					{Kind: drm.OrderMove, Member: "nobody", Shard: 5},
				})
			},
			`[{"id":"a","state":"active","weight":2,"ordered_weight":null,` +
				`"slots":[0,3],"blocks":[{"first":7,"last":9}],"address":"h:1","version":"v1",` +
				`"started":"2026-02-03T03:05:06Z","shards":512,"resources":7,"drain":"ordered","cordon":"",` +
				`"reason":"no","orders":[{"kind":"drain","member":"a","shard":null,"weight":null,"by":"","why":"",` +
				`"since":null,"until":null,"live":true,"ignored":false}]},` +
				`{"id":"b","state":"","weight":0,"ordered_weight":null,` +
				`"slots":[],"blocks":[],"address":"","version":"","started":null,"shards":0,` +
				`"resources":0,"drain":"","cordon":"","reason":"","orders":[]},` +
				`{"id":"gone","state":"absent","weight":0,"ordered_weight":null,` +
				`"slots":[],"blocks":[],"address":"","version":"","started":null,` +
				`"shards":0,"resources":0,"drain":"","cordon":"ignored","reason":"","orders":[{"kind":"cordon",` +
				`"member":"gone","shard":null,"weight":null,"by":"ann","why":"old","since":"2026-02-03T03:05:06Z",` +
				`"until":"2026-02-03T03:05:06Z","live":false,"ignored":true}]}]`,
		},
		{
			"no assignments", func(c *cli.Context) error { return showAssignments(c, nil) }, `[]`,
		},
		{
			"assignments",
			func(c *cli.Context) error {
				return showAssignments(c, []drm.Assignment{
					{
						Resource: "<r>", Shard: 5, Expected: "a", Member: "b", State: drm.StateFailed, Token: 9,
						Since: at, Error: "no",
					},
					{Resource: "<q>", State: drm.StateUnassigned, Error: "why"},
				})
			},
			`[{"resource":"<q>","shard":0,"expected":"","member":"","state":"unassigned","token":0,"since":null,` +
				`"error":"why"},` +
				`{"resource":"<r>","shard":5,"expected":"a","member":"b","state":"failed","token":9,` +
				`"since":"2026-02-03T03:05:06Z","error":"no"}]`,
		},
		{
			"lookup",
			func(c *cli.Context) error {
				return showAssignment(c, drm.Assignment{
					Resource: "r", State: drm.StateActive, Member: "a", Expected: "a", Token: 1, Since: at,
				})
			},
			`{"resource":"r","shard":0,"expected":"a","member":"a","state":"active","token":1,` +
				`"since":"2026-02-03T03:05:06Z","error":""}`,
		},
		{
			"no resources", func(c *cli.Context) error { return showResources(c, nil) }, `[]`,
		},
		{
			"resources",
			func(c *cli.Context) error {
				return showResources(c, []drm.CatalogueEntry{
					{Resource: drm.Resource{ID: "r"}, Shard: 3, Allocated: true},
				})
			},
			`[{"id":"r","shard":3,"origin":"allocated","state":"wanted","data":{"id":"r"}}]`,
		},
		{
			"resources with what HTML would escape",
			func(c *cli.Context) error {
				return showResources(c, []drm.CatalogueEntry{
					{
						Resource: drm.Resource{
							ID: "<a>&",
							Data: json.RawMessage(`{"id":"<a>&","url":"http://x/?a=1&b=<2>","n":1.50,` +
								`"big":123456789012345678901,"\u00e9":"\u003c é"}`),
						},
					},
					{Resource: drm.Resource{ID: "b&"}},
				})
			},
			`[{"id":"<a>&","shard":0,"origin":"allocated","state":"wanted","data":{"id":"<a>&",` +
				`"url":"http://x/?a=1&b=<2>","n":1.50,"big":123456789012345678901,"\u00e9":"\u003c é"}},` +
				`{"id":"b&","shard":0,"origin":"allocated","state":"wanted","data":{"id":"b&"}}]`,
		},
		{
			"status",
			func(c *cli.Context) error {
				return showStatus(c, drm.Overview{Status: drm.Status{
					App: "a", Members: 3, Resources: 60, Active: 58, Failed: 1, Unassigned: 1, Misplaced: 2,
					Quarantined: 4,
					Coordinator: "m1", Revision: 77,
					Source: drm.SourceStatus{
						LastSuccess: at, LastAttempt: at, Resources: 60, Error: "busy", NotBefore: at,
					},
					Drains: []drm.DrainInfo{{Member: "m", Since: at}, {Member: "n", Live: true}},
					Orders: []drm.OrderInfo{
						{Kind: drm.OrderPin, Member: "m", Shard: 0, Live: true},
						{Kind: drm.OrderWeight, Member: "n", Weight: 0},
					},
					Unready: []drm.UnreadyInfo{{Member: "m", Reason: "no", Ignored: true}},
				}, At: at.Add(-time.Second)})
			},
			`{"schema":1,"app":"a","members":3,"resources":60,"active":58,"failed":1,"unassigned":1,"misplaced":2,` +
				`"coordinator":"m1",` +
				`"source":{"last_success":"2026-02-03T03:05:06Z","last_attempt":"2026-02-03T03:05:06Z",` +
				`"resources":60,"error":"busy","not_before":"2026-02-03T03:05:06Z","held":0,"held_since":null,` +
				`"held_ids":[],"bad":0,"bad_items":[],` +
				`"too_large":0,"held_until":null,"last_change":null,"poll_seconds":null,"age_seconds":-1,` +
				`"overdue":false},"revision":77,"drains":[{"member":"m",` +
				`"since":"2026-02-03T03:05:06Z","live":false},{"member":"n","since":null,"live":true}],` +
				`"orders":[{"kind":"pin","member":"m","shard":0,"weight":null,"by":"","why":"","since":null,` +
				`"until":null,"live":true,"ignored":false},{"kind":"weight","member":"n","shard":null,` +
				`"weight":0,"by":"","why":"",` +
				`"since":null,"until":null,"live":false,"ignored":false}],` +
				`"unready":[{"member":"m","reason":"no","ignored":true}],"quarantined":4,` +
				`"at":"2026-02-03T03:05:05Z",` + statusRest,
		},
		{
			"status, removals held",
			func(c *cli.Context) error {
				return showStatus(c, drm.Overview{Status: drm.Status{
					App: "a",
					Source: drm.SourceStatus{
						Resources: 1, Held: 2, HeldSince: at, HeldIDs: []string{"<r>", "s"}, HeldDigest: "x",
					},
				}})
			},
			`{"schema":1,"app":"a","members":0,"resources":0,"active":0,"failed":0,"unassigned":0,"misplaced":0,` +
				`"coordinator":"",` +
				`"source":{"last_success":null,"last_attempt":null,"resources":1,"error":"","not_before":null,` +
				`"held":2,"held_since":"2026-02-03T03:05:06Z","held_ids":["<r>","s"],"bad":0,"bad_items":[],` +
				sourceRest + `},` +
				`"revision":0,"drains":[],"orders":[],"unready":[],"quarantined":0,"at":null,` + statusRest,
		},
		{
			"source accept", func(c *cli.Context) error {
				return showAccept(c, acceptJSON{
					Held: 1, HeldSince: utc(at), HeldIDs: []string{"<r>"}, Ordered: true, Done: true, Removed: 1,
				})
			},
			`{"held":1,"held_since":"2026-02-03T03:05:06Z","held_ids":["<r>"],"ordered":true,"done":true,"removed":1}`,
		},
		{
			"status of nothing",
			func(c *cli.Context) error { return showStatus(c, drm.Overview{Status: drm.Status{App: "a"}}) },
			`{"schema":1,"app":"a","members":0,"resources":0,"active":0,"failed":0,"unassigned":0,"misplaced":0,` +
				`"coordinator":"",` +
				`"source":{"last_success":null,"last_attempt":null,"resources":0,"error":"","not_before":null,` +
				`"held":0,"held_since":null,"held_ids":[],"bad":0,"bad_items":[],` + sourceRest +
				`},"revision":0,"drains":[],` +
				`"orders":[],"unready":[],"quarantined":0,"at":null,` + statusRest,
		},
		{
			"allocate", func(c *cli.Context) error { return showAllocated(c, "<r>") },
			`{"resource":"<r>","allocated":true}`,
		},
		{
			"deallocate", func(c *cli.Context) error { return showDeallocated(c, "r", false) },
			`{"resource":"r","allocated":false,"gone":false}`,
		},
		{
			"deallocate --wait", func(c *cli.Context) error { return showDeallocated(c, "r", true) },
			`{"resource":"r","allocated":false,"gone":true}`,
		},
		{
			"drain", func(c *cli.Context) error { return showDrain(c, "m", true, false) },
			`{"member":"m","drained":true,"done":false}`,
		},
		{
			"undrain --wait", func(c *cli.Context) error { return showDrain(c, "m", false, true) },
			`{"member":"m","drained":false,"done":true}`,
		},
		{
			"pins", func(c *cli.Context) error {
				return showPins(c, []drm.OrderInfo{
					{Kind: drm.OrderPin, Member: "m", Shard: 7, By: "ann", Why: "near", Since: at, Live: true},
				})
			},
			`[{"kind":"pin","member":"m","shard":7,"weight":null,"by":"ann","why":"near",` +
				`"since":"2026-02-03T03:05:06Z","until":null,"live":true,"ignored":false}]`,
		},
		{
			"pin", func(c *cli.Context) error {
				return showPin(c, pinJSON{Shard: 7, Member: "m", Pinned: true, Resources: new(int)})
			},
			`{"shard":7,"member":"m","pinned":true,"resources":0}`,
		},
		{
			"unpin", func(c *cli.Context) error { return showPin(c, pinJSON{Shard: 7, Member: "m"}) },
			`{"shard":7,"member":"m","pinned":false}`,
		},
		{
			"move", func(c *cli.Context) error {
				return showMove(c, moveJSON{Shard: 7, From: "m", Member: "n", Resources: 3, Moved: true, Done: true})
			},
			`{"shard":7,"from":"m","member":"n","resources":3,"moved":true,"done":true}`,
		},
		{
			"rebalance", func(c *cli.Context) error { return showRebalance(c, false) }, `{"ordered":true,"done":false}`,
		},
		{
			"etcd", func(c *cli.Context) error { return showEndpoint(c, "127.0.0.1:2379") },
			`{"endpoint":"127.0.0.1:2379"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want+"\n", shown(t, "json", test.print)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTablesAreSortedAndAligned(t *testing.T) {
	got := shown(t, "table", func(c *cli.Context) error {
		return showAssignments(c, []drm.Assignment{
			{Resource: "r-2", Shard: 1000, Expected: "a", State: drm.StateUnassigned, Error: "line one\nline\ttwo"},
			{
				Resource: "r-1", Shard: 5, Expected: "a", Member: "a", State: drm.StateActive, Token: 12,
				Since: time.Unix(0, 0),
			},
		})
	})
	want := "" +
		"RESOURCE  SHARD  STATE       MEMBER  EXPECTED  TOKEN  SINCE                 ERROR\n" +
		"r-1       5      active      a       a         12     1970-01-01T00:00:00Z  -\n" +
		"r-2       1000   unassigned  -       a         0      -                     line one; line two\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFieldsHaveFlags(t *testing.T) {
	for field, want := range map[string]string{
		"LeaseTTL": "lease-ttl", "Etcd.DialTimeout": "dial-timeout", "Config.App": "app", "ID": "id",
		"PollInterval": "poll", "FetchTimeout": "source-timeout", "FetchRetryBudget": "source-retry",
		"SourcePolicy": "source-policy", "HandleConcurrency": "handle-concurrency",
		"data[3].id": "", "id": "", "": "",
	} {
		if got := flagOfField(field); got != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
}
