package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

const flagLabel = "label"

// texts is the value of a flag that may be given several times. (Package cli's own repeatable flags split at commas,
// which the ids of members may contain.)
type texts []string

// Set adds values: in the environment, one a line. An empty variable counts as none, and an empty argument is a value:
// often a variable of a script that is not set, which must not mean that the flag was not given.
func (v *texts) Set(text string) error {
	if text == "" {
		*v = append(*v, text)
	}
	for line := range strings.Lines(text) {
		if line = strings.Trim(line, "\r\n"); line != "" {
			*v = append(*v, line)
		}
	}
	return nil
}

// String joins the values.
func (v *texts) String() string { return strings.Join(*v, ", ") }

// textsOf returns the values of such a flag.
func textsOf(c *cli.Context, flag string) []string {
	if v, ok := c.Generic(flag).(*texts); ok {
		return *v
	}
	return nil
}

// labelFlag is the flag of agent that gives a member labels.
func labelFlag() cli.Flag {
	return &cli.GenericFlag{
		Name: flagLabel, EnvVars: agentEnv(flagLabel), Value: new(texts), DefaultText: "none",
		Usage: "give the member this label, as `NAME=VALUE`, such as zone=a, for plan --without-label; repeatable " +
			"(in the environment: one a line)",
	}
}

// labelsOf reads this flag.
func labelsOf(c *cli.Context) (map[string]string, error) {
	var labels map[string]string
	for _, text := range textsOf(c, flagLabel) {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, badFlag(flagLabel, text, "NAME=VALUE")
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, nil
}
