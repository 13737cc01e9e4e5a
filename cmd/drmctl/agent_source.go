package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

const (
	flagSourceURL       = "source-url"
	flagSourceHeader    = "source-header"
	flagSourceFile      = "source-file"
	flagSourceNumberIDs = "source-number-ids"
	flagAllocateOnly    = "allocate-only"
	flagPoll            = "poll"
	flagSourceTimeout   = "source-timeout"
)

// sourceFlags are the flags that say where resources come from.
func sourceFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{
			Name: flagSourceURL, EnvVars: agentEnv(flagSourceURL),
			Usage: "take the resources from this `URL`, which answers {\"data\":[{\"id\":…},…]}",
		},
		headerFlag(flagSourceHeader, "send this header with each request to --source-url"),
		&cli.StringFlag{
			Name: flagSourceFile, EnvVars: agentEnv(flagSourceFile),
			Usage: "take the resources from this JSON `FILE`, of the same form, and again when it changes",
		},
		&cli.BoolFlag{
			Name: flagSourceNumberIDs, EnvVars: agentEnv(flagSourceNumberIDs),
			Usage: "accept ids of the source that are whole numbers, as strings of their digits: 1 becomes \"1\"",
		},
		&cli.BoolFlag{
			Name: flagAllocateOnly, EnvVars: agentEnv(flagAllocateOnly),
			Usage: "have no source: resources are allocated, or come from other members' sources",
		},
		&cli.DurationFlag{
			Name: flagPoll, EnvVars: agentEnv(flagPoll), Value: time.Minute,
			Usage: "how often the source is asked: 100ms to 24h; 0: only at the start and when members come or go",
		},
		&cli.DurationFlag{
			Name: flagSourceTimeout, EnvVars: agentEnv(flagSourceTimeout), Value: drm.DefaultFetchTimeout,
			Usage: "how long the source may take to answer: 1ms to 24h",
		},
	}, append(sourceOptionFlags(), removalFlags()...)...)
}

// sourceConfig sets the source that the flags describe.
func sourceConfig(c *cli.Context, cfg *drm.Config) error {
	err := errors.Join(
		exactlyOne(c, "source", flagSourceURL, flagSourceFile, flagAllocateOnly),
		inRange(c, flagSourceTimeout, time.Millisecond, 24*time.Hour),
	)
	poll := c.Duration(flagPoll)
	if poll != 0 {
		err = errors.Join(err, inRange(c, flagPoll, 100*time.Millisecond, 24*time.Hour))
	}
	if err != nil {
		return err
	}
	if err := sourceOptions(c, cfg); err != nil {
		return err
	}
	if given(c, flagAllocateOnly) {
		cfg.AllocateOnly = true
		return nil
	}
	cfg.PollInterval = poll
	cfg.FetchTimeout = c.Duration(flagSourceTimeout)
	if given(c, flagSourceFile) {
		cfg.Retriever, err = retriever.NewFile(c.String(flagSourceFile), retriever.FileConfig{
			NumberIDs: c.Bool(flagSourceNumberIDs), Watch: true,
		})
		return renamed(err, map[string]string{"path": flagSourceFile})
	}
	header, err := headersOf(c, flagSourceHeader)
	if err != nil {
		return err
	}
	source := retriever.HTTPConfig{
		URL: c.String(flagSourceURL), Header: header, Timeout: cfg.FetchTimeout, NumberIDs: c.Bool(flagSourceNumberIDs),
	}
	if err := httpOptions(c, &source, cfg.Logger); err != nil {
		return err
	}
	cfg.Retriever, err = retriever.NewHTTP(source)
	return renamed(err, map[string]string{"URL": flagSourceURL, "Header": flagSourceHeader, "Method": flagSourceMethod})
}
