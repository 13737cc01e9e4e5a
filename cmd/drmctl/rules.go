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

// needs has, for each command by the words that it is called by, its flags that mean nothing by themselves. One that is given without what it needs is
// wrong usage; from the environment, which is for many commands, it is ignored.
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
		{flagHandlerCACert, []string{flagHandlerURL}},
		{flagHandlerCert, []string{flagHandlerURL}},
		{flagHandlerKey, []string{flagHandlerURL}},
		{flagHandlerGrace, []string{flagHandlerExec}},
		{flagExecOutput, []string{flagHandlerExec}},
	},
	"allocate":   {{flagWaitTimeout, []string{flagWait}}},
	"deallocate": {{flagWaitTimeout, []string{flagWait}}},
	"drain":      {{flagWaitTimeout, []string{flagWait}}},
	"undrain":    {{flagWaitTimeout, []string{flagWait}}},

	"source accept": {{flagWaitTimeout, []string{flagWait}}},
	"source fetch":  {{flagWaitTimeout, []string{flagWait}}},

	"verify": {{flagEvery, []string{flagWatch}}},
	"bench": { // without, it starts an etcd of its own
		{flagCACert, []string{flagEndpoints}},
		{flagCert, []string{flagEndpoints}},
		{flagKey, []string{flagEndpoints}},
		{flagUser, []string{flagEndpoints}},
		{flagPassword, []string{flagEndpoints}},
	},
}

// rivals has, for each command, the sets of flags of which one at most can be chosen. Where one is given, the variables
// of the others are ignored, as its own is. Variables that contradict each other are wrong usage.
var rivals = map[string][][]string{
	"agent": {
		{flagSourceURL, flagSourceFile, flagAllocateOnly},
		{flagHandlerURL, flagHandlerExec, flagHandlerLog},
	},
	"assignments": {
		{flagUnassigned, flagFailed},
		{flagUnassigned, flagMember},
	},
}

// checkNeeds makes what is to be called before a command runs: it refuses what was given without what it needs.
func checkNeeds(command string) cli.BeforeFunc {
	return func(c *cli.Context) error {
		var err error
		for _, n := range needs[command] {
			err = errors.Join(err, onlyWith(c, n.flag, n.others...))
		}
		return err
	}
}

// onlyWith says that a flag means nothing without one of the others. What the environment says is for many commands, of
// which it concerns some.
func onlyWith(c *cli.Context, flag string, others ...string) error {
	if !typed(c, flag) || slices.ContainsFunc(others, func(o string) bool { return given(c, o) }) {
		return nil
	}
	return usagef("--%s goes with --%s only", flag, strings.Join(others, " or --"))
}

// forgetOverruled makes the variables as good as none that a flag on the command line overrules: its own, so that not
// even what is wrong with it matters, and those of its rivals.
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
		if names := envVars(f); names != nil && slices.ContainsFunc(f.Names(), func(n string) bool { return overruled[n] }) {
			*names = nil
		}
	}
}

// chosen reports whether a flag was given on the command line, and not as empty or false.
func chosen(onCommandLine map[string]string, name string) bool {
	value, ok := onCommandLine[name]
	return ok && value != "" && value != "false"
}

// allInTheClear reports whether all endpoints say that there is to be no TLS.
func allInTheClear(endpoints string) bool {
	return !slices.ContainsFunc(strings.Split(endpoints, ","), func(e string) bool {
		e = strings.TrimSpace(e)
		return e != "" && !reach.InTheClear(e)
	})
}

// givenBy is what gave a flag its value, as an error names it: the flag, or its variable.
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
