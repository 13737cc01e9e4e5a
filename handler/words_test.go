package handler_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/handler"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string][]string{
		`prog`:                          {"prog"},
		"  prog  a\tb ":                 {"prog", "a", "b"},
		`prog 'a b' "c d" e\ f`:         {"prog", "a b", "c d", "e f"},
		`prog ''  ""`:                   {"prog", "", ""},
		`prog --x='1 2'"3 4"5`:          {"prog", "--x=1 23 45"},
		`prog 'a\b' "a\b" a\b`:          {"prog", `a\b`, `a\b`, `ab`},
		`prog "\"\\\$\x" '"'`:           {"prog", `"\$\x`, `"`},
		`sh -c 'x=$1; echo "$x" | cat'`: {"sh", "-c", `x=$1; echo "$x" | cat`},
		`prog * ~ {a,b} ? [x]`:          {"prog", "*", "~", "{a,b}", "?", "[x]"},
		"prog a\\\nb":                   {"prog", "ab"},
		`prog ünï '日本'`:                 {"prog", "ünï", "日本"},
		`'A=1' b`:                       {"A=1", "b"},
		`A\=1 b`:                        {"A=1", "b"},
		`./A=1 A=1 ~/b ~c`:              {"./A=1", "A=1", "~/b", "~c"},
		`env A=1 prog`:                  {"env", "A=1", "prog"},
		`'~'/b`:                         {"~/b"},
		`\~/b`:                          {"~/b"},
		`'exec' b`:                      {"exec", "b"},
		`exec'ute' b`:                   {"execute", "b"},
		`prog \$'x' a$ # and so on`:     {"prog", "$x", "a$"},
	} {
		if got, err := handler.ParseCommand(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q: %v", line, got, want, err)
		}
	}
	for _, line := range []string{
		``, `   `, `""`, `prog 'a`, `prog "a`, `prog | cat`, `prog > x`, `prog; prog`, `prog &`, `prog $HOME`,
		`prog "$HOME"`, "prog `id`", `prog $(id)`, `prog "${x}"`, `prog (a)`, `prog && prog`, `prog || prog`,
		`prog 2>&1`, `prog < x`, `prog $'x'`, `prog a$"x"`, `prog \\$'x'`,
	} {
		if got, err := handler.ParseCommand(line); err == nil {
			t.Errorf("%s: got %q, want an error", line, got)
		} else {
			wantInputError(t, err, "command")
		}
	}
}

func TestParseCommandSaysWhatToWriteInstead(t *testing.T) {
	for line, want := range map[string]string{
		`A=1 prog`:       "env NAME=VALUE program",
		`_a2="x y" prog`: "env NAME=VALUE program",
		`A+=1 prog`:      "env NAME=VALUE program",
		`A=1`:            "env NAME=VALUE program",
		`A=$HOME prog`:   "env NAME=VALUE program",
		`~/prog a`:       "whole path",
		`~`:              "whole path",
		`~user/prog`:     "whole path",
		`exec prog`:      "sh -c 'exec …'",
		`. ./env`:        "sh -c '. …'",
		`! prog`:         "sh -c '! …'",
		`if true`:        "sh -c 'if …'",
	} {
		_, err := handler.ParseCommand(line)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", line, err, want)
			continue
		}
		wantInputError(t, err, "command")
	}
}

func TestParseCommandUndoesQuoting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[^\x00\r]{1,12}`), 1, 5).Draw(t, "words")
		quoted := make([]string, len(words))
		for i, word := range words {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		if got, err := handler.ParseCommand(strings.Join(quoted, " ")); err != nil || !slices.Equal(got, words) {
			t.Fatalf("got %q, want %q: %v", got, words, err)
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{`prog 'a b' "c\"d" e\ f`, "a\\\n", `$'x'`, "`", "\x00", "a #b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := handler.ParseCommand(line)
		if (err == nil) != (len(words) > 0) {
			t.Fatalf("%q: %q, %v", line, words, err)
		}
		quoted := make([]string, len(words))
		for i, word := range words {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
			if strings.ContainsAny(word, "\x00\r") { // a shell's line cannot have them
				return
			}
		}
		if err == nil {
			if again, err := handler.ParseCommand(strings.Join(quoted, " ")); err != nil ||
				!slices.Equal(again, words) {
				t.Fatalf("%q: %q, then %q: %v", line, words, again, err)
			}
		}
	})
}
