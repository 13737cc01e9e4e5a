package main

import (
	"bytes"
	"context"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

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
				err = printAgain(c, screen, last == nil, statusJSONOf(o), o.App, func(p *output.Page) {
					statusPage(p, o)
				})
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
