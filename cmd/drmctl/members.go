package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const membersDescription = `
RESOURCES is what each member said itself: soon after it came to rest, and else up to 10 s ago.
DRAIN and CORDON are ordered, or ignored: where every active member is ordered to be drained, none is, and where
all that may take something are cordoned, they take it.
REASON is why a member says that it is not ready. Its STATE is unready, or active where too few members are
ready: then it goes on as if it were. After that, REASON tells of the orders about the member. A member that is
not there, and about which an order stands, is listed in the STATE absent; so is one that has stopped with --rejoin:
REASON is until when it is expected back, and what belongs to it waits.

Example:
   drmctl --app feeds members -o json
`

func membersCommand() *cli.Command {
	return &cli.Command{
		Name:        "members",
		Usage:       "list the live members, those that are expected back, and those that orders are about",
		Description: strings.TrimSpace(membersDescription),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withApp(c, func(ctx context.Context, client *drm.Client) error {
				members, err := client.Members(ctx)
				if err != nil {
					return err
				}
				orders, err := client.Orders(ctx)
				if err != nil {
					return err
				}
				if len(members) == 0 {
					note(c, "there is no live member")
				}
				schemas, err := client.Schemas(ctx)
				if err != nil {
					return err
				}
				noteSchemas(c, schemas)
				noteDrains(c, orders)
				noteAbsentOrders(c, orders)
				noteUnready(c, unreadyAmong(members))
				return showMembers(c, members, orders)
			})
		},
	}
}

// stateAbsent is the state of a member that is not there, and about which an order stands.
const stateAbsent = "absent"

// memberJSON is part of the JSON contract.
type memberJSON struct {
	ID        string      `json:"id"`
	State     string      `json:"state"`
	Weight    int         `json:"weight"`
	Ordered   *int        `json:"ordered_weight"`
	Slots     []int       `json:"slots"`
	Blocks    []blockJSON `json:"blocks"`
	Address   string      `json:"address"`
	Version   string      `json:"version"`
	Started   *time.Time  `json:"started"`
	Shards    int         `json:"shards"`
	Resources int         `json:"resources"`
	Drain     string      `json:"drain"`
	Cordon    string      `json:"cordon"`
	Reason    string      `json:"reason"`
	Orders    []orderJSON `json:"orders"`
}

// blockJSON is part of the JSON contract.
type blockJSON struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

func blocksJSON(blocks []drm.SlotRange) []blockJSON {
	all := make([]blockJSON, 0, len(blocks))
	for _, b := range blocks {
		all = append(all, blockJSON(b))
	}
	return all
}

func showMembers(c *cli.Context, members []drm.MemberInfo, orders []drm.OrderInfo) error {
	about := map[string][]drm.OrderInfo{}
	for _, o := range orders {
		if len(about[o.Member]) == 0 && !o.Live && o.Kind != drm.OrderMove && !isAmong(members, o.Member) {
			members = append(members, absentMember(o.Member, orders))
		}
		about[o.Member] = append(about[o.Member], o)
	}
	slices.SortFunc(members, func(a, b drm.MemberInfo) int { return strings.Compare(a.ID, b.ID) })
	return memberView(about).List(printer(c), output.All(members))
}

// memberView shows members with the orders about each.
func memberView(about map[string][]drm.OrderInfo) output.View[drm.MemberInfo] {
	return output.View[drm.MemberInfo]{
		Columns: []output.Column[drm.MemberInfo]{
			{Title: "ID", Cell: func(m drm.MemberInfo) any { return m.ID }, Whole: true},
			{Title: "STATE", Cell: func(m drm.MemberInfo) any { return m.State }, Whole: true},
			{Title: "WEIGHT", Cell: func(m drm.MemberInfo) any { return weightWords(m) }},
			{Title: "SLOTS", Cell: func(m drm.MemberInfo) any { return slotWords(m) }},
			{Title: "SHARDS", Cell: func(m drm.MemberInfo) any { return m.Shards }},
			{Title: "RESOURCES", Cell: func(m drm.MemberInfo) any { return m.Resources }},
			{Title: "ADDRESS", Cell: func(m drm.MemberInfo) any { return m.Address }},
			{Title: "VERSION", Cell: func(m drm.MemberInfo) any { return m.Version }},
			{Title: "STARTED", Cell: func(m drm.MemberInfo) any { return m.Started }},
			{Title: "DRAIN", Cell: func(m drm.MemberInfo) any { return m.Drain }},
			{Title: "CORDON", Cell: func(m drm.MemberInfo) any { return m.Cordon }},
			{Title: "REASON", Cell: func(m drm.MemberInfo) any { return reasons(m, about[m.ID]) }},
		},
		Object: func(m drm.MemberInfo) any {
			return memberJSON{
				ID: m.ID, State: m.State, Weight: m.Weight, Ordered: m.Ordered, Slots: append([]int{}, m.Slots...),
				Blocks: blocksJSON(m.Blocks), Address: m.Address, Version: m.Version, Started: utc(m.Started),
				Shards: m.Shards, Resources: m.Resources,
				Drain: m.Drain, Cordon: m.Cordon, Reason: m.Reason, Orders: ordersJSON(about[m.ID]),
			}
		},
	}
}

func isAmong(members []drm.MemberInfo, id string) bool {
	return slices.ContainsFunc(members, func(m drm.MemberInfo) bool { return m.ID == id })
}

// absentMember is what is known of a member that is not there, and about which orders stand.
func absentMember(id string, orders []drm.OrderInfo) drm.MemberInfo {
	m := drm.MemberInfo{ID: id, State: stateAbsent}
	for _, o := range orders {
		if o.Member != id {
			continue
		}
		word := drm.DrainOrdered
		if o.Ignored {
			word = drm.DrainIgnored
		}
		switch o.Kind {
		case drm.OrderDrain:
			m.Drain = word
		case drm.OrderCordon:
			m.Cordon = word
		case drm.OrderWeight:
			m.Ordered = &o.Weight
		default:
		}
	}
	return m
}

// reasons says in the table why a member is not ready, and which orders are about it.
func reasons(m drm.MemberInfo, orders []drm.OrderInfo) string {
	var all []string
	if m.Reason != "" {
		all = append(all, m.Reason)
	}
	for _, o := range ordersOf(orders, drm.OrderDrain, drm.OrderCordon, drm.OrderWeight) {
		all = append(all, deed(o)+originWords(o))
	}
	if n := len(ordersOf(orders, drm.OrderPin)); n > 0 {
		all = append(all, fmt.Sprintf("%d pinned (drmctl pins)", n))
	}
	return strings.Join(all, "; ")
}

// weightWords say a member's weight: the one that an operator has ordered, and its own.
func weightWords(m drm.MemberInfo) string {
	if m.Ordered == nil {
		return fmt.Sprint(m.Weight)
	}
	if m.State == stateAbsent {
		return fmt.Sprint(*m.Ordered)
	}
	return fmt.Sprintf("%d (own %d)", *m.Ordered, m.Weight)
}

// slotWords list a member's slots, such as 0-5,9.
func slotWords(m drm.MemberInfo) string {
	all := slices.Clone(m.Blocks)
	for _, n := range m.Slots {
		all = append(all, drm.SlotRange{First: n, Last: n})
	}
	slices.SortFunc(all, func(a, b drm.SlotRange) int { return cmp.Compare(a.First, b.First) })
	var texts []string
	for i := 0; i < len(all); {
		r := all[i]
		for i++; i < len(all) && all[i].First == r.Last+1; i++ {
			r.Last = all[i].Last
		}
		if r.First == r.Last {
			texts = append(texts, fmt.Sprint(r.First))
		} else {
			texts = append(texts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(texts, ",")
}
