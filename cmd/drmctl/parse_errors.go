package main

import (
	"errors"
	"regexp"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

// What package cli says of a value that it cannot read.
var (
	unreadFlag = regexp.MustCompile(
		`^invalid value "((?s).*)" for flag -([a-z-]+): (?:parse error|value out of range)$`)
	unreadVariable = regexp.MustCompile(
		`^could not parse "((?s).*)" as (\w+) value from environment variable "(\w+)" for flag `)
)

// plainly says of a value that package cli cannot read what would be accepted, in the words of all other errors about a
// value. It returns other errors as they are.
func plainly(app *cli.App, err error) error {
	var usage *usageError
	if !errors.As(err, &usage) {
		return err
	}
	if m := unreadFlag.FindStringSubmatch(usage.Error()); len(m) > 2 {
		for _, f := range allFlags(app) {
			if spellings([]cli.Flag{f})[m[2]] == nil {
				continue
			}
			if want := kindWords[kindOf(f)]; want != "" {
				return badFlag(m[2], m[1], want)
			}
		}
	}
	if m := unreadVariable.FindStringSubmatch(usage.Error()); len(m) > 3 && kindWords[m[2]] != "" {
		return &usageError{&drm.InputError{Field: m[3], Value: m[1], Want: kindWords[m[2]]}}
	}
	return err
}

// kindWords say what the values of flags look like, by what package cli calls their kinds.
var kindWords = map[string]string{
	"int": "a whole number", "int64": "a whole number", "uint64": "a whole number, not negative",
	"float64": "a number", "duration": "a duration, such as 500ms, 5s or 2h", "bool": "true or false",
}

// kindOf returns what package cli calls the kind of a flag's values; "" of kinds that say themselves what is wrong.
func kindOf(f cli.Flag) string {
	switch f.(type) {
	case *cli.IntFlag:
		return "int"
	case *cli.Int64Flag:
		return "int64"
	case *cli.Uint64Flag:
		return "uint64"
	case *cli.Float64Flag:
		return "float64"
	case *cli.DurationFlag:
		return "duration"
	case *cli.BoolFlag:
		return "bool"
	default:
		return ""
	}
}
