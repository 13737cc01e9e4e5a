package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync/atomic"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

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
	err := follow(c.Context, noteLoss(c))
	if interrupted := c.Context.Err() != nil; interrupted {
		err = nil
	}
	return err
}

// noteLoss returns what notes on stderr that etcd is lost, or that it has dropped what a watch needs, and that this is
// over. Several goroutines may call it.
func noteLoss(c *cli.Context) func(error) {
	var dropped atomic.Bool // etcd is there
	return func(err error) {
		switch {
		case errors.Is(err, drm.ErrCompacted), errors.Is(err, drm.ErrStoreRewound):
			dropped.Store(true)
			note(c, "the watch is interrupted: %v", err)
		case err != nil:
			note(c, "etcd is lost: %v", err)
		case dropped.Swap(false):
			note(c, "the watch goes on")
		default:
			note(c, "etcd is back")
		}
	}
}

// sheetOf is how a thing is shown that is followed: what JSON has of it, its name, and what people see.
type sheetOf[T, J any] struct {
	object func(T) J
	name   func(T) string
	tell   func(*output.Page, T)
}

func (as sheetOf[T, J]) show(c *cli.Context, item T) error {
	return show(c, as.object(item), as.name(item), func(p *output.Page) { as.tell(p, item) })
}

// showOrFollow prints a thing, or with --watch whenever it changes. ctx is for one look.
func (as sheetOf[T, J]) showOrFollow(
	ctx context.Context, c *cli.Context, look func(context.Context) (T, error),
	watch func(ctx context.Context, lost func(error)) watchOf[T],
) error {
	if c.Bool(flagWatch) {
		return followPage(c, as, watch)
	}
	item, err := look(ctx)
	if err != nil {
		return err
	}
	return as.show(c, item)
}

// followPage prints a thing whenever it changes: for people as a page, on a terminal in the same place and otherwise
// one after the other.
func followPage[T, J any](
	c *cli.Context, as sheetOf[T, J], watch func(ctx context.Context, lost func(error)) watchOf[T],
) error {
	return following(c, func(ctx context.Context, lost func(error)) error {
		screen, first := isTerminal(c.App.Writer), true
		for x, err := range watch(ctx, lost) {
			if err != nil {
				return err
			}
			if !hasItem(x) && (isTable(c) || formatOf(c) == output.Name) {
				continue
			}
			err := printAgain(c, screen, first, watchedOf(x, as.object), as.name(x.Item), func(p *output.Page) {
				if x.Kind == drm.WatchGone {
					p.Line("%s is gone: nothing is known of it any more.", as.name(x.Item))
					return
				}
				as.tell(p, x.Item)
			})
			if err != nil {
				return err
			}
			first = false
		}
		return nil
	})
}

// printAgain prints one object of many. On a screen, each page takes the place of the one before.
func printAgain(c *cli.Context, screen, first bool, object any, name string, tell func(*output.Page)) error {
	p := printer(c)
	switch {
	case !isTable(c):
		return output.Event(p, object, name, nil)
	case screen: // all at once, so that it does not flicker
		var drawn bytes.Buffer
		drawn.WriteString(clearScreen)
		to := *p
		to.Out = &drawn
		if err := output.Report(&to, nil, "", tell); err != nil {
			return err
		}
		_, err := p.Out.Write(drawn.Bytes())
		return err
	case !first:
		if _, err := fmt.Fprintln(p.Out); err != nil {
			return err
		}
	}
	return output.Report(p, nil, "", tell)
}

// clearScreen moves to the top left corner and clears the terminal.
const clearScreen = "\x1b[H\x1b[2J"

// isTerminal reports whether what is written to w appears on a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
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
