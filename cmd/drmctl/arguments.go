package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// commandName is the name that a user types after drmctl: one word, or two where the command belongs to a group.
func commandName(c *cli.Context) string {
	if _, name, ok := strings.Cut(c.Command.HelpName, " "); ok {
		return name
	}
	return c.Command.Name
}

// noArguments refuses arguments, for commands that take none.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("%s takes no argument, got %q", commandName(c), c.Args().First())
	}
	return nil
}

// plainNumber reads an argument that is a number from least to most. It takes digits as a person writes them: a sign or
// a leading zero is more likely a slip of the hand than meant.
func plainNumber(text string, least, most int) (n int, ok bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && strconv.Itoa(n) == text && least <= n && n <= most
}

// oneID returns the only argument of a command, which is the id of a what.
func oneID(c *cli.Context, what string) (string, error) {
	switch c.NArg() {
	case 0:
		return "", usagef("%s needs a %s: drmctl %s %s", commandName(c), what, commandName(c), c.Command.ArgsUsage)
	case 1:
	default:
		return "", usagef("%s takes one %s, got %d arguments", commandName(c), what, c.NArg())
	}
	id := c.Args().First()
	if err := keys.CheckID(id); err != nil {
		return "", usagef("%s: got %q, want %w", what, id, err)
	}
	return id, nil
}
