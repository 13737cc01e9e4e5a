package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const flagWithoutData = "without-data"

const dumpDescription = `
Lines of JSON, whatever --output says: a header, a line for each key, and a line with their number and digest, so that
it shows where a part is missing. The data of resources may be secret: without --data there is only how long they are,
and a digest; such a dump is for bug reports, and is not loaded. Passwords in URLs are never part of it. A dump reads as
little at once as it can, and holds nothing up.

Examples:
   drmctl --app feeds dump --data --file feeds.dump
   drmctl --app feeds dump | gzip > report.gz
`

func dumpCommand() *cli.Command {
	const name = "dump"
	return &cli.Command{
		Name:        name,
		Usage:       "print all keys of an app, as they are at one revision: for backup, bug reports, and load",
		Description: strings.TrimSpace(dumpDescription),
		Flags: []cli.Flag{
			fileFlag(name, "write to `FILE`, all or nothing, readable for its owner only; - is stdout"),
			&cli.BoolFlag{
				Name: flagData, EnvVars: commandEnv(name, flagData),
				Usage: "with the data of the resources, as load needs them",
			},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if format := c.String(flagOutput); typed(c, flagOutput) && format != string(output.JSON) {
				return badFlag(flagOutput, format, "json: a dump is lines of JSON")
			}
			// The command timeout bounds each request, and not how long a million keys take.
			return withClient(c, func(_ context.Context, client *drm.Client) error {
				d, err := dump(c, client)
				if err != nil {
					return err
				}
				note(c, "dumped %d keys of %d resources at revision %d", d.Keys, d.Resources, d.Revision)
				return nil
			})
		},
	}
}

// dump dumps the app to where --file says.
func dump(c *cli.Context, client *drm.Client) (drm.Dumped, error) {
	opts, file := drm.DumpOptions{Data: c.Bool(flagData)}, c.String(flagFile)
	if file == "" || file == stdinFile {
		return client.Dump(c.Context, c.App.Writer, opts)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return drm.Dumped{}, fmt.Errorf("--%s: %w", flagFile, err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // it is gone where all went well
	d, err := client.Dump(c.Context, temp, opts)
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err != nil {
		return d, err
	}
	return d, os.Rename(temp.Name(), file)
}

const loadDescription = `
The app must not exist, or have nothing yet. What is restored: resources, quarantine, orders, and the slots of members,
so that members with the same ids get the same shards. What lives on a lease is not: members, claims, orders that end by
themselves. All or nothing is loaded: a dump of which a part is missing, or that somebody has changed, is refused.
While it is in progress, no member starts; where it is interrupted, run it again, or drmctl app delete.

Examples:
   drmctl --app feeds load --file feeds.dump --dry-run
   drmctl --app feeds dump --data | drmctl --app feeds --endpoints other:2379 load
`

func loadCommand() *cli.Command {
	const name = "load"
	return &cli.Command{
		Name:        name,
		Usage:       "make an app of what dump has printed",
		Description: strings.TrimSpace(loadDescription),
		Flags: slices.Concat([]cli.Flag{
			fileFlag(name, "read the dump from `FILE`; - is stdin, and so is no file"),
			&cli.BoolFlag{
				Name: flagDryRun, EnvVars: commandEnv(name, flagDryRun),
				Usage: "only check the dump, and that the app is empty",
			},
			&cli.BoolFlag{
				Name: flagWithoutData, EnvVars: commandEnv(name, flagWithoutData),
				Usage: "load a dump without data: the resources have nothing but their ids",
			},
		}, deedFlags(name)),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			file := c.String(flagFile)
			if file == "" {
				file = stdinFile
			}
			in, done, err := openInput(c.Context, c, file)
			if err != nil {
				return err
			}
			defer done()
			return withClient(c, func(_ context.Context, client *drm.Client) error {
				l, err := client.Load(c.Context, in, drm.LoadOptions{
					DryRun: c.Bool(flagDryRun), WithoutData: c.Bool(flagWithoutData),
				})
				switch {
				case errors.Is(err, drm.ErrRedacted):
					return fmt.Errorf("%w: dump with --%s, or give --%s to load the ids only", err, flagData,
						flagWithoutData)
				case errors.Is(err, drm.ErrNotEmpty):
					return fmt.Errorf("%w: drmctl app delete, or another --%s", err, flagApp)
				case err != nil:
					return err
				}
				return showLoaded(c, l)
			})
		},
	}
}

// loadedJSON is part of the JSON contract.
type loadedJSON struct {
	App          string `json:"app"`
	Loaded       bool   `json:"loaded"`
	DumpOf       string `json:"dump_of"`
	DumpRevision int64  `json:"dump_revision"`
	Shards       int    `json:"shards"`
	Resources    int    `json:"resources"`
	Orders       int    `json:"standing_orders"`
	Others       int    `json:"others"`
	Left         int    `json:"left"`
	Ignored      int    `json:"not_understood"`
}

func showLoaded(c *cli.Context, l drm.Loaded) error {
	app, dry := c.String(flagApp), c.Bool(flagDryRun)
	object := loadedJSON{app, !dry, l.App, l.Revision, l.Shards, l.Resources, l.Orders, l.Others, l.Left, l.Ignored}
	if l.Ignored > 0 {
		note(c, "not understood, and not loaded: %d keys", l.Ignored)
	}
	return show(c, object, app, func(p *output.Page) {
		verb := map[bool]string{false: "loaded", true: "would load"}[dry]
		p.Line("%s %s: a dump of %s at revision %d", verb, app, l.App, l.Revision)
		p.Row("shards", l.Shards)
		p.Row("resources", l.Resources)
		p.Row("orders", l.Orders)
		p.Row("other keys", l.Others)
		p.Row("not restored", l.Left)
	})
}
