package main

import (
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

const (
	flagSourceCache  = "source-cache"
	flagSourceRetry  = "source-retry"
	flagSourcePolicy = "source-policy"
	flagSourceStrict = "source-strict"
	flagSourceGone   = "source-gone"
	flagSourceMethod = "source-method"
	flagSourceBody   = "source-body"
	flagSourceCACert = "source-cacert"
	flagSourceCert   = "source-cert"
	flagSourceKey    = "source-key"
)

// sourcePEM are the flags that name the certificates for --source-url.
var sourcePEM = pemFlags{ca: flagSourceCACert, cert: flagSourceCert, key: flagSourceKey, of: "source"}

// Values of --source-retry, --source-gone and --source-policy. The last of these also takes policyKeep.
const (
	policyExit = "exit"
)

// sourceOptionFlags are the flags that say how the source is asked, and what follows when it fails.
func sourceOptionFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{
			Name: flagSourceCache, EnvVars: agentEnv(flagSourceCache),
			Usage: "do not ask the source again because members came or went",
		},
		&cli.StringFlag{
			Name: flagSourceRetry, EnvVars: agentEnv(flagSourceRetry), Value: drm.DefaultFetchRetryBudget.String(),
			Usage: "for how long a source that fails is asked again before it counts as failed: " +
				"`DURATION|forever`, 1ms to 24h",
		},
		&cli.StringFlag{
			Name: flagSourcePolicy, EnvVars: agentEnv(flagSourcePolicy), Value: policyKeep,
			Usage: "what a source that failed for all of --source-retry means, after the first answer: `keep|exit` " +
				"(keep: go on with what it answered last; exit: end the member, in order, with exit code 1)",
		},
		&cli.BoolFlag{
			Name: flagSourceStrict, EnvVars: agentEnv(flagSourceStrict),
			Usage: "refuse all of an answer that has bad items (no id, one id twice and the like); " +
				"by default what is good is taken, and status tells of the others",
		},
		&cli.StringFlag{
			Name: flagSourceGone, EnvVars: agentEnv(flagSourceGone), Value: drm.DefaultSourceGone.String(),
			Usage: "for how long there may be no member with a source before what it left is forgotten, and removed " +
				"where nobody else wants it: `DURATION|forever`, 1s to 8760h; goes with --allocate-only too",
		},
		&cli.StringFlag{
			Name: flagSourceMethod, EnvVars: agentEnv(flagSourceMethod), Value: "GET",
			Usage: "the HTTP `METHOD` that --source-url is asked with",
		},
		&cli.StringFlag{
			Name: flagSourceBody, EnvVars: agentEnv(flagSourceBody), DefaultText: "none",
			Usage: "send this `BODY` with each request to --source-url; @FILE: what is in the file",
		},
	}, sourcePEM.agentFlags(flagSourceURL)...)
}

// sourceOptions sets the options that every kind of source has.
func sourceOptions(c *cli.Context, cfg *drm.Config) (err error) {
	if cfg.SourceGone, err = durationOrForever(c, flagSourceGone, time.Second, 365*24*time.Hour); err != nil {
		return err
	}
	if given(c, flagAllocateOnly) {
		return nil
	}
	if err := removalOptions(c, cfg); err != nil {
		return err
	}
	cfg.CacheResources, cfg.SourceStrict = c.Bool(flagSourceCache), c.Bool(flagSourceStrict)
	if cfg.FetchRetryBudget, err = durationOrForever(c, flagSourceRetry, time.Millisecond, 24*time.Hour); err != nil {
		return err
	}
	return either(c, flagSourcePolicy, &cfg.SourcePolicy,
		policyKeep, drm.KeepCatalogue, policyExit, drm.ExitOnSourceError)
}

// httpOptions sets the options of a source over HTTP.
func httpOptions(c *cli.Context, cfg *retriever.HTTPConfig, log *zap.Logger) (err error) {
	cfg.Method = c.String(flagSourceMethod)
	if cfg.Body, err = sourceBody(c); err != nil {
		return err
	}
	cfg.GetTLS, err = openCertificates(c, sourcePEM, log)
	return err
}

// sourceBody returns the body that --source-body gives. It may be a secret, so no error shows it.
func sourceBody(c *cli.Context) ([]byte, error) {
	text := c.String(flagSourceBody)
	path, isFile := strings.CutPrefix(text, "@")
	if !isFile {
		return []byte(text), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("--%s: %w", flagSourceBody, err)
	}
	defer func() { _ = f.Close() }() // the file was only read, so an error loses nothing
	return readBounded(f, flagSourceBody, path)
}
