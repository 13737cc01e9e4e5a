package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/failures"
)

const (
	flagHandlerURL     = "handler-url"
	flagHandlerHeader  = "handler-header"
	flagHandlerExec    = "handler-exec"
	flagHandlerLog     = "handler-log"
	flagHandlerTimeout = "handler-timeout"
	flagHandlerGrace   = "handler-grace"
	flagExecOutput     = "exec-output"
	flagHandlerCACert  = "handler-cacert"
	flagHandlerCert    = "handler-cert"
	flagHandlerKey     = "handler-key"
)

// handlerPEM are the flags that name the certificates for --handler-url.
var handlerPEM = pemFlags{ca: flagHandlerCACert, cert: flagHandlerCert, key: flagHandlerKey, of: "handler"}

// The values of --exec-output.
const (
	execPrefix = "prefix"
	execRaw    = "raw"
	execNone   = "none"
)

// handlerFlags are the flags that say what handles the resources, and how it is called.
func handlerFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.StringFlag{
			Name: flagHandlerURL, EnvVars: agentEnv(flagHandlerURL),
			Usage: "tell the service at this `URL` what to do, by POST (docs/webhook.md)",
		},
		headerFlag(flagHandlerHeader, "send this header with each request to --handler-url"),
	}, handlerPEM.agentFlags(flagHandlerURL), []cli.Flag{
		&cli.StringFlag{
			Name: flagHandlerExec, EnvVars: agentEnv(flagHandlerExec),
			Usage: "run this `'COMMAND ARGS'` for each resource (docs/exec.md)",
		},
		&cli.BoolFlag{
			Name: flagHandlerLog, EnvVars: agentEnv(flagHandlerLog),
			Usage: "only print what a handler would be told, as JSON lines on stdout",
		},
		&cli.DurationFlag{
			Name: flagHandlerTimeout, EnvVars: agentEnv(flagHandlerTimeout), Value: drm.DefaultHandleTimeout,
			Usage: "how long a handler may take to begin or to end with a resource: 1ms to 24h",
		},
		&cli.DurationFlag{
			Name: flagHandlerGrace, EnvVars: agentEnv(flagHandlerGrace), Value: 10 * time.Second,
			Usage: "how long a process of --handler-exec has between SIGTERM and SIGKILL: 1ms to 24h",
		},
		&cli.StringFlag{
			Name: flagExecOutput, EnvVars: agentEnv(flagExecOutput), Value: execPrefix,
			Usage: "what becomes of what the processes of --handler-exec print: `prefix|raw|none` " +
				"(prefix: on stderr, each line after the resource's id; raw: on stderr as it is; none: thrown away)",
		},
	}, execStateFlags(), checkFlags(), []cli.Flag{
		&cli.IntFlag{
			Name: flagHandleConcurrency, EnvVars: agentEnv(flagHandleConcurrency), Value: drm.DefaultConcurrency,
			Usage: "how many resources are begun with at once, and ended with: 1 to 100000",
		},
		&cli.IntFlag{
			Name: flagHandleAttempts, EnvVars: agentEnv(flagHandleAttempts),
			Usage: "how often in a row a resource may fail before it is left alone; 0: without end",
		},
		&cli.IntFlag{
			Name: flagMoveAfter, EnvVars: agentEnv(flagMoveAfter),
			Usage: "how often in a row a resource may fail at this member before another member gets it: up to 1000; " +
				"0: it stays",
		},
		&cli.IntFlag{
			Name: flagQuarantineAfter, EnvVars: agentEnv(flagQuarantineAfter), Value: drm.DefaultQuarantineAfter,
			Usage: "how many members may die of a resource before it is quarantined, which drmctl retry ends: " +
				"1 to 100; 0: none is",
		},
		&cli.DurationFlag{
			Name: flagQuarantineWindow, EnvVars: agentEnv(flagQuarantineWindow), Value: drm.DefaultQuarantineWindow,
			Usage: "how long a resource is suspected of the death of a member: 1s to 24h",
		},
		&cli.StringFlag{
			Name: flagOutagePolicy, EnvVars: agentEnv(flagOutagePolicy), Value: policyStop,
			Usage: "what becomes of what is handled while etcd does not answer: `stop|keep` (stop: ended before " +
				"others can have it; keep: handled on, though others may take it over)",
		},
		&cli.StringFlag{
			Name: flagTerminatePolicy, EnvVars: agentEnv(flagTerminatePolicy), Value: policyRelease,
			Usage: "what becomes of a resource that could not be ended with: `release|hold` (release: given away " +
				"anyway; hold: kept, and tried again)",
		},
	})
}

// handlerConfig sets the handler, and how it is called. address is where the agent answers HTTP requests. The caller
// calls done once the member has ended.
func handlerConfig(c *cli.Context, cfg *drm.Config, address string) (done func(), err error) {
	err = errors.Join(
		exactlyOne(c, "handler", flagHandlerURL, flagHandlerExec, flagHandlerLog),
		inRange(c, flagHandlerTimeout, time.Millisecond, 24*time.Hour),
		inRange(c, flagHandlerGrace, time.Millisecond, 24*time.Hour),
		numberInRange(c, flagHandleConcurrency, 1, 100_000),
		numberInRange(c, flagHandleAttempts, 0, math.MaxInt),
		numberInRange(c, flagMoveAfter, 0, 1000),
		numberInRange(c, flagQuarantineAfter, 0, 100),
		inRange(c, flagQuarantineWindow, time.Second, 24*time.Hour),
		checkConfig(c, cfg),
	)
	if err != nil {
		return nil, err
	}
	timeout := c.Duration(flagHandlerTimeout)
	cfg.HandleTimeout, cfg.TerminateTimeout = timeout, timeout
	cfg.HandleConcurrency = c.Int(flagHandleConcurrency)
	cfg.TerminateConcurrency = cfg.HandleConcurrency
	cfg.HandleAttempts = c.Int(flagHandleAttempts)
	cfg.MoveAfter = c.Int(flagMoveAfter)
	if cfg.QuarantineAfter = c.Int(flagQuarantineAfter); cfg.QuarantineAfter == 0 {
		cfg.QuarantineAfter = drm.NeverQuarantine
	}
	cfg.QuarantineWindow = c.Duration(flagQuarantineWindow)
	err = either(c, flagOutagePolicy, &cfg.OutagePolicy, policyStop, drm.StopOnOutage, policyKeep, drm.KeepOnOutage)
	if err != nil {
		return nil, err
	}
	err = either(c, flagTerminatePolicy, &cfg.TerminatePolicy,
		policyRelease, drm.ReleaseAnyway, policyHold, drm.HoldUntilTerminated)
	if err != nil {
		return nil, err
	}
	switch {
	case given(c, flagHandlerURL):
		return webhook(c, cfg, timeout)
	case given(c, flagHandlerExec):
		return execute(c, cfg, address)
	default:
		cfg.Handler = handler.NewPrinter(c.App.Writer)
		return func() {}, nil
	}
}

func webhook(c *cli.Context, cfg *drm.Config, timeout time.Duration) (done func(), err error) {
	header, err := headersOf(c, flagHandlerHeader)
	if err != nil {
		return nil, err
	}
	getTLS, err := openCertificates(c, handlerPEM, cfg.Logger)
	if err != nil {
		return nil, err
	}
	failing := failures.New(ofApp(cfg))
	h, err := handler.NewWebhook(handler.WebhookConfig{
		Checks: c.Bool(flagHandlerCheck),
		GetTLS: getTLS,
		URL:    c.String(flagHandlerURL),
		Header: header,
		// The request may take longer than the call, so that the member's own timeout is always the one that ends it.
		// Terminate follows a request that the member cut off, since the receiver may have begun; none follows a
		// request that merely failed.
		Timeout: min(timeout+5*time.Second, 24*time.Hour),
		OnNotifyError: func(err error) {
			failing.Add(failures.Failure{
				Message: "the receiver was not told of a failure", Level: zap.WarnLevel, Error: err.Error(),
			})
		},
	})
	if err != nil {
		return nil, renamed(err, map[string]string{"URL": flagHandlerURL, "Header": flagHandlerHeader})
	}
	cfg.Handler = h
	return func() {
		h.Close()
		failing.Close()
	}, nil
}

func execute(c *cli.Context, cfg *drm.Config, address string) (done func(), err error) {
	command, err := handler.ParseCommand(c.String(flagHandlerExec))
	if err != nil {
		return nil, renamed(err, map[string]string{"command": flagHandlerExec})
	}
	output, ok := map[string]handler.Output{
		execPrefix: handler.OutputPrefix, execRaw: handler.OutputRaw, execNone: handler.OutputNone,
	}[c.String(flagExecOutput)]
	if !ok {
		return nil, badFlag(flagExecOutput, c.String(flagExecOutput), "prefix, raw or none")
	}
	grace := c.Duration(flagHandlerGrace)
	failing := failures.New(ofApp(cfg))
	execConfig := handler.ExecConfig{
		Command: command, Grace: grace, Stdout: c.App.ErrWriter, Stderr: c.App.ErrWriter, Output: output,
		Agent:       address,
		ReapOrphans: true, // the agent starts no other processes than this and that of --ready-exec
		OnExit: func(claim drm.Claim, err error) {
			why := "exit status 0"
			if err != nil {
				why = err.Error()
			}
			failing.Add(failures.Failure{
				Message: "process ended by itself", Level: zap.WarnLevel, Resource: claim.Resource.ID, Error: why,
				Fields: []zap.Field{zap.Int64("token", claim.Token)},
			})
		},
		OnCheckError: func(claim drm.Claim, err error) {
			failing.Add(failures.Failure{
				Message: "cannot run --check-exec; what it would check counts as working", Level: zap.WarnLevel,
				Resource: claim.Resource.ID, Error: err.Error(),
			})
		},
	}
	if err := execState(c, &execConfig); err != nil {
		return nil, err
	}
	h, err := handler.NewExec(execConfig)
	if err != nil {
		return nil, renamed(err, map[string]string{
			"Command": flagHandlerExec, "Grace": flagHandlerGrace, "ReadyLine": flagExecReadyLine,
			"Check": flagCheckExec,
		})
	}
	cfg.Handler = h
	// A Terminate needs time for the grace, and for killing what did not end and waiting for it.
	cfg.TerminateTimeout = max(cfg.TerminateTimeout, grace+5*time.Second)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			cfg.Logger.Warn("processes left behind", zap.Error(err))
		}
		failing.Close()
	}, nil
}

// given reports whether a flag has a value that is neither empty nor false.
func given(c *cli.Context, flag string) bool {
	switch v := c.Value(flag).(type) {
	case bool:
		return v
	case string:
		return v != "" && c.IsSet(flag) // it may be a default
	default:
		return c.IsSet(flag)
	}
}

// exactlyOne returns an error unless exactly one of the flags is given.
func exactlyOne(c *cli.Context, what string, flags ...string) error {
	var some []string
	for _, f := range flags {
		if given(c, f) {
			some = append(some, givenBy(c, f))
		}
	}
	switch len(some) {
	case 1:
		return nil
	case 0:
		all := "--" + strings.Join(flags, ", --")
		return usagef("%s needs a %s: one of %s", c.Command.Name, what, all)
	default:
		return usagef("%s takes one %s, not %s together", c.Command.Name, what, strings.Join(some, " and "))
	}
}

// renamed turns an error of a constructor about a field into one about the flag that set the field.
func renamed(err error, flags map[string]string) error {
	var input *drm.InputError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &input):
		return &usageError{err}
	}
	for field, flag := range flags {
		if input.Field == field || strings.HasSuffix(input.Field, "."+field) {
			return badFlag(flag, input.Value, input.Want)
		}
	}
	return &usageError{err}
}

// ofApp returns the agent's log with those of the member's fields that are known before the member runs. It returns nil
// where the agent has no log.
func ofApp(cfg *drm.Config) *zap.Logger {
	if cfg.Logger == nil {
		return nil
	}
	return cfg.Logger.With(zap.String("app", cfg.App))
}
