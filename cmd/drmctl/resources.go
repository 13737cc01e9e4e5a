package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

const (
	flagSuspended  = "suspended"
	flagAllocated  = "allocated"
	flagFromSource = "from-source"
)

const resourcesDescription = `
The origin is source, allocated or both; the state is wanted, or suspended: the source has it, but it was deallocated,
or an operator has suspended it, and then the line says who, why and since when. The list is as it was at one moment,
and printed as it is read. With --watch, each change follows: CHANGE is listed, changed, or gone.

Examples:
   drmctl --app feeds resources
   drmctl --app feeds resources --id-prefix eu/ -o name
   drmctl --app feeds resources --watch -o json
`

func resourcesCommand() *cli.Command {
	const name = "resources"
	return &cli.Command{
		Name:        name,
		Usage:       "list the resources of the catalogue, and who wants them",
		Description: strings.TrimSpace(resourcesDescription),
		Flags: append([]cli.Flag{
			&cli.BoolFlag{
				Name: flagSuspended, EnvVars: commandEnv(name, flagSuspended),
				Usage: "only what is suspended",
			},
			&cli.BoolFlag{
				Name: flagAllocated, EnvVars: commandEnv(name, flagAllocated),
				Usage: "only what somebody allocated",
			},
			&cli.BoolFlag{
				Name: flagFromSource, EnvVars: commandEnv(name, flagFromSource),
				Usage: "only what the source has",
			},
		}, partFlags(name)...),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			shards, err := shardNumbers(c)
			if err != nil {
				return err
			}
			filter := drm.ResourceFilter{
				Shards: shards, Prefix: c.String(flagIDPrefix), Suspended: c.Bool(flagSuspended),
				Allocated: c.Bool(flagAllocated), FromSource: c.Bool(flagFromSource),
			}
			return withApp(c, func(_ context.Context, client *drm.Client) error { // as long as it makes progress
				view := resourceView(c)
				if c.Bool(flagWatch) {
					changes := changesView(view, func(e drm.CatalogueEntry) drm.CatalogueEntry { return e })
					watch := func(ctx context.Context, lost func(error)) watchOf[drm.CatalogueEntry] {
						return client.WatchResources(ctx, filter, lost)
					}
					return printChanges(c, changes, watch)
				}
				return flagOfShard(view.List(printer(c), client.EachResource(c.Context, filter)))
			})
		},
	}
}

// mostData is how many characters of a resource's data a line of the table shows.
const mostData = 60

func showResources(c *cli.Context, entries []drm.CatalogueEntry) error {
	slices.SortFunc(entries, func(a, b drm.CatalogueEntry) int { return strings.Compare(a.Resource.ID, b.Resource.ID) })
	return resourceView(c).List(printer(c), output.All(entries))
}

func resourceView(c *cli.Context) output.View[drm.CatalogueEntry] {
	return output.View[drm.CatalogueEntry]{
		Columns: []output.Column[drm.CatalogueEntry]{
			{Title: "ID", Cell: func(e drm.CatalogueEntry) any { return e.Resource.ID }, Whole: true},
			{Title: "SHARD", Cell: func(e drm.CatalogueEntry) any { return e.Shard }},
			{Title: "ORIGIN", Cell: func(e drm.CatalogueEntry) any { return origin(e) }},
			{Title: "STATE", Cell: func(e drm.CatalogueEntry) any { return toned(wanted(e)) }},
			{Title: "DATA", Cell: func(e drm.CatalogueEntry) any {
				data := string(e.Resource.Object())
				if formatOf(c) == output.Wide {
					return data
				}
				return excerpt.Runes(data, mostData)
			}},
		},
		Object: func(e drm.CatalogueEntry) any { return e },
	}
}

// origin says who wants an entry, in the words of the entry's JSON.
func origin(e drm.CatalogueEntry) string {
	switch {
	case e.FromSource && e.Allocated:
		return "both"
	case e.FromSource:
		return "source"
	default:
		return "allocated"
	}
}

func wanted(e drm.CatalogueEntry) string {
	switch {
	case e.Suspension != nil:
		return "suspended" + suspensionWords(e.Suspension)
	case e.Suspended:
		return "suspended"
	default:
		return "wanted"
	}
}
