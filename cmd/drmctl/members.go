package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const membersDescription = `
RESOURCES is what each member said itself: soon after it came to rest, and else up to 10 s ago.
DRAIN is ordered, or ignored: where every active member is ordered to be drained, none is.
REASON is why a member says that it is not ready. Its STATE is unready, or active where too few members are
ready: then it goes on as if it were.

Example:
   drmctl --app feeds members -o json
`

func membersCommand() *cli.Command {
	return &cli.Command{
		Name:        "members",
		Usage:       "list the live members",
		Description: strings.TrimSpace(membersDescription),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				members, err := client.Members(ctx)
				if err != nil {
					return err
				}
				if len(members) == 0 {
					if err := noteIfNobody(ctx, c, client); err != nil {
						return err
					}
				}
				orders, err := client.Drains(ctx)
				if err != nil {
					return err
				}
				noteDrains(c, orders)
				noteUnready(c, unreadyAmong(members))
				return showMembers(c, members)
			})
		},
	}
}

// memberJSON is part of the JSON contract.
type memberJSON struct {
	ID        string     `json:"id"`
	State     string     `json:"state"`
	Weight    int        `json:"weight"`
	Slots     []int      `json:"slots"`
	Address   string     `json:"address"`
	Version   string     `json:"version"`
	Started   *time.Time `json:"started"`
	Shards    int        `json:"shards"`
	Resources int        `json:"resources"`
	Drain     string     `json:"drain"`
	Reason    string     `json:"reason"`
}

func showMembers(c *cli.Context, members []drm.MemberInfo) error {
	slices.SortFunc(members, func(a, b drm.MemberInfo) int { return strings.Compare(a.ID, b.ID) })
	list := make([]memberJSON, 0, len(members))
	for _, m := range members {
		list = append(list, memberJSON{
			ID: m.ID, State: m.State, Weight: m.Weight, Slots: append([]int{}, m.Slots...), Address: m.Address,
			Version: m.Version, Started: utc(m.Started), Shards: m.Shards, Resources: m.Resources,
			Drain: m.Drain, Reason: m.Reason,
		})
	}
	return show(c, list, func(w io.Writer) {
		row(w, "ID", "STATE", "WEIGHT", "SLOTS", "SHARDS", "RESOURCES",
			"ADDRESS", "VERSION", "STARTED", "DRAIN", "REASON")
		for _, m := range members {
			row(w, m.ID, m.State, m.Weight, numbers(m.Slots), m.Shards, m.Resources,
				m.Address, m.Version, m.Started, m.Drain, m.Reason)
		}
	})
}

// numbers joins numbers with commas.
func numbers(list []int) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = fmt.Sprint(n)
	}
	return strings.Join(texts, ",")
}
