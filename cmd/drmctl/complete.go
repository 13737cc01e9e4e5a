package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const (
	completeName = "__complete" // the hidden command that tells what may follow
	namesName    = "__names"    // the hidden command that lists names from etcd
	filesLine    = ":files"     // stands for the names of files

	// completionTime is how long names from etcd are waited for: a user waits for the shell.
	completionTime = 200 * time.Millisecond
	// mostCandidates bounds the names from etcd that are offered.
	mostCandidates = 100
)

// noun says what an argument, or the value of a flag, is.
type noun string

const (
	aMember   noun = "member"
	aResource noun = "resource"
	anApp     noun = "app"
	aFile     noun = "file"
	aCommand  noun = "command"
)

// operands says what the arguments of commands are, in order. The last noun stands for all that follow, too.
var operands = map[string][]noun{
	"schema": {aCommand},
	"lookup": {aResource}, "deallocate": {aResource}, "retry": {aResource},
	"suspend": {aResource}, "resume": {aResource}, "pin": {aResource, aMember},
	"unpin": {aResource}, "move": {aResource, aMember},
	"drain": {aMember}, "undrain": {aMember}, "cordon": {aMember}, "uncordon": {aMember}, "weight": {aMember},
	"explain": {aResource}, "describe resource": {aResource}, "describe member": {aMember},
	"man": {aCommand}, "app describe": {anApp}, "app delete": {anApp},
}

// flagNouns says what the values of flags are. A flag that takes a value and is not among them takes anything, which a
// shell cannot know.
var flagNouns = map[string]noun{
	flagApp: anApp, flagMember: aMember, flagResource: aResource,
	flagDrain: aMember, flagUndrain: aMember, flagCordon: aMember, flagUncordon: aMember, flagStop: aMember,
	flagWithout: aMember,
	flagCACert:  aFile, flagCert: aFile, flagKey: aFile, flagDir: aFile, flagSourceFile: aFile, flagDataDir: aFile,
	flagCPUProfile: aFile, flagMemProfile: aFile, flagFile: aFile,
}

// flagWordLists are the values of flags that take one of a few words. A flag of one command may mean something else for
// others: then its name stands behind that of the command.
var flagWordLists = map[string][]string{
	flagLogLevel:   {"debug", "info", "warn", "error"},
	flagDoctorOnly: drm.DiagnoseCategories(),
	flagDoctorSkip: drm.DiagnoseCategories(),
	flagFailOn:     {string(drm.CheckFail), string(drm.CheckWarn)},
	flagColor:      colorWords,
	flagKind:       eventKindWords(),
	flagState:      assignmentStates(),
	"doctor " + flagDoctorAs: {
		string(drm.DiagnoseReader), string(drm.DiagnoseOperator), string(drm.DiagnoseMember),
	},
}

// flagsOfLists are the flags that take several words with commas between them.
var flagsOfLists = []string{flagDoctorOnly, flagDoctorSkip, flagKind, flagState}

// argumentWords are the arguments of commands that take one of a few words.
var argumentWords = map[string][]string{"completion": {"bash", "fish", "zsh"}}

// candidate is a word that may stand at the cursor.
type candidate struct{ word, about string }

func completeCommand() *cli.Command {
	return &cli.Command{
		Name: completeName, Hidden: true, Usage: "print what may follow some words, for completion",
		Action: func(c *cli.Context) error {
			app := newApp(c.App.Reader, io.Discard, io.Discard)
			for _, found := range candidates(c.Context, app, c.Args().Slice()) {
				line := found.word
				if found.about != "" {
					line += "\t" + found.about
				}
				if _, err := fmt.Fprintln(c.App.Writer, line); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// typing is what the words before the cursor have told.
type typing struct {
	path   []*cli.Command // the command, with the group that it belongs to in front of it
	count  int            // of its arguments
	global []string       // the flags of drmctl
	flag   string         // the flag whose value is at the cursor; "" if there is none
	dashes bool           // only arguments follow
}

// candidates returns what may stand at the cursor, where the last of the words is, as far as it is typed.
func candidates(ctx context.Context, app *cli.App, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	at := words[len(words)-1]
	t := readTyping(app, words[:len(words)-1])
	if name, value, has := strings.Cut(at, "="); t.flag == "" && !t.dashes && has && strings.HasPrefix(at, "--") {
		all := valuesOf(ctx, t, strings.TrimPrefix(name, "--"), value)
		for i := range all {
			all[i].word = name + "=" + all[i].word
		}
		return all
	}
	var all []candidate
	switch {
	case t.flag != "":
		return valuesOf(ctx, t, t.flag, at)
	case strings.HasPrefix(at, "-") && !t.dashes:
		all = flagCandidates(app, t.path)
	case len(t.path) == 0:
		all = commandCandidates(app.Commands)
	case len(t.path[len(t.path)-1].Subcommands) > 0:
		all = commandCandidates(t.path[len(t.path)-1].Subcommands)
	default:
		return argumentsOf(ctx, app, t, at)
	}
	return beginningWith(all, at)
}

func beginningWith(all []candidate, prefix string) []candidate {
	return slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, prefix) })
}

// readTyping reads the words before the cursor.
func readTyping(app *cli.App, words []string) typing {
	known, global := spellings(app.Flags), spellings(app.Flags)
	for _, c := range allCommands(app) {
		for name, f := range spellings(c.Flags) {
			known[name] = f
		}
	}
	var t typing
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "--" && !t.dashes:
			t.dashes = true
		case len(word) > 1 && word[0] == '-' && !t.dashes:
			name, _, hasValue := split(word, known)
			whole := []string{word}
			if f := known[name]; f != nil && takesValue(f) && !hasValue {
				if i++; i == len(words) {
					t.flag = name
					return t
				}
				whole = append(whole, words[i])
			}
			if global[name] != nil {
				t.global = append(t.global, whole...)
			}
		default:
			among := app.Commands
			if n := len(t.path); n > 0 {
				among = t.path[n-1].Subcommands
			}
			if c := commandNamed(among, word); c != nil && !t.dashes {
				t.path = append(t.path, c)
				maps.Copy(known, spellings(c.Flags)) // --data is not the same for all commands
			} else {
				t.count++
			}
		}
	}
	return t
}

func commandCandidates(commands []*cli.Command) []candidate {
	var all []candidate
	for _, c := range commands {
		if !c.Hidden {
			all = append(all, candidate{c.Name, c.Usage})
		}
	}
	return all
}

func flagCandidates(app *cli.App, path []*cli.Command) []candidate {
	flags := slices.Clone(app.Flags)
	if len(path) > 0 {
		flags = slices.Concat(path[len(path)-1].Flags, app.Flags)
	}
	var all []candidate
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		word := dashed(f.Names()[0])
		same := func(c candidate) bool { return c.word == word }
		if ok && !slices.ContainsFunc(all, same) {
			all = append(all, candidate{word, strings.ReplaceAll(doc.GetUsage(), "`", "")})
		}
	}
	return all
}

// valuesOf returns the values of a flag that begin with a prefix.
func valuesOf(ctx context.Context, t typing, flag, prefix string) []candidate {
	words := flagWordLists[flag]
	if own := flagWordLists[strings.Join(append(namesOf(t.path), flag), " ")]; own != nil {
		words = own
	}
	if comma := strings.LastIndexByte(prefix, ','); comma >= 0 && slices.Contains(flagsOfLists, flag) {
		typed := prefix[:comma+1]
		all := plain(words, prefix[comma+1:])
		for i := range all {
			all[i].word = typed + all[i].word
		}
		return all
	}
	if flag == flagOutput || flag == "o" {
		for _, f := range output.Formats() {
			words = append(words, string(f))
		}
	}
	if words != nil {
		return plain(words, prefix)
	}
	return namesOfNoun(ctx, t, flagNouns[flag], prefix)
}

// argumentsOf returns the next arguments of a command that begin with a prefix.
func argumentsOf(ctx context.Context, app *cli.App, t typing, prefix string) []candidate {
	command := strings.Join(namesOf(t.path), " ")
	if words := argumentWords[command]; words != nil && t.count == 0 {
		return plain(words, prefix)
	}
	nouns := operands[command]
	switch {
	case len(nouns) == 0:
		return nil
	case t.count >= len(nouns):
		return nil
	case nouns[t.count] == aCommand:
		return beginningWith(commandCandidates(app.Commands), prefix)
	}
	return namesOfNoun(ctx, t, nouns[t.count], prefix)
}

func plain(words []string, prefix string) []candidate {
	var all []candidate
	for _, w := range words {
		all = append(all, candidate{word: w})
	}
	return beginningWith(all, prefix)
}

// namesOfNoun returns what etcd has of a noun, as far as it answers in time.
func namesOfNoun(ctx context.Context, t typing, n noun, prefix string) []candidate {
	switch n {
	case "":
		return nil
	case aFile:
		return []candidate{{word: filesLine}}
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	var found bytes.Buffer
	// An error shows in nothing but fewer names: whoever types a command line cannot do anything about it now.
	limit := completionTime.String()
	args := slices.Concat(t.global, []string{"--" + flagCommandTimeout, limit, "--" + flagDialTimeout, limit})
	if n == anApp {
		args = append(args, "--"+flagApp, "any") // which a command needs, and this one does not use
	}
	_ = run(ctx, append(args, namesName, "--", string(n), prefix), strings.NewReader(""), &found, io.Discard)
	names := slices.Sorted(strings.Lines(found.String()))
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, "\n")
	}
	return plain(slices.Compact(names), prefix)
}

func namesCommand() *cli.Command {
	return &cli.Command{
		Name: namesName, Hidden: true, Usage: "list names from etcd, for completion",
		Action: func(c *cli.Context) error {
			n, prefix := noun(c.Args().Get(0)), c.Args().Get(1)
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return tellNames(ctx, c, client, n, prefix)
			})
		},
	}
}

// tellNames prints what there is of a noun, as it finds it.
func tellNames(ctx context.Context, c *cli.Context, client *drm.Client, n noun, prefix string) error {
	tell := func(name string) { fmt.Fprintln(c.App.Writer, name) }
	switch n {
	case anApp:
		apps, err := client.Apps(ctx, prefix, mostCandidates)
		for _, app := range apps {
			tell(app)
		}
		return err
	case aMember:
		members, err := client.Members(ctx)
		for _, m := range members {
			tell(m.ID)
		}
		orders, err2 := client.Orders(ctx)
		for _, o := range orders {
			if !o.Live {
				tell(o.Member)
			}
		}
		return errors.Join(err, err2)
	case aResource:
		found := 0
		for e, err := range client.EachResource(ctx, drm.ResourceFilter{Prefix: prefix}) {
			if found++; err != nil || found > mostCandidates {
				return err
			}
			tell(e.Resource.ID)
		}
		return nil
	default:
		return nil
	}
}
