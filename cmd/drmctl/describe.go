package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const describeDescription = `
Tells everything that is known of one member, resource or shard, with its last changes. With --watch it goes on, and
tells it anew whenever more of it changes than the revision and the time left of leases.

Example:
   drmctl --app feeds describe member m1
   drmctl --app feeds describe resource feed-42
   drmctl --app feeds describe shard 57
`

// describeCommand groups the commands that tell all of one thing.
func describeCommand() *cli.Command {
	return &cli.Command{
		Name:        "describe",
		Usage:       "tell everything that is known of a member, a resource or a shard",
		Description: strings.TrimSpace(describeDescription),
		Subcommands: []*cli.Command{
			describeMemberCommand(),
			describeResourceCommand(),
			describeShardCommand(),
		},
	}
}

const describeMemberDescription = `
Tells of a member, also of one that is not there: its key and the time left of its lease, weight, slots, labels, shards,
figures and load, the orders about it with who gave them and why, until when it is expected back, how its processes have
ended, and what is accused of its deaths. Ends with exit code 3 where nothing is known of the member.

Example:
   drmctl --app feeds describe member m1
   drmctl --app feeds describe member m1 --watch
`

func describeMemberCommand() *cli.Command {
	return &cli.Command{
		Name:        "member",
		Usage:       "tell everything that is known of a member",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(describeMemberDescription),
		Flags:       []cli.Flag{watchFlag("describe-member")},
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "member id")
			if err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				err := memberPage().showOrFollow(ctx, c, func(ctx context.Context) (drm.MemberDetail, error) {
					return client.DescribeMember(ctx, id)
				}, func(ctx context.Context, lost func(error)) watchOf[drm.MemberDetail] {
					return client.WatchMember(ctx, id, lost)
				})
				if unknown(err) {
					return &hintedError{err, membersHint}
				}
				return err
			})
		},
	}
}

const flagWithData = "with-data"

const describeResourceDescription = `
Tells of a resource: its entry in the catalogue, its claim, why it is where it is (explain tells that at length), and
what its keys have said before, as far back as etcd has it. Its data may have secrets: only --with-data prints them.
Ends with exit code 3 where nothing is known of the resource.

Example:
   drmctl --app feeds describe resource feed-42 --with-data
`

func describeResourceCommand() *cli.Command {
	const name = "describe-resource"
	return &cli.Command{
		Name:        "resource",
		Usage:       "tell everything that is known of a resource",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(describeResourceDescription),
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: flagWithData, EnvVars: commandEnv(name, flagWithData),
				Usage: "print the resource's data too, which may have secrets",
			},
			watchFlag(name),
		},
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "resource id")
			if err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				as := resourcePage(c.Bool(flagWithData))
				err := as.showOrFollow(ctx, c, func(ctx context.Context) (drm.ResourceDetail, error) {
					return client.DescribeResource(ctx, id)
				}, func(ctx context.Context, lost func(error)) watchOf[drm.ResourceDetail] {
					return client.WatchResource(ctx, id, lost)
				})
				if unknown(err) {
					return &hintedError{err, "drmctl explain tells where it would go"}
				}
				return err
			})
		},
	}
}

const describeShardDescription = `
Tells of a shard: who owns it and why, how many resources are in it and how far they are, the claims by member, what was
moved away from its owner, and which of its keys were written last.

Example:
   drmctl --app feeds describe shard 57
`

func describeShardCommand() *cli.Command {
	return &cli.Command{
		Name:        "shard",
		Usage:       "tell everything that is known of a shard",
		ArgsUsage:   "NUMBER",
		Description: strings.TrimSpace(describeShardDescription),
		Flags:       []cli.Flag{watchFlag("describe-shard")},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("%s takes one number of a shard, got %d arguments: drmctl %s NUMBER",
					commandName(c), c.NArg(), commandName(c))
			}
			n, ok := plainNumber(c.Args().First(), 0, keys.MaxShards-1)
			if !ok {
				return usagef("shard: got %q, want 0 to %d", c.Args().First(), keys.MaxShards-1)
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				err := shardPage().showOrFollow(ctx, c, func(ctx context.Context) (drm.ShardDetail, error) {
					return client.DescribeShard(ctx, n)
				}, func(ctx context.Context, lost func(error)) watchOf[drm.ShardDetail] {
					return client.WatchShard(ctx, n, lost)
				})
				if input := (*drm.InputError)(nil); errors.As(err, &input) {
					return &usageError{err}
				}
				return err
			})
		},
	}
}

func memberPage() sheetOf[drm.MemberDetail, memberDetailJSON] {
	return sheetOf[drm.MemberDetail, memberDetailJSON]{
		toMemberDetailJSON, func(d drm.MemberDetail) string { return d.ID }, tellMember,
	}
}

func showMember(c *cli.Context, d drm.MemberDetail) error { return memberPage().show(c, d) }

func tellMember(page *output.Page, d drm.MemberDetail) {
	page.Row("MEMBER", d.ID)
	page.Row("STATE", tonedAs(memberStateWords(d), d.State))
	if d.Reason != "" {
		page.Row("REASON", d.Reason)
	}
	page.Row("COORDINATOR", yesNo(d.Leads))
	page.Row("SOURCE", yesNo(d.HasSource))
	page.Row("ADDRESS", d.Address)
	page.Row("VERSION", d.Version)
	page.Row("LABELS", labelWords(d.Labels))
	page.Row("STARTED", d.Started)
	page.Row("LEASE", leaseWords(d.Lease))
	if d.Live {
		page.Row("KEY", strings.TrimPrefix(strings.Trim(versionWords(d.Versions), " ()"), " "))
		page.Row("GROUP SCHEMA", d.Schema)
	}
	page.Row("WEIGHT", weightWords(d.MemberInfo))
	page.Row("SLOTS", slotWords(d.MemberInfo))
	page.Row("SHARDS", fmt.Sprintf("%d: %s", d.Shards, shardWords(d.Owned)))
	memberExtraRows(page, d)
	figureRows(page, d)
	memberOrderRows(page, d.Orders)
	if len(d.Trails) > 0 {
		page.Line("")
		trailTable(page, d.Trails, d.Live)
	}
	if len(d.Accused) > 0 {
		page.Line("")
		rows := [][]any{}
		for _, a := range d.Accused {
			rows = append(rows, []any{a.Resource, a.At, a.Exit})
		}
		page.Rows([]string{"QUARANTINED", "DIED AT", "EXIT"}, rows)
	}
	pastTable(page, "KEY SAID", d.Past)
	page.Line("")
	page.Row("REVISION", d.Revision)
}

// memberExtraRows tell what few members have.
func memberExtraRows(page *output.Page, d drm.MemberDetail) {
	if d.Kept > 0 {
		page.Row("KEPT", fmt.Sprintf("%d of these, until the coordinator has placed them elsewhere", d.Kept))
	}
	if len(d.Declined) > 0 {
		page.Row("DECLINED", shardWords(d.Declined)+", since it is full (MaxResources)")
	}
	if len(d.PinnedTo) > 0 {
		page.Row("PINNED", numbers(d.PinnedTo))
	}
	if d.PlacedAt > 0 {
		page.Row("PLACED", fmt.Sprintf("%d shards, by exceptions to the ring", d.PlacedAt))
	}
	if len(d.MovedTo) > 0 {
		page.Row("MOVED TO IT", strings.Join(d.MovedTo, ", "))
	}
	if len(d.MovedFrom) > 0 {
		page.Row("MOVED AWAY", strings.Join(d.MovedFrom, ", "))
	}
	if r := d.Reservation; r != nil {
		page.Row("RESERVED", fmt.Sprintf("%s, since %s until %s; lease %s",
			shardWords(r.Keeps), cell(r.Since), cell(r.Until), leaseWords(r.Lease)))
	}
	if d.Starts > 1 {
		page.Row("LIVES", fmt.Sprintf("%d that have followed one another closely, since %s",
			d.Starts, cell(d.StartsSince)))
	}
	for _, e := range d.Exits {
		page.Row("EXIT", fmt.Sprintf("%s at %s", e.Exit, cell(e.At)))
	}
	if d.Alone != "" {
		page.Row("ALONE", fmt.Sprintf("it handles %q alone, since that is suspected of deaths", d.Alone))
	}
}

// figureRows tell a member's own figures.
func figureRows(page *output.Page, d drm.MemberDetail) {
	if f := d.Figures; f != nil {
		page.Row("RESOURCES", fmt.Sprintf("%d claims: %d active, %d failed; %d shards followed",
			f.Claims, f.Active, f.Failed, f.Shards))
		page.Row("CALLS", fmt.Sprintf("%d run, %d stuck, %d wait (%d for a rate)", f.Calls, f.Stuck, f.Waiting,
			f.WaitingForBudget))
	}
	if l := d.Load; l != nil {
		page.Row("LOAD", fmt.Sprintf("%.3f, of this %.3f not handled yet; by the view of revision %d",
			float64(l.Total)/1000, float64(l.Pending)/1000, l.Seen))
	}
}

func memberOrderRows(page *output.Page, orders []drm.OrderInfo) {
	for _, o := range orders {
		page.Row("ORDER", deed(o)+orderWords(o))
	}
}

func memberStateWords(d drm.MemberDetail) string {
	words := d.State
	if d.Leaves {
		words += ", about to stop"
	}
	if d.Drain == drm.DrainIgnored {
		words += ", drained in vain: nobody would be left"
	}
	if d.Cordon == drm.DrainIgnored {
		words += ", cordoned in vain: nobody would be left"
	}
	return words
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func resourcePage(withData bool) sheetOf[drm.ResourceDetail, resourceDetailJSON] {
	return sheetOf[drm.ResourceDetail, resourceDetailJSON]{
		func(d drm.ResourceDetail) resourceDetailJSON { return toResourceDetailJSON(d, withData) },
		func(d drm.ResourceDetail) string { return d.Resource },
		func(p *output.Page, d drm.ResourceDetail) { tellResource(p, d, withData) },
	}
}

func showResource(c *cli.Context, d drm.ResourceDetail, withData bool) error {
	return resourcePage(withData).show(c, d)
}

func tellResource(page *output.Page, d drm.ResourceDetail, withData bool) {
	explainedRows(page, d.Explanation)
	if d.Entry != nil {
		data := fmt.Sprintf("%d bytes; --%s prints them", len(d.Entry.Data), flagWithData)
		if withData {
			data = string(d.Entry.Data)
		}
		page.Row("DATA", data)
	}
	for _, r := range d.Rulings {
		page.Row(strings.ToUpper(string(r.Kind)), rulingText(r))
	}
	reasonRows(page, d.Explanation)
	pastTable(page, "ENTRY SAID", d.Entries)
	pastTable(page, "CLAIM SAID", d.Claims)
}

// rulingText describes a ruling in a line.
func rulingText(r drm.Ruling) string {
	text := "to " + r.Member
	if r.Then != "" {
		text += ", then " + r.Then
	}
	if r.Why != "" {
		text += " (" + r.Why + ")"
	}
	if r.By != "" {
		text += " by " + r.By
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	if !r.Since.IsZero() {
		text += ", since " + cell(r.Since)
	}
	if !r.InForce {
		text += ", not in force: " + r.Member + " " + r.Obstacle.Text()
	}
	return text + versionWords(r.Versions)
}

func shardPage() sheetOf[drm.ShardDetail, shardDetailJSON] {
	return sheetOf[drm.ShardDetail, shardDetailJSON]{
		toShardDetailJSON, func(d drm.ShardDetail) string { return fmt.Sprint(d.Route.Shard) }, tellShard,
	}
}

func showShard(c *cli.Context, d drm.ShardDetail) error { return shardPage().show(c, d) }

func tellShard(page *output.Page, d drm.ShardDetail) {
	page.Row("SHARD", d.Route.Shard)
	page.Row("OWNER", d.Route.Owner)
	page.Row("BY THE RING", d.Route.Home)
	for _, r := range d.Rulings {
		page.Row(strings.ToUpper(string(r.Kind)), rulingText(r))
	}
	if d.Route.LastResort {
		page.Row("NOTE", "no member takes the shard, so the first has it that may own it")
	}
	if d.Route.Older {
		page.Row("NOTE", "the rules of an older version have decided, since members of it live")
	}
	page.Row("RESOURCES", fmt.Sprintf("%d wanted, %d suspended, %d bytes of data", d.Wanted, d.Suspended, d.Bytes))
	page.Row("STATES", countWords(d.States))
	page.Row("MISPLACED", d.Misplaced)
	page.Row("ORPHANS", d.Orphans)
	page.Row("NOT UNDERSTOOD", d.BadKeys)
	page.Row("QUARANTINED", strings.Join(d.Quarantined, ", "))
	for _, m := range d.Moved {
		words := fmt.Sprintf("%s, from %s to %s", m.Resource, m.From, m.Member)
		if !m.InForce {
			words += ", not in force"
		}
		page.Row("MOVED", words)
	}
	page.Row("REVISION", d.Revision)
	shardTables(page, d)
}

func shardTables(page *output.Page, d drm.ShardDetail) {
	page.Line("")
	routeTable(page, d.Route, d.Rulings)
	page.Line("")
	standTable(page, d.Members)
	if len(d.Claims) > 0 {
		page.Line("")
		rows := [][]any{}
		for _, b := range d.Claims {
			through := ""
			if b.Through > 0 {
				through = fmt.Sprintf("active through revision %d, within %v", b.Through, b.Within)
			}
			rows = append(rows, []any{b.Member, fmt.Sprintf("%016x", uint64(b.Lease)), countWords(b.States), through})
		}
		page.Rows([]string{"CLAIMS OF", "LEASE", "STATES", "SUMMARY"}, rows)
	}
	if len(d.Trails) > 0 {
		page.Line("")
		trailTable(page, d.Trails, true)
	}
	if len(d.Changes) > 0 {
		page.Line("")
		rows, titles := [][]any{}, []string{"LAST WRITTEN", "ID", "REVISION", "CREATED", "WRITES"}
		ordered := slices.ContainsFunc(d.Changes, func(k drm.KeyChange) bool { return k.By != "" || k.Why != "" })
		if ordered {
			titles = append(titles, "ORDERED")
		}
		for _, k := range d.Changes {
			row := []any{k.Kind, k.ID, k.Modified, k.Created, k.Writes}
			if ordered {
				row = append(row, orderedWords(k.By, k.Why))
			}
			rows = append(rows, row)
		}
		page.Rows(titles, rows)
	}
}

// trailTable lists trails; live says that they are about what runs.
func trailTable(page *output.Page, trails []drm.Trail, live bool) {
	title := "ON THE TRAIL"
	if !live {
		title = "ACCUSED"
	}
	rows := [][]any{}
	for _, t := range trails {
		rows = append(rows, []any{
			strings.Join(t.IDs, ", "), t.Shard, t.Member, t.At, fmt.Sprintf("%d of %d", t.Returned, len(t.IDs)),
			yesNo(t.Alone),
		})
	}
	page.Rows([]string{title, "SHARD", "MEMBER", "WRITTEN", "RETURNED", "ALONE"}, rows)
}

// orderedWords say who has made a change by a command, and why.
func orderedWords(by, why string) string {
	return strings.TrimSpace(originWords(drm.OrderInfo{By: by, Why: why}))
}

func pastTable(page *output.Page, title string, past []drm.Past) {
	if len(past) == 0 {
		return
	}
	page.Line("")
	rows, titles := [][]any{}, []string{title, "AT REVISION"}
	ordered := slices.ContainsFunc(past, func(p drm.Past) bool { return p.By != "" || p.Why != "" })
	if ordered {
		titles = append(titles, "ORDERED")
	}
	for _, p := range past {
		row := []any{p.Text, p.Revision}
		if ordered {
			row = append(row, orderedWords(p.By, p.Why))
		}
		rows = append(rows, row)
	}
	page.Rows(titles, rows)
}
