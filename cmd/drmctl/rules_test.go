package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

// The tables name only flags that exist.
func TestTheRulesAreOfFlagsThatThereAre(t *testing.T) {
	app := testApp()
	check := func(command string, flags ...string) {
		path := commandIn(app, strings.Fields(command))
		if strings.Join(namesOf(path), " ") != command {
			t.Fatalf("there is no command %q", command)
		}
		c := path[len(path)-1]
		for _, f := range flags {
			if spellings(c.Flags)[f] == nil && spellings(app.Flags)[f] == nil {
				t.Errorf("%s has no flag --%s", command, f)
			}
		}
	}
	for command, list := range needs {
		for _, n := range list {
			check(command, append(n.others, n.flag)...)
		}
	}
	for command, list := range clashes {
		for _, x := range list {
			check(command, append(x.others, x.flag)...)
		}
	}
	for command, sets := range rivals {
		for _, set := range sets {
			check(command, set...)
		}
	}
}

// valueFor returns a value that the flag accepts.
func valueFor(f cli.Flag) string {
	if strings.HasSuffix(f.Names()[0], "header") {
		return "a: b"
	}
	switch f.(type) {
	case *cli.DurationFlag:
		return "5s"
	case *cli.IntFlag, *cli.Int64Flag, *cli.Uint64Flag:
		return "1"
	case *cli.BoolFlag:
		return "true"
	default:
		return "x"
	}
}

// A flag that needs another one is refused without it on the command line, and ignored in the environment.
func TestAFlagThatNeedsAnotherIsRefusedWithout(t *testing.T) {
	base := map[string][]string{
		"agent":         {"agent", "--app", "a", "--allocate-only", "--handler-log"},
		"allocate":      {"allocate", "--app", "a", "--id", "r"},
		"deallocate":    {"deallocate", "--app", "a", "r"},
		"drain":         {"drain", "--app", "a", "m"},
		"undrain":       {"undrain", "--app", "a", "m"},
		"weight":        {"weight", "--app", "a", "m", "3"},
		"move":          {"move", "--app", "a", "r", "m"},
		"rebalance":     {"rebalance", "--app", "a"},
		"reshard":       {"reshard", "--app", "a", "8"},
		"retry":         {"retry", "--app", "a", "r"},
		"resume":        {"resume", "--app", "a", "r"},
		"suspend":       {"suspend", "--app", "a", "r"},
		"verify":        {"verify", "--app", "a"},
		"status":        {"status", "--app", "a"},
		"source accept": {"source", "accept", "--app", "a"},
		"source fetch":  {"source", "fetch", "--app", "a"},
		"fetch":         {"fetch", "--app", "a"},
		"bench":         {"bench", "claim", "-o", "csv"}, // -o csv is wrong, so that no bench begins
	}
	for command, list := range needs {
		for _, n := range list {
			t.Run(command+" "+n.flag, func(t *testing.T) {
				app := testApp()
				path := commandIn(app, strings.Fields(command))
				f := spellings(path[len(path)-1].Flags)[n.flag]
				if f == nil {
					f = spellings(app.Flags)[n.flag]
				}
				args := append(base[command], "--dial-timeout", "1ms")
				if command != "bench" {
					args = append(args, "--endpoints", closedPort(t))
				}
				got := drmctl(t.Context(), append(args, "--"+n.flag+"="+valueFor(f))...)
				if got.code != exitUsage {
					t.Errorf("exit code %d, want %d", got.code, exitUsage)
				}
				checkOneLine(t, got.stderr, "--"+n.flag+" goes with --"+n.others[0])
				t.Setenv((*envVars(f))[0], valueFor(f))
				got = drmctl(t.Context(), args...)
				if strings.Contains(got.stderr, "goes with") || command != "bench" && got.code != exitUnreachable {
					t.Errorf("from the environment: exit code %d: %s", got.code, got.stderr)
				}
			})
		}
	}
}

// A flag that means nothing beside another one is refused on the command line, and ignored in the environment.
func TestAFlagThatMeansNothingBesideAnotherIsRefused(t *testing.T) {
	base := map[string][]string{
		"explain":   {"explain", "--app", "a", "r"},
		"weight":    {"weight", "--app", "a", "m"},
		"drain":     {"drain", "--app", "a", "m"},
		"move":      {"move", "--app", "a", "r", "m"},
		"pin":       {"pin", "--app", "a", "r", "m"},
		"rebalance": {"rebalance", "--app", "a"},
		"retry":     {"retry", "--app", "a"},
	}
	for command, list := range clashes {
		for _, x := range list {
			for _, other := range x.others {
				t.Run(command+" "+other, func(t *testing.T) {
					app := testApp()
					path := commandIn(app, strings.Fields(command))
					f := spellings(path[len(path)-1].Flags)[other]
					args := append(base[command], "--"+x.flag, "--dial-timeout", "1ms", "--endpoints", closedPort(t))
					got := drmctl(t.Context(), append(args, "--"+other+"="+valueFor(f))...)
					if got.code != exitUsage {
						t.Errorf("exit code %d, want %d", got.code, exitUsage)
					}
					checkOneLine(t, got.stderr, "--"+other+" does not go with --"+x.flag)
					t.Setenv((*envVars(f))[0], valueFor(f))
					got = drmctl(t.Context(), args...)
					if got.code != exitUnreachable {
						t.Errorf("from the environment: exit code %d: %s", got.code, got.stderr)
					}
				})
			}
		}
	}
}

// parsed calls look with the flags of a command as the arguments and the environment set them.
func parsed(t *testing.T, args []string, look func(c *cli.Context)) error {
	t.Helper()
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	argv, err := arrange(app, args)
	if err != nil {
		t.Fatal(err)
	}
	forgetEmpty(app)
	path := commandIn(app, argv)
	forgetOverruled(app, path)
	path[len(path)-1].Action = func(c *cli.Context) error { look(c); return nil }
	return app.RunContext(t.Context(), append([]string{"drmctl"}, argv...))
}

func TestAFlagWinsOverTheVariablesOfItsRivals(t *testing.T) {
	// The variables that belong to a rival are ignored with it, even where their values are wrong.
	ofURL := []string{
		"DRM_SOURCE_URL=http://x", "DRM_SOURCE_METHOD=POST", "DRM_SOURCE_BODY=@none", "DRM_SOURCE_HEADER=x",
		"DRM_SOURCE_CACERT=none",
		"DRM_SOURCE_NUMBER_IDS=true",
	}
	for _, test := range []struct {
		env  []string
		args []string
		want string // which flag of each set is chosen
	}{
		{
			[]string{"DRM_SOURCE_URL=http://x"},
			[]string{"--source-file", "f", "--handler-log"},
			"source-file handler-log",
		},
		{
			[]string{"DRM_SOURCE_URL=http://x"},
			[]string{"--allocate-only", "--handler-log"},
			"allocate-only handler-log",
		},
		{
			[]string{"DRM_SOURCE_FILE=f"},
			[]string{"--source-url", "http://x", "--handler-log"},
			"source-url handler-log",
		},
		{
			[]string{"DRM_ALLOCATE_ONLY=true"},
			[]string{"--source-url", "http://x", "--handler-log"},
			"source-url handler-log",
		},
		{
			[]string{"DRM_ALLOCATE_ONLY=perhaps", "DRM_SOURCE_FILE=f"},
			[]string{"--source-url", "http://x", "--handler-log"},
			"source-url handler-log",
		},
		{
			[]string{"DRM_HANDLER_URL=http://x"},
			[]string{"--allocate-only", "--handler-exec", "true"},
			"allocate-only handler-exec",
		},
		{[]string{"DRM_HANDLER_EXEC=true"}, []string{"--allocate-only", "--handler-log"}, "allocate-only handler-log"},
		{
			[]string{"DRM_HANDLER_LOG=true"},
			[]string{"--allocate-only", "--handler-url", "http://x"},
			"allocate-only handler-url",
		},
		{
			[]string{"DRM_SOURCE_URL=http://x", "DRM_HANDLER_URL=http://x"},
			[]string{"--allocate-only=false", "--handler-log=false"},
			"source-url handler-url",
		},
		{
			append([]string{"DRM_SOURCE_CACHE=true", "DRM_SOURCE_RETRY=x", "DRM_SOURCE_POLICY=x"}, ofURL...),
			[]string{"--allocate-only", "--handler-log"},
			"allocate-only handler-log",
		},
		{ofURL, []string{"--source-file", "/f.json", "--handler-log"}, "source-file handler-log"},
	} {
		t.Run(strings.Join(append(test.env, test.args...), " "), func(t *testing.T) {
			for _, v := range test.env {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			args := append([]string{"agent", "--app", "a"}, test.args...)
			err := parsed(t, args, func(c *cli.Context) {
				var got []string
				for _, set := range rivals["agent"] {
					got = append(got, slices.DeleteFunc(slices.Clone(set), func(f string) bool {
						return !given(c, f)
					})...)
				}
				if strings.Join(got, " ") != test.want {
					t.Errorf("chosen: %q, want %q", got, test.want)
				}
				cfg := drm.Config{}
				done, err := agentConfig(c, &cfg, "")
				if err != nil {
					t.Errorf("it is refused: %v", err)
				} else {
					done()
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVariablesThatContradictEachOtherAreNamed(t *testing.T) {
	for _, test := range []struct {
		env  []string
		args []string
		want []string
	}{
		{
			[]string{"DRM_SOURCE_URL=http://x", "DRM_SOURCE_FILE=f"},
			[]string{"agent", "--handler-log"},
			[]string{"DRM_SOURCE_URL and DRM_SOURCE_FILE"},
		},
		{
			[]string{"DRM_HANDLER_URL=http://x", "DRM_HANDLER_LOG=true"},
			[]string{"agent", "--allocate-only"},
			[]string{"DRM_HANDLER_URL and DRM_HANDLER_LOG"},
		},
		{
			[]string{"DRM_ASSIGNMENTS_UNASSIGNED=true", "DRM_ASSIGNMENTS_FAILED=true"},
			[]string{"assignments"},
			[]string{"DRM_ASSIGNMENTS_UNASSIGNED", "DRM_ASSIGNMENTS_FAILED"},
		},
		{[]string{"DRM_CERT=x"}, []string{"members"}, []string{"DRM_CERT and --key"}},
		{[]string{"DRM_USER=me"}, []string{"members"}, []string{"DRM_USER", "DRM_PASSWORD"}},
		{
			[]string{"DRM_USER=me:s3cret", "DRM_PASSWORD=another"},
			[]string{"members"},
			[]string{"DRM_USER and DRM_PASSWORD"},
		},
	} {
		t.Run(strings.Join(test.env, " "), func(t *testing.T) {
			for _, v := range test.env {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			got := drmctl(t.Context(), append(test.args, "--app", "a")...)
			if got.code != exitUsage || strings.Contains(got.stderr, "s3cret") {
				t.Errorf("exit code %d: %s", got.code, got.stderr)
			}
			checkOneLine(t, got.stderr, test.want...)
		})
	}
}

func TestFlagsAndVariablesOfOtherSets(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t, dir, "ca")
	for _, test := range []struct {
		env  []string
		args []string
		want func(c *cli.Context) error
	}{
		{[]string{"DRM_ASSIGNMENTS_UNASSIGNED=true"}, []string{"assignments", "--failed"}, func(c *cli.Context) error {
			f, err := assignmentFilter(c)
			return errors.Join(err, unless(f.Failed && !f.Unassigned, f))
		}},
		{[]string{"DRM_ASSIGNMENTS_MEMBER=m"}, []string{"assignments", "--unassigned"}, func(c *cli.Context) error {
			f, err := assignmentFilter(c)
			return errors.Join(err, unless(f.Unassigned && f.Member == "", f))
		}},
		{[]string{"DRM_USER=a:old"}, []string{"members", "--password", "new"}, wantUser("a", "new")},
		{[]string{"DRM_USER=a:old", "DRM_PASSWORD=old"}, []string{"members"}, wantUser("a", "old")},
		{[]string{"DRM_USER=a:old"}, []string{"members", "--user", "b:new"}, wantUser("b", "new")},
		{[]string{"DRM_PASSWORD=old"}, []string{"members", "--user", "b:new"}, wantUser("b", "new")},
		{[]string{"DRM_PASSWORD=old"}, []string{"members", "--user", "b"}, wantUser("b", "old")},
		{[]string{"DRM_PASSWORD=old"}, []string{"members"}, wantUser("", "")},
		{
			[]string{"DRM_CACERT=" + dir + "/ca.pem"},
			[]string{"members", "--endpoints", "http://x:1"},
			func(c *cli.Context) error {
				cfg, err := etcdConfig(c, nil)
				return errors.Join(err, unless(cfg.GetTLS == nil, "TLS"))
			},
		},
		{
			[]string{"DRM_CACERT=" + dir + "/ca.pem"},
			[]string{"members", "--endpoints", "x:1"},
			func(c *cli.Context) error {
				cfg, err := etcdConfig(c, nil)
				return errors.Join(err, unless(cfg.GetTLS != nil, "no TLS"))
			},
		},
		{
			[]string{"DRM_SOURCE_HEADER=A: old"},
			[]string{"agent", "--source-url", "http://x", "--source-header", "B: new"},
			func(c *cli.Context) error {
				h, err := headersOf(c, flagSourceHeader)
				return errors.Join(err, unless(len(h) == 1 && h.Get("B") == "new", h))
			},
		},
		{
			[]string{"DRM_POLL=often"},
			[]string{"agent", "--poll", "3s", "--source-url", "http://x"},
			func(c *cli.Context) error {
				return unless(c.Duration(flagPoll).String() == "3s", c.Duration(flagPoll))
			},
		},
		{[]string{"DRM_ALLOCATE_ID=x"}, []string{"allocate", "--data", `{"id":"y"}`}, func(c *cli.Context) error {
			r, err := resourceOf(c)
			return errors.Join(err, unless(r.ID == "y", r.ID))
		}},
		{[]string{"DRM_ALLOCATE_ID=x"}, []string{"allocate", "--data", `{"z":"y"}`}, func(c *cli.Context) error {
			r, err := resourceOf(c)
			return errors.Join(err, unless(r.ID == "x", r.ID))
		}},
	} {
		t.Run(strings.Join(append(test.env, test.args...), " "), func(t *testing.T) {
			for _, v := range test.env {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			ran := false
			err := parsed(t, append(test.args, "--app", "a"), func(c *cli.Context) {
				ran = true
				if err := test.want(c); err != nil {
					t.Error(err)
				}
			})
			if err != nil || !ran {
				t.Errorf("it is refused: %v", err)
			}
		})
	}
}

func unless(ok bool, got any) error {
	if ok {
		return nil
	}
	return usagef("got %v", got)
}

func wantUser(user, password string) func(c *cli.Context) error {
	return func(c *cli.Context) error {
		u, p, err := credentials(c)
		return errors.Join(err, unless(u == user && p == password, u+":"+p))
	}
}
