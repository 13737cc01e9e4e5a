package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completed returns the words that drmctl offers after some words.
func completed(t *testing.T, words ...string) []string {
	t.Helper()
	got := drmctl(t.Context(), append([]string{completeName, "--"}, words...)...)
	if got.code != exitFine || got.stderr != "" {
		t.Fatalf("%q: %+v", words, got)
	}
	var all []string
	for line := range strings.Lines(got.stdout) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		all = append(all, word)
	}
	return all
}

func TestCompletionOfWhatDrmctlKnows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		words []string
		want  []string // in order; nil: nothing
	}{
		{[]string{"memb"}, []string{"members"}},
		{[]string{"--app", "x", "und"}, []string{"undrain"}},
		{[]string{"--app=x", "source", "ac"}, []string{"accept"}},
		{[]string{"drain", "--reas"}, []string{"--reason"}},
		{[]string{"drain", "--endp"}, []string{"--endpoints"}},
		{[]string{"-o", "j"}, []string{"json"}},
		{[]string{"members", "--output", "y"}, []string{"yaml"}},
		{[]string{"members", "--output=na"}, []string{"--output=name"}},
		{[]string{"--cacert", ""}, []string{filesLine}},
		{[]string{"--cacert=/x"}, []string{"--cacert=" + filesLine}},
		{[]string{"agent", "--source-file", "x"}, []string{filesLine}},
		{[]string{"completion", ""}, []string{"bash", "fish", "zsh"}},
		{[]string{"man", "version"}, []string{"version"}},
		{[]string{"members", ""}, nil},
		{[]string{"doctor", "--as", ""}, []string{"reader", "operator", "member"}},
		{[]string{"drain", "--as", ""}, nil}, // there it is who gives the order
		{[]string{"assignments", "--state", "un"}, []string{"unassigned"}},
		{[]string{"assignments", "--state", "failed,un"}, []string{"failed,unassigned"}},
		{[]string{"events", "--kind=lost,drai"}, []string{"--kind=lost,drained"}},
		{[]string{"drain", "--", "--reas"}, nil},
		{[]string{"nonsense", "--bad", "x"}, nil},
	} {
		if got := completed(t, test.words...); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.words, got, test.want)
		}
	}
	if got := completed(t, ""); !slices.Contains(got, "status") || slices.Contains(got, completeName) {
		t.Errorf("commands: %q", got)
	}
	if got := completed(t); len(got) < 20 {
		t.Errorf("without words: %q", got)
	}
}

func TestCompletionOfWhatEtcdHas(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("node-1", "--allocate-only", "--handler-log")
	l.agent("node-2", "--allocate-only", "--handler-log")
	l.members(2)
	l.ok("drain", "gone", "--absent")
	for _, id := range []string{"feed-1", "feed-2", "hook-1"} {
		l.ok("allocate", "--id", id)
	}
	global := l.global[:4] // without the command timeout
	for _, test := range []struct {
		words []string
		want  []string
	}{
		{[]string{"drain", ""}, []string{"gone", "node-1", "node-2"}},
		{[]string{"weight", "node"}, []string{"node-1", "node-2"}},
		{[]string{"weight", "node-1", ""}, nil},
		{[]string{"lookup", "feed"}, []string{"feed-1", "feed-2"}},
		{[]string{"move", "hook-1", "node-1"}, []string{"node-1"}},
		{[]string{"assignments", "--member", "node-2"}, []string{"node-2"}},
		{[]string{"members", "--app", "l"}, []string{"lab"}},
	} {
		eventually(t, func() error { // a busy machine may need more time than a user has
			if got := completed(t, slices.Concat(global, test.words)...); !slices.Equal(got, test.want) {
				return fmt.Errorf("%q: got %q, want %q", test.words, got, test.want)
			}
			return nil
		})
	}
	if got := completed(t, "--endpoints", "127.0.0.1:1", "--app", "lab", "drain", ""); got != nil {
		t.Errorf("without etcd: %q", got)
	}
}

// inShell runs a script in a shell in which drmctl is this program.
func inShell(t *testing.T, shell, script string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "drmctl")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shell, "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestBashCompletes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash")
	}
	for _, test := range []struct{ words, want string }{
		{"memb", "members"},
		{"drain --reas", "--reason"},
		{"members --output=ya", "yaml"}, // bash takes what follows the = for the word
		{"--cacert fi", "file one,file-two"},
	} {
		got := inShell(t, "bash", `
touch "file one" file-two
source <(drmctl completion bash)
COMP_LINE="drmctl `+test.words+`" COMP_POINT=${#COMP_LINE}
read -ra COMP_WORDS <<<"${COMP_LINE//=/ = }"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_drmctl
(IFS=,; echo "${COMPREPLY[*]}")`)
		all := strings.Split(strings.TrimSuffix(got, "\n"), ",")
		slices.Sort(all)
		if got := strings.Join(all, ","); got != test.want {
			t.Errorf("%q: got %q, want %q", test.words, got, test.want)
		}
	}
}

func TestFishCompletes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("fish"); err != nil {
		t.Skip("there is no fish")
	}
	got := inShell(t, "fish", `drmctl completion fish | source; complete -C "drmctl drain --reas"`)
	if word, _, _ := strings.Cut(got, "\t"); word != "--reason" {
		t.Errorf("got %q", got)
	}
}

// TestOtherShellsTakeTheScripts has the shells read the scripts, where they are installed.
func TestOtherShellsTakeTheScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("there is no %s", shell)
			}
			inShell(t, shell, "drmctl completion "+shell+" > script && "+shell+" -n script")
		})
	}
	if got := drmctl(t.Context(), "completion", "tcsh"); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
}
