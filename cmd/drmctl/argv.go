package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts arguments into the order that package cli needs (global flags, command, its flags, the rest), so that a
// user may write flags anywhere. Two words name a command of a group, such as `source accept`. arrange also reports
// what is wrong with the arguments before anything runs.
func arrange(app *cli.App, args []string) ([]string, error) {
	tokens, err := scan(app, args)
	if err != nil {
		return nil, err
	}
	path, rest, help, err := takeCommand(app, tokens)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		if slices.ContainsFunc(tokens, func(t token) bool { return t.flag == flagVersion }) && !help {
			return []string{"version"}, nil
		}
		return []string{"--" + flagHelp}, nil
	}
	names := namesOf(path)
	if help || len(path[len(path)-1].Subcommands) > 0 { // a group does nothing by itself
		return append(names, "--"+flagHelp), nil
	}
	before, after, err := takeFlags(app, path, tokens)
	if err != nil {
		return nil, err
	}
	return slices.Concat(before, names, after, []string{"--"}, rest), nil
}

// takeCommand finds which command the tokens name, with the group that it belongs to in front of it, and which
// arguments follow it. help says whether the user asks for help.
func takeCommand(app *cli.App, tokens []token) (path []*cli.Command, rest []string, help bool, err error) {
	for _, t := range tokens {
		among := app.Commands
		if len(path) > 0 {
			among = path[len(path)-1].Subcommands
		}
		switch {
		case t.flag == flagHelp:
			help = true
		case t.flag != "":
		case len(path) > 0 && len(among) == 0:
			if path[0].Name == runName && !t.afterDashes { // else the command's flags would count as drmctl's
				return nil, nil, false, usagef("the command goes after --: drmctl run [flags] -- %s …", t.text)
			}
			rest = append(rest, t.text)
		case t.text == flagHelp && !t.afterDashes:
			help = true
		default:
			next := commandNamed(among, t.text)
			if next == nil {
				name := strings.Join(append(namesOf(path), t.text), " ")
				hint := didYouMean("", t.text, commandNames(among))
				switch {
				case len(path) == 0 && hint == "":
					hint = "; drmctl --help lists the commands"
				case len(path) > 0:
					hint = "; want " + orWords(commandNames(among)) + hint
				}
				return nil, nil, false, usagef("unknown command %q%s", name, hint)
			}
			path = append(path, next)
		}
	}
	return path, rest, help, nil
}

// takeFlags returns the flags that belong before the command's name and those that belong after it, and leaves their
// values in the app's metadata.
func takeFlags(app *cli.App, path []*cli.Command, tokens []token) (before, after []string, err error) {
	global, own := spellings(app.Flags), spellings(path[len(path)-1].Flags)
	onCommandLine := make(map[string]string)
	app.Metadata = map[string]any{metaTyped: onCommandLine}
	for _, t := range tokens {
		if t.flag == "" {
			continue
		}
		_, value, has := strings.Cut(t.text, "=")
		if !has {
			value = "true"
		}
		f := own[t.flag] // a command's flag of the same name wins
		switch {
		case f != nil:
			after = append(after, t.text)
			onCommandLine[own[t.flag].Names()[0]] = value
		case global[t.flag] != nil:
			f = global[t.flag]
			before = append(before, t.text)
			onCommandLine[global[t.flag].Names()[0]] = value
		default:
			command := strings.Join(namesOf(path), " ")
			return nil, nil, usagef("%s has no flag %s%s", command, dashed(t.flag), suggestFlag(app, path, t.flag))
		}
		for _, name := range f.Names() { // whichever of them was typed
			onCommandLine[name] = value
		}
	}
	return before, after, nil
}

// commandPaths lists drmctl's commands, including groups and the commands in them. Each path ends with the command, and
// begins with the group that the command belongs to.
func commandPaths(app *cli.App) [][]*cli.Command {
	var all [][]*cli.Command
	var add func(above, commands []*cli.Command)
	add = func(above, commands []*cli.Command) {
		for _, c := range commands {
			path := append(slices.Clone(above), c)
			all = append(all, path)
			add(path, c.Subcommands)
		}
	}
	add(nil, app.Commands)
	return all
}

// allCommands lists drmctl's commands, including groups and the commands in them.
func allCommands(app *cli.App) []*cli.Command {
	var all []*cli.Command
	for _, path := range commandPaths(app) {
		all = append(all, path[len(path)-1])
	}
	return all
}

func commandNamed(commands []*cli.Command, name string) *cli.Command {
	at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(name) })
	if at < 0 {
		return nil
	}
	return commands[at]
}

// namesOf are the words that a user types to call a command.
func namesOf(path []*cli.Command) []string {
	names := make([]string, len(path))
	for i, c := range path {
		names[i] = c.Name
	}
	return names
}

// metaTyped is the key of the flags on the command line in the app's metadata: each by its first name, and as the user
// spelled it, with the last value that it was given.
const metaTyped = "typed"

// typed reports whether the flag stands on the command line. A flag that only the environment sets does not.
func typed(c *cli.Context, flag string) bool {
	values, _ := c.App.Metadata[metaTyped].(map[string]string)
	_, ok := values[flag]
	return ok
}

const (
	flagHelp    = "help"
	flagVersion = "version"
)

// token is an argument, or a flag with its value.
type token struct {
	flag        string // the flag's name as given, without dashes; empty for an argument
	text        string // the argument, or --name=value for a flag
	afterDashes bool
}

// scan splits arguments into tokens. It knows the flags of all commands, because a flag may stand before its command. A
// flag name takes a value in all commands or in none; a test makes sure of that, apart from --data. In front of its
// command, that is what it is for the command that the arguments seem to name.
func scan(app *cli.App, args []string) ([]token, error) {
	known := spellings(app.Flags)
	know := func(commands []*cli.Command) {
		for _, c := range commands {
			maps.Copy(known, spellings(c.Flags))
		}
	}
	know(allCommands(app))
	know(commandIn(app, args))
	among := app.Commands
	var tokens []token
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			for _, a := range args[i+1:] {
				tokens = append(tokens, token{text: a, afterDashes: true})
			}
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			tokens = append(tokens, token{text: arg})
			if c := commandNamed(among, arg); c != nil {
				know([]*cli.Command{c})
				among = c.Subcommands
			}
			continue
		}
		name, value, hasValue := split(arg, known)
		switch name {
		case flagHelp, "h":
			tokens = append(tokens, token{flag: flagHelp})
			continue
		case flagVersion:
			tokens = append(tokens, token{flag: flagVersion, text: arg})
			continue
		}
		f := known[name]
		switch {
		case f == nil:
			return nil, usagef("unknown flag %s%s", dashed(name), suggestFlag(app, commandIn(app, args), name))
		case !takesValue(f):
			if hasValue && value != "true" && value != "false" {
				return nil, badFlag(name, value, "true, false, or no value")
			}
		case !hasValue:
			if i+1 == len(args) {
				return nil, usagef("flag %s needs a value", dashed(name))
			}
			i++
			value, hasValue = args[i], true
		}
		text := "--" + name
		if hasValue {
			text += "=" + value
		}
		tokens = append(tokens, token{flag: name, text: text})
	}
	return tokens, nil
}

// split separates the name of a flag from its value: --name, --name=value, -n, -n=value or -nvalue.
func split(arg string, known map[string]cli.Flag) (name, value string, hasValue bool) {
	bare, long := strings.CutPrefix(arg, "--")
	if !long {
		bare = arg[1:]
	}
	name, value, hasValue = strings.Cut(bare, "=")
	if long || known[name] != nil || len(name) < 2 {
		return name, value, hasValue
	}
	if f := known[bare[:1]]; f != nil && takesValue(f) {
		return bare[:1], bare[1:], true
	}
	return name, value, hasValue
}

// spellings maps each name of a flag, of which it may have several, to the flag.
func spellings(flags []cli.Flag) map[string]cli.Flag {
	m := make(map[string]cli.Flag)
	for _, f := range flags {
		for _, n := range f.Names() {
			m[n] = f
		}
	}
	return m
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// commandIn finds the command that the arguments name, with the group that it belongs to in front of it. It is a guess
// for arguments that scan has not accepted yet, and empty where it finds none.
func commandIn(app *cli.App, args []string) (path []*cli.Command) {
	among := app.Commands
	for _, a := range args {
		if c := commandNamed(among, a); c != nil {
			path = append(path, c)
			among = c.Subcommands
		}
	}
	return path
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// orWords lists names, as in: a, b or c.
func orWords(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// suggestFlag completes an error about an unknown flag with a suggestion.
func suggestFlag(app *cli.App, path []*cli.Command, name string) string {
	flags := slices.Clone(app.Flags)
	if len(path) > 0 {
		flags = append(flags, path[len(path)-1].Flags...)
	}
	var names []string
	for n := range spellings(flags) {
		if len(n) > 1 {
			names = append(names, n)
		}
	}
	if s := didYouMean("--", name, names); s != "" {
		return s
	}
	return "; see " + strings.Join(slices.Concat([]string{"drmctl"}, namesOf(path), []string{"--help"}), " ")
}

// didYouMean completes an error about an unknown name with the closest of names. It returns "" where none is close.
func didYouMean(dashes, name string, names []string) string {
	slices.Sort(names)
	best, least := "", 2 // one typo in a short name, more in a longer one
	if len(name) > 3 {
		least = max(2, len(name)/3) + 1
	}
	for _, n := range names {
		d := distance(name, n)
		if strings.HasPrefix(n, name) && len(name) > 2 {
			d = 1
		}
		if d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + dashes + best + "?"
}

// distance is the Levenshtein distance: how many bytes must be put in, taken out or changed to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
