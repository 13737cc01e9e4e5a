package main

import (
	"context"
	"reflect"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// watchFlag makes a command go on, and print what changes.
func watchFlag(command string) cli.Flag {
	return &cli.BoolFlag{
		Name: flagWatch, EnvVars: commandEnv(command, flagWatch),
		Usage: "go on, and print what changes, until interrupted",
	}
}

// following calls follow until the user interrupts the command, which is its usual end. What follow is given notes on
// stderr that etcd is lost, and that it is back.
func following(c *cli.Context, follow func(ctx context.Context, lost func(error)) error) error {
	err := follow(c.Context, func(err error) {
		if err != nil {
			note(c, "etcd is lost: %v", err)
		} else {
			note(c, "etcd is back")
		}
	})
	if interrupted := c.Context.Err() != nil; interrupted {
		err = nil
	}
	return err
}

// followGroup prints rows that are made of the group: all of them first, and then those that are new, have changed or
// are gone. name tells which rows are the same one, and gone makes of a row what is printed when it is gone.
func followGroup[T any](
	c *cli.Context, client *drm.Client, view output.View[T], rows func(drm.Group) []T, name func(T) string,
	gone func(T) T,
) error {
	return following(c, func(ctx context.Context, lost func(error)) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		out := view.Follow(printer(c))
		before := map[string]T{}
		return client.FollowGroup(ctx, func(g drm.Group) {
			now, news := map[string]T{}, []T{}
			for _, row := range rows(g) {
				now[name(row)] = row
				was, known := before[name(row)]
				if !known || !reflect.DeepEqual(view.Object(was), view.Object(row)) {
					news = append(news, row)
				}
			}
			for id, row := range before {
				if _, still := now[id]; !still {
					news = append(news, gone(row))
				}
			}
			before = now
			if err := out.Add(news...); err != nil {
				cancel(err)
			}
		}, lost)
	})
}
