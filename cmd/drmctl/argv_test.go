package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
	"pgregory.net/rapid"
)

func testApp() *cli.App { return newApp(strings.NewReader(""), io.Discard, io.Discard) }

func TestFlagsStandAnywhere(t *testing.T) {
	want := []string{"--app=a", "-o=json", "deallocate", "--wait", "--", "x"}
	for _, args := range [][]string{
		{"--app", "a", "-o", "json", "deallocate", "--wait", "x"},
		{"deallocate", "x", "--wait", "--app=a", "-o=json"},
		{"deallocate", "--app", "a", "x", "-ojson", "--wait"},
		{"--wait", "--app", "a", "deallocate", "-ojson", "x"},
		{"--app=a", "--wait", "-o", "json", "deallocate", "--", "x"},
		{"-app=a", "-wait", "-o", "json", "deallocate", "x"},
	} {
		got, err := arrange(testApp(), args)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		for i, a := range got {
			if name, value, ok := strings.Cut(a, "="); ok && name == "--o" {
				got[i] = "-o=" + value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}
}

func TestArrange(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"", "--help"},
		{"help", "--help"},
		{"--help", "--help"},
		{"help lookup", "lookup --help"},
		{"lookup help", "lookup -- help"},
		{"lookup x -h", "lookup --help"},
		{"-h lookup", "lookup --help"},
		{"--version", "version"},
		{"lookup -- -x", "lookup -- -x"},
		{"lookup -- --", "lookup -- --"},
		{"lookup -", "lookup -- -"},
		{"-- lookup help", "lookup -- help"},
		{"agent --weight -1", "agent --weight=-1 --"},
		{"allocate --data -", "allocate --data=- --"},
		{"allocate --data=", "allocate --data= --"},
		{"deallocate --wait=false x", "deallocate --wait=false -- x"},
		{"source", "source --help"},
		{"source help", "source --help"},
		{"help source", "source --help"},
		{"source --wait", "source --help"},
		{"source accept -h", "source accept --help"},
		{"source help accept", "source accept --help"},
		{"help source accept", "source accept --help"},
		{"--help source accept", "source accept --help"},
		{"source accept", "source accept --"},
		{"source -- accept", "source accept --"},
		{"--wait source --app a accept x", "--app=a source accept --wait -- x"},
		{"source accept --app=a fetch", "--app=a source accept -- fetch"},
	} {
		got, err := arrange(testApp(), strings.Fields(test.args))
		if err != nil {
			t.Errorf("%q: %v", test.args, err)
		} else if diff := cmp.Diff(strings.Fields(test.want), got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.args, diff)
		}
	}
}

// Wherever flags stand among the arguments, the outcome is the same as with all flags first.
func TestArrangeIgnoresWhereFlagsStand(t *testing.T) {
	flags := [][]string{{"--app", "a b"}, {"-o", "json"}, {"--wait"}, {"--wait-timeout=3s"}, {"--user", "-x"}}
	first, err := arrange(testApp(), slices.Concat(slices.Concat(flags...), []string{"drain", "m"}))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		parts := slices.Clone(flags)
		for _, word := range []string{"m", "drain"} {
			at := rapid.IntRange(0, len(parts)).Draw(t, word)
			if word == "drain" {
				m := slices.IndexFunc(parts, func(p []string) bool { return p[0] == "m" })
				at = rapid.IntRange(0, m).Draw(t, word)
			}
			parts = slices.Insert(parts, at, []string{word})
		}
		got, err := arrange(testApp(), slices.Concat(parts...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// scan relies on this, apart from --data: it does not know yet which command a flag belongs to.
func TestAFlagNameMeansOneKind(t *testing.T) {
	app := testApp()
	kinds := make(map[string]bool)
	look := func(owner string, flags []cli.Flag) {
		for name, f := range spellings(flags) {
			if kind, seen := kinds[name]; seen && kind != takesValue(f) && name != flagData {
				t.Errorf("%s: --%s takes a value in one command, and none in another", owner, name)
			}
			kinds[name] = takesValue(f)
		}
	}
	look("drmctl", app.Flags)
	global := spellings(app.Flags)
	for _, c := range allCommands(app) {
		look(c.Name, c.Flags)
		for name := range spellings(c.Flags) {
			if global[name] != nil && name != flagHelp && name != "h" {
				t.Errorf("%s: --%s is a global flag too", c.Name, name)
			}
		}
	}
}

func TestEveryFlagHasItsEnvironmentVariable(t *testing.T) {
	app := testApp()
	owner := make(map[string]string)
	look := func(command string, flags []cli.Flag) {
		for _, f := range flags {
			if f.Names()[0] == flagHelp {
				continue
			}
			env := f.(cli.DocGenerationFlag).GetEnvVars()
			if len(env) != 1 || !strings.HasPrefix(env[0], "DRM_") {
				t.Errorf("%s --%s: environment variables %q, want one DRM_…", command, f.Names()[0], env)
				continue
			}
			if before := owner[env[0]]; before != "" {
				t.Errorf("%s is that of %s and of %s --%s", env[0], before, command, f.Names()[0])
			}
			owner[env[0]] = command + " --" + f.Names()[0]
		}
	}
	look("drmctl", app.Flags)
	for _, c := range allCommands(app) {
		look(c.Name, c.Flags)
	}
}

func TestAWrongCommandOfAGroupIsTold(t *testing.T) {
	for args, want := range map[string][]string{
		"source acept":           {`unknown command "source acept"`, "did you mean accept?"},
		"source zzzzzz":          {`unknown command "source zzzzzz"`, "want accept, fetch or drop"},
		"sorce accept":           {`unknown command "sorce"`, "did you mean source?"},
		"accept":                 {`unknown command "accept"`},
		"source accept --every":  {"needs a value"},
		"source fetch --dry-run": {"source fetch has no flag --dry-run"},
		"source fetch --wiat":    {"did you mean --wait?"},
		"source fetch --qqqqqqq": {"see drmctl source fetch --help"},
	} {
		_, err := arrange(testApp(), strings.Fields(args))
		if err == nil {
			t.Errorf("%q is accepted", args)
			continue
		}
		for _, text := range want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %v, want %q", args, err, text)
			}
		}
	}
}

func FuzzArrange(f *testing.F) {
	f.Add("source\x00help\x00--\x00fetch")
	f.Add("--wait\x00source\x00accept\x00help\x00-h")
	f.Add("--app\x00a\x00lookup\x00-o\x00json\x00x")
	f.Add("lookup\x00--\x00-x")
	f.Add("-\x00-=\x00--=\x00-o")
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "\x00")
		got, err := arrange(testApp(), args)
		if err != nil {
			return
		}
		again, err := arrange(testApp(), got)
		if err != nil {
			t.Fatalf("%q became %q, which is wrong: %v", args, got, err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("%q: not stable:\n%s", args, diff)
		}
	})
}
