package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/logqueue"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	flagLeaseTTL          = "lease-ttl"
	flagWeight            = "weight"
	flagShards            = "shards"
	flagAddress           = "address"
	flagHandleConcurrency = "handle-concurrency"
	flagHandleAttempts    = "handle-attempts"
	flagMoveAfter         = "move-after"
	flagQuarantineAfter   = "quarantine-after"
	flagQuarantineWindow  = "quarantine-window"
	flagTerminatePolicy   = "terminate-policy"
	flagOutagePolicy      = "outage-policy"
	flagStopTimeout       = "stop-timeout"
	flagResync            = "resync"
	flagStopOnEOF         = "stop-on-eof"
	flagSupervisor        = "supervisor"
)

// The values of --terminate-policy and --outage-policy.
const (
	policyRelease = "release"
	policyHold    = "hold"
	policyStop    = "stop"
	policyKeep    = "keep"
)

const agentDescription = `
Prints "ready" on stderr once it is a member, and runs until SIGINT or SIGTERM: it hands over what it
handles, and ends with exit code 0; or 1, if it had to leave claims behind: it says how many, and why.
They expire. A second signal ends it at once, with exit code 1; its claims
then expire. It ends with exit code 1 when it lost its job for good.

It needs one source (--source-url, --source-file, or --allocate-only for none) and one handler
(--handler-url, --handler-exec or --handler-log).

Examples:
   drmctl agent --app feeds --source-url https://example.org/feeds --handler-url http://127.0.0.1:9000/
   drmctl agent --app feeds --allocate-only --handler-exec './follow --verbose'
   drmctl agent --app feeds --source-file feeds.json --handler-log
`

func agentCommand() *cli.Command {
	return &cli.Command{
		Name:        "agent",
		Usage:       "run one member, which handles its share of the app's resources",
		Description: strings.TrimSpace(agentDescription),
		Flags: slices.Concat(
			memberFlags(), calmFlags(), balanceFlags(), sourceFlags(), handlerFlags(), budgetFlags(), readyFlags(),
		),
		Action: runAgent,
	}
}

// memberFlags are the flags that describe the member itself.
func memberFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagID, EnvVars: agentEnv(flagID),
			Usage: "the member's `ID`; one that is stable over restarts brings the same resources back to it " +
				"(default: the host's name, with a suffix where that is taken)",
		},
		&cli.DurationFlag{
			Name: flagLeaseTTL, EnvVars: agentEnv(flagLeaseTTL), Value: drm.DefaultLeaseTTL,
			Usage: "how long the member's claims outlive it when it dies: 1s to 10m, whole seconds",
		},
		&cli.IntFlag{
			Name: flagWeight, EnvVars: agentEnv(flagWeight), Value: 1,
			Usage: "the member's share of the resources, relative to the others': 1 to 1000",
		},
		&cli.StringFlag{
			Name: flagAddress, EnvVars: agentEnv(flagAddress),
			Usage: "an `ADDRESS` to show to those who list the members; means nothing to DRM " +
				"(default: the host's name)",
		},
		labelFlag(),
		&cli.IntFlag{
			Name: flagShards, EnvVars: agentEnv(flagShards), DefaultText: "1024 for a new app",
			Usage: "the number of shards of a new app: 1 to 4096",
		},
		&cli.DurationFlag{
			Name: flagStopTimeout, EnvVars: agentEnv(flagStopTimeout), Value: drm.DefaultStopTimeout,
			Usage: "how long a graceful stop may take: 1ms to 24h; what still runs then is left behind",
		},
		&cli.DurationFlag{
			Name: flagResync, EnvVars: agentEnv(flagResync), Value: drm.DefaultResyncInterval,
			Usage: "how long to go by etcd's watches alone before what the member owns is read again: 1s to 24h",
		},
		&cli.BoolFlag{
			Name: flagStopOnEOF, EnvVars: agentEnv(flagStopOnEOF),
			Usage: "stop as on SIGTERM when stdin ends: for a parent process that may die",
		},
		listenFlag(),
		&cli.StringFlag{
			Name: flagSupervisor, EnvVars: agentEnv(flagSupervisor),
			Usage: "the `ADDRESS` of the supervisor that starts this agent (drmctl run sets the variable), or none",
		},
	}
}

func runAgent(c *cli.Context) error {
	if err := errors.Join(noArguments(c), checkOutput(c)); err != nil {
		return err
	}
	logger, _, err := newLogger(c, zap.InfoLevel)
	if err != nil {
		return err
	}
	outliveReaders()
	// Nothing that an agent does may wait for the reader of its stderr, which may be a pipe that nobody reads.
	logger, lines := logqueue.Wrap(logger)
	defer lines.Close(lastWords)
	cfg := drm.Config{Logger: logger}
	api, err := listenAgent(c, &cfg)
	if err != nil {
		return err
	}
	defer api.close() // after the member: probes are answered until it has stopped
	closeHandler, err := agentConfig(c, &cfg, api.url())
	if err != nil {
		return err
	}
	defer closeHandler()
	defer watchCertificates(c)()
	growHeap()
	ctx := c.Context
	if c.Bool(flagStopOnEOF) {
		ctx = untilEOF(ctx, c.App.Reader)
	}
	out := lines.Writer(c.App.ErrWriter)
	api.serve(out)
	return runMember(ctx, c, cfg, out)
}

// runMember starts a member, prints "ready" on out once it has started, and stops it when ctx ends.
func runMember(ctx context.Context, c *cli.Context, cfg drm.Config, out io.Writer) error {
	// A signal ends the start. It does not end a member that has started: Stop does that.
	starting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	started := context.AfterFunc(ctx, cancel)
	m, err := drm.Start(starting, cfg)
	if err != nil {
		if ctx.Err() != nil {
			cfg.Logger.Info("interrupted before the member had started", zap.Error(err))
			return nil
		}
		return flagsOf(withGrant(c, drm.DiagnoseMember, err), c)
	}
	started()
	fmt.Fprintf(out, "ready: member %s of app %s\n", m.ID(), cfg.App)

	select {
	case <-ctx.Done():
		cfg.Logger.Info("stopping", zap.Duration("timeout", cfg.StopTimeout))
		// Stop returns within StopTimeout by itself. The context ends it if it does not.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.StopTimeout+10*time.Second)
		defer cancel()
		return m.Stop(stopping)
	case <-m.Done():
		if err := m.Err(); err != nil {
			return fmt.Errorf("member %s ended: %w", m.ID(), err)
		}
		return fmt.Errorf("member %s ended by itself", m.ID())
	}
}

// agentConfig makes the config of a member from the flags. address is where the agent answers HTTP requests; "" if it
// does not. The caller calls done once the member has ended; it releases what the handler uses.
func agentConfig(c *cli.Context, cfg *drm.Config, address string) (done func(), err error) {
	if cfg.App, err = appName(c); err != nil {
		return nil, err
	}
	cfg.Prefix = c.String(flagPrefix)
	if cfg.Etcd, err = etcdConfig(c, cfg.Logger); err != nil {
		return nil, err
	}
	if err := memberConfig(c, cfg); err != nil {
		return nil, err
	}
	if err := errors.Join(calmConfig(c, cfg), balanceConfig(c, cfg)); err != nil {
		return nil, err
	}
	if err := sourceConfig(c, cfg); err != nil {
		return nil, err
	}
	if err := budgetConfig(c, cfg); err != nil {
		return nil, err
	}
	closeHandler, err := handlerConfig(c, cfg, address)
	if err != nil {
		return nil, err
	}
	closeReady, err := readyConfig(c, cfg)
	if err != nil {
		closeHandler()
		return nil, err
	}
	return func() { closeReady(); closeHandler() }, nil
}

// memberConfig sets what the flags say of the member itself. It refuses values that the library takes for "the
// default", since a user who types 0 means 0.
func memberConfig(c *cli.Context, cfg *drm.Config) error {
	cfg.ID = c.String(flagID)
	if c.IsSet(flagID) {
		if err := keys.CheckID(cfg.ID); err != nil {
			return badFlag(flagID, cfg.ID, err.Error())
		}
	}
	cfg.Address = c.String(flagAddress)
	cfg.LeaseTTL = c.Duration(flagLeaseTTL)
	cfg.Weight = c.Int(flagWeight)
	cfg.Shards = c.Int(flagShards)
	cfg.StopTimeout = c.Duration(flagStopTimeout)
	cfg.ResyncInterval = c.Duration(flagResync)
	var err error
	cfg.Labels, err = labelsOf(c)
	cfg.Supervisor = c.String(flagSupervisor)
	return errors.Join(
		err,
		inRange(c, flagLeaseTTL, time.Second, 10*time.Minute),
		numberInRange(c, flagWeight, 1, membership.MaxWeight),
		numberInRange(c, flagShards, 1, keys.MaxShards),
		inRange(c, flagStopTimeout, time.Millisecond, 24*time.Hour),
		inRange(c, flagResync, time.Second, 24*time.Hour),
	)
}

// untilEOF returns a context that ends with parent, or when r ends. Its goroutine ends with r.
func untilEOF(parent context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, r) // an error ends r, too
	}()
	return ctx
}
