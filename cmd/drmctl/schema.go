package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const schemaDescription = `
Prints the JSON Schema (draft 2020-12) of what a command prints with -o json, or, without COMMAND, the names of the
commands that print JSON. Where a command prints several values, one in each line, the schema is that of each of them.

Examples:
   drmctl schema
   drmctl schema status
   drmctl schema source accept
`

func schemaCommand() *cli.Command {
	return &cli.Command{
		Name:        "schema",
		Usage:       "print the JSON Schema of a command's JSON",
		ArgsUsage:   "[COMMAND]",
		Description: strings.TrimSpace(schemaDescription),
		Action: func(c *cli.Context) error {
			if err := checkOutput(c); err != nil {
				return err
			}
			command := strings.Join(c.Args().Slice(), " ")
			if command == "" {
				names := output.View[string]{
					Columns: []output.Column[string]{{Title: "COMMAND", Cell: func(s string) any { return s }}},
					Object:  func(s string) any { return s },
				}
				return names.List(printer(c), output.All(withSchema()))
			}
			schema := schemaOf(command)
			if schema == nil {
				return usagef("%q is no command that prints JSON: drmctl schema lists these%s", command,
					didYouMean("", command, withSchema()))
			}
			p := printer(c)
			if p.Format == output.Name && typed(c, flagOutput) {
				return badFlag(flagOutput, string(p.Format), "json or yaml: a schema has no name")
			}
			if p.Format != output.YAML {
				p.Format = output.JSON // a schema is JSON for people, too
			}
			return output.Report(p, schema, "", nil)
		},
	}
}
