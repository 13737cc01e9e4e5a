package main

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// The scripts ask the hidden command completeName what may follow. Its arguments are the words up to the cursor. It
// prints a candidate in each line, with a tab and a description if there is one; a line that says filesLine stands for
// the names of files.
var (
	//go:embed completion/drmctl.bash
	bashScript string
	//go:embed completion/drmctl.zsh
	zshScript string
	//go:embed completion/drmctl.fish
	fishScript string
)

const completionDescription = `
What it completes are commands, flags and their values, apps, members, resources and files. Names from etcd are looked
up with the flags that stand on the line, or the variables; where etcd does not answer at once there are none.

Examples:
   source <(drmctl completion bash)
   drmctl completion zsh > "${fpath[1]}/_drmctl"
   drmctl completion fish > ~/.config/fish/completions/drmctl.fish
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:        "completion",
		Usage:       "print the script that makes a shell complete drmctl's command lines",
		ArgsUsage:   "bash|zsh|fish",
		Description: strings.TrimSpace(completionDescription),
		Action: func(c *cli.Context) error {
			scripts := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
			script, ok := scripts[c.Args().First()]
			if !ok || c.NArg() != 1 {
				return usagef("completion: got %q, want bash, zsh or fish", strings.Join(c.Args().Slice(), " "))
			}
			_, err := fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
