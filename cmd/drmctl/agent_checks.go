package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

const (
	flagCheckInterval      = "check-interval"
	flagCheckTimeout       = "check-timeout"
	flagCheckFailures      = "check-failures"
	flagCheckConcurrency   = "check-concurrency"
	flagHandlerCheck       = "handler-check"
	flagCheckExec          = "check-exec"
	flagExecReadyLine      = "exec-ready-line"
	flagExecNotify         = "exec-notify"
	flagExecStoppedTimeout = "exec-stopped-timeout"
)

// checkFlags are the flags that say when what is handled is checked.
func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name: flagHandlerCheck, EnvVars: agentEnv(flagHandlerCheck),
			Usage: "ask the service at --handler-url now and then whether what it was given still works " +
				"(docs/webhook.md)",
		},
		&cli.StringFlag{
			Name: flagCheckExec, EnvVars: agentEnv(flagCheckExec),
			Usage: "run this `'COMMAND ARGS'` for each resource now and then: an exit code other than 0 says that " +
				"its process of --handler-exec does not work (docs/exec.md)",
		},
		&cli.DurationFlag{
			Name: flagCheckInterval, EnvVars: agentEnv(flagCheckInterval), Value: drm.DefaultCheckInterval,
			Usage: "how often a resource is checked, with --handler-check or --check-exec: 100ms to 24h",
		},
		&cli.DurationFlag{
			Name: flagCheckTimeout, EnvVars: agentEnv(flagCheckTimeout), Value: drm.DefaultCheckTimeout,
			Usage: "how long a check may take: 1ms to 24h",
		},
		&cli.IntFlag{
			Name: flagCheckFailures, EnvVars: agentEnv(flagCheckFailures), Value: drm.DefaultCheckFailures,
			Usage: "how often in a row a check must fail before the resource is ended, and begun anew: 1 to 1000",
		},
		&cli.IntFlag{
			Name: flagCheckConcurrency, EnvVars: agentEnv(flagCheckConcurrency), Value: drm.DefaultCheckConcurrency,
			Usage: "how many checks are made at once: 1 to 100000",
		},
	}
}

// execStateFlags are the flags that say when a process of --handler-exec counts as working.
func execStateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagExecReadyLine, EnvVars: agentEnv(flagExecReadyLine),
			Usage: "a process of --handler-exec is ready once a line of its output matches this `REGEXP`",
		},
		&cli.BoolFlag{
			Name: flagExecNotify, EnvVars: agentEnv(flagExecNotify),
			Usage: "a process of --handler-exec is ready once it sends READY=1 to $NOTIFY_SOCKET, " +
				"as services of systemd do",
		},
		&cli.StringFlag{
			Name: flagExecStoppedTimeout, EnvVars: agentEnv(flagExecStoppedTimeout),
			Value: handler.DefaultStoppedTimeout.String(),
			Usage: "how long a process of --handler-exec may be stopped (SIGSTOP) before it is ended, and another " +
				"one begun: `DURATION|forever`, 1ms to 24h",
		},
	}
}

// checkConfig sets when what is handled is checked.
func checkConfig(c *cli.Context, cfg *drm.Config) error {
	cfg.CheckInterval = c.Duration(flagCheckInterval)
	cfg.CheckTimeout = c.Duration(flagCheckTimeout)
	cfg.CheckFailures = c.Int(flagCheckFailures)
	cfg.CheckConcurrency = c.Int(flagCheckConcurrency)
	return errors.Join(
		inRange(c, flagCheckInterval, 100*time.Millisecond, 24*time.Hour),
		inRange(c, flagCheckTimeout, time.Millisecond, 24*time.Hour),
		numberInRange(c, flagCheckFailures, 1, 1000),
		numberInRange(c, flagCheckConcurrency, 1, 100_000),
	)
}

// execState sets when a process counts as working.
func execState(c *cli.Context, cfg *handler.ExecConfig) (err error) {
	if text := c.String(flagCheckExec); text != "" {
		if cfg.Check, err = handler.ParseCommand(text); err != nil {
			return renamed(err, map[string]string{"command": flagCheckExec})
		}
	}
	cfg.ReadyLine, cfg.Notify = c.String(flagExecReadyLine), c.Bool(flagExecNotify)
	if cfg.ReadyLine != "" && cfg.Notify {
		return usagef("agent takes one of --%s and --%s", flagExecReadyLine, flagExecNotify)
	}
	cfg.ReadyTimeout = c.Duration(flagHandlerTimeout)
	cfg.StoppedTimeout, err = durationOrForever(c, flagExecStoppedTimeout, time.Millisecond, 24*time.Hour)
	return err
}
