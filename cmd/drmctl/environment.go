package main

import (
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// commandEnv names the environment variable of a flag of a command that does one thing and ends. It contains the
// command's name: a variable that is set for an agent must not change what drmctl does when the agent's handler runs
// it.
func commandEnv(command, flag string) []string {
	return []string{"DRM_" + screaming(command) + "_" + screaming(flag)}
}

// agentEnv names the environment variable of a flag of agent.
func agentEnv(flag string) []string { return []string{"DRM_" + screaming(flag)} }

func screaming(kebab string) string { return strings.ToUpper(strings.ReplaceAll(kebab, "-", "_")) }

// forgetEmpty makes empty variables count as unset, because deployments leave them empty where they have no value.
// Package cli would take flags of some kinds as given then, and flags of other kinds as not given.
func forgetEmpty(app *cli.App) {
	for _, f := range allFlags(app) {
		if names := envVars(f); names != nil {
			*names = slices.DeleteFunc(slices.Clone(*names), func(name string) bool { return os.Getenv(name) == "" })
		}
	}
}

// allFlags are the flags of drmctl and of its commands.
func allFlags(app *cli.App) []cli.Flag {
	flags := slices.Clone(app.Flags)
	for _, c := range allCommands(app) {
		flags = append(flags, c.Flags...)
	}
	return flags
}

// envVars points to the names of a flag's variables. It is nil for a kind of flag that drmctl does not use.
func envVars(f cli.Flag) *[]string {
	switch f := f.(type) {
	case *cli.StringFlag:
		return &f.EnvVars
	case *cli.BoolFlag:
		return &f.EnvVars
	case *cli.IntFlag:
		return &f.EnvVars
	case *cli.Int64Flag:
		return &f.EnvVars
	case *cli.Uint64Flag:
		return &f.EnvVars
	case *cli.Float64Flag:
		return &f.EnvVars
	case *cli.DurationFlag:
		return &f.EnvVars
	case *cli.GenericFlag:
		return &f.EnvVars
	default:
		return nil
	}
}
