package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// withClient runs do with a client of the app. Connecting and do together may take the command timeout; ctx ends then,
// and inTime explains the error.
func withClient(c *cli.Context, do func(ctx context.Context, client *drm.Client) error) error {
	return withClientOf(c, drm.ClientConfig{}, do)
}

// withApp is withClient for an app that must exist, with drm.ErrNoApp otherwise: whoever has mistyped its name should
// not take an empty list for an answer.
func withApp(c *cli.Context, do func(ctx context.Context, client *drm.Client) error) error {
	return withClient(c, func(ctx context.Context, client *drm.Client) error {
		there, err := client.Exists(ctx)
		switch {
		case err != nil:
			return err
		case !there:
			return fmt.Errorf("%w %q at prefix %q", drm.ErrNoApp, c.String(flagApp), c.String(flagPrefix))
		}
		return do(ctx, client)
	})
}

// withClientOf is withClient for a config that sets more than the global flags do.
func withClientOf(c *cli.Context, cfg drm.ClientConfig, do func(ctx context.Context, client *drm.Client) error) error {
	if err := checkOutput(c); err != nil {
		return err
	}
	if cfg.App == "" {
		app, err := appName(c)
		if err != nil {
			return err
		}
		cfg.App = app
	}
	var said drm.OrderOptions
	if spellings(c.Command.Flags)[flagBy] != nil {
		var err error
		if said, err = orderOptions(c); err != nil {
			return err
		}
	}
	etcd, err := etcdConfig(c, nil)
	if err != nil {
		return err
	}
	etcd.DialTimeout = min(etcd.DialTimeout, etcd.CommandTimeout)
	ctx, cancel := context.WithTimeout(c.Context, etcd.CommandTimeout)
	defer cancel()

	// The dial timeout bounds this. The longer time leaves room to find out why nobody answered.
	dialing, dialed := context.WithTimeout(c.Context, 2*etcd.DialTimeout+time.Second)
	defer dialed()
	cfg.Prefix, cfg.Etcd = c.String(flagPrefix), etcd
	client, err := drm.NewClient(dialing, cfg)
	if err != nil {
		return flagsOf(withGrant(c, drm.DiagnoseReader, err), c)
	}
	as, err := client.As(said.By, said.Why)
	if err == nil {
		err = do(ctx, as)
	}
	err = withGrant(c, drm.DiagnoseReader, inTime(ctx, c, err))
	if errors.Is(err, drm.ErrNoApp) {
		if hint := nearestApp(ctx, c, client); hint != "" {
			err = alsoHinted(err, strings.TrimPrefix(hint, "; "))
		}
	}
	return errors.Join(whereListed(c, err), client.Close())
}

// inTime explains an error that a timeout caused: etcd was gone, which is an ErrUnreachable, or it answered and was too
// slow. ctx is the context of the command, which began with the first answer of etcd.
func inTime(ctx context.Context, c *cli.Context, err error) error {
	passed := errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil
	if err == nil || !passed && !reach.IsSlow(err) {
		return err
	}
	limit := c.Duration(flagCommandTimeout)
	why := reach.ReasonOf(err)
	switch {
	case why == nil || why.Slow:
		return &slowError{limit}
	case errors.Is(err, drm.ErrUnreachable):
		return err
	default:
		return fmt.Errorf("%w: no answer within %s: %w", drm.ErrUnreachable, limit, why)
	}
}

// slowError says that a command did not end in time, although etcd answers. It is no ErrUnreachable.
type slowError struct{ limit time.Duration }

func (e *slowError) Error() string {
	return fmt.Sprintf("it took longer than --%s (%s), although etcd answers", flagCommandTimeout, e.limit)
}

// appName is the app that a command is about.
func appName(c *cli.Context) (string, error) {
	app := c.String(flagApp)
	if app == "" {
		return "", usagef("--%s is required (or DRM_APP in the environment)", flagApp)
	}
	if err := keys.CheckID(app); err != nil {
		return "", badFlag(flagApp, app, err.Error())
	}
	return app, nil
}

// etcdTimeouts is the part of the etcd config that the global flags set for every etcd.
func etcdTimeouts(c *cli.Context) (drm.EtcdConfig, error) {
	cfg := drm.EtcdConfig{
		DialTimeout:    c.Duration(flagDialTimeout),
		CommandTimeout: c.Duration(flagCommandTimeout),
	}
	for _, name := range []string{flagDialTimeout, flagCommandTimeout} {
		if d := c.Duration(name); d < time.Millisecond || d > 10*time.Minute {
			return cfg, badFlag(name, d.String(), "1ms to 10m")
		}
	}
	return cfg, nil
}

// etcdConfig is the etcd config that the global flags describe. Warnings about the certificates go to log, or to stderr
// where log is nil.
func etcdConfig(c *cli.Context, log *zap.Logger) (drm.EtcdConfig, error) {
	cfg, err := etcdConfigUnchecked(c, log)
	if err != nil {
		return cfg, err
	}
	var bad *reach.EndpointError
	if errors.As(reach.CheckEndpoints(cfg.Endpoints, cfg.GetTLS != nil), &bad) {
		return cfg, badFlag(flagEndpoints, bad.Endpoint, bad.Want)
	}
	return cfg, nil
}

// etcdConfigUnchecked is etcdConfig for a command that says itself what is wrong with the endpoints.
func etcdConfigUnchecked(c *cli.Context, log *zap.Logger) (drm.EtcdConfig, error) {
	cfg, err := etcdTimeouts(c)
	if err != nil {
		return cfg, err
	}
	for e := range strings.SplitSeq(c.String(flagEndpoints), ",") {
		if e = strings.TrimSpace(e); e != "" {
			cfg.Endpoints = append(cfg.Endpoints, e)
		}
	}
	if len(cfg.Endpoints) == 0 {
		return cfg, badFlag(flagEndpoints, c.String(flagEndpoints),
			"HOST:PORT or a URL, or several with commas between")
	}
	if cfg.Username, cfg.Password, err = credentials(c); err != nil {
		return cfg, err
	}
	cfg.GetTLS, err = openCertificates(c, pemFlags{ca: flagCACert, cert: flagCert, key: flagKey, of: "etcd"}, log)
	return cfg, err
}

// credentials returns the user and password that the flags or the environment give. No error shows the password. A
// password in the environment is ignored where no user is given.
func credentials(c *cli.Context) (user, password string, err error) {
	user, inUser, both := strings.Cut(c.String(flagUser), ":")
	password = c.String(flagPassword)
	switch {
	case both && password != "" && password != inUser && typed(c, flagUser) == typed(c, flagPassword):
		return "", "", usagef("%s and %s give a password each: give one",
			givenBy(c, flagUser), givenBy(c, flagPassword))
	case both && !typed(c, flagPassword):
		password = inUser
	}
	switch {
	case user == "" && (both || typed(c, flagPassword) && password != ""):
		return "", "", usagef("a password needs a user: --%s NAME (or DRM_USER in the environment)", flagUser)
	case user == "":
		return "", "", nil
	case password == "":
		return "", "", usagef("%s: %q needs a password: NAME:PASSWORD, or DRM_PASSWORD in the environment",
			givenBy(c, flagUser), user)
	}
	return user, password, nil
}

// flagsOf turns an error of the library about a config field into one about the flag that set the field.
func flagsOf(err error, c *cli.Context) error {
	var input *drm.InputError
	if !errors.As(err, &input) {
		return err
	}
	flag := flagOfField(input.Field)
	if flag == "" || !spelled(c, flag) {
		return err
	}
	return badFlag(flag, input.Value, input.Want)
}

// flagOfField is the flag that sets a field of drm.Config: LeaseTTL is --lease-ttl. It is empty for anything that is
// not such a field, such as an item of a source.
func flagOfField(field string) string {
	field = strings.TrimPrefix(strings.TrimPrefix(field, "Config."), "Etcd.")
	switch field {
	case "PollInterval":
		return flagPoll
	case "FetchTimeout":
		return flagSourceTimeout
	case "FetchRetryBudget":
		return flagSourceRetry
	case "CacheResources":
		return flagSourceCache
	case "Username":
		return flagUser
	case "TLS", "GetTLS":
		return flagCACert
	}
	if field == "" || field[0] < 'A' || field[0] > 'Z' {
		return ""
	}
	var kebab strings.Builder
	for i := range len(field) {
		ch := field[i]
		upper := ch >= 'A' && ch <= 'Z'
		lowerBefore := i > 0 && (field[i-1] < 'A' || field[i-1] > 'Z')
		if upper && lowerBefore {
			kebab.WriteByte('-')
		}
		kebab.WriteString(strings.ToLower(string(ch)))
	}
	return kebab.String()
}

// spelled reports whether the command, or drmctl, has a flag of that name.
func spelled(c *cli.Context, flag string) bool {
	return spellings(c.Command.Flags)[flag] != nil || spellings(c.App.Flags)[flag] != nil
}
