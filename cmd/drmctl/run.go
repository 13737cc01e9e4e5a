package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/logqueue"
	"github.com/distributed-resource-manager/drm/internal/supervise"
)

const (
	runName        = "run"
	flagNoRestart  = "no-restart"
	flagBackoff    = "backoff"
	flagBackoffMax = "backoff-max"
)

// The exit codes of a command that cannot be started, as shells have them.
const (
	exitNotExecutable = 126
	exitNoCommand     = 127
)

// endPatience is how long what a dead command has left may take to end.
const endPatience = 10 * time.Second

const runDescription = `
Runs COMMAND, which is a member: drmctl agent, or a program that uses the library. When the process dies
(a crash, kill -9, no memory), and all processes that it has started are gone too, its leases are revoked:
others have its resources after about 0.1 s, instead of after a TTL. What the process leaves behind is killed.

The command is started again after a pause, unless its exit code is 0, or run was asked to end (SIGTERM,
SIGINT, SIGQUIT). Signals are passed on. The exit code is the command's, 128+N where signal N ended it, 127
where it is not found, and 126 where it cannot be executed. The command has to stay in the foreground.

It needs the flags or variables that say how to reach etcd, as the command does, and Linux. docs/run.md tells more.

Examples:
   DRM_ENDPOINTS=etcd:2379 DRM_APP=feeds drmctl run -- drmctl agent --allocate-only --handler-exec ./follow
   DRM_ENDPOINTS=etcd:2379 drmctl run --no-restart -- ./my-member --verbose
`

func runCommand() *cli.Command {
	return &cli.Command{
		Name:        runName,
		Usage:       "supervise a member: when its process dies, others have its resources at once",
		ArgsUsage:   "-- COMMAND [ARGUMENTS]",
		Description: strings.TrimSpace(runDescription),
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: flagNoRestart, EnvVars: commandEnv(runName, flagNoRestart),
				Usage: "end when the command has ended, however it ended",
			},
			&cli.DurationFlag{
				Name: flagBackoff, EnvVars: commandEnv(runName, flagBackoff), Value: time.Second,
				Usage: "the first pause before the command is started again, 1ms to 24h; it doubles each time, and " +
					"begins anew once the command has run for --backoff-max",
			},
			&cli.DurationFlag{
				Name: flagBackoffMax, EnvVars: commandEnv(runName, flagBackoffMax), Value: time.Minute,
				Usage: "the longest such pause: --backoff to 24h",
			},
		},
		Action: runSupervisor,
	}
}

func runSupervisor(c *cli.Context) error {
	first, most := c.Duration(flagBackoff), c.Duration(flagBackoffMax)
	err := errors.Join(checkOutput(c), inRange(c, flagBackoff, time.Millisecond, 24*time.Hour))
	if c.IsSet(flagBackoffMax) {
		err = errors.Join(err, inRange(c, flagBackoffMax, first, 24*time.Hour))
	}
	if err != nil {
		return err
	}
	command := c.Args().Slice()
	if len(command) == 0 || command[0] == "" {
		return usagef("run what? want drmctl run [flags] -- COMMAND [ARGUMENTS]")
	}
	logger, _, err := newLogger(c, zap.InfoLevel)
	if err != nil {
		return err
	}
	outliveReaders()
	// The supervisor must not wait for the reader of its stderr.
	logger, lines := logqueue.Wrap(logger.Named(runName))
	defer lines.Close(lastWords)
	revoker, disconnect, err := connectRevoker(c, logger)
	if err != nil {
		return err
	}
	defer disconnect()
	defer watchCertificates(c)()
	signals, stop := takeSignals(c.Context)
	defer stop()
	code, err := supervise.Run(c.Context, supervise.Config{
		Command: command, Env: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Restart: !c.Bool(flagNoRestart), Backoff: first, BackoffMax: max(first, most),
		Signals: signals, Revoke: revoker.Revoke, Cgroup: true, EndPatience: endPatience, Log: logger,
	})
	if err != nil {
		return startError(err)
	}
	return endedWith(code)
}

// passedOn are the signals that run passes on to its command.
var passedOn = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
}

// takeSignals makes this process receive the signals for its command, in place of what a signal otherwise does to
// drmctl. A SIGHUP that was ignored when drmctl started, as nohup(1) makes it, stays ignored, by the command as well:
// to catch it would make a hang-up end the command. The caller calls stop.
func takeSignals(ctx context.Context) (signals <-chan supervise.Signal, stop func()) {
	taken := slices.DeleteFunc(slices.Concat(passedOn, userSignals), func(sig os.Signal) bool {
		return sig == syscall.SIGHUP && signal.Ignored(sig)
	})
	signals, stop = supervise.Signals(taken...)
	leaveSignals(ctx)
	return signals, stop
}

// connectRevoker makes the part that revokes leases, with the etcd of the global flags. The caller calls disconnect.
func connectRevoker(c *cli.Context, log *zap.Logger) (r *supervise.Revoker, disconnect func(), err error) {
	cfg, err := etcdConfig(c, log)
	if err != nil {
		return nil, nil, err
	}
	prefix := c.String(flagPrefix)
	if err := keys.CheckID(prefix); err != nil || prefix[0] != '/' {
		return nil, nil, badFlag(flagPrefix, prefix, "a path that starts with a slash")
	}
	probe := prefix + "/" // a user of etcd who may read all apps may read this
	if c.String(flagApp) != "" {
		app, err := appName(c)
		if err != nil {
			return nil, nil, err
		}
		probe = keys.New(prefix, app).Config()
	}
	client, err := etcd.NewClient(etcd.Config{
		Endpoints: cfg.Endpoints, TLS: cfg.TLS, GetTLS: cfg.GetTLS, Username: cfg.Username, Password: cfg.Password,
		DialTimeout: cfg.DialTimeout,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("connect to etcd: %w", err)
	}
	r = supervise.NewRevoker(supervise.RevokerConfig{
		Etcd: client, Probe: probe, Exits: &supervise.Exits{KV: client, Lease: client},
		Attempt: cfg.DialTimeout, All: cfg.CommandTimeout, Log: log,
	})
	return r, func() {
		r.Close()
		_ = client.Close() // says only that it was closed
	}, nil
}

// startError gives the error of a command that cannot be started the exit code that shells give it.
func startError(err error) error {
	var start *supervise.StartError
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w; start the command without drmctl run", err)
	case !errors.As(err, &start):
		return err
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return &endError{code: exitNoCommand, err: err}
	default:
		return &endError{code: exitNotExecutable, err: err}
	}
}

// endedWith is the error that makes drmctl end with the exit code of a command. It is nil for 0.
func endedWith(code int) error {
	if code == exitFine {
		return nil
	}
	return &endError{code: code}
}

// endError makes drmctl end with an exit code that is not one of its own.
type endError struct {
	code int
	err  error // nil: there is nothing to print, since the command has ended in its own way
}

func (e *endError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("the command ended with exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns the reason.
func (e *endError) Unwrap() error { return e.err }
