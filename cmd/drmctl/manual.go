package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"
)

const flagDir = "dir"

const manDescription = `
Without --dir it prints the page of one command, or of drmctl itself, for man(1) to read. With --dir it writes a page
for drmctl and one for each command.

Examples:
   drmctl man drain | man -l -
   drmctl man --dir /usr/local/share/man/man1
`

func manCommand() *cli.Command {
	const name = "man"
	return &cli.Command{
		Name:        name,
		Usage:       "print the manual page of a command, or write the pages of all",
		ArgsUsage:   "[COMMAND]",
		Description: strings.TrimSpace(manDescription),
		Flags: []cli.Flag{&cli.StringFlag{
			Name: flagDir, EnvVars: commandEnv(name, flagDir),
			Usage: "write all pages into this `DIRECTORY`, which must exist",
		}},
		Action: func(c *cli.Context) error {
			// The flags of c.App have lost the variables that are not set.
			app := newApp(c.App.Reader, c.App.Writer, c.App.ErrWriter)
			dir := c.String(flagDir)
			switch {
			case c.NArg() > 0 && dir != "":
				return usagef("--%s writes all pages: leave out %q", flagDir, c.Args().First())
			case dir != "":
				return writeManPages(app, dir)
			}
			page, err := pageOf(app, c.Args().Slice())
			if err == nil {
				_, err = c.App.Writer.Write(page.man())
			}
			return err
		},
	}
}

// writeManPages writes the pages of all commands into a directory. What hinders the first one mostly hinders all.
func writeManPages(app *cli.App, dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return badFlag(flagDir, dir, "a directory that exists, such as one that mkdir -p has made")
	}
	for _, p := range pages(app) {
		file := filepath.Join(dir, strings.Join(p.words, "-")+".1")
		if err := os.WriteFile(file, p.man(), 0o644); err != nil {
			return fmt.Errorf("write the manual pages: %w", err)
		}
	}
	return nil
}

// pageOf returns the page of the command that these words name.
func pageOf(app *cli.App, words []string) (page, error) {
	words = append([]string{app.Name}, words...)
	var names []string
	for _, p := range pages(app) {
		if slices.Equal(p.words, words) {
			return p, nil
		}
		names = append(names, strings.Join(p.words[1:], " "))
	}
	asked := strings.Join(words[1:], " ")
	return page{}, usagef("unknown command %q%s", asked, didYouMean("", asked, names))
}

// page is what the manual says of drmctl, or of one command.
type page struct {
	words       []string // drmctl, and the words that name the command
	brief       string
	usage       string
	description string
	flags       []cli.Flag
	commands    []*cli.Command // those of a group, or all
	isGlobal    bool
}

// pages returns the pages of drmctl and of all commands that help lists.
func pages(app *cli.App) []page {
	all := []page{{
		words: []string{app.Name}, brief: app.Usage, usage: app.UsageText, description: app.Description,
		flags: app.Flags, commands: app.Commands, isGlobal: true,
	}}
	for _, path := range commandPaths(app) {
		c := path[len(path)-1]
		if c.Hidden {
			continue
		}
		words := append([]string{app.Name}, namesOf(path)...)
		usage := strings.Join(words, " ") + " [flags]"
		if len(c.Subcommands) > 0 {
			usage = strings.Join(words, " ") + " COMMAND [flags]"
		}
		all = append(all, page{
			words: words, brief: c.Usage, usage: strings.TrimSpace(usage + " " + c.ArgsUsage),
			description: c.Description, flags: c.Flags, commands: c.Subcommands,
		})
	}
	return all
}

// man returns the page as man(1) reads it.
func (p page) man() []byte {
	name := strings.Join(p.words, "-")
	var b strings.Builder
	fmt.Fprintf(&b, "%% %s 1\n\n# NAME\n\n%s - %s\n\n# SYNOPSIS\n\n", strings.ToUpper(name), name, markdown(p.brief))
	for line := range strings.Lines(p.usage) {
		fmt.Fprintf(&b, "**%s**\n\n", strings.TrimSpace(line))
	}
	fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n", described(p.description))
	if len(p.commands) > 0 {
		fmt.Fprintf(&b, "# COMMANDS\n\n")
		for _, c := range p.commands {
			if !c.Hidden {
				fmt.Fprintf(&b, "**%s**\n: %s\n\n", c.Name, markdown(c.Usage))
			}
		}
	}
	fmt.Fprintf(&b, "# OPTIONS\n\n")
	for _, f := range p.flags {
		names, usage := flagWords(f)
		fmt.Fprintf(&b, "**%s**\n: %s\n\n", strings.Join(names, "**, **"), usage)
	}
	if !p.isGlobal {
		fmt.Fprintf(&b, "# SEE ALSO\n\n**%s(1)** has the flags that all commands take\n", p.words[0])
	}
	return md2man.Render([]byte(b.String()))
}

const referenceHead = `# drmctl: the commands

<!-- Made from the commands by "make manual": change their help instead. -->

This page is what "drmctl COMMAND --help" says of every command. [cli.md](cli.md) says what they print.
`

// reference returns all pages as one document in Markdown.
func reference(app *cli.App) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, p := range pages(app) {
		heading := "## "
		if len(p.words) > 2 {
			heading = "### "
		}
		fmt.Fprintf(&b, "\n%s%s\n\n%s\n\n```\n%s\n```\n",
			heading, strings.Join(p.words, " "), sentence(markdown(p.brief)), p.usage)
		if p.description != "" {
			fmt.Fprintf(&b, "\n%s", described(p.description))
		}
		if len(p.commands) > 0 {
			b.WriteString("\n| command | |\n|---|---|\n")
			for _, c := range p.commands {
				if !c.Hidden {
					anchor := strings.Join(append(slices.Clone(p.words), c.Name), "-")
					fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.Name, anchor, markdown(c.Usage))
				}
			}
		}
		b.WriteString("\n| flag | |\n|---|---|\n")
		for _, f := range p.flags {
			names, usage := flagWords(f)
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.Join(names, "`, `"), strings.ReplaceAll(usage, "|", "\\|"))
		}
	}
	return b.String()
}

// sentence makes a sentence of the brief description of a command.
func sentence(brief string) string { return strings.ToUpper(brief[:1]) + brief[1:] + "." }

// flagWords returns the names of a flag, with what it takes, and what it does.
func flagWords(f cli.Flag) (names []string, usage string) {
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return nil, ""
	}
	text, takes := doc.GetUsage(), ""
	if before, rest, found := strings.Cut(text, "`"); found {
		if word, after, closed := strings.Cut(rest, "`"); closed {
			text, takes = before+word+after, word
		}
	}
	if doc.TakesValue() && takes == "" {
		takes = "VALUE"
	}
	for _, n := range f.Names() {
		name := dashed(n)
		if takes != "" {
			name += " " + takes
		}
		names = append(names, name)
	}
	var more []string
	if d := doc.GetDefaultText(); d != "" && doc.TakesValue() {
		more = append(more, "default: `"+strings.Trim(d, `"`)+"`")
	}
	for _, env := range doc.GetEnvVars() {
		more = append(more, "`$"+env+"`")
	}
	text = markdown(text)
	if len(more) > 0 {
		text += " (" + strings.Join(more, ", ") + ")"
	}
	return names, text
}

// markdown escapes a text.
func markdown(text string) string {
	return strings.NewReplacer("*", "\\*", "<", "&lt;", "_", "\\_", "[", "\\[").Replace(text)
}

// described turns the description of a command into Markdown: lines that begin with spaces are what a user types.
func described(text string) string {
	var b strings.Builder
	code := false
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimRight(line, "\n")
		typed, indented := strings.CutPrefix(line, "   ")
		switch {
		case indented && !code:
			b.WriteString("\n```\n")
		case code && !indented:
			b.WriteString("```\n")
		}
		if code = indented; code {
			b.WriteString(typed + "\n")
		} else {
			b.WriteString(markdown(line) + "\n")
		}
	}
	if code {
		b.WriteString("```\n")
	}
	return b.String()
}
