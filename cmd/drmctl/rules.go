package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/internal/reach"
)

// need says that a flag means nothing without one of some others.
type need struct {
	flag   string
	others []string
}

// needs lists, for each command, the flags that mean nothing without certain others. Such a flag on the command line
// without any of them is a usage error. In the environment, which serves many commands, it is ignored.
var needs = map[string][]need{
	"agent": {
		{flagSourceHeader, []string{flagSourceURL}},
		{flagSourceMethod, []string{flagSourceURL}},
		{flagSourceBody, []string{flagSourceURL}},
		{flagSourceCACert, []string{flagSourceURL}},
		{flagSourceCert, []string{flagSourceURL}},
		{flagSourceKey, []string{flagSourceURL}},
		{flagSourceNumberIDs, []string{flagSourceURL, flagSourceFile}},
		{flagSourceTimeout, []string{flagSourceURL, flagSourceFile}},
		{flagSourceCache, []string{flagSourceURL, flagSourceFile}},
		{flagSourceRetry, []string{flagSourceURL, flagSourceFile}},
		{flagSourcePolicy, []string{flagSourceURL, flagSourceFile}},
		{flagSourceStrict, []string{flagSourceURL, flagSourceFile}},
		{flagMaxRemovals, []string{flagSourceURL, flagSourceFile}},
		{flagRemovalDelay, []string{flagSourceURL, flagSourceFile}},
		{flagRemovalPolicy, []string{flagSourceURL, flagSourceFile}},
		{flagPoll, []string{flagSourceURL, flagSourceFile}},
		{flagHandlerHeader, []string{flagHandlerURL}},
		{flagHandlerCACert, []string{flagHandlerURL, flagReadyURL}},
		{flagHandlerCert, []string{flagHandlerURL, flagReadyURL}},
		{flagHandlerKey, []string{flagHandlerURL, flagReadyURL}},
		{flagReadyAfter, []string{flagReadyURL, flagReadyExec}},
		{flagHandlerGrace, []string{flagHandlerExec}},
		{flagExecOutput, []string{flagHandlerExec}},
		{flagExecReadyLine, []string{flagHandlerExec}},
		{flagExecNotify, []string{flagHandlerExec}},
		{flagExecStoppedTimeout, []string{flagHandlerExec}},
		{flagCheckExec, []string{flagHandlerExec}},
		{flagHandlerCheck, []string{flagHandlerURL}},
		{flagCheckInterval, []string{flagHandlerCheck, flagCheckExec}},
		{flagCheckTimeout, []string{flagHandlerCheck, flagCheckExec}},
		{flagCheckFailures, []string{flagHandlerCheck, flagCheckExec}},
		{flagCheckConcurrency, []string{flagHandlerCheck, flagCheckExec}},
		{flagKeyRate, []string{flagBudgetKey}},
		{flagBudgetKey, []string{flagKeyRate}},
	},
	"allocate":   {{flagWaitTimeout, []string{flagWait}}},
	"deallocate": {{flagWaitTimeout, []string{flagWait}}},
	"drain":      {{flagWaitTimeout, []string{flagWait}}},
	"undrain":    {{flagWaitTimeout, []string{flagWait}}},
	"move":       {{flagWaitTimeout, []string{flagWait}}},
	"rebalance":  {{flagWaitTimeout, []string{flagWait}}},
	"retry":      {{flagWaitTimeout, []string{flagWait}}},
	"reshard":    {{flagWaitTimeout, []string{flagWait}}},
	"resume":     {{flagWaitTimeout, []string{flagWait}}},
	"suspend":    {{flagWaitTimeout, []string{flagWait}}},

	"source accept": {{flagWaitTimeout, []string{flagWait}}},
	"source fetch":  {{flagWaitTimeout, []string{flagWait}}},
	"fetch":         {{flagWaitTimeout, []string{flagWait}}},

	"verify": {{flagEvery, []string{flagWatch}}},
	"status": {
		{flagEvery, []string{flagWatch}},
		{flagWarn, []string{flagCheck}},
		{flagSettle, []string{flagCheck}},
	},
	"bench": { // bench starts an etcd of its own where --endpoints is not given
		{flagCACert, []string{flagEndpoints}},
		{flagCert, []string{flagEndpoints}},
		{flagKey, []string{flagEndpoints}},
		{flagUser, []string{flagEndpoints}},
		{flagPassword, []string{flagEndpoints}},
	},
}

// rivals lists, for each command, sets of flags of which at most one may be chosen. Where one stands on the command
// line, the variables of all others are ignored, and its own variable too. Variables that contradict each other are a
// usage error.
var rivals = map[string][][]string{
	"agent": {
		{flagSourceURL, flagSourceFile, flagAllocateOnly},
		{flagHandlerURL, flagHandlerExec, flagHandlerLog},
		{flagReadyURL, flagReadyExec},
	},
	"status": {{flagCheck, flagWatch}},
	"assignments": {
		{flagUnassigned, flagFailed},
		{flagUnassigned, flagMember},
		{flagUnassigned, flagMisplaced},
		{flagUnassigned, flagState},
		{flagFailed, flagState},
	},
	"retry": {{flagAllFailed, flagAllQuarantined}},
}

// clash says that some flags mean nothing beside another one.
type clash struct {
	flag   string
	others []string
}

// clashes lists, for each command, the flags that mean nothing beside a certain other one. To give such a flag on the
// command line is a usage error: whoever does expects something that will not happen. In the environment, which serves
// many commands, it is ignored.
var clashes = map[string][]clash{
	"explain": {{flagWatch, []string{flagAt}}}, // the past does not change
	"weight":  {{flagReset, []string{flagAtOnce, flagForce, flagAbsent, flagIfRevision}}},

	"drain":     {{flagDryRun, []string{flagWait}}},
	"move":      {{flagDryRun, []string{flagWait, flagYes}}},
	"pin":       {{flagDryRun, []string{flagYes}}},
	"rebalance": {{flagDryRun, []string{flagWait}}},
}

// checkRules returns a function that runs before a command, and refuses flags that lack the ones they need, or mean
// nothing beside another one.
func checkRules(command string) cli.BeforeFunc {
	return func(c *cli.Context) error {
		err := oneForm(c, command)
		for _, n := range needs[command] {
			err = errors.Join(err, onlyWith(c, n.flag, n.others...))
		}
		for _, x := range clashes[command] {
			err = errors.Join(err, notBeside(c, x.flag, x.others...))
		}
		return err
	}
}

// oneForm refuses --output on the command line of a command that prints no result: whoever asks for a format would not
// get it. A dump is JSON, and says so itself; what completes a command line is given the line as the user has it.
func oneForm(c *cli.Context, command string) error {
	if !typed(c, flagOutput) || !slices.Contains(unprinted(), command) || command == "dump" || c.Command.Hidden {
		return nil
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	return usagef("--%s does not go with %s, which prints in one form only: leave it out", flagOutput, command)
}

// notBeside refuses each of some flags that is chosen on the command line beside one that takes the meaning from it.
func notBeside(c *cli.Context, flag string, others ...string) error {
	var err error
	for _, other := range others {
		if given(c, flag) && typedAndChosen(c, other) {
			err = errors.Join(err, usagef("--%s does not go with %s", other, givenBy(c, flag)))
		}
	}
	return err
}

// onlyWith refuses a flag on the command line that stands there without any of the others. It accepts a flag that only
// the environment sets, since the environment serves many commands.
func onlyWith(c *cli.Context, flag string, others ...string) error {
	if !typed(c, flag) || slices.ContainsFunc(others, func(o string) bool { return given(c, o) }) {
		return nil
	}
	return usagef("--%s goes with --%s only", flag, strings.Join(others, " or --"))
}

// forgetOverruled removes the variables that a flag on the command line overrules: its own, so that an invalid value
// there does not matter, and those of its rivals.
func forgetOverruled(app *cli.App, path []*cli.Command) {
	onCommandLine, _ := app.Metadata[metaTyped].(map[string]string)
	overruled := make(map[string]bool)
	for name := range onCommandLine {
		overruled[name] = true
	}
	for _, set := range rivals[strings.Join(namesOf(path), " ")] {
		if !slices.ContainsFunc(set, func(name string) bool { return chosen(onCommandLine, name) }) {
			continue
		}
		for _, name := range set {
			overruled[name] = true
		}
	}
	if endpoints := onCommandLine[flagEndpoints]; endpoints != "" && allInTheClear(endpoints) {
		overruled[flagCACert], overruled[flagCert], overruled[flagKey] = true, true, true
	}
	flags := slices.Clone(app.Flags)
	for _, c := range path {
		flags = append(flags, c.Flags...)
	}
	for _, f := range flags {
		names := envVars(f)
		if names != nil && slices.ContainsFunc(f.Names(), func(n string) bool { return overruled[n] }) {
			*names = nil
		}
	}
}

// chosen reports whether a flag stands on the command line with a value that is neither empty nor false.
func chosen(onCommandLine map[string]string, name string) bool {
	value, ok := onCommandLine[name]
	return ok && value != "" && value != "false"
}

// typedAndChosen reports whether a flag stands on the command line with a value that is neither empty nor false.
func typedAndChosen(c *cli.Context, flag string) bool {
	onCommandLine, _ := c.App.Metadata[metaTyped].(map[string]string)
	return chosen(onCommandLine, flag)
}

// allInTheClear reports whether all endpoints say that connections are without TLS.
func allInTheClear(endpoints string) bool {
	return !slices.ContainsFunc(strings.Split(endpoints, ","), func(e string) bool {
		e = strings.TrimSpace(e)
		return e != "" && !reach.InTheClear(e)
	})
}

// givenBy names what set a flag's value, for an error: the flag, or its variable.
func givenBy(c *cli.Context, flag string) string {
	if !typed(c, flag) {
		for _, flags := range [][]cli.Flag{c.Command.Flags, c.App.Flags} {
			if f := spellings(flags)[flag]; f != nil {
				if names := envVars(f); names != nil && len(*names) > 0 && c.IsSet(flag) {
					return (*names)[0]
				}
			}
		}
	}
	return "--" + flag
}
