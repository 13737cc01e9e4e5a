package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// noteIfNoApp notes on stderr that the app does not exist, for a command that waits for it. Nothing else would show
// that a user has mistyped its name.
func noteIfNoApp(ctx context.Context, c *cli.Context, client *drm.Client) error {
	there, err := client.Exists(ctx)
	if err == nil && !there {
		hint := nearestApp(ctx, c, client)
		note(c, "no such app %q at prefix %q, yet%s", c.String(flagApp), c.String(flagPrefix), hint)
	}
	return err
}

const (
	// mostApps is how many apps are read to find one with a similar name, once from the first letter of the name on,
	// and once from the beginning. Each app costs a request.
	mostApps = 50
	// longestSearch bounds the time that this may take.
	longestSearch = time.Second
)

// nearestApp completes a sentence about an app that does not exist with the name of a similar one. It adds nothing
// where the user may not list the apps, or listing them takes too long.
func nearestApp(ctx context.Context, c *cli.Context, client *drm.Client) string {
	ctx, cancel := context.WithTimeout(ctx, longestSearch)
	defer cancel()
	app := c.String(flagApp)
	for _, from := range []string{string([]rune(app)[:1]), ""} {
		// Where listing fails, the apps that were found until then do. app itself may have been made meanwhile.
		apps, _ := client.Apps(ctx, from, mostApps)
		apps = slices.DeleteFunc(apps, func(other string) bool { return other == app })
		if hint := didYouMean("", app, apps); hint != "" {
			return hint
		}
	}
	return ""
}

// noteDrains notes the orders to drain that nothing else shows: those about members that are not there, and those that
// are ignored.
func noteDrains(c *cli.Context, orders []drm.OrderInfo) {
	var absent, ignored []string
	for _, o := range ordersOf(orders, drm.OrderDrain) {
		if o.Ignored {
			ignored = append(ignored, fmt.Sprintf("%q", o.Member))
		} else if !o.Live {
			absent = append(absent, fmt.Sprintf("%q%s", o.Member, originWords(o)))
		}
	}
	if len(absent) > 0 {
		note(c, "DRM005: drained by order, and not there: %s; such a member takes nothing when it comes, "+
			"until drmctl undrain MEMBER", few(absent))
	}
	if len(ignored) > 0 {
		note(c, "DRM003: every active member is ordered to be drained, so the orders are ignored: %s", few(ignored))
	}
}

// noteAbsentOrders notes the other orders about members that are not there.
func noteAbsentOrders(c *cli.Context, orders []drm.OrderInfo) {
	var absent []string
	for _, o := range ordersOf(orders, drm.OrderCordon, drm.OrderWeight, drm.OrderPin) {
		if !o.Live {
			absent = append(absent, fmt.Sprintf("%q: %s%s", o.Member, deed(o), originWords(o)))
		}
	}
	if len(absent) > 0 {
		note(c, "DRM006: orders stand about members that are not there, and that obey them when they come: %s",
			few(absent))
	}
}

// noteUnready notes the members that are not ready where that is ignored: nothing else shows that they may fail at all
// that they have.
func noteUnready(c *cli.Context, members []drm.UnreadyInfo) {
	var ignored []string
	for _, u := range members {
		if u.Ignored {
			ignored = append(ignored, fmt.Sprintf("%q (%s)", u.Member, u.Reason))
		}
	}
	if len(ignored) > 0 {
		note(c, "DRM008: too few members are ready, so those that are not go on as if they were: %s", few(ignored))
	}
}

// unreadyAmong picks the members that say that they are not ready.
func unreadyAmong(members []drm.MemberInfo) []drm.UnreadyInfo {
	var all []drm.UnreadyInfo
	for _, m := range members {
		if m.Reason != "" && m.State != picture.StateAbsent {
			all = append(all, drm.UnreadyInfo{
				Member: m.ID, Reason: m.Reason, Ignored: m.State == string(membership.Active),
			})
		}
	}
	return all
}

// noteOrders notes all orders that keep shards away from members, and how many shards are pinned.
func noteOrders(c *cli.Context, orders []drm.OrderInfo) {
	for _, kind := range []drm.OrderKind{drm.OrderDrain, drm.OrderCordon, drm.OrderWeight} {
		var words []string
		for _, o := range ordersOf(orders, kind) {
			name := o.Member
			if kind == drm.OrderWeight {
				name += fmt.Sprintf(" to %d", o.Weight)
			}
			words = append(words, name+orderWords(o))
		}
		if len(words) > 0 {
			note(c, "%s by order: %s", byOrder[kind], few(words))
		}
	}
	if n := len(ordersOf(orders, drm.OrderPin)); n > 0 {
		note(c, "shards pinned by order: %d (drmctl pins)", n)
	}
}

// byOrder says what was done to a member or shard by an order.
var byOrder = map[drm.OrderKind]string{
	drm.OrderDrain: "drained", drm.OrderCordon: "cordoned", drm.OrderWeight: "weighed", drm.OrderPin: "pinned",
	drm.OrderMove: "moved",
}

// noteQuarantined notes that resources are quarantined, and what frees them.
func noteQuarantined(c *cli.Context, n int) {
	if n > 0 {
		note(c, "DRM023: quarantined, since members died while they began with them: %d "+
			"(drmctl assignments says why); drmctl retry ID or drmctl retry --all-quarantined frees them", n)
	}
}

// noteSchemas notes which versions of what is in etcd are too far apart.
func noteSchemas(c *cli.Context, schemas string) {
	if schemas != "" {
		note(c, "DRM009: versions are too far apart: %s; docs/upgrade.md has the rules", schemas)
	}
}

// few joins the first of some texts, and counts the others.
func few(all []string) string {
	const most = 10
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}
