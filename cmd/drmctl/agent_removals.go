package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagMaxRemovals   = "max-removals"
	flagRemovalDelay  = "removal-delay"
	flagRemovalPolicy = "removal-policy"
)

// policyConfirm is a value of --removal-policy. The other one is policyHold.
const policyConfirm = "confirm"

// removalFlags are the flags about resources that the source no longer has.
func removalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagMaxRemovals, EnvVars: agentEnv(flagMaxRemovals),
			Value: removalLimit(drm.DefaultRemovalShare, drm.DefaultRemovalMoreThan),
			Usage: "doubt an answer of the source that lacks more than a share of what it had, " +
				"if that were more than a number: `SHARE%[/NUMBER]`, 0.01% to 100%, 1 to 1000000; " +
				"an empty one is doubted always, and with 100% no other",
		},
		&cli.DurationFlag{
			Name: flagRemovalDelay, EnvVars: agentEnv(flagRemovalDelay), Value: drm.DefaultRemovalDelay,
			Usage: "how long after a doubted answer another one may confirm it, at least --poll: 1ms to 24h",
		},
		&cli.StringFlag{
			Name: flagRemovalPolicy, EnvVars: agentEnv(flagRemovalPolicy), Value: policyConfirm,
			Usage: "what confirms a doubted answer: `confirm|hold` (confirm: another answer, --removal-delay later; " +
				"hold: only drmctl source accept)",
		},
	}
}

func removalLimit(share float64, moreThan int) string {
	return fmt.Sprintf("%s%%/%d", strconv.FormatFloat(share*100, 'f', -1, 64), moreThan)
}

// removalOptions sets the options that the flags of removalFlags describe.
func removalOptions(c *cli.Context, cfg *drm.Config) (err error) {
	if cfg.MaxRemovals, err = maxRemovals(c); err != nil {
		return err
	}
	if err := inRange(c, flagRemovalDelay, time.Millisecond, 24*time.Hour); err != nil {
		return err
	}
	cfg.RemovalDelay = c.Duration(flagRemovalDelay)
	return either(c, flagRemovalPolicy, &cfg.RemovalPolicy,
		policyConfirm, drm.ConfirmRemovals, policyHold, drm.HoldRemovals)
}

func maxRemovals(c *cli.Context) (limit drm.RemovalLimit, err error) {
	text := c.String(flagMaxRemovals)
	bad := func() (drm.RemovalLimit, error) {
		const want = "a share and a number such as 20%/10, or a share: 0.01% to 100%, 1 to 1000000"
		return limit, badFlag(flagMaxRemovals, text, want)
	}
	share, number, hasNumber := strings.Cut(text, "/")
	percent, isPercent := strings.CutSuffix(share, "%")
	p, err := strconv.ParseFloat(percent, 64)
	if err != nil || !isPercent || !(p >= 0.01 && p <= 100) {
		return bad()
	}
	limit.Share = max(p/100, 0.0001)
	if hasNumber {
		if limit.MoreThan, err = strconv.Atoi(number); err != nil || limit.MoreThan < 1 || limit.MoreThan > 1_000_000 {
			return bad()
		}
	}
	return limit, nil
}
