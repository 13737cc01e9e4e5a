package main

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	flagDoctorOnly    = "only"
	flagDoctorSkip    = "skip"
	flagFailOn        = "fail-on"
	flagDoctorAs      = "as"
	flagDoctorTimeout = "timeout"
)

const doctorDescription = `
It changes nothing in etcd. What the user may not know is skipped, and so is what depends on a check that has failed.
Without --app, what is about an app is skipped, and permissions are asked for all of --prefix.
Each check has a code; docs/doctor.md tells what it means. Exit code 1 if a check fails, or, with --fail-on warn,
warns.

Examples:
   drmctl doctor --endpoints etcd-1:2379
   drmctl --app feeds doctor --as member
   drmctl --app feeds doctor --only tls,permissions -o json
`

func doctorCommand() *cli.Command {
	const name = "doctor"
	all := strings.Join(drm.DiagnoseCategories(), ", ")
	return &cli.Command{
		Name:        name,
		Usage:       "look for what is wrong between this machine, etcd and the app, and say what to do about it",
		Description: strings.TrimSpace(doctorDescription),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: flagDoctorOnly, EnvVars: commandEnv(name, flagDoctorOnly),
				Usage: "check these `CATEGORIES` only, separated by commas: " + all +
					"; what they need is shown only where it fails",
			},
			&cli.StringFlag{
				Name: flagDoctorSkip, EnvVars: commandEnv(name, flagDoctorSkip),
				Usage: "leave out these `CATEGORIES`, separated by commas",
			},
			&cli.StringFlag{
				Name: flagFailOn, EnvVars: commandEnv(name, flagFailOn), Value: string(drm.CheckFail),
				Usage: "the `RESULT` that makes the exit code 1: fail, or warn for both",
			},
			&cli.StringFlag{
				Name: flagDoctorAs, EnvVars: commandEnv(name, flagDoctorAs), Value: string(drm.DiagnoseReader),
				Usage: "the `ROLE` for which permissions must suffice: reader, operator or member",
			},
			&cli.DurationFlag{
				Name: flagDoctorTimeout, EnvVars: commandEnv(name, flagDoctorTimeout),
				Value: drm.DefaultDiagnoseTimeout,
				Usage: "how long all checks may take together, 1ms to 1h; each takes --" + flagCommandTimeout +
					" at most",
			},
		},
		Action: doctorAction,
	}
}

func doctorAction(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	cfg, err := doctorConfig(c)
	if err != nil {
		return err
	}
	checks, err := drm.Diagnose(c.Context, cfg)
	if err != nil {
		return flagsOf(err, c)
	}
	limit := []drm.CheckResult{drm.CheckFail}
	if c.String(flagFailOn) == string(drm.CheckWarn) {
		limit = append(limit, drm.CheckWarn)
	}
	var bad []string
	err = checkView().List(printer(c), heard(checks, func(check drm.Check) {
		if slices.Contains(limit, check.Result) && !slices.Contains(bad, check.Code) {
			bad = append(bad, check.Code)
		}
		if formatOf(c) == output.Table && check.Action != "" {
			note(c, "%s: %s%s; %s", check.Code, endpointWords(check), check.Summary, check.Action)
		}
	}))
	switch {
	case err != nil:
		return err
	case c.Context.Err() != nil:
		return c.Context.Err()
	case len(bad) > 0:
		return fmt.Errorf("not as it should be: %s; docs/doctor.md tells what each code means", strings.Join(bad, ", "))
	}
	return nil
}

// doctorConfig is what the flags describe.
func doctorConfig(c *cli.Context) (drm.DiagnoseConfig, error) {
	cfg := drm.DiagnoseConfig{
		App: c.String(flagApp), Prefix: c.String(flagPrefix), As: drm.DiagnoseRole(c.String(flagDoctorAs)),
		Only: listed(c.String(flagDoctorOnly)), Skip: listed(c.String(flagDoctorSkip)),
		Timeout: c.Duration(flagDoctorTimeout),
	}
	if f := c.String(flagFailOn); f != string(drm.CheckFail) && f != string(drm.CheckWarn) {
		return cfg, badFlag(flagFailOn, f, "warn or fail")
	}
	if err := inRange(c, flagDoctorTimeout, time.Millisecond, time.Hour); err != nil {
		return cfg, err
	}
	if cfg.App != "" {
		if err := keys.CheckID(cfg.App); err != nil {
			return cfg, badFlag(flagApp, cfg.App, err.Error())
		}
	}
	var err error
	cfg.Etcd, err = etcdConfigUnchecked(c, nil)
	return cfg, err
}

// listed splits a list at its commas.
func listed(text string) []string {
	var all []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// heard makes of checks what can be listed, and calls hear with each.
func heard(checks iter.Seq[drm.Check], hear func(drm.Check)) iter.Seq2[drm.Check, error] {
	return func(yield func(drm.Check, error) bool) {
		for check := range checks {
			hear(check)
			if !yield(check, nil) {
				return
			}
		}
	}
}

// endpointWords begin a sentence about a check of an endpoint.
func endpointWords(check drm.Check) string {
	if check.Endpoint == "" {
		return ""
	}
	return check.Endpoint + ": "
}

// checkJSON is part of the JSON contract.
type checkJSON struct {
	Code     string  `json:"code"`
	Category string  `json:"category"`
	Name     string  `json:"name"`
	Endpoint string  `json:"endpoint"`
	Result   string  `json:"result"`
	Summary  string  `json:"summary"`
	Action   string  `json:"action"`
	TookMS   float64 `json:"took_ms"`
}

func checkView() output.View[drm.Check] {
	return output.View[drm.Check]{
		Columns: []output.Column[drm.Check]{
			{Title: "RESULT", Cell: func(k drm.Check) any { return toned(k.Result) }, Whole: true},
			{Title: "CODE", Cell: func(k drm.Check) any { return k.Code }, Whole: true},
			{Title: "CATEGORY", Cell: func(k drm.Check) any { return k.Category }, Whole: true},
			{Title: "CHECK", Cell: func(k drm.Check) any { return k.Name }, Whole: true},
			{Title: "ENDPOINT", Cell: func(k drm.Check) any { return k.Endpoint }},
			{Title: "SUMMARY", Cell: func(k drm.Check) any { return k.Summary }},
			{Title: "ACTION", Cell: func(k drm.Check) any { return k.Action }, Wide: true},
			{Title: "TOOK", Cell: func(k drm.Check) any { return k.Took.Round(10 * time.Microsecond) }, Wide: true},
		},
		Object: func(k drm.Check) any {
			return checkJSON{
				k.Code, k.Category, k.Name, k.Endpoint, string(k.Result), k.Summary, k.Action,
				float64(k.Took.Microseconds()) / 1000,
			}
		},
		Name: func(k drm.Check) string { return k.Code },
	}
}
