package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const (
	flagReason = "reason"
	flagBy     = "by"
	flagFor    = "for"
	flagYes    = "yes"
)

// originFlags are the flags of an order that say where it comes from.
func originFlags(command string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagReason, EnvVars: commandEnv(command, flagReason),
			Usage: "why, as a `TEXT` for people: members, status and the member's log show it",
		},
		&cli.StringFlag{
			Name: flagBy, Aliases: []string{"as"}, EnvVars: commandEnv(command, flagBy),
			Usage: "who gives the order, as a `NAME` for people (default: USER@HOST)",
		},
	}
}

// deedFlags are originFlags of a command whose change leaves nothing that could say where it comes from.
func deedFlags(command string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagReason, EnvVars: commandEnv(command, flagReason),
			Usage: "why, as a `TEXT` for people: events show it",
		},
		&cli.StringFlag{
			Name: flagBy, Aliases: []string{"as"}, EnvVars: commandEnv(command, flagBy),
			Usage: "who does it, as a `NAME` for people (default: USER@HOST)",
		},
	}
}

// forFlag is the flag of an order that can end by itself.
func forFlag(command string) cli.Flag {
	return &cli.DurationFlag{
		Name: flagFor, EnvVars: commandEnv(command, flagFor),
		Usage: "how long the order stands: 1s to 8784h; 0: until it is taken back",
	}
}

// yesFlag is the flag of a command that asks before it moves anything.
func yesFlag(command string) cli.Flag {
	return &cli.BoolFlag{
		Name: flagYes, EnvVars: commandEnv(command, flagYes),
		Usage: "do not ask; without a terminal the command needs this flag",
	}
}

// orderOptions are the options of an order that the flags set.
func orderOptions(c *cli.Context) (drm.OrderOptions, error) {
	o := drm.OrderOptions{
		By: c.String(flagBy), Why: c.String(flagReason), For: c.Duration(flagFor),
		AtOnce: c.Bool(flagAtOnce), Force: c.Bool(flagForce), Absent: c.Bool(flagAbsent),
		IfRevision: c.Int64(flagIfRevision),
	}
	if o.By == "" {
		o.By = whoami()
	}
	var input *drm.InputError
	if err := o.Validate(); errors.As(err, &input) {
		flag := map[string]string{
			"By": flagBy, "Why": flagReason, "For": flagFor, "IfRevision": flagIfRevision,
		}[input.Field]
		return o, badFlag(flag, input.Value, input.Want)
	}
	return o, nil
}

// whoami names the user, and the host on which drmctl runs.
func whoami() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// orderJSON is part of the JSON contract.
type orderJSON struct {
	Kind    string     `json:"kind"`
	Member  string     `json:"member"`
	Shard   *int       `json:"shard"`
	Weight  *int       `json:"weight"`
	By      string     `json:"by"`
	Why     string     `json:"why"`
	Since   *time.Time `json:"since"`
	Until   *time.Time `json:"until"`
	Live    bool       `json:"live"`
	Ignored bool       `json:"ignored"`
}

// ordersJSON returns the JSON of orders. It is never null.
func ordersJSON(orders []drm.OrderInfo) []orderJSON {
	all := make([]orderJSON, 0, len(orders))
	for _, o := range orders {
		one := orderJSON{
			Kind: string(o.Kind), Member: o.Member, By: o.By, Why: o.Why, Since: utc(o.Since), Until: utc(o.Until),
			Live: o.Live, Ignored: o.Ignored,
		}
		switch o.Kind {
		case drm.OrderPin, drm.OrderMove:
			one.Shard = &o.Shard
		case drm.OrderWeight:
			one.Weight = &o.Weight
		}
		all = append(all, one)
	}
	return all
}

// ordersOf picks the orders of some kinds.
func ordersOf(orders []drm.OrderInfo, kinds ...drm.OrderKind) []drm.OrderInfo {
	var some []drm.OrderInfo
	for _, o := range orders {
		for _, k := range kinds {
			if o.Kind == k {
				some = append(some, o)
			}
		}
	}
	return some
}

// deed says what an order does to its member or shard.
func deed(o drm.OrderInfo) string {
	switch o.Kind {
	case drm.OrderDrain:
		return "drained"
	case drm.OrderCordon:
		return "cordoned"
	case drm.OrderWeight:
		return fmt.Sprintf("weight %d", o.Weight)
	case drm.OrderPin:
		return fmt.Sprintf("shard %d pinned", o.Shard)
	case drm.OrderMove:
		return fmt.Sprintf("shard %d moved", o.Shard)
	default:
		return string(o.Kind)
	}
}

// originWords say where an order comes from and until when it stands, to follow the words that say what it is.
func originWords(o drm.OrderInfo) string {
	words := ""
	if o.By != "" {
		words = " by " + cell(o.By)
	}
	if o.Why != "" {
		words += ": " + cell(o.Why)
	}
	var times []string
	if !o.Since.IsZero() {
		times = append(times, "since "+cell(o.Since))
	}
	if !o.Until.IsZero() {
		times = append(times, "until "+cell(o.Until))
	}
	if len(times) > 0 {
		words += " (" + strings.Join(times, ", ") + ")"
	}
	return words
}

// orderWords describe an order in a table, after the words that say what it is.
func orderWords(o drm.OrderInfo) string {
	words := originWords(o)
	if !o.Live {
		words += ", not there"
	}
	if o.Ignored {
		words += map[bool]string{true: ", not in force", false: ", ignored"}[isOfShard(o)]
	}
	return words
}

func isOfShard(o drm.OrderInfo) bool { return o.Kind == drm.OrderPin || o.Kind == drm.OrderMove }

// errNotConfirmed is the error of a command whose user was asked, and did not say yes.
var errNotConfirmed = errors.New("not confirmed: nothing was changed")

// confirm asks the user whether to do something, unless --yes is given.
func confirm(c *cli.Context, what string) error {
	if c.Bool(flagYes) {
		return nil
	}
	in, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("it would %s; there is no terminal to ask on, so give --%s", what, flagYes)
	}
	return ask(c.Context, in, c.App.ErrWriter, what)
}

// ask asks whether to do something, and returns nil if the answer is yes.
func ask(ctx context.Context, in io.Reader, out io.Writer, what string) error {
	fmt.Fprintf(out, "%s? [y/N] ", output.Line(what))
	answers := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // no answer is as good as no
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case answer := <-answers:
		if answer == "y" || answer == "yes" {
			return nil
		}
		return errNotConfirmed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
