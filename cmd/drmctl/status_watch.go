package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

// clearScreen moves to the top left corner and clears the terminal.
const clearScreen = "\x1b[H\x1b[2J"

// watchStatus prints the status now and after each change, until it is interrupted: on a terminal in the same place,
// and otherwise one after the other.
func watchStatus(c *cli.Context, client *drm.Client) error {
	return following(c, func(ctx context.Context, lost func(error)) error {
		ctx, cancel := context.WithCancelCause(ctx) // the command timeout does not bound it
		defer cancel(nil)
		screen := isTerminal(c.App.Writer)
		var last []byte
		return client.FollowOverview(ctx, c.Duration(flagEvery), func(o drm.Overview) {
			now, err := whatChanges(o)
			if err == nil && !bytes.Equal(now, last) {
				err = printAgain(c, o, screen, last == nil)
				last = now
			}
			if err != nil {
				cancel(err)
			}
		}, lost)
	})
}

// whatChanges is a status without what is different at each look.
func whatChanges(o drm.Overview) ([]byte, error) {
	object := statusJSONOf(o)
	object.At, object.Revision, object.Source.AgeSeconds, object.Etcd.LatencyMS = nil, 0, nil, nil
	for i := range object.MemberHealth {
		object.MemberHealth[i].LeaseLeft = nil
	}
	for i := range object.Etcd.Members {
		object.Etcd.Members[i].Database, object.Etcd.Members[i].InUse = 0, 0
	}
	return jsontext.Marshal(object)
}

// printAgain prints one status of many.
func printAgain(c *cli.Context, o drm.Overview, screen, first bool) error {
	p := printer(c)
	switch {
	case !isTable(c):
		return output.Event(p, statusJSONOf(o), o.App, nil)
	case screen: // all at once, so that it does not flicker
		var page bytes.Buffer
		page.WriteString(clearScreen)
		to := *p
		to.Out = &page
		if err := output.Report(&to, nil, "", func(pg *output.Page) { statusPage(pg, o) }); err != nil {
			return err
		}
		_, err := p.Out.Write(page.Bytes())
		return err
	case !first:
		if _, err := fmt.Fprintln(p.Out); err != nil {
			return err
		}
	}
	return output.Report(p, nil, "", func(pg *output.Page) { statusPage(pg, o) })
}

// isTerminal reports whether what is written to w appears on a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}
