package main

import "testing"

func TestAValueThatCannotBeReadSaysWhatCould(t *testing.T) {
	for _, test := range []struct {
		env, value string
		args       []string
		want       string
	}{
		{"", "", []string{"members", "--width", "x"}, `drmctl: --width: got "x", want a whole number`},
		{"", "", []string{"verify", "--settle", "soon"}, `drmctl: --settle: got "soon", want a duration, such as`},
		{"", "", []string{"explain", "r", "--at=-1"}, `drmctl: --at: got "-1", want a whole number, not negative`},
		{"", "", []string{"explain", "r", "--at=99999999999999999999"}, `drmctl: --at: got "9999999999999999`},
		{"", "", []string{"members", "--width=99999999999999999999"}, `drmctl: --width: got "9999999999`},
		{"", "", []string{"bench", "claim", "--scale", "x"}, `drmctl: --scale: got "x", want a number`},
		{"DRM_WIDTH", "x", []string{"members"}, `drmctl: DRM_WIDTH: got "x", want a whole number`},
		{"DRM_VERIFY_SETTLE", "x", []string{"verify"}, `drmctl: DRM_VERIFY_SETTLE: got "x", want a duration`},
		{"DRM_MEMBERS_WATCH", "maybe", []string{"members"}, `drmctl: DRM_MEMBERS_WATCH: got "maybe", want true`},
	} {
		if test.env != "" {
			t.Setenv(test.env, test.value)
		}
		got := drmctl(t.Context(), append(test.args, "--app", "a")...)
		if got.code != exitUsage {
			t.Errorf("%v: %+v", test.args, got)
		}
		checkOneLine(t, got.stderr, test.want)
		if test.env != "" {
			t.Setenv(test.env, "")
		}
	}
}

// An empty argument is often a variable of a script that is not set. It must not mean that the flag was not given: a
// plan of nothing says that nothing moves, and a filter of nothing shows everything.
func TestAnEmptyArgumentIsNoMissingFlag(t *testing.T) {
	for want, args := range map[string][]string{
		`drmctl: --without: got "", want an id`:         {"plan", "--without", ""},
		`drmctl: --join: got "", want an id`:            {"plan", "--join="},
		`drmctl: --without-label: got "", want LABEL`:   {"plan", "--without-label", ""},
		`drmctl: --resource: got "", want an id`:        {"events", "--resource", ""},
		`drmctl: --member: got "", want an id`:          {"events", "--member", ""},
		`drmctl: --kind: got "", want one of`:           {"events", "--kind", ""},
		`drmctl: --since: got "", want a revision`:      {"events", "--since", ""},
		`drmctl: --state: got "", want unassigned`:      {"assignments", "--state", ""},
		`drmctl: --shard: got "", want numbers from 0`:  {"resources", "--shard", ""},
		`drmctl: --shard: got "", want numbers from 0 `: {"assignments", "--shard", ""},
	} {
		got := drmctl(t.Context(), append(args, "--app", "a")...)
		if got.code != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
		checkOneLine(t, got.stderr, want)
	}
}
