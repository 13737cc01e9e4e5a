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

const resourcesDescription = `
The origin is source, allocated or both; the state is wanted, or suspended: the source has it,
but it was deallocated.

Example:
   drmctl --app feeds resources
`

func resourcesCommand() *cli.Command {
	return &cli.Command{
		Name:        "resources",
		Usage:       "list the resources of the catalogue, and who wants them",
		Description: strings.TrimSpace(resourcesDescription),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withApp(c, func(ctx context.Context, client *drm.Client) error {
				entries, err := client.Resources(ctx)
				if err != nil {
					return err
				}
				return showResources(c, entries)
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
			{Title: "STATE", Cell: func(e drm.CatalogueEntry) any { return wanted(e) }},
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
	if e.Suspended {
		return "suspended"
	}
	return "wanted"
}
