package main

import (
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// noArguments is for commands that take none.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("%s takes no argument, got %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// oneID is the only argument of a command, an id of what it is about.
func oneID(c *cli.Context, what string) (string, error) {
	switch c.NArg() {
	case 0:
		return "", usagef("%s needs a %s: drmctl %s %s", c.Command.Name, what, c.Command.Name, c.Command.ArgsUsage)
	case 1:
	default:
		return "", usagef("%s takes one %s, got %d arguments", c.Command.Name, what, c.NArg())
	}
	id := c.Args().First()
	if err := keys.CheckID(id); err != nil {
		return "", usagef("%s: got %q, want %w", what, id, err)
	}
	return id, nil
}
