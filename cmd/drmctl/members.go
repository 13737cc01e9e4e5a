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

Examples:
   drmctl --app feeds members -o json
   drmctl --app feeds members --watch
`

func membersCommand() *cli.Command {
	return &cli.Command{
		Name:        "members",
		Usage:       "list the live members, those that are expected back, and those that orders are about",
		Description: strings.TrimSpace(membersDescription),
		Flags:       []cli.Flag{watchFlag("members")},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withApp(c, func(ctx context.Context, client *drm.Client) error {
				g, err := client.Group(ctx)
				if err != nil {
					return err
				}
				if len(g.Members) == 0 {
					note(c, "DRM001: there is no live member")
				}
				noteSchemas(c, g.Schemas)
				noteDrains(c, g.Orders)
				noteAbsentOrders(c, g.Orders)
				noteUnready(c, unreadyAmong(g.Members))
				if c.Bool(flagWatch) {
					return followGroup(c, client, memberView(), memberRows, memberRow.id, memberRow.gone)
				}
				return showMembers(c, g.Members, g.Orders)
			})
		},
	}
}

// stateAbsent is the state of a member that is not there, and about which an order stands.
const stateAbsent = "absent"

// stateGone is the state in which --watch prints a member when nothing is known of it any more.
const stateGone = "gone"

// memberJSON is part of the JSON contract.
type memberJSON struct {
	ID        string      `json:"id"`
	State     string      `json:"state"`
	Weight    int         `json:"weight"`
	Ordered   *int        `json:"ordered_weight"`
	Slots     []int       `json:"slots"`
	Blocks    []rangeJSON `json:"blocks"`
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

// rangeJSON is slots or shards from one to another, which is in it too. It is part of the JSON contract.
type rangeJSON struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

func rangesJSON[R drm.SlotRange | drm.ShardRange](ranges []R) []rangeJSON {
	all := make([]rangeJSON, 0, len(ranges))
	for _, r := range ranges {
		all = append(all, rangeJSON(r))
	}
	return all
}

func showMembers(c *cli.Context, members []drm.MemberInfo, orders []drm.OrderInfo) error {
	return memberView().List(printer(c), output.All(memberRows(drm.Group{Members: members, Orders: orders})))
}

// memberRow is a member with the orders about it.
type memberRow struct {
	drm.MemberInfo
	orders []drm.OrderInfo
}

func (m memberRow) id() string { return m.ID }

// gone is the member when nothing is known of it any more.
func (m memberRow) gone() memberRow {
	return memberRow{drm.MemberInfo{ID: m.ID, State: stateGone}, nil}
}

// memberRows returns the members of a group by id, and those that are not there and that orders are about.
func memberRows(g drm.Group) []memberRow {
	members, about := slices.Clone(g.Members), map[string][]drm.OrderInfo{}
	for _, o := range g.Orders {
		if len(about[o.Member]) == 0 && !o.Live && o.Kind != drm.OrderMove && !isAmong(members, o.Member) {
			members = append(members, absentMember(o.Member, g.Orders))
		}
		about[o.Member] = append(about[o.Member], o)
	}
	slices.SortFunc(members, func(a, b drm.MemberInfo) int { return strings.Compare(a.ID, b.ID) })
	rows := make([]memberRow, len(members))
	for i, m := range members {
		rows[i] = memberRow{m, about[m.ID]}
	}
	return rows
}

func memberView() output.View[memberRow] {
	return output.View[memberRow]{
		Columns: []output.Column[memberRow]{
			{Title: "ID", Cell: func(m memberRow) any { return m.ID }, Whole: true},
			{Title: "STATE", Cell: func(m memberRow) any { return toned(m.State) }, Whole: true},
			{Title: "WEIGHT", Cell: func(m memberRow) any { return weightWords(m.MemberInfo) }},
			{Title: "SLOTS", Cell: func(m memberRow) any { return slotWords(m.MemberInfo) }, Spare: true},
			{Title: "SHARDS", Cell: func(m memberRow) any { return m.Shards }},
			{Title: "RESOURCES", Cell: func(m memberRow) any { return m.Resources }},
			{Title: "ADDRESS", Cell: func(m memberRow) any { return m.Address }, Spare: true},
			{Title: "VERSION", Cell: func(m memberRow) any { return m.Version }, Spare: true},
			{Title: "STARTED", Cell: func(m memberRow) any { return m.Started }, Spare: true},
			{Title: "DRAIN", Cell: func(m memberRow) any { return toned(m.Drain) }},
			{Title: "CORDON", Cell: func(m memberRow) any { return toned(m.Cordon) }},
			{Title: "REASON", Cell: func(m memberRow) any { return reasons(m.MemberInfo, m.orders) }},
		},
		Object: func(m memberRow) any { return toMemberJSON(m.MemberInfo, m.orders) },
	}
}

func toMemberJSON(m drm.MemberInfo, about []drm.OrderInfo) memberJSON {
	return memberJSON{
		ID: m.ID, State: m.State, Weight: m.Weight, Ordered: m.Ordered, Slots: append([]int{}, m.Slots...),
		Blocks: rangesJSON(m.Blocks), Address: m.Address, Version: m.Version, Started: utc(m.Started),
		Shards: m.Shards, Resources: m.Resources,
		Drain: m.Drain, Cordon: m.Cordon, Reason: m.Reason, Orders: ordersJSON(about),
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
