package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const flagShard = "shard"

func shardFlag(command string) cli.Flag {
	return &cli.StringFlag{
		Name: flagShard, EnvVars: commandEnv(command, flagShard),
		Usage: "the `NUMBER` of the shard, in place of a resource that is in it",
	}
}

// target is the shard that a command is about: one that --shard names, or that of a resource.
type target struct {
	number   int
	resource string // empty: number counts
}

// shardArguments returns the shard that a command is about, and the argument that follows; "" if it takes no other.
func shardArguments(c *cli.Context, other string) (t target, argument string, err error) {
	args := c.Args().Slice()
	most := 1
	if other != "" {
		most = 2
	}
	byNumber := c.String(flagShard) != "" && (typed(c, flagShard) || len(args) < most)
	want := most
	if byNumber {
		want--
	}
	if len(args) != want {
		takes := "a resource id or --" + flagShard
		if other != "" {
			takes += ", and a " + other
		}
		return t, "", usagef("%s takes %s, got %d arguments: drmctl %s %s",
			commandName(c), takes, len(args), commandName(c), c.Command.ArgsUsage)
	}
	if byNumber {
		n, err := strconv.Atoi(c.String(flagShard))
		if err != nil || n < 0 || n >= keys.MaxShards {
			return t, "", badFlag(flagShard, c.String(flagShard), fmt.Sprintf("0 to %d", keys.MaxShards-1))
		}
		t.number = n
	} else {
		if err := keys.CheckID(args[0]); err != nil {
			return t, "", usagef("resource id: got %q, want %w", args[0], err)
		}
		t.resource, args = args[0], args[1:]
	}
	if other == "" {
		return t, "", nil
	}
	if err := keys.CheckID(args[0]); err != nil {
		return t, "", usagef("%s: got %q, want %w", other, args[0], err)
	}
	return t, args[0], nil
}

// of returns the number of the shard. Where a resource is given, there must be such a resource.
func (t target) of(ctx context.Context, client *drm.Client) (int, error) {
	if t.resource == "" {
		return t.number, nil
	}
	a, err := client.Lookup(ctx, t.resource)
	return a.Shard, err
}

// give finds the shard that is to be given to a member, and asks the user whether that may be done, unless the shard is
// the member's already.
func (t target) give(
	ctx context.Context, c *cli.Context, client *drm.Client, verb, member string,
) (drm.ShardInfo, error) {
	n, err := t.of(ctx, client)
	if err != nil {
		return drm.ShardInfo{}, err
	}
	s, err := client.Shard(ctx, n)
	if err != nil {
		return drm.ShardInfo{}, shardError(err)
	}
	if s.Member != member {
		err = confirm(c, toMove(verb, s, member))
	}
	return s, err
}

// planShardOrder prints what giving a shard to a member would do.
func planShardOrder(c *cli.Context, kind drm.ChangeKind, t target, member string, options drm.OrderOptions) error {
	return planned(c, options, func(ctx context.Context, client *drm.Client) (drm.Change, error) {
		n, err := t.of(ctx, client)
		return drm.Change{Kind: kind, Shard: n, Member: member}, err
	})
}

// shardError turns an error of the library about a shard that there is not into one about the flag that named it.
func shardError(err error) error {
	var input *drm.InputError
	if errors.As(err, &input) && input.Field == "shard" {
		return badFlag(flagShard, input.Value, input.Want)
	}
	return err
}

// resources says how many resources there are.
func resources(n int) string { return fmt.Sprintf("%d %s", n, english.PluralWord(n, "resource", "")) }

// toMove says what giving a shard to another member does.
func toMove(verb string, s drm.ShardInfo, member string) string {
	from := "nobody"
	if s.Member != "" {
		from = fmt.Sprintf("%q", s.Member)
	}
	return fmt.Sprintf("%s shard %d to %q, with %s that %s has", verb, s.Shard, member, resources(s.Resources), from)
}
