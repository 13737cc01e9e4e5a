package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const appsDescription = `
The state is usable, or what is being done to the app, or was interrupted: resharding, deleting, loading; newer: its
keys are of a newer version; broken: its config is missing, or is not understood. With --watch, each change follows:
CHANGE is listed, changed, or gone.

Example:
   drmctl apps
   drmctl apps --watch
`

const appsName = "apps"

func appsCommand() *cli.Command {
	return &cli.Command{
		Name:        appsName,
		Usage:       "list the apps below --prefix",
		Description: strings.TrimSpace(appsDescription),
		Flags:       []cli.Flag{watchFlag("apps")},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			// The client has to be of some app, and asks nothing about it.
			return withClientOf(c, drm.ClientConfig{App: "-"}, func(ctx context.Context, client *drm.Client) error {
				if c.Bool(flagWatch) {
					return printChanges(c, changesView(appView(), appJSONOf), client.WatchApps)
				}
				return appView().List(printer(c), client.AppList(ctx, ""))
			})
		},
	}
}

// appJSON is part of the JSON contract.
type appJSON struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Shards  int    `json:"shards"`
	Members int    `json:"members"`
	Created int64  `json:"created_revision"`
}

func appJSONOf(a drm.AppInfo) appJSON {
	return appJSON{a.Name, string(a.State), a.Shards, a.Members, a.Created}
}

func appView() output.View[drm.AppInfo] {
	return output.View[drm.AppInfo]{
		Columns: []output.Column[drm.AppInfo]{
			{Title: "APP", Cell: func(a drm.AppInfo) any { return a.Name }, Whole: true},
			{Title: "STATE", Cell: func(a drm.AppInfo) any { return toned(a.State) }},
			{Title: "SHARDS", Cell: func(a drm.AppInfo) any { return a.Shards }},
			{Title: "MEMBERS", Cell: func(a drm.AppInfo) any { return a.Members }},
			{Title: "CREATED", Cell: func(a drm.AppInfo) any { return a.Created }, Wide: true},
		},
		Object: func(a drm.AppInfo) any { return appJSONOf(a) },
		Name:   func(a drm.AppInfo) string { return a.Name },
	}
}

const appDescription = `
Where no APP is given, they are about that of --app.

Example:
   drmctl app describe feeds
`

// appCommand groups the commands about an app as a whole.
func appCommand() *cli.Command {
	return &cli.Command{
		Name:        "app",
		Usage:       "describe an app, create it, delete it",
		Description: strings.TrimSpace(appDescription),
		Subcommands: []*cli.Command{
			appDescribeCommand(),
			appCreateCommand(),
			appDeleteCommand(),
		},
	}
}

// takeApp makes the argument of a command the app that it is about.
func takeApp(c *cli.Context) error {
	if c.NArg() == 0 {
		return nil
	}
	if c.NArg() > 1 {
		return usagef("%s takes one app, got %d arguments", commandName(c), c.NArg())
	}
	app := c.Args().First()
	if typed(c, flagApp) && c.String(flagApp) != app {
		return usagef("%s is about one app: got %q, and --%s %q", commandName(c), app, flagApp, c.String(flagApp))
	}
	return c.Set(flagApp, app)
}

const appDescribeDescription = `
Counts what the app has, at one revision, without reading it. It also describes an app that cannot be used because
something is being done to it.

Example:
   drmctl app describe feeds
`

func appDescribeCommand() *cli.Command {
	return &cli.Command{
		Name:        "describe",
		Usage:       "tell what an app has",
		ArgsUsage:   "[APP]",
		Description: strings.TrimSpace(appDescribeDescription),
		Action: func(c *cli.Context) error {
			if err := takeApp(c); err != nil {
				return err
			}
			return withClient(c, func(_ context.Context, client *drm.Client) error {
				// The command timeout bounds each request, and not how long it takes to count all keys.
				d, err := client.DescribeApp(c.Context)
				if err != nil {
					return err
				}
				return showApp(c, d)
			})
		},
	}
}

// describedAppJSON is part of the JSON contract.
type describedAppJSON struct {
	appJSON

	Prefix      string `json:"prefix"`
	Coordinator string `json:"coordinator"`
	Resources   int    `json:"resources"`
	Claims      int    `json:"claims"`
	Orders      int    `json:"standing_orders"`
	Quarantined int    `json:"quarantined"`
	Source      bool   `json:"has_source"`
	Keys        int    `json:"keys"`
	Revision    int64  `json:"revision"`
}

func showApp(c *cli.Context, d drm.AppDetails) error {
	object := describedAppJSON{
		appJSONOf(d.AppInfo), d.Prefix, d.Coordinator, d.Resources, d.Claims, d.Orders, d.Quarantined, d.Source, d.Keys,
		d.Revision,
	}
	return output.Sheet(printer(c), object, d.Name, func(row func(string, any)) {
		row("app", d.Name)
		row("prefix", d.Prefix)
		row("state", toned(d.State))
		row("shards", d.Shards)
		row("members", d.Members)
		row("coordinator", d.Coordinator)
		row("resources", d.Resources)
		row("claims", d.Claims)
		row("orders", d.Orders)
		row("quarantined", badIfAny(d.Quarantined))
		row("source", map[bool]string{true: "has been asked", false: "none"}[d.Source])
		row("keys", d.Keys)
		row("created at revision", d.Created)
		row("revision", d.Revision)
	})
}

const appCreateDescription = `
The first member of an app creates it otherwise. Where the app is there already, it does nothing; but another number
of shards than the app has is an error.

Example:
   drmctl app create feeds --shards 256
`

func appCreateCommand() *cli.Command {
	const name = "app-create"
	return &cli.Command{
		Name:        "create",
		Usage:       "create an app",
		ArgsUsage:   "[APP]",
		Description: strings.TrimSpace(appCreateDescription),
		Flags: slices.Concat([]cli.Flag{
			&cli.IntFlag{
				Name: flagShards, EnvVars: commandEnv(name, flagShards), DefaultText: "1024 for a new app",
				Usage: "how many shards the app gets, for good: 1 to 4096",
			},
		}, deedFlags(name)),
		Action: func(c *cli.Context) error {
			if err := errors.Join(takeApp(c), numberInRange(c, flagShards, 1, keys.MaxShards)); err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				shards, created, err := client.CreateApp(ctx, c.Int(flagShards))
				if err != nil {
					return flagsOf(err, c)
				}
				return showCreated(c, shards, created)
			})
		},
	}
}

// createdAppJSON is part of the JSON contract.
type createdAppJSON struct {
	App     string `json:"app"`
	Shards  int    `json:"shards"`
	Created bool   `json:"created"`
}

func showCreated(c *cli.Context, shards int, created bool) error {
	app := c.String(flagApp)
	object := createdAppJSON{app, shards, created}
	return show(c, object, app, func(p *output.Page) {
		if created {
			p.Line("created %s with %d shards", app, shards)
		} else {
			p.Line("%s is there, with %d shards", app, shards)
		}
	})
}

const appDeleteDescription = `
Deletes everything that the app has: resources, orders, and all else. It asks for the name of the app first, and is
refused, with exit code 1, while a member lives, or claims or a reservation of one are left. While it is in progress,
no member starts; where it is interrupted, run it again. It also gives up a load that was interrupted.

Example:
   drmctl app delete feeds
`

func appDeleteCommand() *cli.Command {
	const name = "app-delete"
	return &cli.Command{
		Name:        "delete",
		Usage:       "delete an app with all that it has",
		ArgsUsage:   "[APP]",
		Description: strings.TrimSpace(appDeleteDescription),
		Flags:       append(deedFlags(name), yesFlag(name)),
		Action: func(c *cli.Context) error {
			if err := takeApp(c); err != nil {
				return err
			}
			return withClient(c, func(_ context.Context, client *drm.Client) error {
				// The command timeout bounds each request, and not how long a million keys take.
				d, err := client.DescribeApp(c.Context)
				if err != nil {
					return err
				}
				if err := confirmName(c, d); err != nil {
					return err
				}
				n, err := client.DeleteApp(c.Context, nil)
				if err != nil {
					return err
				}
				return showDeleted(c, n)
			})
		},
	}
}

// confirmName has the user type the name of the app that is to be deleted, unless --yes is given.
func confirmName(c *cli.Context, d drm.AppDetails) error {
	if c.Bool(flagYes) {
		return nil
	}
	what := fmt.Sprintf("delete the app %q at prefix %q, with %d resources and %d keys", d.Name, d.Prefix, d.Resources,
		d.Keys)
	in, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("it would %s; there is no terminal to ask on, so give --%s", what, flagYes)
	}
	return askName(c.Context, in, c.App.ErrWriter, what, d.Name)
}

// askName asks for a name, and returns nil if that is the answer.
func askName(ctx context.Context, in io.Reader, out io.Writer, what, name string) error {
	fmt.Fprintf(out, "%s? Type the name of the app: ", output.Line(what))
	line, err := bufio.NewReader(interruptible(ctx, in)).ReadString('\n')
	switch {
	case strings.TrimSpace(line) == name:
		return nil
	case err != nil && ctx.Err() != nil:
		return err
	default:
		return errNotConfirmed
	}
}

// deletedAppJSON is part of the JSON contract.
type deletedAppJSON struct {
	App     string `json:"app"`
	Deleted bool   `json:"deleted"`
	Keys    int64  `json:"keys"`
}

func showDeleted(c *cli.Context, n int64) error {
	app := c.String(flagApp)
	object := deletedAppJSON{app, true, n}
	return show(c, object, app, func(p *output.Page) { p.Line("deleted %s: %s", app, keysOf(n)) })
}

func keysOf(n int64) string { return fmt.Sprintf("%d %s", n, english.PluralWord(int(n), "key", "")) }
