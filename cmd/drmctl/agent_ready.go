package main

import (
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

const (
	flagReadyURL      = "ready-url"
	flagReadyExec     = "ready-exec"
	flagReadyInterval = "ready-interval"
	flagUnreadyAfter  = "unready-after"
	flagReadyAfter    = "ready-after"
	flagMinReady      = "min-ready"
	flagFailedShare   = "failed-share"
)

// readyFlags are the flags about whether the member can work.
func readyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name:    flagReadyURL,
			EnvVars: agentEnv(flagReadyURL),
			Usage: "ask this `URL` by GET whether the member can work; a status other than 2xx says no: then it " +
				"hands everything over, and takes nothing until it is ready again (docs/webhook.md)",
		},
		&cli.StringFlag{
			Name: flagReadyExec, EnvVars: agentEnv(flagReadyExec),
			Usage: "the same, of a `'COMMAND ARGS'`; an exit code other than 0 says no; it cannot tell of a restart " +
				"of the service, as --ready-url with --handler-url does",
		},
		&cli.DurationFlag{
			Name: flagReadyInterval, EnvVars: agentEnv(flagReadyInterval), Value: drm.DefaultReadyInterval,
			Usage: "how often to ask, and how long an answer may take, from 1s up to 10s: 100ms to 1h",
		},
		&cli.IntFlag{
			Name: flagUnreadyAfter, EnvVars: agentEnv(flagUnreadyAfter), Value: drm.DefaultUnreadyAfter,
			Usage: "how many times in a row the answer must be no until the member hands over: 1 to 1000",
		},
		&cli.IntFlag{
			Name: flagReadyAfter, EnvVars: agentEnv(flagReadyAfter), Value: drm.DefaultReadyAfter,
			Usage: "how many times in a row it must be yes until the member takes its share again: 1 to 1000",
		},
		&cli.Float64Flag{
			Name: flagMinReady, EnvVars: agentEnv(flagMinReady), Value: drm.DefaultMinReady,
			Usage: "the `SHARE` of the members that must be ready; with fewer, all go on, ready or not: 0.0001 to 1; " +
				"the same for all members",
		},
		&cli.Float64Flag{
			Name:    flagFailedShare,
			EnvVars: agentEnv(flagFailedShare),
			Value:   drm.DefaultFailedShare,
			Usage: "count as not ready for a while where this `SHARE` of the member's resources fails, of at least " +
				"10, and little of the others': 0.01 to 1; 0: never",
		},
	}
}

// readyConfig sets what the flags say of whether the member can work. It needs the handler in cfg. The caller calls
// done once the member has ended.
func readyConfig(c *cli.Context, cfg *drm.Config) (done func(), err error) {
	done = func() {}
	cfg.ReadyInterval = c.Duration(flagReadyInterval)
	cfg.UnreadyAfter, cfg.ReadyAfter = c.Int(flagUnreadyAfter), c.Int(flagReadyAfter)
	cfg.MinReady, cfg.FailedShare = c.Float64(flagMinReady), c.Float64(flagFailedShare)
	if cfg.FailedShare == 0 {
		cfg.FailedShare = drm.Never
	}
	err = errors.Join(
		inRange(c, flagReadyInterval, 100*time.Millisecond, time.Hour),
		numberInRange(c, flagUnreadyAfter, 1, 1000),
		numberInRange(c, flagReadyAfter, 1, 1000),
		shareInRange(c, flagMinReady, 0.0001, false),
		shareInRange(c, flagFailedShare, 0.01, true),
	)
	if err != nil {
		return done, err
	}
	switch {
	case given(c, flagReadyURL) && given(c, flagReadyExec):
		return done, usagef("%s takes %s or %s, not both", c.Command.Name, givenBy(c, flagReadyURL),
			givenBy(c, flagReadyExec))
	case given(c, flagReadyURL):
		return readyURL(c, cfg)
	case given(c, flagReadyExec):
		command, err := handler.ParseCommand(c.String(flagReadyExec))
		if err != nil {
			return done, renamed(err, map[string]string{"command": flagReadyExec})
		}
		beside, _ := cfg.Handler.(*handler.Exec)
		program, err := handler.NewReadyExec(command, beside)
		if err != nil {
			return done, renamed(err, map[string]string{"command": flagReadyExec})
		}
		cfg.Ready = program.Ready
	}
	return done, nil
}

// readyURL asks with the certificates for the handler, and with its headers if both URLs lead to the same host: they
// may be secrets of that host.
func readyURL(c *cli.Context, cfg *drm.Config) (done func(), err error) {
	done = func() {}
	asked := handler.WebhookConfig{URL: c.String(flagReadyURL)}
	if sameHost(asked.URL, c.String(flagHandlerURL)) {
		if asked.Header, err = headersOf(c, flagHandlerHeader); err != nil {
			return done, err
		}
	}
	if asked.GetTLS, err = openCertificates(c, handlerPEM, cfg.Logger); err != nil {
		return done, err
	}
	asker, err := handler.NewReadyURL(asked)
	if err != nil {
		return done, renamed(err, map[string]string{"URL": flagReadyURL})
	}
	cfg.Ready = asker.ReadyAnyway
	if given(c, flagHandlerURL) { // only then does the service have what a restart of it takes away
		cfg.Ready = asker.Ready
	}
	return asker.Close, nil
}

// sameHost says whether two URLs have the same scheme, host and port.
func sameHost(one, other string) bool {
	a, err := url.Parse(one)
	b, otherErr := url.Parse(other)
	return err == nil && otherErr == nil && a.Host != "" && a.Scheme == b.Scheme && a.Host == b.Host
}

// shareInRange checks the share that a flag has; it may be up to 1, and zero if that turns something off.
func shareInRange(c *cli.Context, flag string, least float64, off bool) error {
	share := c.Float64(flag)
	if share >= least && share <= 1 || off && share == 0 { // NaN is neither
		return nil
	}
	want := strconv.FormatFloat(least, 'f', -1, 64) + " to 1"
	if off {
		want += ", or 0"
	}
	return badFlag(flag, strconv.FormatFloat(share, 'g', -1, 64), want)
}
