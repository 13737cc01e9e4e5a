package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded"
)

const (
	flagDataDir        = "data-dir"
	flagListenClient   = "listen-client"
	flagListenPeer     = "listen-peer"
	flagQuota          = "quota"
	flagAutoCompaction = "auto-compaction"
)

const etcdDescription = `
Prints its endpoint once it is ready, and runs until SIGINT or SIGTERM. For production, run a cluster of etcd
itself.

Example:
   drmctl etcd --data-dir /var/tmp/etcd
`

func etcdCommand() *cli.Command {
	const name = "etcd"
	return &cli.Command{
		Name:        name,
		Usage:       "run a development etcd, one server in this process",
		Description: strings.TrimSpace(etcdDescription),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: flagDataDir, EnvVars: commandEnv(name, flagDataDir), Value: "default.drm-etcd",
				Usage: "the `FOLDER` where etcd keeps its state, made if need be",
			},
			&cli.StringFlag{
				Name: flagListenClient, EnvVars: commandEnv(name, flagListenClient), Value: "127.0.0.1:2379",
				Usage: "the `HOST:PORT` to serve clients on; port 0: a free one",
			},
			&cli.StringFlag{
				Name: flagListenPeer, EnvVars: commandEnv(name, flagListenPeer), Value: "127.0.0.1:2380",
				Usage: "the `HOST:PORT` for etcd's peers, of which there are none; port 0: a free one",
			},
			&cli.StringFlag{
				Name: flagQuota, EnvVars: commandEnv(name, flagQuota), Value: "2GiB",
				Usage: "the `SIZE` that the database may reach before etcd refuses writes",
			},
			&cli.StringFlag{
				Name: flagAutoCompaction, EnvVars: commandEnv(name, flagAutoCompaction), Value: "5m",
				Usage: "how much history is kept: a `DURATION`, or a number of revisions; " +
					"off: all of it, and the database grows",
			},
		},
		Action: runEtcd,
	}
}

func runEtcd(c *cli.Context) (err error) {
	if err := errors.Join(noArguments(c), checkOutput(c)); err != nil {
		return err
	}
	cfg, err := embeddedConfig(c)
	if err != nil {
		return err
	}
	logger, level, err := newLogger(c, zap.ErrorLevel)
	if err != nil {
		return err
	}
	cfg.Logger = logger
	outliveReaders()
	growHeap()
	server, err := embedded.Start(c.Context, cfg)
	if err != nil {
		if c.Context.Err() != nil {
			return nil // a signal came before etcd was ready
		}
		return err
	}
	defer func() {
		if !c.IsSet(flagLogLevel) {
			level.SetLevel(zap.FatalLevel) // etcd logs an error when its listeners are closed
		}
		err = errors.Join(err, server.Close())
	}()

	if err := showEndpoint(c, server.Endpoint()); err != nil {
		return err
	}
	select {
	case <-c.Context.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("etcd ended: %w", err)
	}
}

// endpointJSON is part of the JSON contract.
type endpointJSON struct {
	Endpoint string `json:"endpoint"`
}

func showEndpoint(c *cli.Context, endpoint string) error {
	ready := endpointJSON{endpoint}
	return show(c, ready, endpoint, func(p *output.Page) { p.Line("endpoint %s", endpoint) })
}

func embeddedConfig(c *cli.Context) (embedded.Config, error) {
	cfg := embedded.Config{
		DataDir:      c.String(flagDataDir),
		ListenClient: c.String(flagListenClient),
		ListenPeer:   c.String(flagListenPeer),
	}
	for _, name := range []string{flagDataDir, flagListenClient, flagListenPeer} {
		if c.String(name) == "" {
			return cfg, badFlag(name, "", "a value")
		}
	}
	var quota, compaction error
	cfg.Quota, quota = quotaBytes(c.String(flagQuota))
	cfg.AutoCompaction, compaction = autoCompaction(c.String(flagAutoCompaction))
	return cfg, errors.Join(quota, compaction)
}

// quotaBytes is --quota in bytes.
func quotaBytes(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, badFlag(flagQuota, text, "a size such as 2GiB or 500MB")
	}
	return int64(n), nil
}

// autoCompaction returns --auto-compaction as package embedded expects it: empty means off.
func autoCompaction(text string) (string, error) {
	if text == "off" || text == "0" {
		return "", nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= time.Second {
		return text, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return text, nil
	}
	return "", badFlag(flagAutoCompaction, text, "a duration of at least 1s, a number of revisions, or off")
}
