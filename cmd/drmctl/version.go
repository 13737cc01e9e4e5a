package main

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// versionJSON is part of the JSON contract.
type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "print drmctl's version",
		Description: "Example:\n   drmctl version -o json",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if err := checkOutput(c); err != nil {
				return err
			}
			v := versionJSON{version(), runtime.Version()}
			return show(c, v, v.Version, func(p *output.Page) { p.Line("drmctl %s (%s)", v.Version, v.Go) })
		},
	}
}

// version is the version of the module that the go command recorded.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
