package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/spread"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	flagWeights = "weights"
	flagEvents  = "events"
	flagSeed    = "seed"
	flagSkew    = "skew"
)

const simulateDescription = `
Asks the real code who would own what, without etcd and without members. The events are joins, returns, leaves, deaths,
drains and undrains at random. MAX/AVG is the load of the member with the most resources for its weight, as a multiple
of the average: at the end, and at its worst. MINIMUM counts the moves that had to be: all that a member that left had,
and all that one that joined got. DECISION is how long a member takes to find out, after an event, who owns what.

For a group that runs, there is plan.
The lines are of the ring alone; of the ring with the exceptions by which the coordinator bounds the load, which is what
DRM does; and for comparison of rendezvous hashing, and of jump hashing over members that are numbered without gaps.

Examples:
   drmctl simulate --members 12 --resources 5000
   drmctl simulate --members 1000 --resources 10000000 --shards 4096 --weights 1,1,4 -o json
`

func simulateCommand() *cli.Command {
	const name = "simulate"
	return &cli.Command{
		Name:        name,
		Usage:       "tell how evenly resources would spread over members, and how many move when members come and go",
		Description: strings.TrimSpace(simulateDescription),
		Flags: []cli.Flag{
			&cli.IntFlag{
				Name: flagMembers, EnvVars: commandEnv(name, flagMembers), Value: 10,
				Usage: "how many members there are at first: 1 to 1000",
			},
			&cli.IntFlag{
				Name: flagResources, EnvVars: commandEnv(name, flagResources), Value: 100_000,
				Usage: "how many resources there are: 1 to 100000000",
			},
			&cli.IntFlag{
				Name: flagShards, EnvVars: commandEnv(name, flagShards), Value: drm.DefaultShards,
				Usage: "the number of shards: 1 to 4096",
			},
			&cli.StringFlag{
				Name: flagWeights, EnvVars: commandEnv(name, flagWeights), Value: "1",
				Usage: "the members' weights, which they take in turn: `NUMBERS` from 1 to 1000, separated by commas",
			},
			&cli.IntFlag{
				Name: flagEvents, EnvVars: commandEnv(name, flagEvents), Value: 100,
				Usage: "how many times a member comes or goes: 0 to 100000",
			},
			&cli.Uint64Flag{
				Name: flagSeed, EnvVars: commandEnv(name, flagSeed), Value: 1,
				Usage: "which events: the same `NUMBER` gives the same ones",
			},
			&cli.Float64Flag{
				Name: flagSkew, EnvVars: commandEnv(name, flagSkew),
				Usage: "how unequal the resources' weights are: the `EXPONENT` of Zipf's law, 0 (all are equal) to 2",
			},
		},
		Action: runSimulate,
	}
}

func runSimulate(c *cli.Context) error {
	weights, err := weightList(c.String(flagWeights))
	skew := c.Float64(flagSkew)
	if !(skew >= 0 && skew <= 2) { // this also refuses NaN
		err = errors.Join(err, badFlag(flagSkew, strconv.FormatFloat(skew, 'g', -1, 64), "0 to 2"))
	}
	err = errors.Join(
		noArguments(c), checkOutput(c), err,
		numberInRange(c, flagMembers, 1, 1000),
		numberInRange(c, flagResources, 1, 100_000_000),
		numberInRange(c, flagShards, 1, keys.MaxShards),
		numberInRange(c, flagEvents, 0, 100_000),
	)
	if err != nil {
		return err
	}
	cfg := spread.Config{
		Members: c.Int(flagMembers), Resources: c.Int(flagResources), Shards: c.Int(flagShards), Weights: weights,
		Events: c.Int(flagEvents), Seed: c.Uint64(flagSeed), Skew: skew,
	}
	r, err := spread.Run(c.Context, cfg)
	if err != nil {
		return err
	}
	return show(c, simulationOf(cfg, r), "simulation", func(p *output.Page) { simulationTable(p, cfg, r) })
}

// weightList reads --weights.
func weightList(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > membership.MaxWeight {
			want := fmt.Sprintf("numbers from 1 to %d, separated by commas", membership.MaxWeight)
			return nil, badFlag(flagWeights, text, want)
		}
		list = append(list, n)
	}
	return list, nil
}

// simulationJSON is part of the JSON contract.
type simulationJSON struct {
	Members       int            `json:"members"`
	Resources     int            `json:"resources"`
	Shards        int            `json:"shards"`
	Weights       []int          `json:"weights"`
	Skew          float64        `json:"skew"`
	Events        int            `json:"events"`
	Kinds         map[string]int `json:"kinds"`
	Seed          uint64         `json:"seed"`
	SmallestShard int            `json:"smallest_shard"`
	LargestShard  int            `json:"largest_shard"`
	HeaviestShard float64        `json:"heaviest_shard_over_avg"`
	spreadJSON
	Balanced   balancedJSON `json:"balanced"`
	Rendezvous evennessJSON `json:"rendezvous"`
	NaiveJump  evennessJSON `json:"naive_jump"`
}

// evennessJSON has what can be said of each way to spread.
type evennessJSON struct {
	MaxOverAvg       float64 `json:"max_over_avg"`
	WorstMaxOverAvg  float64 `json:"worst_max_over_avg"`
	Moves            int64   `json:"moves"`
	Minimum          int64   `json:"minimum"`
	MovesOverMinimum float64 `json:"moves_over_minimum"`
}

// spreadJSON also has how long members take.
type spreadJSON struct {
	evennessJSON
	DecisionMS    float64 `json:"decision_ms"`
	DecisionMaxMS float64 `json:"decision_max_ms"`
}

// balancedJSON also has what the coordinator's exceptions cost.
type balancedJSON struct {
	spreadJSON
	ByKind           map[string]float64 `json:"moves_over_minimum_by_kind"`
	WorstOverLimit   float64            `json:"worst_over_limit"`
	Exceptions       int                `json:"exceptions"`
	MostExceptions   int                `json:"most_exceptions"`
	BalanceMS        float64            `json:"balance_ms"`
	BalanceMaxMS     float64            `json:"balance_max_ms"`
	Corrections      int                `json:"corrections"`
	Corrected        int64              `json:"corrected"`
	CorrectionEvents int                `json:"correction_events"`
	CorrectionBytes  int                `json:"correction_bytes"`
}

func simulationOf(cfg spread.Config, r spread.Report) simulationJSON {
	s := simulationJSON{
		Members: cfg.Members, Resources: cfg.Resources, Shards: cfg.Shards, Weights: cfg.Weights, Skew: cfg.Skew,
		Events: cfg.Events, Kinds: r.Kinds, Seed: cfg.Seed, SmallestShard: r.Smallest, LargestShard: r.Largest,
		HeaviestShard: r.Heaviest,
		spreadJSON:    spreadOf(r.Ring),
		Rendezvous:    evennessOf(r.Rendezvous), NaiveJump: evennessOf(r.Jump),
		Balanced: balancedJSON{
			spreadJSON: spreadOf(r.Balanced), ByKind: map[string]float64{}, WorstOverLimit: r.Cost.Worst,
			Exceptions: r.Cost.Exceptions, MostExceptions: r.Cost.MostExceptions,
			BalanceMS: milliseconds(r.Cost.Plan), BalanceMaxMS: milliseconds(r.Cost.PlanMax),
			Corrections: r.Cost.Corrections, Corrected: r.Cost.Corrected,
			CorrectionEvents: r.Cost.Events, CorrectionBytes: r.Cost.EventBytes,
		},
	}
	for kind, moved := range r.Balanced.Kinds {
		s.Balanced.ByKind[kind] = moved.OverMinimum()
	}
	return s
}

func evennessOf(f spread.Figures) evennessJSON {
	return evennessJSON{
		MaxOverAvg: f.MaxOverAvg, WorstMaxOverAvg: f.Worst, Moves: f.Moves, Minimum: f.Minimum,
		MovesOverMinimum: f.MovesOverMinimum(),
	}
}

func spreadOf(f spread.Figures) spreadJSON {
	return spreadJSON{
		evennessJSON: evennessOf(f),
		DecisionMS:   milliseconds(f.Decision), DecisionMaxMS: milliseconds(f.DecisionMax),
	}
}

// milliseconds is d in milliseconds with three decimals.
func milliseconds(d time.Duration) float64 { return math.Round(float64(d)/1000) / 1000 }

func simulationTable(p *output.Page, cfg spread.Config, r spread.Report) {
	var rows [][]any
	line := func(name string, f spread.Figures, exceptions, decision any) {
		rows = append(rows, []any{
			name, ratio(f.MaxOverAvg), ratio(f.Worst), humanize.Comma(f.Moves), humanize.Comma(f.Minimum),
			ratio(f.MovesOverMinimum()), exceptions, decision,
		})
	}
	line("ring", r.Ring, 0, r.Ring.Decision.Round(time.Microsecond))
	line("ring, bounded", r.Balanced, r.Cost.Exceptions, r.Balanced.Decision.Round(time.Microsecond))
	line("rendezvous", r.Rendezvous, "-", "-")
	line("naive jump", r.Jump, "-", "-")
	p.Rows([]string{
		"SHARE", "MAX/AVG", "WORST", "MOVES", "MINIMUM", "MOVES/MINIMUM", "EXCEPTIONS", "DECISION",
	}, rows)
	comma := func(n int) string { return humanize.Comma(int64(n)) }
	events := ""
	for _, kind := range []string{
		spread.Join, spread.Return, spread.Leave, spread.Death, spread.Drain, spread.Undrain,
	} {
		events += fmt.Sprintf(" %d %s", r.Kinds[kind], kind)
	}
	p.Line("%s resources in %d shards of %s to %s; %d members at first; %d events:%s.",
		comma(cfg.Resources), cfg.Shards, comma(r.Smallest), comma(r.Largest), cfg.Members, cfg.Events, events)
	cost := ""
	if r.Cost.Corrections > 0 {
		cost = fmt.Sprintf("; each cost each member %d event of at most %d bytes", r.Cost.Events, r.Cost.EventBytes)
	}
	p.Line("A plan took the coordinator %v. It made %s corrections%s.",
		r.Cost.Plan.Round(time.Microsecond), comma(r.Cost.Corrections), cost)
}

func ratio(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
