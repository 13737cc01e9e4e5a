package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// exitMoves is the exit code of a plan in which something moves.
const exitMoves = 2

// fewMoves is how many moves a table has that is not wide: those with the most resources.
const fewMoves = 10

const flagIfRevision = "if-revision"

// planFlags are the flags of an order that can be planned, and can depend on a plan.
func planFlags(command string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name: flagDryRun, EnvVars: commandEnv(command, flagDryRun),
			Usage: "only print what would move, as plan does, with the exit code of plan",
		},
		&cli.Int64Flag{
			Name: flagIfRevision, EnvVars: commandEnv(command, flagIfRevision),
			Usage: "refuse if the group has changed since this `REVISION`, such as that of a plan; 0: do not compare",
		},
	}
}

// planned prints what an order would do, with --dry-run.
func planned(
	c *cli.Context, options drm.OrderOptions, change func(context.Context, *drm.Client) (drm.Change, error),
) error {
	return showPlanOf(c, drm.PlanOptions{IfRevision: options.IfRevision},
		func(ctx context.Context, client *drm.Client) ([]drm.Change, error) {
			one, err := change(ctx, client)
			one.Order = options
			return []drm.Change{one}, err
		})
}

// plannedOf is planned for an order about a member.
func plannedOf(c *cli.Context, options drm.OrderOptions, change drm.Change) error {
	return planned(c, options, func(context.Context, *drm.Client) (drm.Change, error) { return change, nil })
}

// showPlanOf prints the plan of some changes. Where something moves, it returns an error that only carries the exit
// code.
func showPlanOf(
	c *cli.Context, options drm.PlanOptions, changes func(context.Context, *drm.Client) ([]drm.Change, error),
) error {
	moves := false
	err := withClient(c, func(ctx context.Context, client *drm.Client) error {
		all, err := changes(ctx, client)
		if err != nil {
			return err
		}
		// The command timeout bounds each request, and not how long it takes to count the resources of all shards.
		plan, err := client.Plan(c.Context, all, options)
		if err != nil {
			return advised(c, shardError(err))
		}
		moves = plan.Moved()
		return showPlan(c, plan)
	})
	if err == nil && moves {
		return &endError{code: exitMoves}
	}
	return err
}

// planJSON is part of the JSON contract.
type planJSON struct {
	Revision  int64            `json:"revision"`
	Moves     []plannedMove    `json:"moves"`
	Members   []plannedMember  `json:"members"`
	Unplaced  []unplacedJSON   `json:"unplaced"`
	Resources int              `json:"resources"`
	Load      float64          `json:"load"`
	Before    float64          `json:"max_over_avg_before"`
	After     float64          `json:"max_over_avg_after"`
	Rounds    int              `json:"rounds"`
	Seconds   float64          `json:"seconds"`
	Paced     bool             `json:"paced"`
	Supposed  supposedSettings `json:"supposed"`
	Notes     []string         `json:"notes"`
}

// plannedMove is part of the JSON contract.
type plannedMove struct {
	Shard     int     `json:"shard"`
	From      string  `json:"from"`
	To        string  `json:"to"`
	Resources int     `json:"resources"`
	Load      float64 `json:"load"`
	Why       string  `json:"why"`
}

// plannedMember is part of the JSON contract.
type plannedMember struct {
	ID     string       `json:"id"`
	Before plannedShare `json:"before"`
	After  plannedShare `json:"after"`
}

// plannedShare is part of the JSON contract.
type plannedShare struct {
	State     string  `json:"state"`
	Weight    int     `json:"weight"`
	Shards    int     `json:"shards"`
	Resources int     `json:"resources"`
	Load      float64 `json:"load"`
}

// unplacedJSON is part of the JSON contract.
type unplacedJSON struct {
	Shard     int    `json:"shard"`
	Member    string `json:"member"`
	Resources int    `json:"resources"`
}

// supposedSettings is part of the JSON contract.
type supposedSettings struct {
	BalanceMoves       int    `json:"balance_moves"` // 0: nothing moves for balance
	BalanceAfter       string `json:"balance_after"`
	MaxMoving          int    `json:"max_moving"`
	MaxMovingPerMember int    `json:"max_moving_per_member"`
}

func settingsOf(o drm.PlanOptions) supposedSettings {
	s := supposedSettings{
		BalanceMoves: o.BalanceMoves, BalanceAfter: short(o.BalanceAfter), MaxMoving: o.MaxMoving,
		MaxMovingPerMember: o.MaxMovingPerMember,
	}
	if o.BalanceMoves == drm.NoBalance {
		s.BalanceMoves = 0
	}
	return s
}

func objectOf(p *drm.Plan) planJSON {
	o := planJSON{
		Revision: p.Revision, Resources: p.Resources, Load: p.Load, Before: p.Before, After: p.After,
		Rounds: p.Rounds, Seconds: p.Took.Seconds(), Paced: p.Paced, Supposed: settingsOf(p.Options),
		Moves: make([]plannedMove, 0, len(p.Moves)), Members: make([]plannedMember, 0, len(p.Members)),
		Unplaced: make([]unplacedJSON, 0, len(p.Unplaced)), Notes: append([]string{}, p.Notes...),
	}
	for _, m := range p.Moves {
		o.Moves = append(o.Moves, plannedMove(m))
	}
	for _, m := range p.Members {
		o.Members = append(o.Members, plannedMember{m.ID, plannedShare(m.Before), plannedShare(m.After)})
	}
	for _, u := range p.Unplaced {
		o.Unplaced = append(o.Unplaced, unplacedJSON(u))
	}
	return o
}

// showPlan prints a plan. Its names are the shards that move.
func showPlan(c *cli.Context, p *drm.Plan) error {
	names := make([]string, 0, len(p.Moves))
	for _, m := range p.Moves {
		names = append(names, strconv.Itoa(m.Shard))
	}
	return show(c, objectOf(p), strings.Join(names, "\n"), func(pg *output.Page) { tellPlan(pg, p) })
}

func tellPlan(pg *output.Page, p *drm.Plan) {
	pg.Row("revision", p.Revision)
	if p.Moved() {
		pg.Row("moves", fmt.Sprintf("%s, %s, load %s", shardsOf(len(p.Moves)), resources(p.Resources), figure(p.Load)))
	} else {
		pg.Row("moves", "nothing")
	}
	pg.Row("max/avg", change(fmt.Sprintf("%.3f", p.Before), fmt.Sprintf("%.3f", p.After)))
	if p.Rounds > 0 {
		words := fmt.Sprintf("%d, over %s at least", p.Rounds, p.Took)
		if p.Paced {
			words += "; paced, so some shards may go elsewhere in the end"
		}
		pg.Row("rounds", words)
	}
	for _, u := range p.Unplaced {
		why := "nobody may have it"
		if u.Member != "" {
			why = fmt.Sprintf("%s has it, and all are full", cell(u.Member))
		}
		pg.Row("fits nowhere", fmt.Sprintf("shard %d, %s: %s", u.Shard, resources(u.Resources), why))
	}
	s := settingsOf(p.Options)
	pg.Row("supposed", fmt.Sprintf("--%s %d --%s %s --%s %d --%s %d",
		flagBalanceMoves, s.BalanceMoves, flagBalanceAfter, s.BalanceAfter, flagMaxMoving, s.MaxMoving,
		flagMaxMovingPerMember, s.MaxMovingPerMember))
	for _, n := range p.Notes {
		pg.Row("note", n)
	}
	if len(p.Members) > 0 {
		pg.Line("")
		pg.Rows([]string{"MEMBER", "STATE", "WEIGHT", "SHARDS", "RESOURCES", "LOAD"}, plannedRows(p.Members))
	}
	if !p.Moved() {
		return
	}
	moves := p.Moves
	if !pg.IsWide() {
		moves = fullest(moves, fewMoves)
	}
	rows := make([][]any, 0, len(moves))
	for _, m := range moves {
		rows = append(rows, []any{m.Shard, m.From, m.To, m.Resources, figure(m.Load), m.Why})
	}
	pg.Line("")
	pg.Rows([]string{"SHARD", "FROM", "TO", "RESOURCES", "LOAD", "WHY"}, rows)
	if more := len(p.Moves) - len(moves); more > 0 {
		pg.Line("and %d more (-o wide shows all)", more)
	}
}

func plannedRows(members []drm.PlannedMember) [][]any {
	rows := make([][]any, 0, len(members))
	for _, m := range members {
		b, a := m.Before, m.After
		rows = append(rows, []any{
			m.ID, change(cell(b.State), cell(a.State)), change(strconv.Itoa(b.Weight), strconv.Itoa(a.Weight)),
			change(strconv.Itoa(b.Shards), strconv.Itoa(a.Shards)),
			change(strconv.Itoa(b.Resources), strconv.Itoa(a.Resources)), change(figure(b.Load), figure(a.Load)),
		})
	}
	return rows
}

// change says what becomes of something, if it changes.
func change(before, after string) string {
	if before == after {
		return before
	}
	return before + " → " + after
}

// figure writes a load: a whole number of resources, or with three digits after the point.
func figure(load float64) string {
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(load, 'f', 3, 64), "0"), ".")
}

// shardsOf says how many shards there are.
func shardsOf(n int) string { return fmt.Sprintf("%d %s", n, english.PluralWord(n, "shard", "")) }

// fullest returns those n moves that take the most resources along, in the order of the shards: most shards of a small
// app are empty, and to move them is nothing.
func fullest(moves []drm.PlannedMove, n int) []drm.PlannedMove {
	if len(moves) <= n {
		return moves
	}
	some := slices.Clone(moves)
	slices.SortStableFunc(some, func(a, b drm.PlannedMove) int { return b.Resources - a.Resources })
	some = some[:n]
	slices.SortFunc(some, func(a, b drm.PlannedMove) int { return a.Shard - b.Shard })
	return some
}
