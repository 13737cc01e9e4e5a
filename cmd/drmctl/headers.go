package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// headers is the value of a flag that may be given several times. Each value has one header, or several on a line each.
// (Package cli's own repeatable flags split at commas, which header values may contain.) Header values are often
// secrets. So String shows none, and Set accepts everything, since package cli would show a value that Set refuses:
// headersOf refuses it.
type headers struct {
	h   http.Header
	bad bool
}

// headerFlag makes a flag of agent that takes headers.
func headerFlag(name, usage string) cli.Flag {
	return &cli.GenericFlag{
		Name: name, EnvVars: agentEnv(name), Value: &headers{h: make(http.Header)}, DefaultText: "none",
		Usage: usage + ", as `'NAME: VALUE'`; repeatable (in the environment: one a line)",
	}
}

// headersOf returns the headers that a flag was given; nil if the flag was not given.
func headersOf(c *cli.Context, flag string) (http.Header, error) {
	v, ok := c.Generic(flag).(*headers)
	switch {
	case !ok || !v.bad && len(v.h) == 0:
		return nil, nil
	case v.bad:
		return nil, usagef("--%s: want 'NAME: VALUE' (what was given is not shown: it may be a secret)", flag)
	default:
		return v.h, nil
	}
}

// Set adds headers.
func (v *headers) Set(text string) error {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") {
			v.bad = true
			continue
		}
		v.h.Add(name, strings.TrimSpace(value))
	}
	return nil
}

// String names the headers.
func (v *headers) String() string {
	return strings.Join(slices.Sorted(maps.Keys(v.h)), ",")
}
